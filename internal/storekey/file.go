package storekey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// File is a source in a file that this user may read. The folder must exist.
func File(path string) Source { return &file{path: path} }

type file struct {
	path string
	was  bool // there at the last Read
}

func (f *file) String() string { return "file:" + f.path }

func (f *file) Read(context.Context) (Ring, error) {
	text, err := wholefile.Read(f.path, maxText)
	f.was = !errors.Is(err, fs.ErrNotExist)
	if !f.was {
		return Ring{}, nil
	}
	if err != nil {
		return Ring{}, fmt.Errorf("store key %s: %w", f, wholefile.Cause(err))
	}
	r, err := Parse(text)
	if err == nil && r.Empty() {
		err = errors.New("store key: it is empty")
	}
	if err != nil {
		return Ring{}, fmt.Errorf("%s: %w", f.path, err)
	}
	return r, nil
}

// Write goes through a temporary file, so that a crash leaves the old ring or the new one. A first one is linked, which fails where another one was quicker.
func (f *file) Write(_ context.Context, r Ring) error {
	put := wholefile.Create
	if f.was {
		put = wholefile.Replace
	}
	err := put(f.path, r.Encode(), 0o600)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("store key %s: %w", f, ErrChanged)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("store key %s: %w: %w", f, ErrReadOnly, wholefile.Cause(err))
	}
	return fmt.Errorf("store key %s: %w", f, wholefile.Cause(err))
}
