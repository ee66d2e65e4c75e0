// Package cosigntool gives tests the real cosign tool, built from its own module at the versions that module/go.mod pins.
//
// The build takes minutes on two cores, so the binary is kept in ${HOLDFAST_CACHE:-$HOME/.cache/holdfast}/cosign-KEY, where KEY is a hash of
// everything that decides what it is. It is built at most once a machine, also when several tests want it at the same time.
package cosigntool

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const tool = "github.com/sigstore/cosign/v2/cmd/cosign"

var flags = []string{"-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags=-s -w"}

// Binary is the path of the tool. It skips the test under -short.
func Binary(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: does not build the cosign tool")
	}
	binary, err := build(t.Logf)
	if err != nil {
		t.Fatalf("cosign tool: %v", err)
	}
	return binary
}

func build(logf func(string, ...any)) (string, error) {
	key, err := cacheKey()
	if err != nil {
		return "", err
	}
	cache := os.Getenv("HOLDFAST_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("set HOLDFAST_CACHE or HOME: %w", err)
		}
		cache = filepath.Join(home, ".cache", "holdfast")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "cosign-"+key)
	unlock, err := lock(binary + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	logf("building the cosign tool once for this machine, into %s; this takes minutes", binary)
	started := time.Now()
	arguments := append([]string{"build"}, flags...)
	command := exec.Command("go", append(arguments, "-o", binary+".new", tool)...)
	command.Dir = moduleDir()
	command.Env = append(os.Environ(), "GOWORK=off", "GOGC=400")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", tool, err, out)
	}
	logf("built the cosign tool in %s", time.Since(started).Round(time.Second))
	return binary, os.Rename(binary+".new", binary)
}

func cacheKey() (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, flags)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(moduleDir(), name))
		if err != nil {
			return "", err
		}
		hash.Write(content)
	}
	return hex.EncodeToString(hash.Sum(nil))[:20], nil
}

// moduleDir is the folder of the tool's own go.mod, beside this file.
func moduleDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "module")
}

// lock waits for other test processes that build the same binary.
func lock(name string) (unlock func() error, err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return file.Close, nil
}
