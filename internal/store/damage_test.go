package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/anchor"
)

// Roles of a re-executed test binary.
const (
	roleVar   = "HOLDFAST_STORE_TEST_ROLE"
	dirVar    = "HOLDFAST_STORE_TEST_DIR"
	writeRole = "write"
	openRole  = "open"

	memoryRole = "memory"
	deadRole   = "dead disk"
	rekeyRole  = "rekey"

	exitOK, exitDamaged, exitLost, exitOther = 0, 10, 11, 12
)

func TestMain(m *testing.M) {
	switch dir := os.Getenv(dirVar); os.Getenv(roleVar) {
	case writeRole:
		os.Exit(writeForEver(dir))
	case openRole:
		os.Exit(openAndCompare(dir))
	case deadRole:
		os.Exit(surviveDeadDisk(dir))
	case rekeyRole:
		os.Exit(rekeyForEver(dir))
	case memoryRole:
		os.Exit(useMemory(dir))
	}
	os.Exit(m.Run())
}

func child(role, dir string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), roleVar+"="+role, dirVar+"="+dir)
	return c
}

func fdatasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// writeForEver commits pairs and says each one that is acknowledged.
func writeForEver(dir string) int {
	s, err := Open(keyed(dir, 1))
	if err != nil {
		fmt.Println("error", err)
		return exitOther
	}
	beside, err := anchor.Open(filepath.Dir(dir), nil)
	if err != nil {
		fmt.Println("error", err)
		return exitOther
	}
	first := 0
	if b, err := s.Get("count"); err == nil {
		first, _ = strconv.Atoi(string(b))
	}
	for i := first + 1; ; i++ {
		n := strconv.Itoa(i)
		// Large enough that memory tables are flushed now and then.
		big := bytes.Repeat([]byte(n+" "), record.MaxValue/4/(len(n)+1))
		if err := s.Commit(fleetsync.Record{Key: "left/" + strconv.Itoa(i%50), Value: big}, rec("right/"+strconv.Itoa(i%50), n), rec("count", n)); err != nil {
			fmt.Println("error", err)
			return exitOther
		}
		mark := verify.Mark{Counter: bundle.Counter(i), Digest: bundle.DigestOf([]byte(n))}
		if err := beside.Save(anchor.Anchor{Counters: verify.Counters{"shop": mark}, StoreHead: s.Head()}); err != nil {
			fmt.Println("error", err)
			return exitOther
		}
		fmt.Println("acked", n, s.Head())
	}
}

func TestF03_KilledInTheMidstOfCommits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	for round := range 8 {
		acked, head := writeUntil(t, dir, 21+17*round, func(writer *os.Process) { _ = writer.Kill() })
		o := keyed(dir, 1)
		o.WantHead = head
		s, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: after commit %d: %v", round, acked, err)
		}
		count, err := s.Get("count")
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n, _ := strconv.Atoi(string(count))
		if n < acked {
			t.Fatalf("round %d: commit %d was acknowledged, the store ends at %d", round, acked, n)
		}
		halves(t, s)
		_ = s.Close()
	}
}

// writeUntil runs a writer and strikes once it acknowledged so many commits. It gives the last one that was acknowledged.
func writeUntil(t *testing.T, dir string, commits int, strike func(writer *os.Process)) (acked int, head string) {
	t.Helper()
	c := child(writeRole, dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for seen := 1; lines.Scan(); seen++ {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "acked" {
			t.Logf("writer, after %d commits: %s", acked, lines.Text())
			break
		}
		acked, _ = strconv.Atoi(f[1])
		head = f[2]
		if seen == commits {
			strike(c.Process)
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	return acked, head
}

// full is what a store in the damage test holds.
func full() map[string]string {
	m := map[string]string{}
	for i := range 60 {
		m[fmt.Sprintf("chunk/%03d", i)] = strings.Repeat(fmt.Sprintf("%07d ", i), 20_000)
	}
	for i := range 200 {
		m[fmt.Sprintf("event/%04d", i)] = fmt.Sprintf("event %d", i)
	}
	return m
}

// openAndCompare opens a store and tells by its exit code whether it is damaged or holds all it should.
func openAndCompare(dir string) int {
	head, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "anchor"))
	if err != nil {
		return exitOther
	}
	o := small(dir)
	o.WantHead = string(head)
	s, err := Open(o)
	if d := (*Damaged)(nil); errors.As(err, &d) {
		fmt.Println(err)
		return exitDamaged
	}
	if err != nil {
		fmt.Println(err)
		return exitOther
	}
	want := full()
	err = s.Scan("", func(k string, v []byte) error {
		if want[k] != string(v) {
			return fmt.Errorf("%q differs", k)
		}
		delete(want, k)
		return nil
	})
	if err != nil || len(want) > 0 {
		fmt.Println(err, len(want), "missing")
		return exitLost
	}
	return exitOK
}

// TestF07_DamageIsNeverSilent damages each file of a store that was killed, in every way, and opens it in a process of its own.
// Badger ends the process on some damage; then the store must be given up after a few tries.
func TestF07_DamageIsNeverSilent(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "store")
	s := mustOpen(t, small(dir))
	for _, prefix := range []string{"chunk/", "event/"} {
		for k, v := range full() {
			if strings.HasPrefix(k, prefix) {
				mustCommit(t, s, rec(k, v))
			}
		}
	}
	if err := os.WriteFile(filepath.Join(base, "anchor"), []byte(s.Head()), 0o600); err != nil {
		t.Fatal(err)
	}
	image := copyDir(t, dir) // as a killed process leaves it
	_ = s.Close()
	tally := map[string]int{}
	for _, file := range filesOf(t, image) {
		for _, d := range damages {
			broken := filepath.Join(t.TempDir(), "store")
			copyInto(t, image, broken)
			if err := os.WriteFile(filepath.Join(filepath.Dir(broken), "anchor"), []byte(s.Head()), 0o600); err != nil {
				t.Fatal(err)
			}
			if !d.do(t, filepath.Join(broken, file)) {
				continue
			}
			verdict, said := judge(t, broken)
			tally[verdict]++
			if verdict != "intact" && verdict != "damaged" && verdict != "given up" {
				t.Errorf("%s %s: %s: %s", file, d.name, verdict, said)
			}
			_ = os.RemoveAll(broken)
		}
	}
	t.Logf("outcomes: %v", tally)
	if tally["damaged"] == 0 || tally["intact"] == 0 {
		t.Errorf("the damage does not bite: %v", tally)
	}
}

// judge opens a store until it says something.
func judge(t *testing.T, dir string) (verdict, said string) {
	t.Helper()
	for range maxOpenings + 1 {
		out, err := child(openRole, dir).CombinedOutput()
		said = string(out)
		if len(said) > 600 {
			said = said[:600]
		}
		code := 0
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			code = e.ExitCode()
		}
		switch code {
		case exitOK:
			return "intact", said
		case exitDamaged:
			if strings.Contains(said, "ended the process") {
				return "given up", said
			}
			return "damaged", said
		case exitLost:
			return "lost silently", said
		case exitOther:
			return "another error", said
		}
	}
	return "never ends", said
}

var damages = []struct {
	name string
	do   func(t *testing.T, path string) (changed bool)
}{
	{"truncated to nothing", func(t *testing.T, p string) bool { return truncate(t, p, 0) }},
	{"truncated to half", func(t *testing.T, p string) bool { return truncate(t, p, used(t, p)/2) }},
	{"bit flipped at the start", func(t *testing.T, p string) bool { return flip(t, p, 0) }},
	{"bit flipped early", func(t *testing.T, p string) bool { return flip(t, p, 20) }},
	{"bit flipped in the middle", func(t *testing.T, p string) bool { return flip(t, p, used(t, p)/2) }},
	{"bit flipped near the end", func(t *testing.T, p string) bool { return flip(t, p, used(t, p)-10) }},
	{"zeroed", zero},
	{"deleted", func(t *testing.T, p string) bool { return os.Remove(p) == nil }},
	{"swapped with a sibling", swap},
}

// used is the length of a file without the zeros that were set aside at its end.
func used(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(bytes.TrimRight(b, "\x00")))
}

func truncate(t *testing.T, path string, n int64) bool {
	t.Helper()
	if used(t, path) == 0 {
		return false
	}
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
	return true
}

func flip(t *testing.T, path string, at int64) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || at < 0 || at >= int64(len(b)) {
		return false
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

func zero(t *testing.T, path string) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return false
	}
	if err := os.WriteFile(path, make([]byte, len(b)), 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

// swap exchanges a file with another one of its kind.
func swap(t *testing.T, path string) bool {
	t.Helper()
	if filepath.Ext(path) == "" {
		return false
	}
	siblings, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+filepath.Ext(path)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range siblings {
		if s == path {
			continue
		}
		for _, step := range [][2]string{{path, path + "~"}, {s, path}, {path + "~", s}} {
			if err := os.Rename(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	return false
}

func filesOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	copyInto(t, dir, to)
	return to
}

func copyInto(t *testing.T, dir, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", dir, to).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
}

// A memtable or value log that was just begun, or was being deleted, is empty after a kill; Badger would not open a store with one.
func TestF03_EmptyFilesOfAKilledProcessAreNoDamage(t *testing.T) {
	for _, name := range []string{"00007.mem", "000007.vlog"} {
		dir := filepath.Join(t.TempDir(), "store")
		head := filled(t, keyed(dir, 1))
		if err := os.WriteFile(filepath.Join(dir, dbDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		holds(t, keyed(dir, 1), head)
	}
}
