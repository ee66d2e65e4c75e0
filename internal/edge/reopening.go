package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/store"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// opened is a store that knows how far it has come. *store.Store is one.
type opened interface {
	fleetsync.Store
	Head() string
}

// reopening is a fleetsync.Store that takes commits again after one failed: it closes the store below and opens it anew, which reads all of it and
// so finds out what the failed commit left. An agent that ended itself instead would lose what it keeps the site right with, and on a disk that stays broken
// not come back. What was stored can be read until the disk takes writes again.
type reopening struct {
	open  func(wantHead string) (opened, error)
	probe func() error // says whether the disk takes writes
	now   func() time.Time

	mu       sync.RWMutex
	below    opened // nil: closed, and could not be opened again yet
	head     string
	broken   error // why below takes no commits
	earliest time.Time
}

// reopenPause is the shortest pause between two attempts to open the store again.
const reopenPause = time.Second

// newReopening opens the store for the first time.
func newReopening(open func(wantHead string) (opened, error), wantHead string, probe func() error) (*reopening, error) {
	below, err := open(wantHead)
	if err != nil {
		return nil, err
	}
	return &reopening{open: open, probe: probe, now: time.Now, below: below}, nil
}

// probeFolder writes a file and makes it durable.
func probeFolder(dir string) func() error {
	return func() error {
		path := filepath.Join(dir, "probe")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString("holdfast")
		return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
	}
}

// Get gives the value of a key.
func (r *reopening) Get(key string) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.below == nil {
		return nil, r.away()
	}
	return r.below.Get(key)
}

// Scan visits the records whose key begins with prefix. visit must not use the store.
func (r *reopening) Scan(prefix string, visit func(key string, value []byte) error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.below == nil {
		return r.away()
	}
	return r.below.Scan(prefix, visit)
}

// Commit applies all records or none, after opening the store again if it has to be. *store.Damaged says that it must be set aside.
func (r *reopening) Commit(records ...fleetsync.Record) error {
	if err := r.mend(); err != nil {
		return err
	}
	r.mu.RLock()
	if r.below == nil {
		defer r.mu.RUnlock()
		return r.away()
	}
	err := r.below.Commit(records...)
	r.mu.RUnlock()
	if err == nil || errors.Is(err, fleetsync.ErrNoSpace) || errors.Is(err, store.ErrTooLarge) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken, r.earliest = err, r.now().Add(reopenPause)
	}
	return err
}

func (r *reopening) away() error { return fmt.Errorf("the store is not open: %w", r.broken) }

// mend opens the store again if a commit failed.
func (r *reopening) mend() error {
	r.mu.RLock()
	broken, tooEarly := r.broken, r.now().Before(r.earliest)
	r.mu.RUnlock()
	if broken == nil || tooEarly {
		return broken
	}
	err := r.probe()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil { // somebody else was quicker
		return nil
	}
	r.earliest = r.now().Add(reopenPause)
	if err != nil {
		return fmt.Errorf("%w (since: %v)", err, r.broken)
	}
	if r.below != nil {
		r.head = r.below.Head()
		_ = r.below.Close() // it failed before, and what matters is what opening finds
		r.below = nil
	}
	below, err := r.open(r.head)
	if err != nil {
		r.broken = err
		return err
	}
	r.below, r.broken = below, nil
	return nil
}

// Head names the newest commit.
func (r *reopening) Head() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.below == nil {
		return r.head
	}
	return r.below.Head()
}

// Close ends the store.
func (r *reopening) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.below == nil {
		return nil
	}
	err := r.below.Close()
	r.below, r.broken = nil, errors.New("closed")
	return err
}
