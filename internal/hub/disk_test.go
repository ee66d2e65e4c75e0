package hub

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// disk is an ext4 file system of its own.
type disk struct{ image, dir string }

// newDisk makes and mounts a disk, or skips the test where that cannot be had.
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
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.dir).Run() })
	d.mount(t)
	return d
}

func (d disk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %v: %s", err, out)
	}
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

// fill takes all free space of the disk.
func (d disk) fill(t *testing.T) (filler string) {
	t.Helper()
	filler = filepath.Join(d.dir, "filler")
	f, err := os.Create(filler)
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
	return filler
}

// TestF10_WhatWasAcknowledgedOutlastsAPowerCut cuts the power under a hub that takes events. Everything a site was told is on the disk, is.
func TestF10_WhatWasAcknowledgedOutlastsAPowerCut(t *testing.T) {
	d := newDisk(t, 200)
	cfg := configOf(t, filepath.Join(d.dir, "hub"))
	cfg.ListenNATS = freePort(t)
	h := startHub(t, cfg)
	site := addSite(t, clientOf(t, h), "shop-1", nil)
	acknowledged, told := uint64(0), uint64(0)
	for round := range 3 {
		for n := range uint64(20 + 7*round) {
			next := acknowledged + 1
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := site.link.Report(ctx, fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", next, next), site.key))
			cancel()
			if err != nil {
				t.Logf("round %d: event %d is not taken: %v", round, next, err)
				break
			}
			acknowledged = next
			if n == uint64(15+5*round) {
				told = max(told, site.acked())
				d.cutPower(t)
			}
		}
		h.Close()
		d.unmount(t)
		d.mount(t)
		h = startHub(t, cfg)
		site.await(fleetsync.LinkUp)
		h.mu.Lock()
		ack, _ := h.view.Ack("shop-1")
		h.mu.Unlock()
		if ack.Upto < acknowledged || ack.Upto < told {
			t.Fatalf("round %d: the site was told that event %d is stored and %d is safe, the hub has them up to %d", round, acknowledged, told, ack.Upto)
		}
		acknowledged = ack.Upto
		if red := h.troubles(t.Context()); len(red) > 0 {
			t.Errorf("round %d: the hub says %q", round, red)
		}
	}
}

// TestF12_AFullDiskIsRedAndPasses fills the disk of a hub.
func TestF12_AFullDiskIsRedAndPasses(t *testing.T) {
	d := newDisk(t, 64)
	cfg := configOf(t, filepath.Join(d.dir, "hub"))
	cfg.ListenNATS = freePort(t)
	h := startHub(t, cfg)
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	report := func(n uint64) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return site.link.Report(ctx, fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", n, n), site.key))
	}
	if err := report(1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an event is acknowledged", func() bool { return site.acked() == 1 })
	filler := d.fill(t)
	next := uint64(2)
	for ; next < 2000; next++ { // what was allocated before may take some more
		if err := report(next); err != nil {
			t.Logf("event %d is refused: %v", next, err)
			break
		}
	}
	if next == 2000 {
		t.Fatal("a full disk takes everything")
	}
	if acked := site.acked(); acked >= next {
		t.Errorf("event %d was refused and %d is acknowledged", next, acked)
	}
	eventually(t, "the hub is red", func() bool { return len(h.troubles(t.Context())) > 0 })
	t.Logf("red: %q", h.troubles(t.Context()))
	if _, err := h.Push(t.Context(), releaseOf(t, "1.0.0", 1, ours()).bytes(t)); err == nil {
		t.Error("a push is taken with a full disk")
	} else {
		t.Logf("push: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the site's next event is taken", func() bool { return report(next) == nil })
	eventually(t, "all is acknowledged", func() bool { return site.acked() == next })
	eventually(t, "the hub is well", func() bool { return len(h.troubles(t.Context())) == 0 })
}
