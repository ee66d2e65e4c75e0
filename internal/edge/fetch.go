package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// fetcher brings bundles from the hub into the store, resuming where a cut link left off.
type fetcher struct {
	contents *contents
	link     fleetsync.Link
	damaged  func(message string)

	mu   sync.Mutex
	told map[bundle.Digest]string // what was said of a stored bundle that does not verify
}

func newFetcher(c *contents, link fleetsync.Link, damaged func(message string)) *fetcher {
	return &fetcher{contents: c, link: link, damaged: damaged, told: map[bundle.Digest]string{}}
}

// fetch makes a bundle durable and verified: from the store if it is there, otherwise from the hub. What is stored but does not verify
// is dropped and fetched again.
func (f *fetcher) fetch(ctx context.Context, order fleetsync.Fetch, marks verify.Counters) fleetsync.Fetched {
	want := order.Bundle
	result := fleetsync.Fetched{Name: want.Name, Digest: want.Digest}
	load := f.contents.loadNew
	if order.Again || marks[want.Name].Digest == want.Digest {
		load = f.contents.load
	}
	verified, err := load(want.Digest)
	if err == nil {
		err = f.allowed(verified.Signed(), order, marks)
	} else if err = f.unbelieved(want, err); err == nil {
		verified, err = f.fromHub(ctx, order, marks)
	}
	if err != nil {
		return refusedOrFailed(result, err)
	}
	m := verified.Manifest()
	result.Counter, result.Epoch, result.Objects = m.Counter, verified.Signed().Mark().Epoch, m.Content.Objects
	result.Requires = m.Requires
	if m.Expires != nil {
		result.Expires = *m.Expires
	}
	if m.Policy.AffectsConnectivity {
		result.ConfirmWithin = time.Duration(cmp.Or(m.Policy.ConfirmWithinSeconds, bundle.DefaultConfirmWithin)) * time.Second
	}
	result.Prefetch = m.Policy.Prefetch
	result.HealthTimeout = time.Duration(m.Policy.HealthTimeoutSeconds) * time.Second
	return result
}

// unbelieved says once that a stored bundle does not verify, and drops it so that it is fetched again. What only the keys of today do not
// believe stays: they may be the mistake.
func (f *fetcher) unbelieved(want fleetsync.AssignedBundle, why error) error {
	if errors.Is(why, fleetsync.ErrNotFound) {
		return nil
	}
	f.mu.Lock()
	said := f.told[want.Digest] == why.Error()
	f.told[want.Digest] = why.Error()
	f.mu.Unlock()
	if !said {
		f.damaged(fmt.Sprintf("stored bundle %s@%s (%s): %v: fetching it again", want.Name, want.Version, want.Digest.Short(), why))
	}
	switch verify.ReasonOf(why) {
	case verify.NoTrustedKey, verify.UntrustedKey, verify.KeyNotAllowed, verify.BelowFloor, verify.VerifierFailed, verify.RevokedKey, verify.TooFewSigners,
		verify.UntrustedAuthority, verify.UntrustedIssuer, verify.UntrustedSubject, verify.NotWitnessed:
		return nil
	}
	return f.contents.drop(want.Digest)
}

func refusedOrFailed(result fleetsync.Fetched, err error) fleetsync.Fetched {
	var refusal *verify.Refusal
	if errors.As(err, &refusal) {
		message := refusal.Error()
		if hint := refusal.Hint(); hint != "" {
			message += "; hint: " + hint
		}
		result.Refusal = &fleetsync.Refusal{Reason: string(refusal.Reason), Message: message}
		var served *misserved
		result.Passing = errors.As(err, &served)
		return result
	}
	result.Err = err.Error()
	return result
}

// misserved is a refusal of bytes that are not those that were asked for by their digest: the hub or the way to it is at fault, not the bundle.
type misserved struct{ error }

func (m *misserved) Unwrap() error { return m.error }

// allowed asks whether a bundle whose signature holds is the one wanted, meant for this site and not older than what was accepted. What was
// applied here before needs only to be itself.
func (f *fetcher) allowed(signed verify.Signed, order fleetsync.Fetch, marks verify.Counters) error {
	want := order.Bundle
	if err := signed.Answers(verify.Asked{Name: want.Name, Version: want.Version, Digest: want.Digest}); err != nil {
		return err
	}
	if order.Again {
		return nil
	}
	if target := signed.Manifest().Target.Kubernetes; target != "" && order.Kubernetes == "" {
		return fmt.Errorf("bundle %s@%s is for Kubernetes %s: the cluster's version is not known yet", want.Name, want.Version, target)
	}
	if err := signed.For(verify.Site{ID: f.contents.site, Labels: order.Labels, Kubernetes: order.Kubernetes}); err != nil {
		return err
	}
	if err := marks.Check(signed); err != nil {
		return err
	}
	if marks[want.Name].Digest == want.Digest { // accepted before: expiry never stops what was begun
		return nil
	}
	return signed.FirstApplyAt(order.Time)
}

func (f *fetcher) fromHub(ctx context.Context, order fleetsync.Fetch, marks verify.Counters) (verify.Verified, error) {
	want := order.Bundle
	raw, err := f.link.Get(ctx, fleetsync.BundleSubject(want.Digest))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return verify.Verified{}, fmt.Errorf("the hub does not have bundle %s@%s (%s)", want.Name, want.Version, want.Digest.Short())
	}
	if err != nil {
		return verify.Verified{}, fmt.Errorf("bundle %s@%s: manifest: %w", want.Name, want.Version, err)
	}
	var offer fleetsync.Offer
	if len(raw) > maxOffer {
		return verify.Verified{}, fmt.Errorf("bundle %s@%s: its offer has %d bytes, more than %d", want.Name, want.Version, len(raw), maxOffer)
	}
	if err := json.Unmarshal(raw, &offer); err != nil {
		return verify.Verified{}, fmt.Errorf("bundle %s@%s: offer: %w", want.Name, want.Version, err)
	}
	// Nothing of the content is fetched for a manifest that is not believed.
	signed, err := f.contents.trust.Document().Manifest(f.contents.sigs, offer.Manifest, offer.Signatures)
	if err == nil {
		err = f.allowed(signed, order, marks)
	}
	if err != nil && bundle.DigestOf(offer.Manifest) != want.Digest {
		err = &misserved{err}
	}
	if err != nil {
		return verify.Verified{}, err
	}
	info := signed.Manifest().Content
	if err := f.contents.putOffer(want.Digest, raw); err != nil {
		return verify.Verified{}, err
	}
	if verified, err := f.stored(signed, info); err == nil { // an older bundle had the same content, or only the offer was lost
		return verified, f.contents.complete(signed)
	}
	content, err := f.content(ctx, info, offer)
	if err != nil {
		return verify.Verified{}, fmt.Errorf("bundle %s@%s: %w", want.Name, want.Version, err)
	}
	verified, err := signed.WithContent(content)
	if err != nil {
		if verify.ReasonOf(err) == verify.ContentMismatch {
			err = &misserved{err}
		}
		return verify.Verified{}, errors.Join(err, f.contents.forget(blobKey(info.Digest)))
	}
	return verified, f.contents.complete(signed)
}

func (f *fetcher) stored(signed verify.Signed, info bundle.ContentInfo) (verify.Verified, error) {
	content, err := f.contents.content(info)
	if err != nil {
		return verify.Verified{}, err
	}
	return signed.WithContent(content)
}

// content fetches by delta where the store has what the delta starts from, otherwise in full. A delta that does not lead to the signed
// digest costs only the bytes: the full content is fetched then.
func (f *fetcher) content(ctx context.Context, info bundle.ContentInfo, offer fleetsync.Offer) ([]byte, error) {
	if delta, from := f.startingPoint(offer.Deltas); delta != nil {
		raw, err := f.byDelta(ctx, info, *delta, from)
		if err == nil {
			return raw, nil
		}
		if errors.Is(err, fleetsync.ErrNoLink) || ctx.Err() != nil {
			return nil, err
		}
	}
	packed, err := f.chunks(ctx, blobKey(info.Digest), offer.Full, func(n int) string { return fleetsync.BlobSubject(info.Digest, n) })
	if err != nil {
		return nil, err
	}
	raw, err := wire.Decompress(packed, info.Size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("content: %w", err), f.contents.forget(blobKey(info.Digest)))
	}
	return raw, nil
}

// startingPoint is the smallest delta whose older content is stored.
func (f *fetcher) startingPoint(deltas []fleetsync.Delta) (best *fleetsync.Delta, from []byte) {
	stored, err := f.contents.infos()
	if err != nil {
		return nil, nil
	}
	for i := range deltas {
		info, ok := stored[deltas[i].From]
		if !ok || best != nil && deltas[i].Size >= best.Size {
			continue
		}
		if raw, err := f.contents.content(info); err == nil && bundle.DigestOf(raw) == info.Digest {
			best, from = &deltas[i], raw
		}
	}
	return best, from
}

func (f *fetcher) byDelta(ctx context.Context, info bundle.ContentInfo, delta fleetsync.Delta, from []byte) ([]byte, error) {
	prefix := deltaKey(delta.From, info.Digest)
	packed, err := f.chunks(ctx, prefix, delta.Blob, func(n int) string { return fleetsync.DeltaSubject(delta.From, info.Digest, n) })
	if err != nil {
		return nil, err
	}
	raw, err := wire.ApplyDelta(from, packed, info.Size)
	if err == nil && bundle.DigestOf(raw) != info.Digest {
		err = errors.New("it does not lead to the signed content")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("delta: %w", err), f.contents.forget(prefix))
	}
	full, err := wire.CompressForKeeping(raw)
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	if err := f.contents.putChunks(blobKey(info.Digest), full); err != nil {
		return nil, err
	}
	return raw, f.contents.forget(prefix)
}

// chunks fetches what is missing of a blob, one durable chunk after the other, and gives the whole.
func (f *fetcher) chunks(ctx context.Context, prefix string, blob fleetsync.Blob, subject func(n int) string) ([]byte, error) {
	if most := bundle.MaxPackedSize/bundle.ChunkSize + 1; blob.Chunks < 1 || blob.Chunks > most {
		return nil, fmt.Errorf("the hub says %d chunks, want 1 to %d", blob.Chunks, most)
	}
	have, err := f.contents.have(prefix)
	if err != nil {
		return nil, err
	}
	for n := have; n < blob.Chunks; n++ {
		chunk, err := f.link.Get(ctx, subject(n))
		if err != nil {
			return nil, fmt.Errorf("chunk %d of %d: %w", n+1, blob.Chunks, err)
		}
		if len(chunk) == 0 || len(chunk) > bundle.ChunkSize {
			return nil, fmt.Errorf("chunk %d of %d: it has %d bytes, want 1 to %d", n+1, blob.Chunks, len(chunk), bundle.ChunkSize)
		}
		if err := f.contents.store.Commit(fleetsync.Record{Key: chunkKey(prefix, n), Value: chunk}); err != nil {
			return nil, err
		}
	}
	packed, chunks, err := f.contents.joined(prefix, bundle.MaxPackedSize)
	if err == nil && chunks != blob.Chunks {
		err = errors.Join(fmt.Errorf("%d chunks are stored where the hub has %d", chunks, blob.Chunks), f.contents.forget(prefix))
	}
	return packed, err
}
