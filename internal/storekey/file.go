package storekey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is a source in a file that this user may read. The folder must exist.
func File(path string) Source { return &file{path: path} }

type file struct {
	path string
	was  bool // there at the last Read
}

func (f *file) String() string { return "file:" + f.path }

func (f *file) Read(context.Context) (Ring, error) {
	text, err := f.read()
	f.was = !errors.Is(err, fs.ErrNotExist)
	if !f.was {
		return Ring{}, nil
	}
	if err != nil {
		return Ring{}, fmt.Errorf("store key %s: %w", f, plain(err))
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

func (f *file) read() ([]byte, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, maxText+1))
}

// Write goes through a temporary file, so that a crash leaves the old ring or the new one. A first one is linked, which fails where another one was quicker.
func (f *file) Write(_ context.Context, r Ring) error {
	err := f.write(r.Encode())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("store key %s: %w", f, ErrChanged)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("store key %s: %w: %w", f, ErrReadOnly, plain(err))
	}
	return fmt.Errorf("store key %s: %w", f, plain(err))
}

func (f *file) write(text []byte) error {
	dir := filepath.Dir(f.path)
	temporary, err := os.CreateTemp(dir, "."+filepath.Base(f.path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if f.was {
		err = os.Rename(temporary.Name(), f.path)
	} else {
		err = os.Link(temporary.Name(), f.path)
	}
	if err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
