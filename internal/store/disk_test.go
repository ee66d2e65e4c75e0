package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// mountDisk gives a directory on an ext4 file system of its own, or skips the test where that cannot be had.
func mountDisk(t *testing.T, mib int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

func TestF05_FullDisk(t *testing.T) {
	disk := mountDisk(t, 96)
	o := Options{Dir: filepath.Join(disk, "store"), ReserveBytes: 24 << 20, BallastBytes: 16 << 20}
	s := mustOpen(t, o)
	mustCommit(t, s, rec("kept", "safe"))
	value := bytes.Repeat([]byte("x"), record.MaxValue)
	var err error
	written := 0
	for ; err == nil && written < 1000; written++ {
		err = s.Commit(fleetsync.Record{Key: fmt.Sprintf("bulk/%04d", written), Value: value})
	}
	if !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Fatalf("filled with %d chunks: got %v, want no space", written, err)
	}
	t.Logf("after %d chunks: %v", written-1, err)

	filler := fillUp(t, disk)
	if err := s.Commit(rec("more", "1")); !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Errorf("on the full disk: got %v, want no space", err)
	}
	if err := s.Commit(fleetsync.Record{Key: "bulk/0000"}); err != nil {
		t.Errorf("delete on the full disk, with ballast: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close on the full disk: %v", err)
	}
	if s, err = Open(o); err == nil {
		if v, err := s.Get("kept"); err != nil || string(v) != "safe" {
			t.Errorf("reopened on the full disk: %q, %v", v, err)
		}
		_ = s.Close()
	} else if !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Errorf("open on the full disk: %v", err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	for i := range written - 1 {
		mustCommit(t, s, fleetsync.Record{Key: fmt.Sprintf("bulk/%04d", i)})
	}
	if v, err := s.Get("kept"); err != nil || string(v) != "safe" {
		t.Errorf("after space returned: %q, %v", v, err)
	}
	_ = s.Close()
}

// fillUp takes all free space of a disk.
func fillUp(t *testing.T, disk string) string {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	_ = f.Sync()
	return path
}
