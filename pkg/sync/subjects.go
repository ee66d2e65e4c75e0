package sync

import (
	"strconv"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Subjects of the bus. Sites and digests are checked by their Parse functions before they come here, so a subject never holds a wildcard.

// DesiredSubject holds a site's newest signed assignment (stream DESIRED, one message a subject).
func DesiredSubject(site bundle.SiteID) string { return "hf.desired." + string(site) }

// BundleSubject holds the Offer of the bundle whose manifest has the digest (stream BUNDLES, immutable).
func BundleSubject(manifest bundle.Digest) string { return "hf.bundle." + manifest.Hex() }

// BlobSubject holds chunk n of the compressed content with the digest (stream BLOBS).
func BlobSubject(content bundle.Digest, n int) string {
	return "hf.blob." + content.Hex() + "." + strconv.Itoa(n)
}

// DeltaSubject holds chunk n of the delta between two contents (stream BLOBS).
func DeltaSubject(from, to bundle.Digest, n int) string {
	return "hf.delta." + from.Hex() + "." + to.Hex() + "." + strconv.Itoa(n)
}

// StateSubject takes a site's signed State (stream STATE, one message a subject).
func StateSubject(site bundle.SiteID) string { return "hf.state." + string(site) }

// EventSubject takes a site's signed EventBatch messages (stream EVENTS).
func EventSubject(site bundle.SiteID) string { return "hf.event." + string(site) }

// AckSubject holds the hub's newest signed Ack for a site (stream ACKS, one message a subject).
func AckSubject(site bundle.SiteID) string { return "hf.ack." + string(site) }

// PokeSubject carries "look again" to a connected site (core NATS, nothing stored), or what is newest: a sealed Fresh.
func PokeSubject(site bundle.SiteID) string { return "hf.poke." + string(site) }

// HelloSubject takes a site's signed heartbeat (core NATS, nothing stored).
func HelloSubject(site bundle.SiteID) string { return "hf.hello." + string(site) }
