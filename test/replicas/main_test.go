package replicas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// playing names the configuration file of the NATS node that a process of this program is.
const playing = "HOLDFAST_TEST_NODE"

func TestMain(m *testing.M) {
	file := os.Getenv(playing)
	if file == "" {
		os.Exit(m.Run())
	}
	if err := play(file); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// node is a NATS node with a configuration.
func node(config string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playing+"="+config)
	return cmd
}

func play(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	return nil
}

// process is a node or a hub.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// start runs a program that says what it says into name.log; it ends with the test.
func start(t testing.TB, dir, name string, cmd *exec.Cmd) *process {
	t.Helper()
	s := &process{t: t, name: name, cmd: cmd, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	must(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.kill)
	return s
}

// kill ends it at once, and nothing of it is running when it returns.
func (s *process) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.done
}

func (s *process) ended() error {
	select {
	case <-s.done:
		return errors.New(s.name + " has ended: " + tail(s.log))
	default:
		return nil
	}
}

func tail(file string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-3000):])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition and says what was missing.
func eventually(t testing.TB, limit time.Duration, what string, ready func() error) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for end := time.After(limit); ; {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("never: %s: %v", what, err)
		}
	}
}
