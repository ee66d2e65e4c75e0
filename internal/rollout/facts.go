package rollout

import (
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Facts is what the hub knows of a site now, apart from its part in the rollout. Facts are not kept in the rollout: after reading one from the
// store, Observe is told all of them once, and then what changes.
type Facts struct {
	Site   bundle.SiteID
	Labels map[string]string
	Region string
	// Zone is the site's time zone; nil is UTC.
	Zone *time.Location
	// ClockUntrusted says that the site does not know the time: it starts nothing that has a window (R17).
	ClockUntrusted bool
	LastSeen       time.Time // hub's clock; zero: never
	// Patience is how much longer than others the site may be silent, because it says hello more rarely: its line costs by the byte.
	Patience  time.Duration
	Connected bool // heard from within two heartbeat times
	Cordoned  bool
	// Current is what the site runs of this bundle, by its last report; the zero value is nothing.
	Current Version
	// Unresolved is the digest of an earlier offer of this bundle whose outcome is unknown (R16).
	Unresolved bundle.Digest
	// Conflict says why the site's reports and the hub's memory do not fit (R19), see Conflict; a human has to decide.
	Conflict string
	// Rollout is the id of the active rollout of this bundle that has the site, or empty (R9).
	Rollout string
}

// Version is a bundle's release at a site.
type Version struct {
	Version bundle.Version `json:"version,omitempty"`
	Digest  bundle.Digest  `json:"digest,omitempty"`
	Counter bundle.Counter `json:"counter,omitempty"`
}

// Conflict is R19's question after a restart or a restore: does the site report what this hub cannot have ordered? assigned is the hub's newest
// assignment for the site, known says whether the hub knows the digest. The answer is empty or says why.
func Conflict(reported, assigned uint64, digest bundle.Digest, known bool) string {
	switch {
	case reported > assigned:
		return "the site has a later assignment than this hub ever signed"
	case digest != "" && !known:
		return "the site runs a version that this hub does not know"
	}
	return ""
}

func (f *Facts) zone() *time.Location {
	if f.Zone == nil {
		return time.UTC
	}
	return f.Zone
}
