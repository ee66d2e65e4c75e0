package sync

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

func someNote() *rapid.Generator[Note] {
	return rapid.Custom(func(t *rapid.T) Note {
		n := Note{
			Site: "shop-1", Number: rapid.Uint64Range(1, 20).Draw(t, "number"), Epoch: "e1", Marks: verify.Counters{},
			Floor:      time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "floor"), 0).UTC(),
			Assignment: rapid.Uint64Range(0, 9).Draw(t, "assignment"), Root: rapid.Uint64Range(1, 3).Draw(t, "root"), Targets: rapid.Uint64Range(1, 5).Draw(t, "targets"),
		}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]bundle.Name{"shop", "till", "dns"}), rapid.ID).Draw(t, "names") {
			counter := rapid.Uint64Range(1, 9).Draw(t, "counter")
			n.Marks[name] = verify.Mark{Counter: bundle.Counter(counter), Digest: bundle.DigestOf([]byte{byte(counter)}), Epoch: rapid.Uint64Range(0, 1).Draw(t, "epoch")}
		}
		return n
	})
}

// T3: what two notes know together is nowhere below either of them, whatever the order, and knows nothing else.
func TestT03_NotesMergeToTheHighest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := someNote().Draw(t, "a"), someNote().Draw(t, "b")
		both := a.merge(b)
		for _, one := range []Note{a, b} {
			if one.Assignment > both.Assignment || one.Floor.After(both.Floor) || one.Number > both.Number || one.trustAbove(both.Root, both.Targets) {
				t.Fatalf("%+v is below %+v", both, one)
			}
			for name, mark := range one.Marks {
				if both.Marks[name].Older(mark) {
					t.Fatalf("%s of %+v is below %+v", name, both, one)
				}
			}
		}
		if other := b.merge(a); other.beyond(both) || !maps.Equal(other.Marks, both.Marks) {
			t.Fatalf("in the other order: %+v, and %+v", other, both)
		}
		if both.merge(a).merge(b).beyond(both) {
			t.Fatal("merged again it is more")
		}
	})
}

// FuzzOpenNote: whatever is in the place of the note is refused, or is a note that the site sealed, which reads the same when it is sealed again.
func FuzzOpenNote(f *testing.F) {
	sealed, err := SealNote(noteKey, Note{Site: "shop-1", Number: 3, Epoch: "e1", Marks: verify.Counters{"shop": {Counter: 2, Digest: bundle.DigestOf(nil)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(sealed))
	f.Add([]byte(`{"body":{"site":"shop-1"},"mac":""}`))
	f.Add([]byte(`{"body":null}`))
	f.Add([]byte(strings.Repeat("[", 4096)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		NoteNumber(raw)
		if _, err := OpenNote(noteKey, "shop-1", raw); err == nil && !bytes.Contains(raw, []byte(`"site":"shop-1"`)) {
			t.Fatalf("opened %q", raw)
		}
		// The MAC would keep the fuzzer out, so what it made is also sealed.
		if !json.Valid(raw) {
			return
		}
		own, err := json.Marshal(sealedNote{raw, nil})
		if err != nil {
			t.Fatal(err)
		}
		var in sealedNote
		if err := json.Unmarshal(own, &in); err != nil {
			t.Fatal(err)
		}
		if own, err = json.Marshal(sealedNote{in.Body, noteMAC(noteKey, in.Body)}); err != nil {
			t.Fatal(err)
		}
		n, err := OpenNote(noteKey, "shop-1", own)
		if err != nil {
			return
		}
		again, err := SealNote(noteKey, n)
		if err != nil {
			return // larger than it may be, once it is written out
		}
		if other, err := OpenNote(noteKey, "shop-1", again); err != nil || other.beyond(n) || n.beyond(other) || other.Number != n.Number {
			t.Fatalf("reads otherwise the second time: %+v, %+v, %v", n, other, err)
		}
	})
}
