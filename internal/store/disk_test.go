package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// disk is an ext4 file system of its own.
type disk struct{ image, dir string }

// newDisk makes a disk, or skips the test where that cannot be had.
func newDisk(t *testing.T, mib int64) disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	d := disk{filepath.Join(t.TempDir(), "disk"), t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", d.dir).Run() })
	return d
}

func (d disk) mount(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %v: %s", err, out)
	}
	return d.dir
}

func (d disk) unmount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
}

// cutPower makes the file system forget what is not on the disk.
func (d disk) cutPower(t *testing.T) {
	t.Helper()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Skipf("needs EXT4_IOC_SHUTDOWN: %v", errno)
	}
}

func TestF05_FullDisk(t *testing.T) {
	disk := newDisk(t, 96).mount(t)
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

// TestF04_PowerCut shuts the file system down under a writing process without flushing its journal: what was not synced is gone.
func TestF04_PowerCut(t *testing.T) {
	const rounds = 6
	disk := newDisk(t, 96)
	dir := filepath.Join(disk.mount(t), "store")
	for round := range rounds {
		c := child(writeRole, dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		acked, head := 0, ""
		lines := bufio.NewScanner(out)
		for seen := 0; lines.Scan(); seen++ {
			f := strings.Fields(lines.Text())
			if len(f) != 3 || f[0] != "acked" {
				t.Logf("round %d: the writer ended: %.200s", round, lines.Text())
				break
			}
			acked, _ = strconv.Atoi(f[1])
			head = f[2]
			if seen == 15+13*round {
				disk.cutPower(t)
			}
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		disk.unmount(t)
		disk.mount(t)
		o := small(dir)
		o.WantHead = head
		s, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: after commit %d: %v", round, acked, err)
		}
		count, err := s.Get("count")
		if n, _ := strconv.Atoi(string(count)); err != nil || n < acked {
			t.Errorf("round %d: commit %d was acknowledged, the store ends at %s, %v", round, acked, count, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("round %d: close: %v", round, err)
		}
	}
}
