package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build makes the three programs from the module at root, unless HOLDFAST_BIN names a folder of the module with them. remove deletes what was made.
func Build(root string) (bin string, remove func(), err error) {
	if bin = os.Getenv("HOLDFAST_BIN"); bin != "" {
		bin, err = filepath.Abs(filepath.Join(root, bin))
		return bin, func() {}, err
	}
	if bin, err = os.MkdirTemp("", "holdfast-programs-"); err != nil {
		return "", nil, err
	}
	for program, source := range map[string]string{"holdfast": "holdfast", "holdfast-hub": "hub", "holdfast-edge": "edge"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, program), "./cmd/"+source)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return bin, func() { _ = os.RemoveAll(bin) }, nil
}
