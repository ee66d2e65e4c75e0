package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

func refusalOf(t *testing.T, err error) api.Problem {
	t.Helper()
	var refusal *api.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("error %v, want a refusal by the hub", err)
	}
	return refusal.Problem
}

func TestPushTakesASignedBundleOnce(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	first := releaseOf(t, "1.0.0", 1, ours())
	pushed := push(t, client, first)
	if pushed.Duplicate || pushed.Digest != bundle.DigestOf(first.file.Manifest) || pushed.Content != bundle.DigestOf(first.content) || pushed.Wire == 0 || pushed.Key == "" {
		t.Errorf("pushed %+v", pushed)
	}
	if again := push(t, client, first); !again.Duplicate || again.Digest != pushed.Digest {
		t.Errorf("pushed again %+v, want a duplicate", again)
	}
	second := push(t, client, releaseOf(t, "1.1.0", 2, ours()))
	if len(second.Deltas) != 1 || second.Deltas[0].From != "1.0.0" || second.Deltas[0].Wire >= second.Wire {
		t.Errorf("deltas %+v of %d bytes in whole, want a smaller one from 1.0.0", second.Deltas, second.Wire)
	}
	// An older release again is the same thing again, not a rollback.
	if again := push(t, client, first); !again.Duplicate {
		t.Errorf("the older one pushed again: %+v", again)
	}
	list, err := client.Bundles(ctx)
	if err != nil || len(list) != 2 || list[0].Version != "1.0.0" || list[1].Version != "1.1.0" {
		t.Errorf("catalog %+v, %v", list, err)
	}
	raw, err := client.BundleFile(ctx, bundle.Ref{Name: "shop", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := bundle.DecodeFile(raw)
	if err != nil || !bytes.Equal(file.Manifest, first.file.Manifest) || !bytes.Equal(file.Signatures[0], first.file.Signatures[0]) {
		t.Errorf("the file is not what was pushed: %v", err)
	}
	if content, err := wire.Decompress(file.Content, int64(len(first.content))); err != nil || !bytes.Equal(content, first.content) {
		t.Errorf("the file's content is not what was pushed: %v", err)
	}
}

// What a site fetches makes the content again, whole in several chunks or by a delta of few bytes; deltas are from the newest five.
func TestPushStoresWhatASiteNeeds(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	random := make([]byte, 600<<10)
	rand.NewChaCha8([32]byte{}).Read(random)
	var releases []release
	var pushed api.Bundle
	for i := range 7 {
		content := contentOf(t, fmt.Sprintf("%d %x", i, random))
		releases = append(releases, releaseWith(t, content, bundle.Version(fmt.Sprintf("1.%d.0", i)), bundle.Counter(i+1), ours()))
		pushed = push(t, client, releases[i])
	}
	newest := releases[6]
	site := addSite(t, client, "shop-1", nil)
	get := func(subject string) []byte {
		data, err := site.link.Get(context.Background(), subject)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var offer fleetsync.Offer
	if err := decodeRecord(get(fleetsync.BundleSubject(pushed.Digest)), &offer); err != nil {
		t.Fatal(err)
	}
	if offer.Full.Chunks < 3 || len(offer.Deltas) != deltaDepth || len(pushed.Deltas) != deltaDepth || pushed.Deltas[0].From != "1.5.0" {
		t.Fatalf("%d chunks, deltas %+v", offer.Full.Chunks, pushed.Deltas)
	}
	var packed []byte
	for n := range offer.Full.Chunks {
		packed = append(packed, get(fleetsync.BlobSubject(pushed.Content, n))...)
	}
	if content, err := wire.Decompress(packed, int64(len(newest.content))); err != nil || !bytes.Equal(content, newest.content) {
		t.Errorf("whole: %v", err)
	}
	for i, offered := range offer.Deltas {
		older := releases[5-i]
		var delta []byte
		for n := range offered.Chunks {
			delta = append(delta, get(fleetsync.DeltaSubject(offered.From, pushed.Content, n))...)
		}
		if offered.From != bundle.DigestOf(older.content) || offered.Size > 1<<10 {
			t.Errorf("delta %d is from %s in %d bytes", i, offered.From, offered.Size)
		}
		if content, err := wire.ApplyDelta(older.content, delta, int64(len(newest.content))); err != nil || !bytes.Equal(content, newest.content) {
			t.Errorf("by delta %d: %v", i, err)
		}
	}
}

func TestT01_T02_T03_T06_PushRefuses(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	base := releaseOf(t, "2.0.0", 20, ours())
	push(t, client, base)
	before := map[string][]string{}
	for _, name := range []string{stream.Catalog, stream.Bundles, stream.Blobs} {
		before[name] = stored(t, h, name)
	}

	next := releaseOf(t, "2.1.0", 21, ours())
	edited := func(edit func(*release)) release {
		r := release{bundle.File{Manifest: bytes.Clone(next.file.Manifest), Signatures: [][]byte{bytes.Clone(next.file.Signatures[0])}, Content: bytes.Clone(next.file.Content)}, next.content}
		edit(&r)
		return r
	}
	for name, c := range map[string]struct {
		release release
		status  int
		reason  verify.Reason
	}{
		"T1 unsigned":             {edited(func(r *release) { r.file.Signatures = nil }), http.StatusUnprocessableEntity, verify.Unsigned},
		"T1 foreign key":          {releaseOf(t, "2.1.0", 21, foreign()), http.StatusUnprocessableEntity, verify.UntrustedKey},
		"T1 garbage as signature": {edited(func(r *release) { r.file.Signatures = [][]byte{[]byte("{}")} }), http.StatusUnprocessableEntity, verify.UnknownMediaType},
		"T2 manifest tampered": {edited(func(r *release) {
			r.file.Manifest = bytes.Replace(r.file.Manifest, []byte("2.1.0"), []byte("2.9.0"), 1)
		}), http.StatusUnprocessableEntity, verify.BadSignature},
		"T2 content swapped":      {edited(func(r *release) { r.file.Content = base.file.Content }), http.StatusUnprocessableEntity, verify.ContentMismatch},
		"T2 content is no zstd":   {edited(func(r *release) { r.file.Content = []byte("no") }), http.StatusUnprocessableEntity, verify.ContentMismatch},
		"T6 signature of another": {edited(func(r *release) { r.file.Signatures = base.file.Signatures }), http.StatusUnprocessableEntity, verify.BadSignature},
		"T6 manifest of another": {edited(func(r *release) {
			r.file.Manifest, r.file.Signatures = base.file.Manifest, base.file.Signatures
			r.file.Content = next.file.Content
		}), http.StatusUnprocessableEntity, verify.ContentMismatch},
		"T3 older counter":          {releaseOf(t, "2.1.0", 19, ours()), http.StatusConflict, verify.OlderCounter},
		"T3 counter used again":     {releaseOf(t, "2.1.0", 20, ours()), http.StatusConflict, verify.CounterReused},
		"version with other bytes":  {releaseOf(t, "2.0.0", 21, ours()), http.StatusConflict, "VersionTaken"},
		"other bytes, same counter": {releaseOf(t, "2.0.0", 20, ours(), func(m *bundle.Manifest) { m.Policy.Prune = false }), http.StatusConflict, "VersionTaken"},
	} {
		_, err := client.Push(context.Background(), c.release.bytes(t))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		problem := refusalOf(t, err)
		if problem.Status != c.status || problem.Reason != string(c.reason) || problem.Hint == "" {
			t.Errorf("%s: %+v, want %d %s with a hint", name, problem, c.status, c.reason)
		}
	}
	for name, subjects := range before {
		if after := stored(t, h, name); len(after) != len(subjects) {
			t.Errorf("stream %s holds %q after refusals, %q before", name, after, subjects)
		}
	}
	push(t, client, next) // and the right one still goes
}

// The same content in other compressed bytes: of another bundle it is there already, of a broken push it is completed where that can be.
func TestContentIsKeptOnceHoweverItIsCompressed(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	first := releaseOf(t, "1.0.0", 1, ours())
	pushed := push(t, client, first)
	other := releaseWith(t, first.content, "1.0.1", 2, ours())
	other.file.Content = loosely(t, first.content)
	if bytes.Equal(other.file.Content, first.file.Content) {
		t.Fatal("compressed the same")
	}
	if again := push(t, client, other); again.Content != pushed.Content || again.Wire != pushed.Wire {
		t.Errorf("pushed %+v, want the content of %+v", again, pushed)
	}
	if _, err := client.BundleFile(context.Background(), bundle.Ref{Name: "shop", Version: "1.0.1"}); err != nil {
		t.Error(err)
	}
	third := releaseOf(t, "1.2.0", 3, ours())
	if _, err := h.storeChunks(context.Background(), third.file.Content, func(n int) string { return fleetsync.BlobSubject(bundle.DigestOf(third.content), n) }); err != nil {
		t.Fatal(err)
	}
	third.file.Content = loosely(t, third.content)
	push(t, client, third)
}

// loosely compresses as no part of Holdfast does.
func loosely(t *testing.T, content []byte) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	return encoder.EncodeAll(content, nil)
}

func TestP07_PushRefusesWhatIsNoBundleFile(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	whole := releaseOf(t, "1.0.0", 1, ours()).bytes(t)
	for name, raw := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "cut": whole[:len(whole)-1], "more": append(bytes.Clone(whole), 0), "json": []byte(`{"manifest":{}}`),
	} {
		_, err := client.Push(context.Background(), raw)
		if problem := refusalOf(t, err); problem.Status != http.StatusBadRequest || problem.Reason != "Malformed" {
			t.Errorf("%s: %+v", name, problem)
		}
	}
}
