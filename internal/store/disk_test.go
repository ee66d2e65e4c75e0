package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/disktest"
	"github.com/holdfast-fleet/holdfast/internal/store/record"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/anchor"
)

func TestF05_FullDisk(t *testing.T) {
	disk := disktest.New(t, 96)
	o := Options{Dir: filepath.Join(disk.Dir, "store"), ReserveBytes: 24 << 20, BallastBytes: 16 << 20}
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

	filler := disk.Fill(t)
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

// cuts is how many power cuts TestF04_PowerCut makes: HOLDFAST_CUTS, or a few.
func cuts(t *testing.T) int {
	t.Helper()
	text := os.Getenv("HOLDFAST_CUTS")
	if text == "" {
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("HOLDFAST_CUTS %q: want a number", text)
	}
	return n
}

// TestF04_PowerCut shuts the file system down under a writing process without flushing its journal: what was not synced is gone. Everything that was
// acknowledged is there afterwards, whole commits only, and the counters in the anchor are never lower than was acknowledged.
func TestF04_PowerCut(t *testing.T) {
	disk := disktest.New(t, 96)
	dir := filepath.Join(disk.Dir, "store")
	random := rand.New(rand.NewPCG(4, 4))
	total := 0
	for round := range cuts(t) {
		acked, head := writeUntil(t, dir, 1+random.IntN(60), func(*os.Process) { disk.CutPower(t) })
		disk.Remount(t)
		o := keyed(dir, 1)
		o.WantHead = head
		s, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: after commit %d: %v", round, acked, err)
		}
		count, err := s.Get("count")
		if n, _ := strconv.Atoi(string(count)); (err != nil || n < acked) && acked > 0 {
			t.Fatalf("round %d: commit %d was acknowledged, the store ends at %s, %v", round, acked, count, err)
		}
		halves(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("round %d: close: %v", round, err)
		}
		if got := anchored(t, filepath.Dir(dir)); got < bundle.Counter(acked) {
			t.Fatalf("round %d: counter %d was acknowledged, the anchor has %d", round, acked, got)
		}
		total = acked
	}
	t.Logf("%d commits survived %d power cuts", total, cuts(t))
}

// halves wants both halves of every commit.
func halves(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Scan("right/", func(key string, value []byte) error {
		left, err := s.Get("left/" + strings.TrimPrefix(key, "right/"))
		if err != nil || !bytes.HasPrefix(left, append(value, ' ')) {
			return fmt.Errorf("%s is %s, and its other half %.20q: %w", key, value, left, err)
		}
		return nil
	}); err != nil {
		t.Errorf("half a commit: %v", err)
	}
}

// anchored is the counter in the anchor.
func anchored(t *testing.T, dir string) bundle.Counter {
	t.Helper()
	file, err := anchor.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a, err := file.Load()
	if err != nil {
		t.Fatalf("anchor: %v", err)
	}
	return a.Counters["shop"].Counter
}

// surviveDeadDisk is a process whose disk dies under it: it goes on reading, acknowledges nothing, and says so.
func surviveDeadDisk(dir string) int {
	s, err := Open(small(dir))
	if err == nil {
		err = s.Commit(rec("kept", "safe"))
	}
	if err != nil {
		fmt.Println(err)
		return exitOther
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the disk is dead
	for range 2 {
		if err := s.Commit(rec("more", "1")); err == nil {
			fmt.Println("a commit on a dead disk is acknowledged")
			return exitLost
		}
	}
	if v, err := s.Get("kept"); err != nil || string(v) != "safe" {
		fmt.Printf("read on a dead disk: %q, %v\n", v, err)
		return exitLost
	}
	return exitOK // without closing, which would wait for the disk
}

// TestF06_DiskTakesNoWrites takes the disk away from a running store: what is there can be read, commits fail and say so. A read-only disk is not taken
// for damage, and when it takes writes again all is there.
func TestF06_DiskTakesNoWrites(t *testing.T) {
	disk := disktest.New(t, 96)
	dir := filepath.Join(disk.Dir, "store")
	c := child(deadRole, dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the store does not begin: %s", lines.Text())
	}
	disk.CutPower(t)
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	said := ""
	for lines.Scan() {
		said += lines.Text() + "\n"
	}
	if err := c.Wait(); err != nil {
		t.Errorf("with a dead disk: %v: %s", err, said)
	}
	disk.Remount(t)
	remount := func(mode string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+mode, disk.Dir).CombinedOutput(); err != nil {
			t.Fatalf("remount %s: %v: %s", mode, err, out)
		}
	}
	remount("ro")
	if s, err := Open(small(dir)); err == nil {
		t.Error("a store is opened for writing on a read-only disk")
		_ = s.Close()
	} else if damaged := (*Damaged)(nil); errors.As(err, &damaged) {
		t.Errorf("a read-only disk is taken for damage: %v", err)
	}
	remount("rw")
	s := mustOpen(t, small(dir))
	defer s.Close()
	if v, err := s.Get("kept"); err != nil || string(v) != "safe" {
		t.Errorf("afterwards: %q, %v", v, err)
	}
	mustCommit(t, s, rec("more", "1"))
}
