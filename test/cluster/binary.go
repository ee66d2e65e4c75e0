package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const module = "module github.com/holdfast-fleet/holdfast\n"

// FindBinary is the path of the controlplane executable: HOLDFAST_CONTROLPLANE, or else bin/controlplane beside the
// go.mod of this module in the working directory or the nearest directory above it.
func FindBinary() (string, error) {
	if named := os.Getenv("HOLDFAST_CONTROLPLANE"); named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("control plane: HOLDFAST_CONTROLPLANE: %w", err)
		}
		return filepath.Abs(named)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", fmt.Errorf("control plane: %w (or name the executable in HOLDFAST_CONTROLPLANE)", err)
	}
	binary := filepath.Join(root, "bin", "controlplane")
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("control plane: %w; run `make controlplane` in %s first (about 6 minutes, once)", err, root)
	}
	return binary, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte(module)) {
			return dir, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("not inside a checkout of Holdfast: no go.mod of its module in the working directory or above")
		}
		dir = above
	}
}
