package hub

import (
	"crypto/ed25519"
	"encoding/hex"

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
