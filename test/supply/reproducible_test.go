package main

import (
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestT30_BuildsAreReproducible builds the agent in two places: whoever has the sources can tell whether a program was made of them.
func TestT30_BuildsAreReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("links two programs")
	}
	here := filepath.Join("..", "..")
	elsewhere := t.TempDir()
	for _, name := range []string{"cmd", "internal", "pkg", "deploy"} {
		if err := os.CopyFS(filepath.Join(elsewhere, name), os.DirFS(filepath.Join(here, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(here, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(elsewhere, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if one, other := built(t, here), built(t, elsewhere); one != other {
		t.Errorf("sha256 %x in one place, %x in another", one, other)
	}
}

// built is the digest of the agent as the Makefile builds it.
func built(t *testing.T, dir string) [sha256.Size]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "holdfast-edge")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X github.com/holdfast-fleet/holdfast/internal/buildinfo.version=1.0.0", "-o", out, "./cmd/edge")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}
