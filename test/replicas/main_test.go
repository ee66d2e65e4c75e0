package replicas

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// part is what a process of this program plays, from the file that the environment names.
type part struct {
	// Node is the configuration file of a NATS node.
	Node string `json:"node,omitempty"`
	Hub  *role  `json:"hub,omitempty"`
}

// role is a hub.
type role struct {
	Data, API string
	Bus       []string // URLs
	Keys      bus.Keys
	CA        []byte
	Trust     tuf.Publication
	Online    ed25519.PrivateKey
	// Ahead is how far its clock is ahead of everybody's.
	Ahead     time.Duration
	HeartBeat time.Duration
	Lease     time.Duration
}

const playing = "HOLDFAST_TEST_PART"

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

func play(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var p part
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if p.Hub != nil {
		return p.Hub.play(ctx)
	}
	o, err := server.ProcessConfigFile(p.Node)
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

func (r *role) play(ctx context.Context) error {
	log, err := zap.NewDevelopment()
	if err != nil {
		return err
	}
	h, err := hub.Open(ctx, hub.Config{
		DataDir: r.Data, ListenAPI: r.API, Trust: r.Trust, Online: []ed25519.PrivateKey{r.Online}, Signatures: cosign.Verifier{},
		External:  &hub.External{URL: strings.Join(r.Bus, ","), Keys: &r.Keys, CA: r.CA},
		HeartBeat: r.HeartBeat, LeaseSpan: r.Lease, Now: func() time.Time { return time.Now().Add(r.Ahead) }, Log: log,
	})
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Wait(ctx)
}

// process is a part that is played.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// start has a process play; it ends with the test.
func start(t testing.TB, dir, name string, p part) *process {
	t.Helper()
	raw, err := json.Marshal(p)
	must(t, err)
	file := filepath.Join(dir, name+".json")
	must(t, os.WriteFile(file, raw, 0o600))
	s := &process{t: t, name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = append(os.Environ(), playing+"="+file), log, log
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

// hang stops it without ending it, and wake lets it go on.
func (s *process) hang() { must(s.t, s.cmd.Process.Signal(syscall.SIGSTOP)) }
func (s *process) wake() { must(s.t, s.cmd.Process.Signal(syscall.SIGCONT)) }

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
