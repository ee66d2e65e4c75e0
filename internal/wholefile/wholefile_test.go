package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFilesAreWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("made twice: %v", err)
	}
	if raw, err := Read(path, 5); err != nil || string(raw) != "first" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := Replace(path, []byte("second"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestP07_ErrorsNameTheFileAndTheCause(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("123456"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 5); err == nil || err.Error() != "read "+path+": more than 5 bytes" {
		t.Errorf("too long: %v", err)
	}
	below := filepath.Join(path, "below")
	err := Replace(below, nil, 0o600)
	if !errors.Is(err, syscall.ENOTDIR) || err.Error() != "write "+below+": not a directory" || Cause(err) != error(syscall.ENOTDIR) {
		t.Errorf("no folder: %v", err)
	}
}
