package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// readLimited reads a file of at most limit bytes; "-" is stdin.
func readLimited(path string, limit int64) ([]byte, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: larger than %s", path, api.Bytes(limit))
	}
	return raw, nil
}

// writeWhole writes a file so that a reader finds the old or the new one, never half of it. "-" is stdout.
func (d *desk) writeWhole(path string, raw []byte, mode fs.FileMode) error {
	if path == "-" {
		_, err := d.out.Write(raw)
		return err
	}
	return wholefile.Replace(path, raw, mode)
}

// writeNew writes a file that must not exist yet: keys and site files are never overwritten.
func writeNew(path string, raw []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return existsAlready(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// mustBeFree says early that a file could not be written later.
func mustBeFree(paths ...string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			return existsAlready(path)
		}
	}
	return nil
}

func existsAlready(path string) error {
	return &failure{code: exitConflict, message: path + ": exists already", hint: "it is not overwritten; choose another name or move it away", cause: fs.ErrExist}
}
