package anchor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

var siteKey = []byte("the site's")

func open(t *testing.T, dir string) *File {
	t.Helper()
	f, err := Open(dir, siteKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func load(t *testing.T, dir string) Anchor {
	t.Helper()
	a, err := open(t, dir).Load()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func save(t *testing.T, dir string, counter int) {
	t.Helper()
	if err := open(t, dir).Save(at(counter)); err != nil {
		t.Fatal(err)
	}
}

// at is an anchor that has seen a counter.
func at(counter int) Anchor {
	return Anchor{Counters: marks(counter), StoreHead: fmt.Sprint("head-", counter), Epoch: "epoch"}
}

func marks(counter int) verify.Counters {
	return verify.Counters{"shop": {Counter: bundle.Counter(counter), Digest: bundle.DigestOf([]byte{byte(counter)})}}
}

func counterOf(a Anchor) int { return int(a.Counters["shop"].Counter) }

func TestAnchorIsRemembered(t *testing.T) {
	dir := t.TempDir()
	if a := load(t, dir); !reflect.DeepEqual(a, Anchor{}) {
		t.Fatalf("out of nothing: %+v", a)
	}
	for n := 1; n <= 5; n++ {
		save(t, dir, n)
		want := at(n)
		want.Generation = uint64(n)
		if a := load(t, dir); !reflect.DeepEqual(a, want) {
			t.Fatalf("got %+v, want %+v", a, want)
		}
	}
}

func TestT03_AnchorNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, 7)
	save(t, dir, 3)
	if a := load(t, dir); counterOf(a) != 7 || a.Generation != 2 {
		t.Errorf("%+v", a)
	}
	restoredStore := marks(3)
	if merged := verify.Merge(restoredStore, load(t, dir).Counters); merged["shop"].Counter != 7 {
		t.Errorf("a restored store wins over the anchor: %v", merged)
	}
}

func TestT03_DamagedSlots(t *testing.T) {
	damages := map[string]func(t *testing.T, path string){
		"gone":  func(t *testing.T, path string) { check(t, os.Remove(path)) },
		"empty": func(t *testing.T, path string) { check(t, os.WriteFile(path, nil, 0o600)) },
		"torn": func(t *testing.T, path string) {
			raw, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, raw[:len(raw)/2], 0o600))
		},
		"one bit": func(t *testing.T, path string) {
			raw, err := os.ReadFile(path)
			check(t, err)
			raw[len(raw)/3] ^= 1
			check(t, os.WriteFile(path, raw, 0o600))
		},
		"zeroed": func(t *testing.T, path string) { check(t, os.WriteFile(path, make([]byte, 300), 0o600)) },
		"huge":   func(t *testing.T, path string) { check(t, os.Truncate(path, 1<<30)) },
		"a folder": func(t *testing.T, path string) {
			check(t, os.Remove(path))
			check(t, os.Mkdir(path, 0o700))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			save(t, dir, 1)
			save(t, dir, 2) // in slot b
			damage(t, filepath.Join(dir, slots[1]))
			f := open(t, dir)
			a, err := f.Load()
			if err != nil || counterOf(a) != 1 {
				t.Fatalf("newest slot damaged: %+v, %v", a, err)
			}
			if (f.Doubt() == nil) != (name == "gone") {
				t.Errorf("doubt: %v", f.Doubt())
			}
			damage(t, filepath.Join(dir, slots[0]))
			a, err = f.Load()
			if name == "gone" {
				return
			}
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), slots[0]) || !strings.Contains(err.Error(), slots[1]) || !reflect.DeepEqual(a, Anchor{}) {
				t.Fatalf("both slots damaged: %+v, %v", a, err)
			}
			if name != "a folder" {
				check(t, f.Save(at(9)))
				if a := load(t, dir); counterOf(a) != 9 {
					t.Errorf("saved anew: %+v", a)
				}
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fault is what happens to one write.
type fault string

const (
	notDone  fault = "not done"
	torn     fault = "torn"
	reported fault = "done but reported failed"
)

// faulty breaks the nth write of a disk; later writes fail too, as if the process had died.
type faulty struct {
	disk
	at    int
	kind  fault
	count int
}

var errFault = errors.New("fault")

func (f *faulty) do(real, half func() error) error {
	f.count++
	switch {
	case f.count > f.at:
		return errFault
	case f.count < f.at:
		return real()
	}
	switch f.kind {
	case torn:
		if err := half(); err != nil {
			return err
		}
	case reported:
		if err := real(); err != nil {
			return err
		}
	}
	return errFault
}

func nothing() error { return nil }

func (f *faulty) writeSynced(name string, data []byte) error {
	return f.do(func() error { return f.disk.writeSynced(name, data) }, func() error { return f.disk.writeSynced(name, data[:len(data)/2]) })
}

func (f *faulty) rename(from, to string) error {
	return f.do(func() error { return f.disk.rename(from, to) }, nothing)
}

func (f *faulty) sync() error { return f.do(f.disk.sync, nothing) }

func TestAnchorSurvivesEachFaultOfEachWrite(t *testing.T) {
	for before := range 4 { // anchors saved before
		for write := 1; write <= 3; write++ {
			for _, kind := range []fault{notDone, torn, reported} {
				t.Run(fmt.Sprintf("%d before, write %d %s", before, write, kind), func(t *testing.T) {
					dir := t.TempDir()
					for n := 1; n <= before; n++ {
						save(t, dir, n)
					}
					f := open(t, dir)
					f.disk = &faulty{disk: f.disk, at: write, kind: kind}
					if err := f.Save(at(before + 1)); !errors.Is(err, errFault) {
						t.Fatalf("Save says %v", err)
					}
					after := open(t, dir)
					a, err := after.Load()
					if err != nil || after.Doubt() != nil {
						t.Fatalf("%v, doubt %v", err, after.Doubt())
					}
					renamed := write == 3 || write == 2 && kind == reported
					want := before
					if renamed {
						want++
					}
					if counterOf(a) != want {
						t.Fatalf("counter %d, want %d", counterOf(a), want)
					}
					save(t, dir, before+2)
					if a := load(t, dir); counterOf(a) != before+2 {
						t.Errorf("the next save: %+v", a)
					}
				})
			}
		}
	}
}

// A rename that was never made durable may be undone by a power cut; the older slot must still be there.
func TestAnchorSurvivesAnUndoneRename(t *testing.T) {
	for before := 1; before < 4; before++ {
		dir := t.TempDir()
		for n := 1; n <= before; n++ {
			save(t, dir, n)
		}
		images := map[string][]byte{}
		for _, name := range slots {
			if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				images[name] = raw
			}
		}
		save(t, dir, before+1)
		for _, name := range slots {
			if raw, was := images[name]; was {
				check(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
			} else {
				check(t, os.RemoveAll(filepath.Join(dir, name)))
			}
		}
		if a := load(t, dir); counterOf(a) != before {
			t.Errorf("%d before: %+v", before, a)
		}
	}
}

// An anchor that another key made, or that was changed, is none; one without a seal, of an agent from before, counts until there is one with.
func TestT26_AnchorsAreTheSitesOwn(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, 7)
	save(t, dir, 8) // in slot b
	another, err := Open(dir, []byte("another's"))
	check(t, err)
	defer another.Close()
	if a, err := another.Load(); !errors.Is(err, ErrDamaged) {
		t.Errorf("another site believes %+v, %v", a, err)
	}
	plain := func(slot, counter int, generation uint64) {
		t.Helper()
		a := at(counter)
		a.Generation = generation
		raw, err := Encode(a, nil)
		check(t, err)
		line, _, _ := strings.Cut(string(raw), "\n")
		check(t, os.WriteFile(filepath.Join(dir, slots[slot]), []byte(line+"\n"+string(bundle.DigestOf([]byte(line)))+"\n"), 0o600))
	}
	plain(1, 3, 99)
	f := open(t, dir)
	if a, err := f.Load(); err != nil || counterOf(a) != 7 || f.Doubt() != nil {
		t.Errorf("beside one without a seal: %+v, %v, doubt %v", a, err, f.Doubt())
	}
	plain(0, 5, 100)
	if a, err := f.Load(); err != nil || counterOf(a) != 5 || !errors.Is(f.Doubt(), ErrUnsealed) {
		t.Errorf("without any seal: %+v, %v, doubt %v", a, err, f.Doubt())
	}
	check(t, f.Save(at(6)))
	if a, err := f.Load(); err != nil || counterOf(a) != 6 || f.Doubt() != nil {
		t.Errorf("sealed anew: %+v, %v, doubt %v", a, err, f.Doubt())
	}
}

func TestT14_SlotsAreNotReachedThroughLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	save(t, elsewhere, 99)
	check(t, os.Symlink(filepath.Join(elsewhere, slots[0]), filepath.Join(dir, slots[0])))
	if a, err := open(t, dir).Load(); err == nil {
		t.Errorf("%+v", a)
	}
}

func TestOpenNeedsAFolder(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "absent"), siteKey); err == nil || !strings.HasPrefix(err.Error(), "anchor: ") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	a := at(7)
	a.Generation = 3
	raw, err := Encode(a, siteKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}\n" + string(bundle.DigestOf([]byte("{}"))) + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Checksum and MAC would keep the fuzzer out, so the line is also tried under its own.
		line, _, _ := strings.Cut(string(raw), "\n")
		for _, candidate := range [][]byte{raw, []byte(line + "\n" + string(bundle.DigestOf([]byte(line))) + "\n"), []byte(line + "\n" + ending([]byte(line), siteKey))} {
			a, _, err := Decode(candidate, siteKey)
			if err != nil {
				continue
			}
			encoded, err := Encode(a, siteKey)
			if err != nil {
				t.Fatal(err)
			}
			if again, sealed, err := Decode(encoded, siteKey); err != nil || !sealed || !reflect.DeepEqual(a, again) {
				t.Fatalf("reads otherwise the second time: %v", err)
			}
		}
	})
}
