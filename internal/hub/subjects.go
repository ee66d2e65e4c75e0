package hub

import (
	"crypto/ed25519"
	"encoding/hex"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// SiteSubject holds a site's SiteRecord (stream SITES, one message a subject, the hub's alone).
func SiteSubject(site bundle.SiteID) string { return "hf.site." + string(site) }

// CatalogSubject holds a bundle's CatalogEntry (stream CATALOG, immutable, the hub's alone). A version's dots make more tokens of it,
// which is no harm: what a version may hold makes no wildcard and no empty token.
func CatalogSubject(ref bundle.Ref) string {
	return "hf.catalog." + string(ref.Name) + "." + string(ref.Version)
}

// TokenSubject holds a join token (stream TOKENS, one message a subject, the hub's alone), EnrolSubject what became of a device's key.
func TokenSubject(id string) string { return "hf.token." + id }

// EnrolSubject is named by the key in hex.
func EnrolSubject(key ed25519.PublicKey) string { return "hf.enrol." + hex.EncodeToString(key) }

// auditSubject takes one record after another (stream AUDIT).
const auditSubject = "hf.audit"

// RolloutSubject holds a rollout's head (stream ROLLOUTS, one message a subject, swapped). partSubject holds chunk n of the packed rollout with
// the digest (stream ROLLOUTPARTS): it is written before the head that names it, and deleted after the one that does not any more.
func RolloutSubject(id string) string { return "hf.rollout." + id }

func partSubject(id string, digest bundle.Digest, n string) string {
	return "hf.part." + id + "." + strings.TrimPrefix(string(digest), "sha256:") + "." + n
}

// leaderSubject holds who leads the rollouts (stream ROLLOUTS).
const leaderSubject = "hf.leader"

// GroupSubject holds a group (stream GROUPS).
func GroupSubject(name bundle.Name) string { return "hf.group." + string(name) }

// PlanSubject holds a rollout plan (stream PLANS).
func PlanSubject(name bundle.Name) string { return "hf.plan." + string(name) }

// NotificationSubject holds whom the hub tells, and of what (stream NOTIFICATIONS); queueSubject what waits for it, toldSubject what was told already
// (stream MEMORY).
func NotificationSubject(name bundle.Name) string { return "hf.notification." + string(name) }

func queueSubject(name bundle.Name) string { return "hf.memory.notices-" + string(name) }

const toldSubject = "hf.memory.told"

// auditMarkSubject holds what a purge of the audit log left of what it removed (stream MEMORY).
const auditMarkSubject = "hf.memory.audit"

// UserSubject holds an access.User, seenSubject when it was last there (stream USERS, one message a subject, the hub's alone).
func UserSubject(name string) string { return "hf.user." + name }

func seenSubject(name string) string { return "hf.seen." + name }

// pulseSubject holds the time of the hub's last heartbeat into its own store (stream MEMORY).
const pulseSubject = "hf.memory.pulse"
