// Package store keeps the edge's durable memory in Badger.
//
// It is one ordered map of keys to values with atomic, durable commits, and nothing else: what the keys mean is the business of
// pkg/sync. One process has it open at a time.
//
// Guarantees:
//
//	S1  A commit that returned nil survives the process being killed and the power being cut. A commit that returned an error other
//	    than ErrTooLarge or ErrNoSpace may or may not have happened; the store then takes no more commits until it is opened again.
//	S2  A commit happens as a whole or not at all.
//	S3  Nothing is lost silently. Every value carries a hash over its key and itself, checked on every Get and Scan. Every commit also
//	    writes the head: a sequence, a hash chained over all commits, and the number and combined hash of all live records. Open reads
//	    everything and compares. The head is kept a second time in the file "head" (not synced, so never ahead of the store and at
//	    most some seconds behind it) and by the owner, who passes it as Options.WantHead: a store that dropped its newest commits,
//	    as Badger does on a flipped bit in its write-ahead log, is found out as *Damaged.
//	S4  A write that would leave less free space than the reserve is refused with fleetsync.ErrNoSpace before Badger sees it, because
//	    Badger writes to mapped memory and a full disk kills the process. Deletes are allowed far below the reserve. A ballast file
//	    gives the room to open and to delete on a disk that others filled.
//	S5  A damaged store is *Damaged, never an empty one, also where opening it kills the process: the fifth try gives up.
//	S6  With a key nothing of keys and values stands in the files in the clear. Another key, or none, is *WrongKey and changes nothing. A change of the
//	    key, and the change from none to one, may be cut off anywhere and goes on at the next Open with the same keys.
//
// Layout of the directory: db/ is Badger's, db.new/ an encrypted copy of it that is being made, marker says that a store was made here and with which key, head is the second copy of the head, ballast is
// the ballast, opening counts unfinished attempts to open, lock is locked while the store is open.
//
// In Badger a record's key is "d" and the key; its value is a version byte (1), the SHA-256 over key length, key and value, and the value.
// The head's key is "h".
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// ErrInUse says that another Store has the directory open.
var ErrInUse = errors.New("in use by another process")

// ErrTooLarge says that a key, a value or a whole commit is beyond the limits of package record. Nothing was written.
var ErrTooLarge = record.ErrTooLarge

const (
	memTableSize = 4 << 20
	dataPrefix   = "d"
	headKey      = "h"
	// maxOpenings is how many unfinished attempts to open a store are taken for bad luck.
	maxOpenings = 4
)

// Options says how to open a store.
type Options struct {
	// Dir is made where it is missing. It must not be a mount point itself, so that SetAside can rename it.
	Dir string
	// Log takes Badger's chatter at debug level; nil is silent.
	Log *zap.Logger
	// ReserveBytes of the file system stay free of ordinary writes. 0 is 64 MiB.
	ReserveBytes int64
	// BallastBytes are kept in a file that is given up when the disk is full. 0 is 16 MiB, negative is none.
	BallastBytes int64
	// WantHead is the newest Store.Head the owner knows of, or empty. A store whose head is older, or is of another store, is *Damaged.
	WantHead string
	// Key encrypts at rest: 16, 24 or 32 bytes, or empty for none. A store that was made without is copied into an encrypted one, which takes its place.
	Key []byte
	// Former are keys from before, as long as Key: a store that has one of them is changed to Key.
	Former [][]byte
}

// Store is a fleetsync.Store on Badger.
type Store struct {
	dir   string
	log   *zap.Logger
	db    *badger.DB
	lock  *os.File
	space guard

	mu       sync.Mutex // serialises commits: each one builds on the head of the one before
	head     head
	failed   error // why no further commit is taken
	headFile *os.File
	closed   bool
}

var _ fleetsync.Store = (*Store)(nil)

// Open opens or makes the store and checks all of it. Errors: *Damaged, ErrInUse, fleetsync.ErrNoSpace, or what the system says.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	want, err := wantedHead(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: o.Dir, log: o.Log, lock: lock, space: newGuard(o)}
	if err := s.open(o, want); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 64 << 20
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = 16 << 20
	}
	return o
}

func (s *Store) open(o Options, want []Head) (err error) {
	if err := s.space.admitOpen(); err != nil {
		return fmt.Errorf("store %s: %w", s.dir, err)
	}
	if err := countOpening(s.dir); err != nil {
		return err
	}
	// A panic of Badger's in this goroutine over nonsense on the disk is damage like any other.
	defer func() {
		if p := recover(); p != nil {
			err = &Damaged{Dir: s.dir, Cause: fmt.Errorf("opening it panicked: %v", p)}
		}
		if err != nil && s.db != nil {
			_ = s.db.Close()
		}
		_ = os.Remove(filepath.Join(s.dir, openingFile))
	}()
	made := exists(filepath.Join(s.dir, markerFile))
	keyIsRight, err := s.unlock(o, want)
	if err != nil {
		return err
	}
	db, err := openDB(o, dbDir)
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) && keyIsRight {
		return &Damaged{s.dir, fmt.Errorf("its key registry does not fit the right key: %w", err)}
	}
	if err != nil {
		return openError(s.dir, err) // Badger has cleaned up, and what it returned must not be closed
	}
	s.db = db
	if s.head, err = readHead(s.db); errors.Is(err, fleetsync.ErrNotFound) && !made && len(want) == 0 {
		err = s.begin()
	} else if err == nil {
		err = checkAll(s.db, s.head, want)
	}
	if err != nil {
		return damagedUnlessSystem(s.dir, err)
	}
	if !made {
		if err := writeMarker(s.dir, nameOfKey(o.Key)); err != nil {
			return err
		}
	}
	if s.headFile, err = os.OpenFile(filepath.Join(s.dir, headFileName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("store %s: %w", s.dir, err)
	}
	s.keepHead()
	return s.space.fillBallast()
}

// openDB opens the database in a folder of the store. Memtables and value logs are empty files at first, and again before they are deleted. Badger does not open a
// database with one that a kill left behind; nothing is in it, and the head tells whether something should be.
func openDB(o Options, name string) (*badger.DB, error) {
	dir := filepath.Join(o.Dir, name)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, file := range files {
		if ending := filepath.Ext(file.Name()); ending != ".mem" && ending != ".vlog" {
			continue
		}
		if info, err := file.Info(); err == nil && info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, file.Name())); err != nil {
				return nil, err
			}
		}
	}
	return badger.Open(badgerOptions(o, name))
}

// badgerOptions keeps everything in the LSM tree, so that there is no value log to collect, and memory small.
func badgerOptions(o Options, name string) badger.Options {
	b := badger.DefaultOptions(filepath.Join(o.Dir, name)).
		WithSyncWrites(true).
		WithLogger(chatter{o.Log.Sugar()}).
		WithCompression(options.None). // contents are compressed already
		WithBlockCacheSize(0).
		WithMemTableSize(memTableSize).
		WithValueThreshold(record.MaxValue + recordOverhead).
		WithNumMemtables(1).
		WithNumCompactors(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithBaseLevelSize(8 << 20).
		WithValueLogFileSize(1 << 20).
		WithNumGoroutines(1).
		WithMetricsEnabled(false).
		WithDetectConflicts(false). // commits are serialised here
		WithChecksumVerificationMode(options.OnTableAndBlockRead)
	if len(o.Key) > 0 {
		b = b.WithEncryptionKey(o.Key).WithBlockCacheSize(4 << 20).WithIndexCacheSize(1 << 20)
	}
	return b
}

// begin writes the first head of a new store.
func (s *Store) begin() error {
	h, err := newHead()
	if err != nil {
		return err
	}
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(headKey), h.encode()) }); err != nil {
		return fmt.Errorf("store %s: first commit: %w", s.dir, err)
	}
	s.head = h
	return nil
}

// Get gives the value of a key, or fleetsync.ErrNotFound.
func (s *Store) Get(key string) ([]byte, error) {
	var value []byte
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(dataPrefix + key))
		if err != nil {
			return err
		}
		return item.Value(func(raw []byte) error {
			v, _, err := unseal(key, raw)
			value = append([]byte{}, v...)
			return err
		})
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, fmt.Errorf("store: %q: %w", key, fleetsync.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("store: get %q: %w", key, err)
	}
	return value, nil
}

// Scan visits the records whose key begins with prefix in ascending order, as they were when it began.
func (s *Store) Scan(prefix string, visit func(key string, value []byte) error) error {
	return s.db.View(func(txn *badger.Txn) error {
		return scan(txn, prefix, func(key string, value []byte, _ hash) error { return visit(key, value) })
	})
}

func scan(txn *badger.Txn, prefix string, visit func(key string, value []byte, sum hash) error) error {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false // values are in the tree already; prefetching would only copy them
	o.Prefix = []byte(dataPrefix + prefix)
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := string(it.Item().Key()[len(dataPrefix):])
		err := it.Item().Value(func(raw []byte) error {
			value, sum, err := unseal(key, raw)
			if err != nil {
				return err
			}
			return visit(key, value, sum)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Commit applies all records or none, in order, and is on the disk when it returns nil.
func (s *Store) Commit(records ...fleetsync.Record) error {
	size, err := record.Check(records)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if len(records) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("store: commit: closed")
	}
	if s.failed != nil {
		return fmt.Errorf("store: commit: needs to be opened again after: %w", s.failed)
	}
	if err := s.space.admit(int64(size), record.OnlyDeletes(records)); err != nil {
		return fmt.Errorf("store %s: %w", s.dir, err)
	}
	next := s.head.next()
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	if err := stage(txn, &next, records); err != nil {
		return fmt.Errorf("store: commit: %w", err)
	}
	// Commit point: Badger syncs its write-ahead log before Commit returns. The outcome of a failure is unknown.
	if err := txn.Commit(); err != nil {
		s.failed = err
		return fmt.Errorf("store: commit: %w", err)
	}
	s.head = next
	s.keepHead()
	return nil
}

// stage puts the records and the head that counts them in into the transaction.
func stage(txn *badger.Txn, h *head, records []fleetsync.Record) error {
	for _, r := range records {
		key := []byte(dataPrefix + r.Key)
		old, had, err := oldSum(txn, key)
		if err != nil {
			return fmt.Errorf("read %q before the change: %w", r.Key, err)
		}
		if had {
			h.drop(old)
		}
		if r.Value == nil {
			h.link(deletion(r.Key))
			if had {
				err = txn.Delete(key)
			}
		} else {
			raw, sum := seal(r.Key, r.Value)
			h.link(sum)
			h.add(sum)
			err = txn.Set(key, raw)
		}
		if errors.Is(err, badger.ErrTxnTooBig) {
			return fmt.Errorf("%d records: %w: they do not fit into one transaction", len(records), ErrTooLarge)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", r.Key, err)
		}
	}
	return txn.Set([]byte(headKey), h.encode())
}

func oldSum(txn *badger.Txn, key []byte) (sum hash, had bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return hash{}, false, nil
	}
	if err != nil {
		return hash{}, false, err
	}
	err = item.Value(func(raw []byte) error {
		sum, err = sealOf(raw)
		return err
	})
	return sum, err == nil, err
}

// Head names the newest commit, for Options.WantHead of a later Open.
func (s *Store) Head() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.name().String()
}

// Close ends the store. It may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	// Closing flushes what is in memory, which needs room like any write.
	s.space.prepareClose()
	err := s.db.Close()
	_ = s.headFile.Close()
	_ = s.lock.Close()
	if err != nil {
		return fmt.Errorf("store %s: close: %w", s.dir, err)
	}
	return nil
}

// lockDir takes the lock that makes a second Open fail.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("store %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("store %s: lock: %w", dir, err)
	}
	return f, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// chatter sends what Badger says to the debug log.
type chatter struct{ log *zap.SugaredLogger }

func (c chatter) Errorf(f string, a ...any)   { c.log.Debugf("badger error: "+f, a...) }
func (c chatter) Warningf(f string, a ...any) { c.log.Debugf("badger warning: "+f, a...) }
func (c chatter) Infof(f string, a ...any)    { c.log.Debugf("badger: "+f, a...) }
func (c chatter) Debugf(f string, a ...any)   { c.log.Debugf("badger: "+f, a...) }
