// Package disktest gives tests an ext4 file system of their own that can be filled and can lose its power.
package disktest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// Disk is an ext4 file system in a file, mounted at Dir.
type Disk struct {
	Dir   string
	image string
}

// New makes and mounts a disk of so many MiB, or skips the test where that cannot be had. It goes with the test.
func New(t *testing.T, mib int64) Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	d := Disk{Dir: t.TempDir(), image: filepath.Join(t.TempDir(), "disk")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.Dir).Run() })
	d.mount(t)
	return d
}

func (d Disk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.Dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %v: %s", err, out)
	}
}

// Remount takes the disk away and gives it back, as a machine does that starts again.
func (d Disk) Remount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("umount", d.Dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	d.mount(t)
}

// CutPower makes the file system forget what is not on the disk. Nothing can be read or written until Remount.
func (d Disk) CutPower(t *testing.T) {
	t.Helper()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Skipf("needs EXT4_IOC_SHUTDOWN: %v", errno)
	}
}

// Fill takes all free space of the disk, until the file it gives is removed.
func (d Disk) Fill(t *testing.T) (filler string) {
	t.Helper()
	filler = filepath.Join(d.Dir, "filler")
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
