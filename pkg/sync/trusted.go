package sync

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"
)

// trusted takes a newer root of trust. What was not believed under the older one may be believed now.
func (e *Edge) trusted(now time.Time, in Trusted, out *Effects) {
	was := e.trust
	if e.trust = in.Trust; e.trust == was {
		return
	}
	e.snapshot.dirty = true
	e.doubtTrust(now, out)
	if was.Error != e.trust.Error && e.trust.Error != "" {
		e.say(now, out, Event{Kind: EventTrustRefused, Message: e.trust.Error})
	}
	if was.Root == e.trust.Root && was.Targets == e.trust.Targets {
		return
	}
	if was.Root > 0 {
		e.say(now, out, Event{Kind: EventTrustChanged, Message: fmt.Sprintf("root %d, trust document %d", e.trust.Root, e.trust.Targets)})
	}
	e.rekeyed = e.rekeyed || !slices.EqualFunc(e.cfg.HubKeys, in.HubKeys, func(a, b ed25519.PublicKey) bool { return a.Equal(b) })
	e.cfg.HubKeys = in.HubKeys
	e.known.assignment, e.known.ack, e.refused = "", "", ""
	for _, h := range e.bundles {
		if h.Phase == PhaseRefused {
			h.retryAt, h.refused = now, false
		}
	}
}

// trustEnds says that the root of trust wants a newer proof soon.
func (e *Edge) trustEnds(now time.Time) bool {
	return !e.trust.Expires.IsZero() && e.trust.Expires.Sub(e.clock.time(now)) < trustMargin
}

// resealed keeps the assignment that is held already under the hub's new key, so that the stored one does not depend on the former.
func (e *Edge) resealed(sealed []byte, out *Effects) {
	if e.rekeyed {
		e.rekeyed = false
		out.Persist = append(out.Persist, Record{keyAssignment, slices.Clone(sealed)})
	}
}
