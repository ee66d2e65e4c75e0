package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// deltaDepth is how many older releases a new one has deltas from.
const deltaDepth = 5

// Push verifies a bundle file and takes it into the catalog. The very same bundle again changes nothing and is a Duplicate.
//
// What it writes, in this order: chunks, deltas, offer, catalog entry. Each is immutable and each is made of the bundle alone, so that a
// crash in between leaves nothing a site or an operator sees, and the same push again goes on where it ended.
func (h *Hub) Push(ctx context.Context, file []byte) (api.Bundle, error) {
	verified, parts, err := h.verifyFile(file)
	if err != nil {
		return api.Bundle{}, err
	}
	// One at a time: it bounds memory, and the counter is compared with what is written.
	if err := h.pushing.Acquire(ctx, 1); err != nil {
		return api.Bundle{}, fmt.Errorf("push of %s: %w", verified.Manifest().Ref(), err)
	}
	defer h.pushing.Release(1)
	ref := verified.Manifest().Ref()
	if known, err := h.known(ref, verified.Digest()); known || err != nil {
		return h.pushed(ref, true), err
	}
	if err := h.checkCounter(verified.Signed()); err != nil {
		return api.Bundle{}, err
	}
	entry, err := h.keep(ctx, verified, parts)
	if errors.Is(err, stream.ErrConflict) {
		return h.lostRace(ctx, verified)
	}
	if err != nil {
		return api.Bundle{}, fmt.Errorf("bundle %s: %w", ref, err)
	}
	h.log.Info("bundle pushed", zap.Stringer("bundle", ref), zap.String("digest", string(entry.Digest)))
	return h.pushed(ref, false), nil
}

// verifyFile believes nothing of a file but what trust and digests prove; it is what a site does with the same bytes.
func (h *Hub) verifyFile(raw []byte) (verify.Verified, *bundle.File, error) {
	file, err := bundle.DecodeFile(raw)
	if err != nil {
		return verify.Verified{}, nil, malformed("not a bundle file", err)
	}
	signed, err := h.trust().Manifest(h.cfg.Signatures, file.Manifest, file.Signatures)
	if err != nil {
		return verify.Verified{}, nil, err
	}
	content, err := wire.Decompress(file.Content, signed.Manifest().Content.Size)
	if err != nil {
		return verify.Verified{}, nil, &verify.Refusal{
			Reason: verify.ContentMismatch, Subject: "bundle " + signed.Manifest().Ref().String(), Detail: "the content cannot be unpacked: " + err.Error(),
		}
	}
	verified, err := signed.WithContent(content)
	return verified, file, err
}

// known says whether the catalog has the bundle; the same name and version with another manifest is refused.
func (h *Hub) known(ref bundle.Ref, digest bundle.Digest) (bool, error) {
	h.mu.Lock()
	entry, known := h.view.Entry(ref)
	h.mu.Unlock()
	if known && entry.Digest != digest {
		return false, refuse(http.StatusConflict, "VersionTaken", fmt.Sprintf("bundle %s is in the catalog with other bytes", ref),
			fmt.Sprintf("expected manifest %s, got %s", entry.Digest, digest), "a version never changes: build it again under a new version and a higher counter")
	}
	return known, nil
}

func (h *Hub) checkCounter(signed verify.Signed) error {
	h.mu.Lock()
	releases := h.view.Releases(signed.Manifest().Name)
	h.mu.Unlock()
	if len(releases) == 0 {
		return nil
	}
	newest := releases[0]
	return verify.Counters{newest.Name: {Counter: newest.Counter, Digest: newest.Digest}}.Check(signed)
}

func (h *Hub) pushed(ref bundle.Ref, duplicate bool) api.Bundle {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, _ := h.view.Bundle(h.cfg.Now(), ref, nil)
	b.Duplicate = duplicate
	return b
}

// lostRace is for a name@version that another hub wrote a moment ago.
func (h *Hub) lostRace(ctx context.Context, verified verify.Verified) (api.Bundle, error) {
	ref := verified.Manifest().Ref()
	message, err := h.store.Get(ctx, CatalogSubject(ref))
	if err != nil {
		return api.Bundle{}, fmt.Errorf("bundle %s: %w", ref, err)
	}
	h.fold(message)
	known, err := h.known(ref, verified.Digest())
	if err == nil && !known {
		err = fmt.Errorf("bundle %s: its catalog entry cannot be read", ref)
	}
	return h.pushed(ref, true), err
}

// keep writes the bundle. stream.ErrConflict says that somebody else has written its catalog entry.
func (h *Hub) keep(ctx context.Context, verified verify.Verified, parts *bundle.File) (CatalogEntry, error) {
	m := verified.Manifest()
	offer := fleetsync.Offer{Manifest: verified.Signed().Bytes(), Signatures: parts.Signatures}
	var err error
	if offer.Full, err = h.storeContent(ctx, verified, parts.Content); err != nil {
		return CatalogEntry{}, fmt.Errorf("content: %w", err)
	}
	entry := CatalogEntry{
		Name: m.Name, Version: m.Version, Counter: m.Counter, Digest: verified.Digest(), Content: m.Content.Digest, Objects: m.Content.Objects,
		Size: m.Content.Size, Key: string(verified.Key()), Created: m.Created, Pushed: h.cfg.Now().UTC().Truncate(time.Millisecond),
	}
	if offer.Deltas, entry.Deltas, err = h.storeDeltas(ctx, verified, offer.Full.Size); err != nil {
		return CatalogEntry{}, err
	}
	if offer, err = h.storeOffer(ctx, entry.Digest, offer); err != nil {
		return CatalogEntry{}, fmt.Errorf("offer: %w", err)
	}
	entry.Wire = offer.Full.Size
	raw, err := json.Marshal(entry)
	if err != nil {
		return CatalogEntry{}, fmt.Errorf("catalog entry: encode: %w", err)
	}
	// Commit point: with the entry the bundle is in the catalog, whole.
	subject := CatalogSubject(entry.ref())
	if err := h.putIf(ctx, subject, raw, 0); err != nil {
		return CatalogEntry{}, fmt.Errorf("catalog entry: %w", err)
	}
	h.fold(stream.Message{Subject: subject, Data: raw, Time: entry.Pushed})
	return entry, nil
}

// storeContent writes the content as it came compressed. Content that another bundle brought is there already; what an earlier, broken push
// began to write in other bytes is completed if it was this program that had compressed it.
func (h *Hub) storeContent(ctx context.Context, verified verify.Verified, packed []byte) (fleetsync.Blob, error) {
	digest := verified.Manifest().Content.Digest
	h.mu.Lock()
	same, known := h.view.EntryWith(digest)
	h.mu.Unlock()
	if known {
		offer, _, err := h.offer(ctx, same.Digest)
		return offer.Full, err
	}
	subject := func(n int) string { return fleetsync.BlobSubject(digest, n) }
	blob, err := h.storeChunks(ctx, packed, subject)
	if !errors.Is(err, errOtherBytes) {
		return blob, err
	}
	if packed, err = wire.Compress(verified.Content()); err != nil {
		return blob, err
	}
	return h.storeChunks(ctx, packed, subject)
}

// storeChunks writes bytes in chunks. A chunk that is there already has to be the same one: it is from an earlier, broken push.
func (h *Hub) storeChunks(ctx context.Context, data []byte, subject func(n int) string) (fleetsync.Blob, error) {
	chunks := bundle.Chunks(data)
	blob := fleetsync.Blob{Size: int64(len(data)), Chunks: len(chunks)}
	messages := make([]stream.Message, len(chunks))
	for n, chunk := range chunks {
		messages[n] = stream.Message{Subject: subject(n), Data: chunk}
	}
	err := h.store.CreateAll(ctx, messages)
	if !errors.Is(err, stream.ErrExists) {
		return blob, err
	}
	for n, m := range messages {
		if err := h.createSame(ctx, m.Subject, m.Data); err != nil {
			return fleetsync.Blob{}, fmt.Errorf("chunk %d of %d: %w", n+1, len(chunks), err)
		}
	}
	return blob, nil
}

var errOtherBytes = errors.New("the store holds other bytes under this subject, which never changes: they were written by another version of the hub, or it is damaged")

func (h *Hub) createSame(ctx context.Context, subject string, data []byte) error {
	err := h.putIf(ctx, subject, data, 0)
	if errors.Is(err, stream.ErrConflict) {
		return fmt.Errorf("%s: %w", subject, errOtherBytes)
	}
	return err
}

// storeDeltas writes deltas from the newest older releases. One that is no smaller than the whole is left out.
func (h *Hub) storeDeltas(ctx context.Context, verified verify.Verified, full int64) (deltas []fleetsync.Delta, shown []api.BundleDelta, err error) {
	m := verified.Manifest()
	h.mu.Lock()
	releases := h.view.Releases(m.Name)
	h.mu.Unlock()
	seen := map[bundle.Digest]bool{m.Content.Digest: true}
	for _, older := range releases[:min(len(releases), deltaDepth)] {
		if seen[older.Content] {
			continue
		}
		seen[older.Content] = true
		from, err := h.content(ctx, older)
		if verify.ReasonOf(err) != "" {
			continue // its key was revoked since: no site takes it as a beginning either
		}
		if err != nil {
			return nil, nil, fmt.Errorf("delta from %s: %w", older.ref(), err)
		}
		delta, err := wire.Delta(from, verified.Content())
		if err != nil {
			return nil, nil, fmt.Errorf("delta from %s: %w", older.ref(), err)
		}
		if int64(len(delta)) >= full {
			continue
		}
		blob, err := h.storeChunks(ctx, delta, func(n int) string { return fleetsync.DeltaSubject(older.Content, m.Content.Digest, n) })
		if errors.Is(err, errOtherBytes) {
			continue // sites take the whole
		}
		if err != nil {
			return nil, nil, fmt.Errorf("delta from %s: %w", older.ref(), err)
		}
		deltas = append(deltas, fleetsync.Delta{From: older.Content, Blob: blob})
		shown = append(shown, api.BundleDelta{From: older.Version, Wire: blob.Size})
	}
	return deltas, shown, nil
}

// storeOffer writes the offer, or gives the one that an earlier, broken push wrote.
func (h *Hub) storeOffer(ctx context.Context, digest bundle.Digest, offer fleetsync.Offer) (fleetsync.Offer, error) {
	raw, err := json.Marshal(offer)
	if err != nil {
		return offer, fmt.Errorf("encode: %w", err)
	}
	err = h.putIf(ctx, fleetsync.BundleSubject(digest), raw, 0)
	if !errors.Is(err, stream.ErrConflict) {
		return offer, err
	}
	there, _, err := h.offer(ctx, digest)
	return there, err
}

// offer reads an offer back and verifies it as a site would: whatever the store did to it, nobody is assigned something unsigned.
func (h *Hub) offer(ctx context.Context, digest bundle.Digest) (fleetsync.Offer, verify.Signed, error) {
	message, err := h.store.Get(ctx, fleetsync.BundleSubject(digest))
	if err != nil {
		return fleetsync.Offer{}, verify.Signed{}, err
	}
	var offer fleetsync.Offer
	if len(message.Data) > stream.MaxMessage {
		return offer, verify.Signed{}, fmt.Errorf("%d bytes are too many", len(message.Data))
	}
	if err := json.Unmarshal(message.Data, &offer); err != nil {
		return offer, verify.Signed{}, fmt.Errorf("decode: %w", err)
	}
	signed, err := h.trust().Manifest(h.cfg.Signatures, offer.Manifest, offer.Signatures)
	if err != nil {
		return offer, verify.Signed{}, err
	}
	if signed.Digest() != digest {
		return offer, verify.Signed{}, fmt.Errorf("expected manifest %s, got %s", digest, signed.Digest())
	}
	return offer, signed, nil
}

// packed reads the compressed content of a bundle in the catalog.
func (h *Hub) packed(ctx context.Context, entry CatalogEntry) (packed []byte, offer fleetsync.Offer, err error) {
	if offer, _, err = h.offer(ctx, entry.Digest); err != nil {
		return nil, offer, fmt.Errorf("offer: %w", err)
	}
	if offer.Full.Size < 0 || offer.Full.Size > bundle.MaxPackedSize || offer.Full.Chunks > bundle.MaxPackedSize/bundle.ChunkSize+1 {
		return nil, offer, fmt.Errorf("content: %d bytes in %d chunks are too many", offer.Full.Size, offer.Full.Chunks)
	}
	packed = make([]byte, 0, offer.Full.Size)
	for n := range offer.Full.Chunks {
		chunk, err := h.store.Get(ctx, fleetsync.BlobSubject(entry.Content, n))
		if err != nil {
			return nil, offer, fmt.Errorf("content: chunk %d of %d: %w", n+1, offer.Full.Chunks, err)
		}
		packed = append(packed, chunk.Data...)
	}
	return packed, offer, nil
}

func (h *Hub) content(ctx context.Context, entry CatalogEntry) ([]byte, error) {
	packed, _, err := h.packed(ctx, entry)
	if err != nil {
		return nil, err
	}
	content, err := wire.Decompress(packed, entry.Size)
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	if digest := bundle.DigestOf(content); digest != entry.Content {
		return nil, fmt.Errorf("content: expected %s, got %s: the store is damaged", entry.Content, digest)
	}
	return content, nil
}

// BundleFile gives a bundle of the catalog as a file.
func (h *Hub) BundleFile(ctx context.Context, ref bundle.Ref) ([]byte, error) {
	h.mu.Lock()
	entry, known := h.view.Entry(ref)
	h.mu.Unlock()
	if !known {
		return nil, unknownBundle(ref)
	}
	packed, offer, err := h.packed(ctx, entry)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", ref, err)
	}
	return bundle.EncodeFile(&bundle.File{Manifest: offer.Manifest, Signatures: offer.Signatures, Content: packed})
}
