// Package wholefile reads small files within a limit, and writes them so that a crash leaves the old one or the new one and never a half. What is written is
// durable when a function returns. Errors are *fs.PathError with the file's own name.
package wholefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Read gives a file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("more than %d bytes", limit)}
	}
	return raw, nil
}

// Replace writes a file in the place of the one that is there, if one is.
func Replace(path string, raw []byte, mode fs.FileMode) error {
	return write(path, raw, mode, os.Rename)
}

// Create writes a file where there is none; else it is fs.ErrExist, and what is there stays.
func Create(path string, raw []byte, mode fs.FileMode) error { return write(path, raw, mode, os.Link) }

func write(path string, raw []byte, mode fs.FileMode, put func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return about(path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = put(f.Name(), path)
	}
	if err != nil {
		return about(path, err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return about(path, err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return about(path, err)
	}
	return nil
}

// about names the file instead of the one that was on its way.
func about(path string, err error) error {
	return &fs.PathError{Op: "write", Path: path, Err: Cause(err)}
}

// Cause leaves out the operation and the path that package os puts before an error, for who says them already.
func Cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// Size is how many bytes the files of a folder have together.
func Size(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
