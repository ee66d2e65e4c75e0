package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// The marker says that a store was made here, so that an empty database is never taken for a new one, and with which key: the names of two while the key is changed.
const (
	markerLine = "holdfast store, format 1, key "
	markerOr   = " or "
	noKey      = "none"
	maxMarker  = 200
)

// nameOfKey tells keys apart and does not tell them.
func nameOfKey(key []byte) string {
	if len(key) == 0 {
		return noKey
	}
	sum := sha256.Sum256(append([]byte("holdfast store key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// markedKeys are the names in the marker. A marker that cannot be read proves nothing.
func markedKeys(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	names, ok := strings.CutPrefix(strings.TrimSuffix(string(b), "\n"), markerLine)
	if err != nil || len(b) > maxMarker || !ok {
		return nil
	}
	return strings.Split(names, markerOr)
}

// writeMarker replaces the marker in one step.
func writeMarker(dir string, names ...string) error {
	path := filepath.Join(dir, markerFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("store %s: %w", dir, err)
	}
	_, err = f.WriteString(markerLine + strings.Join(names, markerOr) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err = errors.Join(err, syncDir(dir)); err != nil {
		return fmt.Errorf("store %s: marker: %w", dir, err)
	}
	return nil
}

// Encrypted says that there is a store that was made with a key, or may have been: then its key must not be made anew.
func Encrypted(dir string) bool {
	if !exists(filepath.Join(dir, dbDir)) && !exists(filepath.Join(dir, newDBDir)) {
		return false
	}
	names := markedKeys(dir)
	return names != nil && !slices.Equal(names, []string{noKey}) || names == nil && exists(filepath.Join(dir, markerFile))
}

// WrongKey says that a store is encrypted with another key than those given, or with none. Nothing was changed.
type WrongKey struct {
	Dir  string
	Text string
}

func (w *WrongKey) Error() string { return fmt.Sprintf("store %s: %s", w.Dir, w.Text) }

// unlock brings the database to Options.Key and says whether that is proven to be the key it was written with.
//
// A crash at any point leaves what the next unlock, with the same keys, finishes: the marker names every key that may be the right one before the
// database changes, and an encrypted copy counts from the marker on.
func (s *Store) unlock(o Options, want []Head) (proven bool, err error) {
	names := markedKeys(s.dir)
	switch {
	case names == nil: // a new store, or one whose marker is damaged: the database says which key it wants
		return false, nil
	case slices.Equal(names, []string{noKey}):
		if err := os.RemoveAll(filepath.Join(s.dir, newDBDir)); err != nil { // a copy that was cut off
			return false, fmt.Errorf("store %s: %w", s.dir, err)
		}
		if len(o.Key) == 0 {
			return true, nil
		}
		if err := s.encrypt(o, want); err != nil {
			return false, err
		}
		names = []string{nameOfKey(o.Key)}
	case len(o.Key) == 0:
		return false, &WrongKey{s.dir, "it is encrypted, and no key is given"}
	}
	if err := s.takeCopy(); err != nil {
		return false, fmt.Errorf("store %s: put the encrypted copy in its place: %w", s.dir, err)
	}
	return s.rekey(o, names)
}

// rekey finds the key that the database has and changes it to Options.Key. Only what encrypts the data keys changes, so that it costs one small file.
func (s *Store) rekey(o Options, names []string) (proven bool, err error) {
	own := nameOfKey(o.Key)
	// Badger would make a new one in silence, and end the process over what it then cannot read.
	if !exists(filepath.Join(s.dir, dbDir, badger.KeyRegistryFileName)) {
		return false, &Damaged{s.dir, errors.New("its key registry is gone")}
	}
	if slices.Equal(names, []string{own}) {
		return true, nil
	}
	known := 0
	for _, key := range append([][]byte{o.Key}, o.Former...) {
		if !slices.Contains(names, nameOfKey(key)) {
			continue
		}
		known++
		err := s.rewriteRegistry(key, o.Key, own)
		if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
			continue
		}
		if err == nil {
			err = writeMarker(s.dir, own)
		}
		return err == nil, err
	}
	if known < len(names) {
		return false, &WrongKey{s.dir, "the encryption key is not the one it was made with"}
	}
	return false, &Damaged{s.dir, errors.New("its key registry does not fit the right key")}
}

func (s *Store) rewriteRegistry(from, to []byte, own string) error {
	registry := badger.KeyRegistryOptions{Dir: filepath.Join(s.dir, dbDir), ReadOnly: true, EncryptionKey: from}
	keys, err := badger.OpenKeyRegistry(registry)
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return err
	}
	if err != nil {
		return openError(s.dir, err)
	}
	if bytes.Equal(from, to) {
		return nil
	}
	// A crash before the registry is renamed leaves the old key, after it the new one: the marker names both.
	if err := writeMarker(s.dir, nameOfKey(from), own); err != nil {
		return err
	}
	registry.EncryptionKey = to
	if err := badger.WriteKeyRegistry(keys, registry); err != nil {
		return openError(s.dir, err)
	}
	return nil
}

// newDBDir is an encrypted copy of the database on its way. Once the marker names its key, it is the database, and what is in db is the one in the clear.
const newDBDir = "db.new"

// takeCopy puts a finished copy in the place of the database it was made of.
func (s *Store) takeCopy() error {
	copied := filepath.Join(s.dir, newDBDir)
	if !exists(copied) {
		return nil
	}
	db := filepath.Join(s.dir, dbDir)
	if err := os.RemoveAll(db); err != nil {
		return err
	}
	if err := os.Rename(copied, db); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// encrypt copies a database that is in the clear, checks the copy and lets the marker name it.
func (s *Store) encrypt(o Options, want []Head) error {
	if err := s.roomForCopy(); err != nil {
		return fmt.Errorf("store %s: encrypt: %w", s.dir, err)
	}
	clear := o
	clear.Key = nil
	from, err := openDB(clear, dbDir)
	if err != nil {
		return openError(s.dir, err)
	}
	defer from.Close()
	h, err := readHead(from)
	if err == nil {
		err = checkAll(from, h, want)
	}
	if err != nil {
		return damagedUnlessSystem(s.dir, err)
	}
	to, err := openDB(o, newDBDir)
	if err != nil {
		return fmt.Errorf("store %s: encrypt: %w", s.dir, err)
	}
	err = copyAll(from, to)
	if err == nil {
		err = checkAll(to, h, []Head{h.name()})
	}
	if err = errors.Join(err, to.Close(), syncDir(filepath.Join(s.dir, newDBDir)), syncDir(s.dir)); err != nil {
		return fmt.Errorf("store %s: encrypt: %w", s.dir, err)
	}
	// Commit point: before it the copy is thrown away and made anew, after it the copy is the database.
	return writeMarker(s.dir, nameOfKey(o.Key))
}

// copyAll copies every record, the head with them, as they are.
func copyAll(from, to *badger.DB) error {
	out := to.NewTransaction(true)
	defer func() { out.Discard() }()
	err := from.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			err = out.Set(key, value)
			if errors.Is(err, badger.ErrTxnTooBig) {
				if err := out.Commit(); err != nil {
					return err
				}
				out = to.NewTransaction(true)
				err = out.Set(key, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return out.Commit()
}

// roomForCopy refuses to begin a copy that would not leave the reserve.
func (s *Store) roomForCopy() error {
	size, err := wholefile.Size(filepath.Join(s.dir, dbDir))
	if err != nil {
		return err
	}
	free, err := s.space.free(s.dir)
	if err != nil {
		return err
	}
	if need := size + max(s.space.reserve, floor); free < need {
		return fmt.Errorf("%w: %s free, %s needed for an encrypted copy", fleetsync.ErrNoSpace, mib(free), mib(need))
	}
	return nil
}
