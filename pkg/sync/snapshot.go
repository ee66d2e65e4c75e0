package sync

import (
	"maps"
	"slices"
	"time"
)

// Bounds of a State, so that it always fits a message.
const (
	maxUnhealthy = 20
	maxDrift     = 50
)

// Snapshot is what is true now, as a report would say it.
func (e *Edge) Snapshot(now time.Time) State { return e.state(now) }

// state is the snapshot of now.
func (e *Edge) state(now time.Time) State {
	s := State{
		Site: e.cfg.Site, Epoch: e.identity.Epoch, Sequence: e.snapshot.next, At: e.clock.at(now), Started: e.started, Agent: e.cfg.Agent,
		Cluster: e.cluster, Store: e.store.why, Trust: e.trust, Sealing: e.cfg.Sealing, Metered: e.cfg.Metered,
		Outbox: OutboxStatus{Next: e.outbox.Next, Acked: e.outbox.Acked, Dropped: e.outbox.Dropped},
		Clock:  ClockStatus{Quality: e.clock.quality(now), Time: e.clock.time(now), Wall: now},
		Busy:   e.busyStatus(now), Overrides: e.overrideStatus(now),
		PutBack: e.putBack(),
		Desired: DesiredStatus{AsOf: e.fresh.asOf, Newest: e.fresh.newest, Stale: e.fresh.stale},
	}
	if beat := e.heartBeat(); beat != e.cfg.HeartBeat {
		s.HeartBeat = int(beat / time.Second)
	}
	if e.assignment != nil {
		s.Assignment = e.assignment.Sequence
	}
	if len(e.note.Sealed) <= maxEchoed {
		s.Note = e.note.Sealed
	}
	for _, name := range e.names() {
		h := e.bundles[name]
		b := BundleStatus{
			Name: name, Current: h.Current, CurrentDigest: h.CurrentDigest, Phase: h.Phase, Since: h.Since, Reason: h.Reason, Message: h.Message, Until: h.Until,
			Objects: h.Objects, Rendered: h.Rendered, Unhealthy: h.unhealthy, DriftCount: len(h.drifted), Corrected: h.Corrected,
		}
		if h.Want != nil {
			b.Desired, b.Digest, b.Rollout = h.Want.Bundle.Version, h.Want.Bundle.Digest, h.Want.Bundle.Rollout
		}
		b.Unhealthy = b.Unhealthy[:min(len(b.Unhealthy), maxUnhealthy)]
		for _, object := range slices.Sorted(maps.Keys(h.drifted)) {
			if len(b.Drift) < maxDrift {
				b.Drift = append(b.Drift, h.drifted[object])
			}
		}
		s.Bundles = append(s.Bundles, b)
	}
	fit(&s)
	return s
}
