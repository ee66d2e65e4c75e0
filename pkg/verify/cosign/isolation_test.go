package cosign_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

// child makes this test binary verify one signature and end, so that it can be tried in a hostile world from the first instruction.
const child = "HOLDFAST_TEST_VERIFY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		if err := verifyFiles(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print("verified")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// verifyFiles accepts the signature in a folder, and checks that the message without its last byte is refused.
func verifyFiles(dir string) error {
	files := map[string][]byte{}
	for _, name := range []string{"message", "signature", "public"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		files[name] = content
	}
	message := files["message"]
	if err := (cosign.Verifier{}).Check(message, files["signature"], string(files["public"])); err != nil {
		return err
	}
	if err := (cosign.Verifier{}).Check(message[:len(message)-1], files["signature"], string(files["public"])); !errors.Is(err, verify.ErrBadSignature) {
		return fmt.Errorf("a shorter message: %v", err)
	}
	return nil
}

// hostile is an environment without HOME in which every variable that cosign knows leads into a trap.
func hostile(trapURL, trapFile string) []string {
	environment := []string{"PATH=/usr/bin:/bin", "COSIGN_EXPERIMENTAL=1", "COSIGN_PASSWORD=wrong", "GODEBUG="}
	for _, name := range []string{
		"SIGSTORE_ROOT_FILE", "SIGSTORE_REKOR_PUBLIC_KEY", "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "SIGSTORE_TSA_CERTIFICATE_FILE", "SIGSTORE_TRUSTED_ROOT",
		"TUF_ROOT_JSON", "SSL_CERT_FILE", "COSIGN_TRUSTED_ROOT", "SIGSTORE_ID_TOKEN", "COSIGN_PKCS11_MODULE_PATH",
	} {
		environment = append(environment, name+"="+trapFile)
	}
	for _, name := range []string{
		"TUF_MIRROR", "COSIGN_REPOSITORY", "COSIGN_MIRROR", "SIGSTORE_REKOR_URL", "REKOR_URL", "REKOR_SERVER", "FULCIO_URL", "HTTP_PROXY", "HTTPS_PROXY",
		"ALL_PROXY", "http_proxy", "https_proxy", "VAULT_ADDR", "OTEL_EXPORTER_OTLP_ENDPOINT", "COSIGN_DOCKER_MEDIA_TYPES",
	} {
		environment = append(environment, name+"="+trapURL)
	}
	return environment
}

// withoutNetwork gives the command a network namespace of its own with nothing in it, where the kernel allows that.
func withoutNetwork(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
}

func namespacesWork() bool {
	command := exec.Command("/bin/true")
	withoutNetwork(command)
	return command.Run() == nil
}

func TestT01_NoNetworkNoHomeHostileEnvironment(t *testing.T) {
	files, empty, traps := t.TempDir(), t.TempDir(), t.TempDir()
	for name, content := range map[string][]byte{"message": message, "signature": signature(), "public": pair().public} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Whoever opens a pipe that nobody writes waits for ever, and so is found out.
	pipe := filepath.Join(traps, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var calls atomic.Int32
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			connection.Close()
		}
	}()

	for name, prepare := range map[string]func(*exec.Cmd){"with network": func(*exec.Cmd) {}, "without network": withoutNetwork} {
		t.Run(name, func(t *testing.T) {
			if name == "without network" && !namespacesWork() {
				t.Skip("this machine gives no network namespaces")
			}
			command := exec.Command(os.Args[0])
			command.Dir = empty
			command.Env = append(hostile("http://"+listener.Addr().String(), pipe), child+"="+files, "TUF_ROOT="+filepath.Join(empty, "tuf"))
			var out bytes.Buffer
			command.Stdout, command.Stderr = &out, &out
			prepare(command)
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(20*time.Second, func() { command.Process.Kill() })
			defer timer.Stop()
			if err := command.Wait(); err != nil || out.String() != "verified" {
				t.Errorf("%v: %s", err, out.String())
			}
		})
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("%d calls over the network", n)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
