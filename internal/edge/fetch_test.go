package edge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// fetching is a fetcher with a hub and a store of its own.
type fetching struct {
	*desk
	f       *fetcher
	store   *memstore.Store
	damages []string
}

func newFetching(t *testing.T) *fetching {
	d := newDesk(t)
	x := &fetching{desk: d, store: memstore.New()}
	link := d.bus.Link(shop1)
	t.Cleanup(func() { _ = link.Close() })
	c := &contents{store: x.store, trust: fixed(verifytest.Trust(d.release)), seal: sealOf(d.site), sigs: verifytest.Twin{}, site: shop1}
	x.f = newFetcher(c, link, func(m string) { x.damages = append(x.damages, m) })
	return x
}

func (x *fetching) fetch(p *published, edits ...func(*fleetsync.Fetch)) fleetsync.Fetched {
	order := fleetsync.Fetch{Bundle: p.assigned, Kubernetes: "1.37.1", Labels: map[string]string{"region": "north"}}
	for _, edit := range edits {
		edit(&order)
	}
	return x.f.fetch(context.Background(), order, nil)
}

// must fetches and wants the bundle whole.
func (x *fetching) must(p *published) {
	x.t.Helper()
	if got := x.fetch(p); got.Err != "" || got.Refusal != nil {
		x.t.Fatalf("fetched: %q %+v", got.Err, got.Refusal)
	}
	v, err := x.f.contents.load(p.assigned.Digest)
	if err != nil || !bytes.Equal(v.Content(), p.content) {
		x.t.Fatalf("load: %v", err)
	}
}

// noise is objects that do not compress, so that they need several chunks; seed changes one of them.
func noise(size int, change uint64) []bundle.Object {
	var objects []bundle.Object
	for n := range size / (64 << 10) {
		seed := uint64(n)
		if n == 1 {
			seed += 1000 * change
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		text := make([]byte, 64<<10)
		for i := range text {
			text[i] = byte('!' + rng.IntN(90))
		}
		objects = append(objects, configMap(fmt.Sprintf("noise-%03d", n), strings.NewReplacer(`"`, "x", `\`, "x", "<", "x", ">", "x", "&", "x").Replace(string(text))))
	}
	return objects
}

func TestFetchInFull(t *testing.T) {
	x := newFetching(t)
	p := x.publish("1.0.0", 1, noise(1<<20, 0))
	if len(p.packed) < 3 {
		t.Fatalf("%d chunks are too few for this test", len(p.packed))
	}
	x.must(p)
	if got := x.gets(""); len(got) != 1+len(p.packed) {
		t.Errorf("asked for %v", got)
	}
	x.must(p) // from the store
	if got := x.gets(""); len(got) != 0 {
		t.Errorf("asked for %v again", got)
	}
}

// A link that is cut at any chunk costs only what was not there yet.
func TestF02_ResumesAtEveryChunk(t *testing.T) {
	probe := newDesk(t).make("1.0.0", 1, noise(1<<20, 0))
	for cut := range len(probe.packed) {
		t.Run(fmt.Sprint("cut at chunk ", cut), func(t *testing.T) {
			x := newFetching(t)
			p := x.publish("1.0.0", 1, noise(1<<20, 0))
			x.faulty(func(c membus.Call) membus.Outcome {
				if c.Subject == fleetsync.BlobSubject(p.info.Digest, cut) {
					x.bus.Cut(shop1)
				}
				return membus.Pass
			})
			if got := x.fetch(p); got.Err == "" || got.Refusal != nil {
				t.Fatalf("%+v", got)
			}
			x.faulty(nil)
			x.bus.Mend(shop1)
			x.gets("")
			x.must(p)
			if got := x.gets("hf.blob."); len(got) != len(p.packed)-cut {
				t.Errorf("asked for %d of %d chunks after a cut at %d", len(got), len(p.packed), cut)
			}
		})
	}
}

// withDelta gives an offer a delta from an older bundle, of the bytes given, or the right ones.
func (x *fetching) withDelta(from, p *published, bytes []byte) {
	if bytes == nil {
		var err error
		if bytes, err = wire.Delta(from.content, p.content); err != nil {
			x.t.Fatal(err)
		}
	}
	chunks := bundle.Chunks(bytes)
	for n, c := range chunks {
		x.put(fleetsync.DeltaSubject(from.info.Digest, p.info.Digest, n), c)
	}
	p.offer.Deltas = append(p.offer.Deltas, fleetsync.Delta{From: from.info.Digest, Blob: fleetsync.Blob{Size: int64(len(bytes)), Chunks: len(chunks)}})
}

func TestFetchByDelta(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(right []byte, older, p *published) []byte
		full bool
	}{
		"right":          {lie: func(right []byte, _, _ *published) []byte { return right }},
		"garbage":        {full: true, lie: func([]byte, *published, *published) []byte { return []byte("garbage") }},
		"cut off":        {full: true, lie: func(right []byte, _, _ *published) []byte { return right[:len(right)/2] }},
		"to another end": {full: true, lie: func(_ []byte, older, _ *published) []byte { d, _ := wire.Delta(older.content, older.content); return d }},
		"from elsewhere": {full: true, lie: func(_ []byte, _, p *published) []byte {
			d, _ := wire.Delta([]byte("something else"), p.content)
			return d[:len(d)-1]
		}},
		"of the same size": {full: true, lie: func(_ []byte, older, p *published) []byte {
			other := bytes.Clone(p.content)
			other[len(other)/2] ^= 1
			d, _ := wire.Delta(older.content, other)
			return d
		}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFetching(t)
			older := x.publish("1.0.0", 1, noise(1<<20, 0))
			x.must(older)
			p := x.make("1.1.0", 2, noise(1<<20, 1))
			right, err := wire.Delta(older.content, p.content)
			if err != nil {
				t.Fatal(err)
			}
			x.withDelta(older, p, c.lie(right, older, p))
			x.push(p)
			x.gets("")
			x.must(p)
			asked := x.gets("")
			full := slices.ContainsFunc(asked, func(s string) bool { return strings.HasPrefix(s, "hf.blob.") })
			if full != c.full {
				t.Errorf("asked for %v, want in full: %v", asked, c.full)
			}
			if err := x.store.Scan(prefixDelta, func(key string, _ []byte) error { return errors.New(key) }); err != nil {
				t.Errorf("left behind: %v", err)
			}
		})
	}
}

// A delta is used only from content that is what its name says.
func TestT02_DeltaFromTamperedContent(t *testing.T) {
	x := newFetching(t)
	older := x.publish("1.0.0", 1, noise(1<<20, 0))
	x.must(older)
	x.tamper(blobKey(older.info.Digest), func(v []byte) []byte { v[len(v)/2] ^= 1; return v })
	p := x.make("1.1.0", 2, noise(1<<20, 1))
	x.withDelta(older, p, nil)
	x.push(p)
	x.must(p)
}

// tamper changes the first stored value under a prefix; nil deletes it.
func (x *fetching) tamper(prefix string, change func([]byte) []byte) {
	x.t.Helper()
	tamper(x.t, x.store, prefix, change)
}

func tamper(t testing.TB, store fleetsync.Store, prefix string, change func([]byte) []byte) {
	t.Helper()
	var first fleetsync.Record
	_ = store.Scan(prefix, func(key string, value []byte) error {
		first = fleetsync.Record{Key: key, Value: bytes.Clone(value)}
		return errors.New("enough")
	})
	if first.Key == "" {
		t.Fatalf("nothing is stored under %s", prefix)
	}
	first.Value = change(first.Value)
	if err := store.Commit(first); err != nil {
		t.Fatal(err)
	}
}

func TestT01T02T06T11_NotBelieved(t *testing.T) {
	foreign := verifytest.NewKey()
	long := make([]byte, bundle.ChunkSize+1)
	for name, c := range map[string]struct {
		spoil   func(x *fetching, p *published)
		reason  verify.Reason // empty: an error
		words   string
		passing bool
	}{
		"T01 unsigned":    {reason: verify.Unsigned, spoil: func(_ *fetching, p *published) { p.offer.Signatures = nil }},
		"T01 foreign key": {reason: verify.UntrustedKey, spoil: func(_ *fetching, p *published) { p.offer.Signatures = [][]byte{foreign.Sign(p.offer.Manifest)} }},
		"T01 another's signature": {reason: verify.BadSignature, spoil: func(x *fetching, p *published) {
			p.offer.Signatures = [][]byte{x.release.Sign([]byte("something else"))}
		}},
		"T01 garbage signature": {reason: verify.MalformedSignature, spoil: func(_ *fetching, p *published) { p.offer.Signatures = [][]byte{[]byte("garbage")} }},
		"T02 manifest changed": {reason: verify.BadSignature, passing: true, spoil: func(_ *fetching, p *published) {
			p.offer.Manifest = bytes.Replace(p.offer.Manifest, []byte(`"counter":7`), []byte(`"counter":9`), 1)
		}},
		"T06 another bundle's offer": {reason: verify.WrongBundle, passing: true, spoil: func(x *fetching, p *published) {
			p.offer = x.make("9.9.9", 99, []bundle.Object{configMap("evil", "1")}).offer
		}},
		"T06 another bundle's content": {reason: verify.ContentMismatch, passing: true, spoil: func(x *fetching, p *published) {
			other := x.make("9.9.9", 99, noise(1<<20, 9))
			p.packed, p.offer.Full = other.packed, other.offer.Full
		}},
		"T02 chunk with a flipped bit": {reason: verify.ContentMismatch, passing: true, spoil: func(_ *fetching, p *published) { p.packed[1][1000] ^= 1 }},
		"T02 chunks swapped":           {words: "content", spoil: func(_ *fetching, p *published) { p.packed[0], p.packed[1] = p.packed[1], p.packed[0] }},
		"T02 last chunk cut off":       {words: "content", spoil: func(_ *fetching, p *published) { p.packed[2] = p.packed[2][:100] }},
		"chunk missing":                {words: "chunk 2 of 4: ", spoil: func(_ *fetching, p *published) { p.packed = p.packed[:1] }},
		"T11 no chunks":                {words: "0 chunks", spoil: func(_ *fetching, p *published) { p.offer.Full.Chunks = 0 }},
		"T11 minus one chunk":          {words: "-1 chunks", spoil: func(_ *fetching, p *published) { p.offer.Full.Chunks = -1 }},
		"T11 a million chunks":         {words: "1000000 chunks", spoil: func(_ *fetching, p *published) { p.offer.Full.Chunks = 1000000 }},
		"T11 chunk too long":           {words: "bytes, want 1 to", spoil: func(_ *fetching, p *published) { p.packed[0] = long }},
		"T11 empty chunk":              {words: "0 bytes", spoil: func(_ *fetching, p *published) { p.packed[0] = nil }},
		"T11 bomb": {words: "content", spoil: func(_ *fetching, p *published) {
			bomb, _ := wire.Compress(make([]byte, 32<<20))
			p.packed = [][]byte{bomb}
			p.offer.Full.Chunks = 1
		}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFetching(t)
			p := x.make("1.0.0", 7, noise(1<<20, 0))
			whole := *p
			whole.packed = nil
			for _, chunk := range p.packed {
				whole.packed = append(whole.packed, bytes.Clone(chunk))
			}
			c.spoil(x, p)
			x.push(p)
			got := x.fetch(p)
			if c.reason != "" && (got.Refusal == nil || got.Refusal.Reason != string(c.reason) || got.Passing != c.passing) {
				t.Fatalf("got %+v %q passing=%v, want %s passing=%v", got.Refusal, got.Err, got.Passing, c.reason, c.passing)
			}
			if c.reason == "" && (got.Refusal != nil || !strings.Contains(got.Err, c.words)) {
				t.Fatalf("got %+v %q, want an error with %q", got.Refusal, got.Err, c.words)
			}
			if _, err := x.f.contents.load(p.assigned.Digest); err == nil {
				t.Fatal("it can be loaded")
			}
			// What the hub has right later is fetched, whatever of the wrong one was stored.
			for n := range 5 {
				_ = x.bus.Delete(t.Context(), stream.Blobs, fleetsync.BlobSubject(p.info.Digest, n))
			}
			_ = x.bus.Delete(t.Context(), stream.Bundles, p.subject())
			x.push(&whole)
			for range 3 {
				if got = x.fetch(&whole); got.Err == "" {
					break
				}
			}
			x.must(&whole)
		})
	}
}

func TestT03T07_NotTaken(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	past, future := now.Add(-time.Hour), now.Add(time.Hour)
	d := newDesk(t)
	other := d.make("0.9.0", 7, []bundle.Object{configMap("x", "1")}).assigned.Digest
	for name, c := range map[string]struct {
		edit   func(*bundle.Manifest)
		order  func(*fleetsync.Fetch)
		marks  func(p *published) verify.Counters
		reason verify.Reason
		err    string
	}{
		"fine":                    {edit: func(m *bundle.Manifest) { m.Expires = &future }},
		"T03 older counter":       {marks: func(*published) verify.Counters { return verify.Counters{"shop": {Counter: 8, Digest: other}} }, reason: verify.OlderCounter},
		"T03 counter used before": {marks: func(*published) verify.Counters { return verify.Counters{"shop": {Counter: 7, Digest: other}} }, reason: verify.CounterReused},
		"T07 other labels":        {edit: func(m *bundle.Manifest) { m.Target.Selector = "region=south" }, reason: verify.WrongTarget},
		"T07 right labels":        {edit: func(m *bundle.Manifest) { m.Target.Selector = "region=north" }},
		"T07 other Kubernetes":    {edit: func(m *bundle.Manifest) { m.Target.Kubernetes = ">=1.99.0" }, reason: verify.WrongTarget},
		"T07 Kubernetes unknown": {edit: func(m *bundle.Manifest) { m.Target.Kubernetes = ">=1.30.0" }, order: func(f *fleetsync.Fetch) { f.Kubernetes = "" },
			err: "not known yet"},
		"expired: the core holds it back, by a time it trusts": {edit: func(m *bundle.Manifest) { m.Expires = &past }},
		"expired, accepted before": {edit: func(m *bundle.Manifest) { m.Expires = &past },
			marks: func(p *published) verify.Counters {
				return verify.Counters{"shop": {Counter: 7, Digest: p.assigned.Digest}}
			}},
		"expired and older, in force here": {edit: func(m *bundle.Manifest) { m.Expires = &past }, order: func(f *fleetsync.Fetch) { f.Again = true },
			marks: func(*published) verify.Counters { return verify.Counters{"shop": {Counter: 8, Digest: other}} }},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFetching(t)
			edit := c.edit
			if edit == nil {
				edit = func(*bundle.Manifest) {}
			}
			p := x.publish("1.0.0", 7, []bundle.Object{configMap("a", "1")}, edit)
			order := fleetsync.Fetch{Bundle: p.assigned, Kubernetes: "1.37.1", Labels: map[string]string{"region": "north"}}
			if c.order != nil {
				c.order(&order)
			}
			var marks verify.Counters
			if c.marks != nil {
				marks = c.marks(p)
			}
			for _, from := range []string{"hub", "store"} {
				got := x.f.fetch(t.Context(), order, marks)
				var reason string
				if got.Refusal != nil {
					reason = got.Refusal.Reason
				}
				if reason != string(c.reason) || (got.Err != "") != (c.err != "") || !strings.Contains(got.Err, c.err) {
					t.Fatalf("from the %s: got %+v %q, want %s %q", from, got.Refusal, got.Err, c.reason, c.err)
				}
				if c.reason != "" && from == "hub" && len(x.gets("hf.blob.")) > 0 {
					t.Error("content was fetched for what is not taken")
				}
				if _, err := x.store.Get(prefixComplete + p.assigned.Digest.Hex()); err != nil { // now as if it had been stored before
					if again := x.fetch(p, func(f *fleetsync.Fetch) { f.Again = true }); again.Err != "" || again.Refusal != nil {
						t.Fatalf("%+v", again)
					}
				}
			}
		})
	}
}

// What somebody wrote into the store is found out on load, said once, and fetched again.
func TestT02T26_StoreTampered(t *testing.T) {
	foreign := verifytest.NewKey()
	offer := func(edit func(*fleetsync.Offer)) func([]byte) []byte {
		return func(raw []byte) []byte {
			var o fleetsync.Offer
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatal(err)
			}
			edit(&o)
			raw, _ = json.Marshal(o)
			return raw
		}
	}
	for name, c := range map[string]struct {
		at     func(p *published) string
		change func([]byte) []byte
	}{
		"offer gone":         {func(p *published) string { return offerKey(p.assigned.Digest) }, func([]byte) []byte { return nil }},
		"offer garbage":      {func(p *published) string { return offerKey(p.assigned.Digest) }, func([]byte) []byte { return []byte("garbage") }},
		"signature stripped": {func(p *published) string { return offerKey(p.assigned.Digest) }, offer(func(o *fleetsync.Offer) { o.Signatures = nil })},
		"signed by another": {func(p *published) string { return offerKey(p.assigned.Digest) }, offer(func(o *fleetsync.Offer) {
			o.Signatures = [][]byte{foreign.Sign(o.Manifest)}
		})},
		"manifest changed": {func(p *published) string { return offerKey(p.assigned.Digest) }, offer(func(o *fleetsync.Offer) {
			o.Manifest = bytes.Replace(o.Manifest, []byte("shop"), []byte("evil"), 1)
		})},
		"content swapped": {func(p *published) string { return blobKey(p.info.Digest) }, func([]byte) []byte {
			content, _ := bundle.EncodeContent([]bundle.Object{configMap("evil", "1")})
			packed, _ := wire.Compress(content)
			return packed
		}},
		"a bit of the content": {func(p *published) string { return blobKey(p.info.Digest) }, func(v []byte) []byte { v[len(v)/2] ^= 4; return v }},
		"content gone":         {func(p *published) string { return blobKey(p.info.Digest) }, func([]byte) []byte { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFetching(t)
			p := x.publish("1.0.0", 1, []bundle.Object{configMap("a", "1"), configMap("b", "2")})
			x.must(p)
			x.tamper(c.at(p), c.change)
			if _, err := x.f.contents.load(p.assigned.Digest); err == nil {
				t.Fatal("it is loaded all the same")
			}
			x.bus.Cut(shop1)
			for range 2 {
				if got := x.fetch(p); got.Err == "" {
					t.Fatalf("without a hub: %+v", got)
				}
			}
			if len(x.damages) != 1 || !strings.Contains(x.damages[0], "shop@1.0.0") {
				t.Errorf("said: %q", x.damages)
			}
			x.bus.Mend(shop1)
			x.must(p)
		})
	}
}

// A release key that is no longer believed is no damage: what it signed stays stored, in case the mistake is in the site file.
func TestT09_KeyWithdrawn(t *testing.T) {
	x := newFetching(t)
	p := x.publish("1.0.0", 1, []bundle.Object{configMap("a", "1")})
	x.must(p)
	right := x.f.contents.trust
	x.f.contents.trust = fixed(verifytest.Trust(verifytest.NewKey()))
	if got := x.fetch(p); got.Refusal == nil || got.Refusal.Reason != string(verify.UntrustedKey) {
		t.Fatalf("%+v", got)
	}
	x.bus.Cut(shop1)
	x.f.contents.trust = right
	x.must(p)
}

// A key that is revoked later signs nothing new, and stops nothing that this site accepted: not after a restart, and not without a hub.
func TestT09_RevokedKeyStopsNothingThatRuns(t *testing.T) {
	x := newFetching(t)
	running, next := x.publish("1.0.0", 1, []bundle.Object{configMap("a", "1")}), x.publish("2.0.0", 2, []bundle.Object{configMap("a", "2")})
	x.must(running)
	revoked := verifytest.Trust(x.release)
	revoked.Keys[0].Revoked = true
	x.f.contents.trust = fixed(revoked)
	if v, err := x.f.contents.load(running.assigned.Digest); err != nil || !bytes.Equal(v.Content(), running.content) {
		t.Errorf("what runs: %v", err)
	}
	for _, p := range []*published{next, running} { // neither is this site's yet, by its counters
		if got := x.fetch(p); got.Refusal == nil || got.Refusal.Reason != string(verify.RevokedKey) {
			t.Errorf("%s: %+v", p.assigned.Version, got)
		}
	}
	if got := x.fetch(running, func(f *fleetsync.Fetch) { f.Again = true }); got.Refusal != nil || got.Err != "" {
		t.Errorf("back to what ran: %+v", got)
	}
	// Only this site can say that it accepted something.
	key := prefixComplete + running.assigned.Digest.Hex()
	raw, err := sealOf(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))).close("complete", verify.Mark{Counter: 1, Digest: running.assigned.Digest})
	if err == nil {
		err = x.store.Commit(fleetsync.Record{Key: key, Value: raw})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.f.contents.load(running.assigned.Digest); verify.ReasonOf(err) != verify.RevokedKey {
		t.Errorf("a forged mark: %v", err)
	}
}

// An older offer that was longer leaves nothing behind that would be taken for the new one's.
func TestStoredChunksAreReplaced(t *testing.T) {
	x := newFetching(t)
	c := x.f.contents
	for _, size := range []int{3 * bundle.ChunkSize, 10, 2*bundle.ChunkSize + 1, 1} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if err := c.putChunks("offer/x/", want); err != nil {
			t.Fatal(err)
		}
		if got, _, err := c.joined("offer/x/", 1<<20); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %d, %v", size, len(got), err)
		}
	}
}
