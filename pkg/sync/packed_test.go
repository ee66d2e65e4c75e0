package sync

import (
	"bytes"
	"compress/flate"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// aBatch is what a busy hour looks like.
func aBatch(n int) EventBatch {
	b := EventBatch{Site: "shop-1", Epoch: "0123456789abcdef0123456789abcdef"}
	for i := range n {
		ev := Event{Sequence: uint64(i + 1), At: time.Date(2026, 11, 21, 2, 0, i, 123456789, time.UTC), Clock: TimeTrusted, Kind: EventDriftCorrected, Bundle: "shop", Version: "1.0.0", Digest: digestOf("1.0.0")}
		ev.Object, ev.Reason, ev.Paths, ev.Offline = fmt.Sprintf("ConfigMap/shop/settings-%d", i%37), string(DriftChanged), []string{"/data/colour"}, true
		b.Events = append(b.Events, ev)
	}
	return b
}

func aState(bundles int) State {
	s := State{Site: "shop-1", Epoch: "0123456789abcdef0123456789abcdef", Sequence: 7, At: time.Now().UTC(), Started: time.Now().UTC(), Agent: "v1.2.3", Assignment: 4, Cluster: ClusterStatus{Reachable: true, Version: "1.37.1"}}
	for i := range bundles {
		version := fmt.Sprintf("1.%d.0", i)
		s.Bundles = append(s.Bundles, BundleStatus{Name: "shop", Desired: "1.0.0", Digest: digestOf(version), Current: "1.0.0", CurrentDigest: digestOf(version), Phase: PhaseCurrent, Objects: 30, Rendered: digestOf("r" + version)})
	}
	return s
}

// TestPackedReportsAreSmaller holds that packing pays where reports are long, that a report which gains nothing goes plain, and that both open to the same.
func TestPackedReportsAreSmaller(t *testing.T) {
	key := envelopeKey()
	public := key.Public().(ed25519.PublicKey)
	for name, c := range map[string]struct {
		kind    string
		payload any
		into    any
		most    float64 // of the plain size
	}{
		"a full batch":                     {TypeEvents, aBatch(MaxBatch), new(EventBatch), 0.15},
		"one event":                        {TypeEvents, aBatch(1), new(EventBatch), 1},
		"a snapshot of a small site":       {TypeState, aState(3), new(State), 0.75},
		"a snapshot of a site with thirty": {TypeState, aState(30), new(State), 0.5},
	} {
		plain, err := Seal(c.kind, c.payload, key)
		packed, packErr := SealPacked(c.kind, c.payload, key)
		if err != nil || packErr != nil {
			t.Fatal(err, packErr)
		}
		t.Logf("%s: %d bytes plain, %d packed", name, len(plain), len(packed))
		if float64(len(packed)) > c.most*float64(len(plain)) {
			t.Errorf("%s: %d of %d bytes", name, len(packed), len(plain))
		}
		if err := Open(c.kind, packed, public, c.into); err != nil || !reflect.DeepEqual(reflect.ValueOf(c.into).Elem().Interface(), c.payload) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tiny, _ := SealPacked(TypeEvents, EventBatch{Site: "shop-1", Epoch: "e1"}, key); strings.Contains(string(tiny), packedSuffix) {
		t.Errorf("what gains nothing goes packed: %s", tiny)
	}
}

// sealPackedRaw signs bytes as a packed payload.
func sealPackedRaw(t testing.TB, kind string, payload []byte, key ed25519.PrivateKey) []byte {
	t.Helper()
	sealed, err := sealBytes(kind+packedSuffix, payload, key)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestT28_PackedBombsAreBounded: a site that signs a payload which unpacks to many megabytes is refused after MaxUnpacked bytes, and nothing is unpacked that
// the site did not sign, or signed as another kind of message or as a plain one.
func TestT28_PackedBombsAreBounded(t *testing.T) {
	key := envelopeKey()
	public := key.Public().(ed25519.PublicKey)
	bomb := pack(bytes.Repeat([]byte(" "), 64<<20))
	if err := Open(TypeState, sealPackedRaw(t, TypeState, bomb, key), public, new(State)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a bomb: %v", err)
	}
	if most := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, _ = unpack(bomb)
		}
	}).AllocedBytesPerOp(); most > 8*MaxUnpacked {
		t.Errorf("a bomb takes %d bytes", most)
	}
	body := []byte(`{"site":"shop-1","epoch":"e1"}`)
	for name, sealed := range map[string][]byte{
		"signed as plain":             relabelled(t, sealPackedRaw(t, TypeState, body, key), TypeState+packedSuffix, TypeState),
		"signed as events":            relabelled(t, sealPackedRaw(t, TypeEvents, pack(body), key), TypeEvents, TypeState),
		"by another key":              sealPackedRaw(t, TypeState, pack(body), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))),
		"cut short":                   sealPackedRaw(t, TypeState, pack(body)[:8], key),
		"not compressed at all":       sealPackedRaw(t, TypeState, body, key),
		"a hello, which never is":     sealPackedRaw(t, TypeHello, pack(body), key),
		"an order, which never is":    sealPackedRaw(t, TypeAssignment, pack(body), key),
		"with something after it all": sealPackedRaw(t, TypeState, pack(append(body, "{}"...)), key),
	} {
		for _, kind := range []string{TypeState, TypeHello, TypeAssignment} {
			if err := Open(kind, sealed, public, new(State)); err == nil {
				t.Errorf("%s was taken for %s", name, kind)
			}
		}
	}
}

func relabelled(t *testing.T, sealed []byte, from, to string) []byte {
	t.Helper()
	changed := bytes.Replace(sealed, []byte(from), []byte(to), 1)
	if bytes.Equal(changed, sealed) {
		t.Fatalf("%s does not stand in %s", from, sealed)
	}
	return changed
}

// FuzzUnpack gives the hub whatever a site may sign as a packed report: it is refused, or taken as what it unpacks to, and never larger than MaxUnpacked.
func FuzzUnpack(f *testing.F) {
	f.Add(pack([]byte(`{"site":"shop-1"}`)))
	f.Add(pack(bytes.Repeat([]byte{'a'}, MaxUnpacked+1)))
	f.Add([]byte{0x01, 0x00, 0x00, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		body, err := unpack(payload)
		if err != nil {
			return
		}
		if len(body) > MaxUnpacked {
			t.Fatalf("%d bytes", len(body))
		}
		var again bytes.Buffer
		if _, err := again.ReadFrom(flate.NewReader(bytes.NewReader(payload))); err != nil || !bytes.Equal(again.Bytes(), body) {
			t.Errorf("%d bytes, and %d in one go: %v", len(body), again.Len(), err)
		}
	})
}
