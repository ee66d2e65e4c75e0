package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestExistingClusterIsUsedAndLeftAlone(t *testing.T) {
	ours := cluster.Shared(t)
	t.Setenv("HOLDFAST_CLUSTER", "kubeconfig")
	t.Setenv("KUBECONFIG", ours.Kubeconfig())
	c, err := cluster.Open(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Config().Host != ours.Config().Host {
		t.Error("another cluster:", c.Config().Host)
	}
	if _, err := clientOf(t, c.Config()).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	stranger := loaded(t, func() (string, error) { return c.KubeconfigFor("stranger", "nobodies") })
	if _, err := clientOf(t, stranger).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Error("want forbidden, got", err)
	}
	for verb, err := range map[string]error{"kill": c.Kill("etcd"), "start": c.StartProgram(t.Context(), "etcd"), "pause": c.Pause("etcd")} {
		if !errors.Is(err, cluster.ErrForeign) {
			t.Errorf("%s: want ErrForeign, got %v", verb, err)
		}
	}
	if _, err := cluster.Open(t.Context(), cluster.Options{EmulatedVersion: "1.35"}); !errors.Is(err, cluster.ErrForeign) {
		t.Error("another version of an existing cluster:", err)
	}
	skipped := false
	t.Run("a test that needs more is skipped", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		cluster.ForTest(t, cluster.Options{ServerFlags: []string{"--v=1"}})
	})
	if !skipped {
		t.Error("not skipped: a test that wants flags an existing cluster has not")
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if !ours.Running("kube-apiserver") {
		t.Error("the existing cluster was stopped")
	}
}

// kindScript stands for the tool where there is no Docker: it notes how it is called and hands out a real cluster.
const kindScript = `echo "$@" >> "$NOTES"
[ "$1" = delete ] && exit 0
cat > "$NOTES.config"
cp "$REAL" "$6"
`

func TestKindClusterIsCreatedAndDeleted(t *testing.T) {
	ours := cluster.Shared(t)
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	writeScript(t, dir, "docker", "echo 28.2.2")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("NOTES", notes)
	t.Setenv("REAL", ours.Kubeconfig())
	t.Setenv("HOLDFAST_KIND", writeScript(t, dir, "kind", kindScript))
	t.Setenv("HOLDFAST_KIND_PREFIX", "holdfast-e2e-7-")
	t.Setenv("HOLDFAST_CLUSTER", "kind")
	c, err := cluster.Open(t.Context(), cluster.Options{Name: "site-1"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Config().Host != ours.Config().Host || !strings.HasPrefix(c.Name(), "holdfast-e2e-7-site-1-") {
		t.Errorf("cluster %s at %s", c.Name(), c.Config().Host)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	calls, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(calls), "\n")
	if !strings.HasPrefix(lines[0], "create cluster --name "+c.Name()+" ") || !strings.HasPrefix(lines[1], "delete cluster --name "+c.Name()+" ") {
		t.Errorf("calls of kind:\n%s", calls)
	}
	if config, err := os.ReadFile(notes + ".config"); err != nil || !strings.Contains(string(config), "kind.x-k8s.io") {
		t.Errorf("configuration given to kind: %s (%v)", config, err)
	}
}

func TestKindClusterThatFailedIsDeletedToo(t *testing.T) {
	dir := t.TempDir()
	writeScript(t, dir, "docker", "echo 28.2.2")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("NOTES", filepath.Join(dir, "notes"))
	t.Setenv("HOLDFAST_KIND", writeScript(t, dir, "kind", `echo "$1" >> "$NOTES"; [ "$1" = delete ] || { echo no space left >&2; exit 1; }`))
	t.Setenv("HOLDFAST_CLUSTER", "kind")
	_, err := cluster.Open(t.Context(), cluster.Options{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Error("want the tool's words, got", err)
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "notes")); string(calls) != "create\ndelete\n" {
		t.Errorf("calls: %s", calls)
	}
}

func TestWrongChoicesAreExplained(t *testing.T) {
	for name, tc := range map[string]struct {
		environment map[string]string
		want        string
	}{
		"unknown provider":   {map[string]string{"HOLDFAST_CLUSTER": "minikube"}, "have controlplane, kind, kubeconfig"},
		"KUBECONFIG not set": {map[string]string{"HOLDFAST_CLUSTER": "kubeconfig", "KUBECONFIG": ""}, "KUBECONFIG is not set"},
		"no such file":       {map[string]string{"HOLDFAST_CLUSTER": "kubeconfig", "KUBECONFIG": "/nowhere/config"}, "KUBECONFIG"},
		"binary named wrong": {map[string]string{"HOLDFAST_CONTROLPLANE": "/nowhere/controlplane"}, "HOLDFAST_CONTROLPLANE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOLDFAST_CLUSTER", "")
			for key, value := range tc.environment {
				t.Setenv(key, value)
			}
			c, err := cluster.Open(t.Context(), cluster.Options{})
			if err == nil {
				c.Stop()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\nlacks %q", err, tc.want)
			}
		})
	}
}

func TestMissingBinaryNamesTheCommandThatMakesIt(t *testing.T) {
	t.Setenv("HOLDFAST_CONTROLPLANE", "")
	checkout := t.TempDir()
	if err := os.WriteFile(filepath.Join(checkout, "go.mod"), []byte("module github.com/holdfast-fleet/holdfast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(checkout, "a", "b")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	if _, err := cluster.FindBinary(); err == nil || !strings.Contains(err.Error(), "make controlplane") {
		t.Error("in a checkout without the binary:", err)
	}
	t.Chdir(t.TempDir())
	if _, err := cluster.FindBinary(); err == nil || !strings.Contains(err.Error(), "not inside a checkout") {
		t.Error("outside a checkout:", err)
	}
}
