package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// floor is what Badger may need for itself at any moment: one memtable written to its log and flushed, and a small compaction.
const floor = 3 * memTableSize

// guard keeps Badger from ever meeting a full disk.
type guard struct {
	dir     string
	log     *zap.Logger
	reserve int64
	ballast int64
	free    func(dir string) (int64, error)
}

func newGuard(o Options) guard {
	return guard{dir: o.Dir, log: o.Log, reserve: o.ReserveBytes, ballast: o.BallastBytes, free: FreeBytes}
}

// FreeBytes is what an unprivileged process may still write.
func FreeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// admit decides over a commit of size bytes. A value is written to the log, to a table, and again when tables are merged.
func (g guard) admit(size int64, onlyDeletes bool) error {
	if onlyDeletes {
		return g.admitFloor("delete")
	}
	free, err := g.free(g.dir)
	if err != nil {
		return err
	}
	if need := max(g.reserve, floor) + 2*size; free < need {
		return fmt.Errorf("write of %d bytes: %w: %s free, %s needed to keep the reserve", size, fleetsync.ErrNoSpace, mib(free), mib(need))
	}
	if !exists(g.path()) {
		return g.fillBallast()
	}
	return nil
}

func (g guard) admitOpen() error { return g.admitFloor("open") }

// admitFloor lets an operation pass that frees space or needs little, giving up the ballast where it must.
func (g guard) admitFloor(what string) error {
	free, err := g.free(g.dir)
	if err != nil {
		return err
	}
	if free < floor && exists(g.path()) {
		g.log.Warn("disk is full: giving up the store's ballast", zap.String("dir", g.dir), zap.Int64("free", free))
		if err := os.Remove(g.path()); err != nil {
			return fmt.Errorf("give up the ballast: %w", err)
		}
		if free, err = g.free(g.dir); err != nil {
			return err
		}
	}
	if free < floor {
		return fmt.Errorf("%s: %w: %s free, %s needed", what, fleetsync.ErrNoSpace, mib(free), mib(floor))
	}
	return nil
}

// prepareClose makes what room can be made; closing goes on in any case.
func (g guard) prepareClose() { _ = g.admitFloor("close") }

// fillBallast makes the ballast again where there is room for it and the reserve.
func (g guard) fillBallast() error {
	if g.ballast <= 0 || exists(g.path()) {
		return nil
	}
	free, err := g.free(g.dir)
	if err != nil {
		return err
	}
	if free < g.reserve+2*g.ballast {
		return nil
	}
	f, err := os.OpenFile(g.path(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	defer f.Close()
	err = syscall.Fallocate(int(f.Fd()), 0, 0, g.ballast)
	if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSPC) {
		// A file system that cannot set space aside does without; the empty file says that it was tried.
		return nil
	}
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	return nil
}

func (g guard) path() string { return filepath.Join(g.dir, ballastFile) }

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
