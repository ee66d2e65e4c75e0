package sync

import (
	"encoding/json"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// SiteFileSchema is the schema identifier of a SiteFile.
const SiteFileSchema = "holdfast.dev/site/v1"

// SiteFile is all an edge agent needs to be its site: identity, where the hub is, and whom to believe. It holds a secret (Seed).
type SiteFile struct {
	Schema  string        `json:"schema"`
	Site    bundle.SiteID `json:"site"`
	Servers []string      `json:"servers"` // tried in order: tls://host:port is NATS over TLS, wss://host:port over WebSocket
	CA      string        `json:"ca"`      // PEM
	JWT     string        `json:"jwt"`
	Seed    string        `json:"seed"` // NATS user seed ("SU…"); also signs the site's reports
	// HeartBeatSeconds is how often the site says hello; 0 is 60.
	HeartBeatSeconds int             `json:"heartbeatSeconds,omitempty"`
	Trust            json.RawMessage `json:"trust"` // tuf.Metadata, encoded: whom the site believes until it has heard of newer
	// Hubs are https URLs where the site renews its credential, with certificates by HubCA (PEM). Without them it cannot.
	Hubs  []string `json:"hubs,omitempty"`
	HubCA string   `json:"hubCA,omitempty"`
}
