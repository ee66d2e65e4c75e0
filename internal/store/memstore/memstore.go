// Package memstore is the in-memory twin of internal/store, with faults under the test's control.
//
// It keeps the same promises towards pkg/sync as the real store and runs the same suite. A Disk is what survives; opening it again
// kills the Store that had it open, which is what a crash looks like.
package memstore

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// ErrInjected is the cause of a failure that a test asked for.
var ErrInjected = errors.New("injected failure")

// errDead is what a Store says that was closed or whose Disk was opened again.
var errDead = errors.New("closed")

// Outcome is what becomes of a commit.
type Outcome int

// The outcomes.
const (
	Done          Outcome = iota
	NotDone               // reported failed, and nothing was written
	DoneButFailed         // reported failed, and yet everything was written
	Full                  // refused with fleetsync.ErrNoSpace, nothing was written
)

// Disk is the durable part. It may be used concurrently.
type Disk struct {
	mu      sync.Mutex
	data    map[string][]byte
	used    int64
	limit   int64
	commits int
	fault   func(n int, records []fleetsync.Record) Outcome
	open    *Store
}

// NewDisk gives an empty disk without a limit or faults.
func NewDisk() *Disk { return &Disk{data: map[string][]byte{}} }

// Fail asks f what becomes of each commit from now on. n counts the commits of the disk from 1; nil lets all be done.
// f is called with the disk locked and must not use it.
func (d *Disk) Fail(f func(n int, records []fleetsync.Record) Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// FailNth gives the nth commit of the disk, counted from 1, an outcome.
func (d *Disk) FailNth(nth int, o Outcome) {
	d.Fail(func(n int, _ []fleetsync.Record) Outcome {
		if n == nth {
			return o
		}
		return Done
	})
}

// Limit sets how many bytes of keys, values and record.Overhead the disk holds; 0 is no limit. What is there already stays.
func (d *Disk) Limit(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = bytes
}

// Commits counts the commits tried so far.
func (d *Disk) Commits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commits
}

// Open gives a Store on the disk. The Store that had it open before is dead from here on.
func (d *Disk) Open() *Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = &Store{disk: d}
	return d.open
}

// New gives a Store on a disk of its own.
func New() *Store { return NewDisk().Open() }

// Store is a fleetsync.Store in memory.
type Store struct {
	disk   *Disk
	failed error // under disk.mu
}

var _ fleetsync.Store = (*Store)(nil)

// Disk is the disk below, for faults.
func (s *Store) Disk() *Disk { return s.disk }

// Get gives the value of a key, or fleetsync.ErrNotFound.
func (s *Store) Get(key string) ([]byte, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open != s {
		return nil, fmt.Errorf("store: get %q: %w", key, errDead)
	}
	v, ok := s.disk.data[key]
	if !ok {
		return nil, fmt.Errorf("store: %q: %w", key, fleetsync.ErrNotFound)
	}
	return append([]byte{}, v...), nil
}

// Scan visits the records whose key begins with prefix in ascending order, as they were when it began.
func (s *Store) Scan(prefix string, visit func(key string, value []byte) error) error {
	found, err := s.snapshot(prefix)
	if err != nil {
		return err
	}
	for _, r := range found {
		if err := visit(r.Key, r.Value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) snapshot(prefix string) ([]fleetsync.Record, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open != s {
		return nil, fmt.Errorf("store: scan %q: %w", prefix, errDead)
	}
	var found []fleetsync.Record
	for k, v := range s.disk.data {
		if strings.HasPrefix(k, prefix) {
			found = append(found, fleetsync.Record{Key: k, Value: slices.Clone(v)})
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Key < found[j].Key })
	return found, nil
}

// Commit applies all records or none.
func (s *Store) Commit(records ...fleetsync.Record) error {
	size, err := record.Check(records)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if len(records) == 0 {
		return nil
	}
	d := s.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != s {
		return fmt.Errorf("store: commit: %w", errDead)
	}
	if s.failed != nil {
		return fmt.Errorf("store: commit: needs to be opened again after: %w", s.failed)
	}
	d.commits++
	outcome := Done
	if d.fault != nil {
		outcome = d.fault(d.commits, records)
	}
	if outcome == Done && d.limit > 0 && d.used+int64(size) > d.limit && !record.OnlyDeletes(records) {
		outcome = Full
	}
	if outcome == Full {
		return fmt.Errorf("store: write of %d bytes: %w: %d of %d bytes used", size, fleetsync.ErrNoSpace, d.used, d.limit)
	}
	if outcome != NotDone {
		d.write(records)
	}
	if outcome != Done {
		s.failed = ErrInjected
		return fmt.Errorf("store: commit: %w", ErrInjected)
	}
	return nil
}

func (d *Disk) write(records []fleetsync.Record) {
	for _, r := range records {
		if old, ok := d.data[r.Key]; ok {
			d.used -= int64(len(r.Key) + len(old) + record.Overhead)
			delete(d.data, r.Key)
		}
		if r.Value != nil {
			d.data[r.Key] = append([]byte{}, r.Value...)
			d.used += int64(len(r.Key) + len(r.Value) + record.Overhead)
		}
	}
}

// Close ends the store; the disk keeps what was committed.
func (s *Store) Close() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open == s {
		s.disk.open = nil
	}
	return nil
}
