package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// bin holds the three programs.
var bin string

func TestMain(m *testing.M) {
	remove, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := cluster.StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	remove()
	os.Exit(code)
}

// build makes the programs, unless HOLDFAST_BIN names them.
func build() (remove func(), err error) {
	if bin = os.Getenv("HOLDFAST_BIN"); bin != "" {
		bin, err = filepath.Abs(filepath.Join(root(), bin))
		return func() {}, err
	}
	if bin, err = os.MkdirTemp("", "holdfast-e2e-"); err != nil {
		return nil, err
	}
	for program, source := range map[string]string{"holdfast": "holdfast", "holdfast-hub": "hub", "holdfast-edge": "edge"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, program), "./cmd/"+source)
		cmd.Dir, cmd.Env = root(), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return func() { _ = os.RemoveAll(bin) }, nil
}

// root of the module: tests run in their own folder.
func root() string { return filepath.Join("..", "..") }
