package edge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Keys of bundles in the store. Nothing under them is believed: it is verified on every load.
//
//	offer/<manifest hex>/<n>            the Offer's JSON, in chunks
//	blob/<content hex>/<nnnn>           the compressed content, in the chunks the hub cut
//	delta/<from hex>/<to hex>/<nnnn>    a delta that is still coming
//	complete/<manifest hex>             offer and content were all there and verified once: the mark it had then, sealed by the site
const (
	prefixOffer    = "offer/"
	prefixBlob     = "blob/"
	prefixDelta    = "delta/"
	prefixComplete = "complete/"
)

// maxOffer bounds an Offer: it came as one message.
const maxOffer = fleetsync.MaxMessage

// contents keeps bundles in the edge's store.
type contents struct {
	store fleetsync.Store
	trust *Belief
	seal  seal
	sigs  verify.Signatures
	site  bundle.SiteID
}

func offerKey(manifest bundle.Digest) string { return prefixOffer + manifest.Hex() + "/" }
func blobKey(content bundle.Digest) string   { return prefixBlob + content.Hex() + "/" }
func deltaKey(from, to bundle.Digest) string {
	return prefixDelta + from.Hex() + "/" + to.Hex() + "/"
}
func chunkKey(prefix string, n int) string { return fmt.Sprintf("%s%04d", prefix, n) }

// offer reads a stored offer, or fleetsync.ErrNotFound.
func (c *contents) offer(manifest bundle.Digest) (*fleetsync.Offer, error) {
	raw, _, err := c.joined(offerKey(manifest), maxOffer)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, fleetsync.ErrNotFound
	}
	var offer fleetsync.Offer
	if err := json.Unmarshal(raw, &offer); err != nil {
		return nil, fmt.Errorf("stored offer: %w", err)
	}
	return &offer, nil
}

// putOffer stores an offer before its content, so that the chunks of the content have an owner while they come.
func (c *contents) putOffer(manifest bundle.Digest, raw []byte) error {
	return c.putChunks(offerKey(manifest), raw)
}

// putChunks stores bytes under a prefix, a commit a chunk, in the place of what was there.
func (c *contents) putChunks(prefix string, raw []byte) error {
	chunks := 0
	for chunk := range slices.Chunk(raw, bundle.ChunkSize) {
		if err := c.store.Commit(fleetsync.Record{Key: chunkKey(prefix, chunks), Value: chunk}); err != nil {
			return err
		}
		chunks++
	}
	return c.forgetFrom(prefix, chunks)
}

// forget drops all chunks under a prefix.
func (c *contents) forget(prefix string) error { return c.forgetFrom(prefix, 0) }

func (c *contents) forgetFrom(prefix string, chunk int) error {
	var gone []fleetsync.Record
	err := c.store.Scan(prefix, func(key string, _ []byte) error {
		if key >= chunkKey(prefix, chunk) {
			gone = append(gone, fleetsync.Record{Key: key})
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	return c.store.Commit(gone...)
}

// complete says that everything of a bundle is stored and was verified.
func (c *contents) complete(signed verify.Signed) error {
	raw, err := c.seal.close("complete", signed.Mark())
	if err != nil {
		return err
	}
	return c.store.Commit(fleetsync.Record{Key: prefixComplete + signed.Digest().Hex(), Value: raw})
}

// have counts the chunks that are stored without a hole from the first.
func (c *contents) have(prefix string) (int, error) {
	n := 0
	err := c.store.Scan(prefix, func(key string, _ []byte) error {
		if key == chunkKey(prefix, n) {
			n++
		}
		return nil
	})
	return n, err
}

// joined puts the chunks under a prefix together, refusing more than limit bytes.
func (c *contents) joined(prefix string, limit int) (raw []byte, chunks int, err error) {
	return joined(c.store, prefix, limit)
}

func joined(store fleetsync.Store, prefix string, limit int) (raw []byte, chunks int, err error) {
	err = store.Scan(prefix, func(key string, value []byte) error {
		if key != chunkKey(prefix, chunks) {
			return fmt.Errorf("%s: chunk %d is missing", prefix, chunks)
		}
		if len(raw)+len(value) > limit {
			return fmt.Errorf("%s: more than %d bytes are stored", prefix, limit)
		}
		raw = append(raw, value...)
		chunks++
		return nil
	})
	return raw, chunks, err
}

// content reads the stored content that a verified manifest names; fleetsync.ErrNotFound if it is not all there.
func (c *contents) content(info bundle.ContentInfo) ([]byte, error) {
	packed, chunks, err := c.joined(blobKey(info.Digest), bundle.MaxPackedSize)
	if err != nil {
		return nil, err
	}
	if chunks == 0 {
		return nil, fleetsync.ErrNotFound
	}
	raw, err := wire.Decompress(packed, info.Size)
	if err != nil {
		return nil, fmt.Errorf("stored content: %w", err)
	}
	return raw, nil
}

// load verifies a bundle that this site accepted, from its signature on: a key that was revoked since does not stop what runs. It is the only way
// from the store to the cluster.
func (c *contents) load(manifest bundle.Digest) (verify.Verified, error) {
	raw, err := c.store.Get(prefixComplete + manifest.Hex())
	if err != nil {
		return verify.Verified{}, err
	}
	var mark verify.Mark
	if err := c.seal.open("complete", raw, &mark); err != nil {
		return c.loadNew(manifest) // somebody else says that it was accepted
	}
	return c.verified(manifest, func(offer *fleetsync.Offer) (verify.Signed, error) {
		return c.trust.Document().Accepted(c.sigs, offer.Manifest, offer.Signatures, mark)
	})
}

// loadNew verifies a stored bundle as one that this site has not accepted yet.
func (c *contents) loadNew(manifest bundle.Digest) (verify.Verified, error) {
	if _, err := c.store.Get(prefixComplete + manifest.Hex()); err != nil {
		return verify.Verified{}, err
	}
	return c.verified(manifest, func(offer *fleetsync.Offer) (verify.Signed, error) {
		return c.trust.Document().Manifest(c.sigs, offer.Manifest, offer.Signatures)
	})
}

func (c *contents) verified(manifest bundle.Digest, believe func(*fleetsync.Offer) (verify.Signed, error)) (verify.Verified, error) {
	offer, err := c.offer(manifest)
	if err != nil {
		return verify.Verified{}, fmt.Errorf("stored offer: %v", err)
	}
	signed, err := believe(offer)
	if err != nil {
		return verify.Verified{}, err
	}
	if signed.Digest() != manifest {
		return verify.Verified{}, fmt.Errorf("stored manifest: its digest is %s, not %s", signed.Digest().Short(), manifest.Short())
	}
	raw, err := c.content(signed.Manifest().Content)
	if err != nil {
		return verify.Verified{}, fmt.Errorf("stored content: %v", err)
	}
	return signed.WithContent(raw)
}

// drop forgets a bundle: its offer and, if no other stored offer names it, its content.
func (c *contents) drop(manifest bundle.Digest) error {
	keep, err := c.offers()
	if err != nil {
		return err
	}
	delete(keep, manifest)
	return c.retain(keep)
}

// offers lists the manifests that are stored.
func (c *contents) offers() (map[bundle.Digest]bool, error) {
	stored := map[bundle.Digest]bool{}
	err := c.store.Scan(prefixOffer, func(key string, _ []byte) error {
		hex, _, _ := strings.Cut(strings.TrimPrefix(key, prefixOffer), "/")
		stored[bundle.Digest("sha256:"+hex)] = true
		return nil
	})
	return stored, err
}

// infos lists the contents whose manifests are stored, by digest.
func (c *contents) infos() (map[bundle.Digest]bundle.ContentInfo, error) {
	manifests, err := c.offers()
	if err != nil {
		return nil, err
	}
	infos := map[bundle.Digest]bundle.ContentInfo{}
	for manifest := range manifests {
		if info, ok := c.info(manifest); ok {
			infos[info.Digest] = info
		}
	}
	return infos, nil
}

// info is what a stored manifest, not verified here, says of its content.
func (c *contents) info(manifest bundle.Digest) (bundle.ContentInfo, bool) {
	offer, err := c.offer(manifest)
	if err != nil {
		return bundle.ContentInfo{}, false
	}
	// Nothing of it is believed: content is compared with its digest before it is used. So it is not read as strictly as what is.
	var m struct {
		Content bundle.ContentInfo `json:"content"`
	}
	if json.Unmarshal(offer.Manifest, &m) != nil {
		return bundle.ContentInfo{}, false
	}
	_, err = bundle.ParseDigest(string(m.Content.Digest))
	return m.Content, err == nil && m.Content.Size >= 0 && m.Content.Size <= bundle.MaxContentSize
}

// retain deletes every bundle but those of the manifests kept, and every content and delta no kept bundle needs.
func (c *contents) retain(keep map[bundle.Digest]bool) error {
	needed := map[string]bool{}
	for manifest := range keep {
		needed[manifest.Hex()] = true
		if info, ok := c.info(manifest); ok {
			needed[info.Digest.Hex()] = true
		}
	}
	var gone []fleetsync.Record
	for _, prefix := range []string{prefixOffer, prefixBlob, prefixDelta, prefixComplete} {
		err := c.store.Scan(prefix, func(key string, _ []byte) error {
			parts := strings.Split(strings.TrimPrefix(key, prefix), "/")
			if owner := parts[max(0, len(parts)-2)]; !needed[owner] { // of a delta: what it leads to
				gone = append(gone, fleetsync.Record{Key: key})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(gone, 100) {
		if err := c.store.Commit(batch...); err != nil {
			return err
		}
	}
	return nil
}
