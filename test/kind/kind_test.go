package kind_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/kind"
)

func TestConfigIsOneNodeOnLoopback(t *testing.T) {
	var config struct {
		Kind       string              `json:"kind"`
		APIVersion string              `json:"apiVersion"`
		Nodes      []map[string]string `json:"nodes"`
		Networking map[string]string   `json:"networking"`
	}
	if err := yaml.UnmarshalStrict(kind.Config, &config); err != nil {
		t.Fatal(err)
	}
	if config.Kind != "Cluster" || config.APIVersion != "kind.x-k8s.io/v1alpha4" {
		t.Errorf("not a kind configuration: %s", kind.Config)
	}
	if len(config.Nodes) != 1 || config.Nodes[0]["role"] != "control-plane" {
		t.Errorf("nodes %v, want one control plane (it also works)", config.Nodes)
	}
	if config.Networking["apiServerAddress"] != "127.0.0.1" {
		t.Errorf("API server on %q, want loopback", config.Networking["apiServerAddress"])
	}
}

// daemonless is a docker whose daemon is down, as the real one says it.
const daemonless = "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n"

func TestWithoutDockerTheReasonIsSaid(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ docker, want string }{
		"no docker": {"", "there is no docker in PATH"},
		"no daemon": {daemonless, "daemon does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			path := pathWith(t, "docker", tc.docker)
			t.Setenv("PATH", path)
			t.Setenv("HOLDFAST_CLUSTER", "kind")
			c, err := cluster.Open(t.Context(), cluster.Options{Dir: t.TempDir()})
			if err == nil {
				t.Error("a cluster without Docker:", c.Name())
			} else if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("provider: %v, want %q", err, tc.want)
			}
			said, err := exec.Command(bash, "run.sh").CombinedOutput()
			if err == nil || !strings.Contains(string(said), "error: kind needs Docker") || !strings.Contains(string(said), tc.want) {
				t.Errorf("run.sh: %v: %s, want %q", err, said, tc.want)
			}
		})
	}
}

// pathWith is a PATH with nothing in it but dirname (for run.sh) and one script.
func pathWith(t *testing.T, name, script string) string {
	t.Helper()
	dir := t.TempDir()
	dirname, err := exec.LookPath("dirname")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dirname, filepath.Join(dir, "dirname")); err != nil {
		t.Fatal(err)
	}
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
