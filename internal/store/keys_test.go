package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

const canary = "visible-canary-value"

func keyNumber(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 32) }

// keyed are options with a key and keys from before.
func keyed(dir string, key int, former ...int) Options {
	o := small(dir)
	o.Key = keyNumber(key)
	for _, n := range former {
		o.Former = append(o.Former, keyNumber(n))
	}
	return o
}

// filled makes a store that has more than one table, and gives its head.
func filled(t *testing.T, o Options) (head string) {
	t.Helper()
	s := mustOpen(t, o)
	for i := range 60 {
		mustCommit(t, s, fleetsync.Record{Key: fmt.Sprintf("bulk/%02d", i), Value: bytes.Repeat([]byte(canary), 8<<10)})
	}
	mustCommit(t, s, rec("canary", canary))
	head = s.Head()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return head
}

// holds wants the store of filled, and nothing of it to be read from the files.
func holds(t *testing.T, o Options, head string) {
	t.Helper()
	o.WantHead = head
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("canary"); err != nil || string(v) != canary || s.Head() != head {
		t.Errorf("%q at %s, %v; want %s", v, s.Head(), err, head)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if leak := inTheClear(t, o.Dir); leak != "" {
		t.Errorf("%s holds what was stored in the clear", leak)
	}
}

// inTheClear names a file in which the canary can be read.
func inTheClear(t *testing.T, dir string) (leak string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(canary)) {
			leak = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return leak
}

func wantWrongKey(t *testing.T, o Options) {
	t.Helper()
	s, err := Open(o)
	if wrong := (*WrongKey)(nil); !errors.As(err, &wrong) {
		t.Errorf("got %v, want that the key is the wrong one", err)
		if err == nil {
			_ = s.Close()
		}
	}
}

func TestF26_StoreInTheClearIsCopiedIntoAnEncryptedOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	head := filled(t, small(dir))
	if inTheClear(t, dir) == "" {
		t.Fatal("the store is not in the clear to begin with")
	}
	if Encrypted(dir) {
		t.Error("a store in the clear is taken for an encrypted one")
	}
	holds(t, keyed(dir, 1), head)
	if !Encrypted(dir) {
		t.Error("an encrypted store is taken for one in the clear")
	}
	wantWrongKey(t, keyed(dir, 2))
	wantWrongKey(t, small(dir))
	holds(t, keyed(dir, 1), head)
}

// What a crash leaves at each point of the copy is finished by the next Open.
func TestF03_CopyIntoAnEncryptedStoreGoesOn(t *testing.T) {
	base := filepath.Join(t.TempDir(), "store")
	head := filled(t, small(base))
	half := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(half, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	holds(t, keyed(half, 1), head)
	for name, crash := range map[string]func(t *testing.T, dir string){
		"copy cut off": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, newDBDir, "MANIFEST"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"marker written": func(t *testing.T, dir string) {
			if err := writeMarker(dir, nameOfKey(keyNumber(1))); err != nil {
				t.Fatal(err)
			}
		},
		"old database half gone": func(t *testing.T, dir string) {
			if err := errors.Join(writeMarker(dir, nameOfKey(keyNumber(1))), os.Remove(filepath.Join(dir, dbDir, "MANIFEST"))); err != nil {
				t.Fatal(err)
			}
		},
		"old database gone": func(t *testing.T, dir string) {
			if err := errors.Join(writeMarker(dir, nameOfKey(keyNumber(1))), os.RemoveAll(filepath.Join(dir, dbDir))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := errors.Join(os.CopyFS(dir, os.DirFS(base)), os.CopyFS(filepath.Join(dir, newDBDir), os.DirFS(filepath.Join(half, dbDir)))); err != nil {
				t.Fatal(err)
			}
			crash(t, dir)
			holds(t, keyed(dir, 1), head)
		})
	}
}

func TestNoRoomForACopyChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	head := filled(t, small(dir))
	o := keyed(dir, 1)
	o.ReserveBytes = 1 << 60
	if _, err := Open(o); !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	plain := small(dir)
	plain.WantHead = head
	mustOpen(t, plain)
}

func TestKeysAreChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	head := filled(t, keyed(dir, 1))
	wantWrongKey(t, keyed(dir, 2, 3))
	holds(t, keyed(dir, 2, 1), head)
	wantWrongKey(t, keyed(dir, 1))
	holds(t, keyed(dir, 3, 1, 2), head)
	holds(t, keyed(dir, 3), head)
}

// What a crash leaves at each point of a change of keys is finished with the new key, or goes back with the old one.
func TestF03_ChangeOfKeysGoesOn(t *testing.T) {
	for _, rewritten := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "store")
		head := filled(t, keyed(dir, 1))
		if rewritten {
			holds(t, keyed(dir, 2, 1), head)
		}
		if err := writeMarker(dir, nameOfKey(keyNumber(1)), nameOfKey(keyNumber(2))); err != nil {
			t.Fatal(err)
		}
		if rewritten {
			wantWrongKey(t, keyed(dir, 1)) // the other one the marker names may be right
		}
		wantWrongKey(t, keyed(dir, 3))
		holds(t, keyed(dir, 2, 1), head)
		holds(t, keyed(dir, 2), head)
	}
}

func TestF07_DamagedRegistryIsNotAWrongKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	filled(t, keyed(dir, 1))
	if err := os.Remove(filepath.Join(dir, dbDir, badger.KeyRegistryFileName)); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{keyed(dir, 1), keyed(dir, 2, 1)} {
		_, err := Open(o)
		if damaged := (*Damaged)(nil); !errors.As(err, &damaged) {
			t.Errorf("got %v, want damage", err)
		}
	}
}

// rekeyForEver changes the key of a store again and again, and writes in between: from none to the first to the second to the first.
func rekeyForEver(dir string) int {
	for i := 0; ; i++ {
		s, err := Open(keyed(dir, 1+i%2, 2-i%2))
		if err == nil {
			err = errors.Join(s.Commit(rec("round", fmt.Sprint(i))), s.Close())
		}
		if err != nil {
			fmt.Println(err)
			return exitOther
		}
		fmt.Println("changed", s.Head())
	}
}

func TestF03_KilledWhileKeysChange(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	dir := filepath.Join(t.TempDir(), "store")
	head := filled(t, small(dir))
	for round := range 10 {
		c := child(rekeyRole, dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		timer := time.AfterFunc(time.Duration(random.IntN(150))*time.Millisecond, func() { _ = c.Process.Kill() })
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if words[0] != "changed" {
				t.Fatalf("round %d: %s", round, lines.Text())
			}
			head = words[1]
		}
		_ = c.Wait()
		timer.Stop()
		o := keyed(dir, 1, 2)
		o.WantHead = head
		s, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if v, err := s.Get("canary"); err != nil || string(v) != canary {
			t.Errorf("round %d: %q, %v", round, v, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if leak := inTheClear(t, dir); leak != "" {
		t.Errorf("%s holds what was stored in the clear", leak)
	}
}

// BenchmarkEncryption compares commits of 1 KB and reads of 64 KB with and without a key.
func BenchmarkEncryption(b *testing.B) {
	for _, c := range []struct {
		name string
		key  []byte
	}{{"plain", nil}, {"encrypted", keyNumber(1)}} {
		o := small(filepath.Join(b.TempDir(), "store"))
		o.Key = c.key
		s := mustOpen(b, o)
		small, large := bytes.Repeat([]byte("v"), 1024), bytes.Repeat([]byte("w"), 64<<10)
		b.Run("commit 1 KB/"+c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				mustCommit(b, s, fleetsync.Record{Key: fmt.Sprintf("event/%08d", i), Value: small})
			}
		})
		for i := range 400 {
			mustCommit(b, s, fleetsync.Record{Key: fmt.Sprintf("chunk/%03d", i), Value: large})
		}
		b.Run("read 64 KB/"+c.name, func(b *testing.B) {
			b.SetBytes(64 << 10)
			for i := 0; b.Loop(); i++ {
				if _, err := s.Get(fmt.Sprintf("chunk/%03d", i%400)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
