package anchor

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// disk is what an anchor needs of a folder. Tests put faults between it and the real one.
type disk interface {
	// read gives at most limit bytes of a file, or errAbsent.
	read(name string, limit int64) ([]byte, error)
	// writeSynced makes or replaces a file and returns once its bytes are on disk.
	writeSynced(name string, data []byte) error
	rename(from, to string) error
	// sync makes renames durable.
	sync() error
	close() error
}

var errAbsent = errors.New("no such file")

// folder is a real folder. Its files cannot be reached through links that lead out of it.
type folder struct{ root *os.Root }

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

func (f *folder) read(name string, limit int64) ([]byte, error) {
	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

func (f *folder) writeSynced(name string, data []byte) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f *folder) rename(from, to string) error { return f.root.Rename(from, to) }

func (f *folder) sync() error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (f *folder) close() error { return f.root.Close() }
