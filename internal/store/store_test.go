package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/store/record"
	"github.com/holdfast-fleet/holdfast/internal/store/storetest"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// small are options for tests: hardly any reserve, no ballast.
func small(dir string) Options { return Options{Dir: dir, ReserveBytes: 1 << 20, BallastBytes: -1} }

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustCommit(t testing.TB, s *Store, records ...fleetsync.Record) {
	t.Helper()
	if err := s.Commit(records...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func rec(key, value string) fleetsync.Record { return fleetsync.Record{Key: key, Value: []byte(value)} }

func TestStore(t *testing.T) {
	for _, c := range []struct {
		name string
		key  []byte
	}{{"plain", nil}, {"encrypted", bytes.Repeat([]byte{7}, 32)}} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Open {
				o := small(filepath.Join(t.TempDir(), "store"))
				o.Key = c.key
				return func(t *testing.T) fleetsync.Store { return mustOpen(t, o) }
			})
		})
	}
}

func TestSecondOpenNamesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, small(dir))
	_, err := Open(small(dir))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want %v with %s", err, ErrInUse, dir)
	}
	if _, err := SetAside(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("set aside of an open store: got %v, want %v", err, ErrInUse)
	}
}

func TestWrongEncryptionKeyIsNotDamage(t *testing.T) {
	o := small(t.TempDir())
	o.Key = bytes.Repeat([]byte{1}, 32)
	s := mustOpen(t, o)
	mustCommit(t, s, rec("canary", "visible-canary-value"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if dir := filepath.Join(o.Dir, dbDir); bytes.Contains(allBytes(t, dir), []byte("visible-canary-value")) {
		t.Error("the value can be read from the disk")
	}
	for name, key := range map[string][]byte{"another key": bytes.Repeat([]byte{2}, 32), "no key": nil, "a key of no known size": {1, 2, 3}} {
		o.Key = key
		_, err := Open(o)
		if d := (*Damaged)(nil); err == nil || errors.As(err, &d) {
			t.Errorf("%s: got %v, want a plain error", name, err)
		}
	}
	o.Key = bytes.Repeat([]byte{1}, 32)
	if v, err := mustOpen(t, o).Get("canary"); err != nil || string(v) != "visible-canary-value" {
		t.Errorf("the right key: %q, %v", v, err)
	}
}

func allBytes(t testing.TB, dir string) (all []byte) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

func TestF07_OlderStoreThanTheAnchorIsDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, small(dir))
	mustCommit(t, s, rec("counter", "1"))
	early := s.Head()
	_ = s.Close()
	image := copyDir(t, dir)
	s = mustOpen(t, small(dir))
	mustCommit(t, s, rec("counter", "2"))
	late := s.Head()
	_ = s.Close()

	other := mustOpen(t, small(t.TempDir()))
	for _, c := range []struct {
		name string
		dir  string
		want string
		ok   bool
	}{
		{"newer than the anchor", dir, early, true},
		{"as the anchor", dir, late, true},
		{"old image", image, late, false},
		{"another store", dir, other.Head(), false},
		{"store gone", filepath.Join(t.TempDir(), "gone"), late, false},
		{"another branch", dir, late[:len(late)-4] + flipHex(late[len(late)-4:]), false},
	} {
		o := small(c.dir)
		o.WantHead = c.want
		s, err := Open(o)
		if err == nil {
			_ = s.Close()
		}
		if d := (*Damaged)(nil); (err == nil) != c.ok || err != nil && !errors.As(err, &d) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	if _, err := Open(Options{Dir: dir, WantHead: "nonsense"}); err == nil {
		t.Error("a head that is none was taken")
	}
}

func flipHex(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '0' {
			return '1'
		}
		return '0'
	}, s)
}

func TestF07_EmptiedDatabaseIsNotANewStore(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, small(dir))
	mustCommit(t, s, rec("a", "1"))
	_ = s.Close()
	for _, gone := range []string{filepath.Join(dir, dbDir), filepath.Join(dir, headFileName)} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		_, err := Open(small(dir))
		if d := (*Damaged)(nil); !errors.As(err, &d) {
			t.Errorf("without %s: got %v, want damaged", filepath.Base(gone), err)
		}
	}
	moved, err := SetAside(dir)
	if err != nil || !exists(moved) || exists(dir) {
		t.Fatalf("set aside: %q, %v", moved, err)
	}
	if got := mustOpen(t, small(dir)); got.Head() == s.Head() {
		t.Error("the new store has the old one's head")
	}
}

func TestF07_OpeningThatKillsIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, small(dir))
	_ = s.Close()
	for range maxOpenings {
		if err := countOpening(dir); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(small(dir))
	if d := (*Damaged)(nil); !errors.As(err, &d) {
		t.Errorf("got %v, want damaged", err)
	}
}

func TestF05_GuardKeepsTheReserve(t *testing.T) {
	o := Options{Dir: t.TempDir(), BallastBytes: 1 << 20}
	s := mustOpen(t, o)
	if !exists(s.space.path()) {
		t.Fatal("no ballast")
	}
	free := int64(1 << 40)
	s.space.free = func(string) (int64, error) { return free, nil }
	mustCommit(t, s, rec("a", "1"))

	free = 63 << 20
	err := s.Commit(rec("b", "2"), fleetsync.Record{Key: "a"})
	if !errors.Is(err, fleetsync.ErrNoSpace) || !strings.Contains(err.Error(), "63.0 MiB free, 64.0 MiB needed") {
		t.Errorf("below the reserve: %v", err)
	}
	if _, err := s.Get("a"); err != nil {
		t.Errorf("the refused commit deleted: %v", err)
	}
	mustCommit(t, s, fleetsync.Record{Key: "a"})
	if !exists(s.space.path()) {
		t.Error("the ballast was given up too early")
	}

	free = 1 << 20
	if err := s.Commit(fleetsync.Record{Key: "a"}); !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Errorf("delete with 1 MiB free: %v", err)
	}
	if exists(s.space.path()) {
		t.Error("the ballast was not given up")
	}
	free = 1 << 40
	mustCommit(t, s, rec("c", "3"))
	if !exists(s.space.path()) {
		t.Error("the ballast did not come back")
	}
}

func FuzzDecodeHead(f *testing.F) {
	h, err := newHead()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHead(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("%x decodes and encodes to %x", b, h.encode())
		}
	})
}

func FuzzParseHead(f *testing.F) {
	h, err := newHead()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.name().String())
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHead(s); err == nil {
			if again, err := ParseHead(h.String()); err != nil || again != h {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
	})
}

func FuzzUnseal(f *testing.F) {
	raw, _ := seal("key", []byte("value"))
	f.Add("key", raw)
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		value, _, err := unseal(key, raw)
		if err != nil {
			return
		}
		if again, _ := seal(key, value); !bytes.Equal(again, raw) {
			t.Errorf("%x unseals and seals to %x", raw, again)
		}
	})
}

// mostMemory is what the store may take anonymously, in KiB.
var mostMemory = 20 << 10

// TestMemory writes a large bundle in chunks, twice, in a process of its own and reports what the store takes.
func TestMemory(t *testing.T) {
	out, err := child(memoryRole, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	var total, anonymous int
	if _, err := fmt.Sscanf(string(out), "rss %d KiB, anonymous %d KiB", &total, &anonymous); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if anonymous > mostMemory {
		t.Errorf("%d KiB of anonymous memory, at most %d", anonymous, mostMemory)
	}
}

// useMemory is what the child of TestMemory does.
func useMemory(dir string) int {
	s, err := Open(small(dir))
	if err != nil {
		fmt.Println(err)
		return exitOther
	}
	chunk := make([]byte, record.MaxValue)
	for i := range 40 {
		for j := range chunk {
			chunk[j] = byte(i * j >> 3)
		}
		if err := s.Commit(fleetsync.Record{Key: fmt.Sprint("chunk/", i%20), Value: chunk}, rec("progress", fmt.Sprint(i))); err != nil {
			fmt.Println(err)
			return exitOther
		}
	}
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return exitOther
	}
	values := map[string]int{}
	for line := range strings.Lines(string(b)) {
		var name string
		var n int
		if _, err := fmt.Sscanf(line, "%s %d kB", &name, &n); err == nil {
			values[name] = n
		}
	}
	fmt.Printf("rss %d KiB, anonymous %d KiB\n", values["VmRSS:"], values["RssAnon:"])
	return exitOK
}

// BenchmarkCommit1K compares with what the disk can do: an append and a sync of the same bytes.
func BenchmarkCommit1K(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 1024)
	b.Run("store", func(b *testing.B) {
		s := mustOpen(b, small(b.TempDir()))
		for i := 0; b.Loop(); i++ {
			mustCommit(b, s, fleetsync.Record{Key: fmt.Sprintf("event/%08d", i), Value: value})
		}
	})
	b.Run("append+fdatasync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			if _, err := f.Write(value); err != nil {
				b.Fatal(err)
			}
			if err := fdatasync(f); err != nil {
				b.Fatal(err)
			}
		}
	})
}
