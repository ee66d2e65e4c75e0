package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Names in a store's directory.
const (
	dbDir        = "db"
	markerFile   = "marker"
	headFileName = "head"
	ballastFile  = "ballast"
	openingFile  = "opening"
	lockFileName = "lock"
)

// Damaged says that a store cannot be trusted to hold what was committed. The cure is SetAside and a new store, which is a new epoch.
type Damaged struct {
	Dir   string
	Cause error
}

func (d *Damaged) Error() string { return fmt.Sprintf("store %s: damaged: %v", d.Dir, d.Cause) }

// Unwrap gives the cause.
func (d *Damaged) Unwrap() error { return d.Cause }

// SetAside renames a closed store out of the way, to its name and ".damaged", so that a new one can be made. Of the stores set aside
// only the newest is kept, and without its ballast: an edge's disk is small.
func SetAside(dir string) (movedTo string, err error) {
	lock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	movedTo = filepath.Clean(dir) + ".damaged"
	if err := os.RemoveAll(movedTo); err != nil {
		return "", fmt.Errorf("store %s: set aside: %w", dir, err)
	}
	_ = os.Remove(filepath.Join(dir, ballastFile))
	if err := os.Rename(dir, movedTo); err != nil {
		return "", fmt.Errorf("store %s: set aside: %w", dir, err)
	}
	if err := syncDir(filepath.Dir(movedTo)); err != nil {
		return "", fmt.Errorf("store %s: set aside: %w", dir, err)
	}
	return movedTo, nil
}

// notDamage are causes for which a store must not be set aside: another try, another key or a free disk may open it.
var notDamage = []error{
	fs.ErrPermission, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
	badger.ErrEncryptionKeyMismatch, badger.ErrInvalidEncryptionKey, fleetsync.ErrNoSpace,
}

func openError(dir string, err error) error {
	// Badger mostly wraps without %w, so the words have to be looked at too.
	for _, n := range notDamage {
		if errors.Is(err, n) || strings.Contains(err.Error(), n.Error()) {
			return fmt.Errorf("store %s: open: %w", dir, err)
		}
	}
	return &Damaged{dir, err}
}

func damagedUnlessSystem(dir string, err error) error {
	if d := (*Damaged)(nil); errors.As(err, &d) {
		return err
	}
	return openError(dir, err)
}

// countOpening notes that an attempt to open begins. Badger ends the process on some kinds of damage, and that must not go on for ever.
func countOpening(dir string) error {
	path := filepath.Join(dir, openingFile)
	n := 0
	if b, err := os.ReadFile(path); err == nil {
		n, _ = strconv.Atoi(string(b))
	}
	if n >= maxOpenings {
		return &Damaged{dir, fmt.Errorf("opening it ended the process %d times", n)}
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
		return fmt.Errorf("store %s: %w", dir, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
