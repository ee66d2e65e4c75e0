package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// newTemporaryDir makes a directory named for this process, after removing those of processes that are gone: a test
// binary that is killed, or ends without StopShared, leaves its directory behind, though never its programs.
func newTemporaryDir() (string, error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "holdfast-cluster-*-*"))
	if err != nil {
		return "", fmt.Errorf("temporary directory: %w", err)
	}
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "holdfast-cluster-%d-", &pid); err != nil || pid <= 0 {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			// Somebody else's, or being removed by another test binary just now: not our concern.
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp("", fmt.Sprintf("holdfast-cluster-%d-", os.Getpid()))
}
