package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
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
	bin, remove, err = fleet.Build(root())
	return remove, err
}

// root of the module: tests run in their own folder.
func root() string { return filepath.Join("..", "..") }
