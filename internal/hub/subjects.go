package hub

import "github.com/holdfast-fleet/holdfast/pkg/bundle"

// SiteSubject holds a site's SiteRecord (stream SITES, one message a subject, the hub's alone).
func SiteSubject(site bundle.SiteID) string { return "hf.site." + string(site) }

// CatalogSubject holds a bundle's CatalogEntry (stream CATALOG, immutable, the hub's alone). A version's dots make more tokens of it,
// which is no harm: what a version may hold makes no wildcard and no empty token.
func CatalogSubject(ref bundle.Ref) string {
	return "hf.catalog." + string(ref.Name) + "." + string(ref.Version)
}
