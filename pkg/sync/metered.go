package sync

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// What a site on a metered line does otherwise: it gathers what it reports, because each message costs a signature, an acknowledgement and TLS; it says hello more rarely,
// and says so in its snapshots; and it does not fetch what may not begin yet, because a newer version may have taken its place by then. What may begin now is fetched
// at once: an order that is urgent has no window.
const (
	gatherFor    = time.Minute
	meteredBeats = 5         // of the hub's heartbeat, between two hellos
	fetchAhead   = time.Hour // of the window in which a bundle may begin
	// MaxHeartBeat bounds how rarely a site may say hello and still count as heard, whatever its snapshot says.
	MaxHeartBeat = 2 * time.Hour
)

// ReasonMetered says that a bundle is not fetched yet because the line costs by the byte.
const ReasonMetered = "Metered"

// gather says whether events wait for more of them. A batch that is full does not wait, nor what the hub asked for again.
func (e *Edge) gather(now time.Time) bool {
	o := &e.outbox
	waiting := len(o.entries) - o.at(o.sent+1)
	switch {
	case !e.cfg.Metered || waiting == 0 || waiting >= maxBatch || len(o.wanted) > 0:
		e.gathered = time.Time{}
		return false
	case e.gathered.IsZero():
		e.gathered = now.Add(gatherFor)
	}
	if e.gathered.After(now) {
		return true
	}
	e.gathered = time.Time{}
	return false
}

// snapshotPause is the least time between two snapshots.
func (e *Edge) snapshotPause() time.Duration {
	if e.cfg.Metered {
		return gatherFor
	}
	return snapshotPause
}

// heartBeat is the time between two hellos.
func (e *Edge) heartBeat() time.Duration {
	if e.cfg.Metered {
		return max(e.cfg.HeartBeat, min(meteredBeats*e.cfg.HeartBeat, MaxHeartBeat))
	}
	return e.cfg.HeartBeat
}

// Beat is how often the site says hello, where the hub asked for hellos that often. A nil State is a site that has told nothing.
func (s *State) Beat(asked time.Duration) time.Duration {
	if s == nil || s.HeartBeat <= 0 {
		return asked
	}
	return max(asked, min(time.Duration(min(s.HeartBeat, int(MaxHeartBeat/time.Second)))*time.Second, MaxHeartBeat))
}

// SilentAfter is until when a site that was heard counts as there: for two of its heartbeats. A nil State is a site that has told nothing.
func (s *State) SilentAfter(heard time.Time, asked time.Duration) time.Time {
	return heard.Add(2 * s.Beat(asked))
}

// tooEarly says why a bundle is not fetched yet.
func (e *Edge) tooEarly(now time.Time, h *held) hold {
	b := h.Want.Bundle
	if !e.cfg.Metered || b.Schedule == nil || b.Schedule.Empty() || h.before(b.Digest) || h.Accepted == b.Digest || e.brought[b.Digest] {
		return hold{}
	}
	at := e.clock.time(now)
	why := e.closed(at, e.clock.quality(now) == TimeUntrusted, *b.Schedule)
	if why.reason == "" || !why.until.IsZero() && why.until.Sub(at) <= fetchAhead {
		return hold{}
	}
	if !why.until.IsZero() {
		why.until = why.until.Add(-fetchAhead)
	}
	return hold{ReasonMetered, fmt.Sprintf("it is fetched %s before it may begin, because the line is metered: %s", fetchAhead, why.message), why.until}
}

// spare says whether a fetch waits on a metered line, and says so once.
func (e *Edge) spare(now time.Time, name bundle.Name, h *held, out *Effects) bool {
	why := e.tooEarly(now, h)
	if why.reason == "" {
		if h.Reason == ReasonMetered {
			h.heldUntil, h.Until = time.Time{}, time.Time{}
			e.enter(now, name, h, h.Phase, "", "", out)
		}
		return false
	}
	h.heldUntil = time.Time{}
	if !why.until.IsZero() {
		h.heldUntil = now.Add(max(why.until.Sub(e.clock.time(now)), time.Second))
	}
	if h.Reason == why.reason && h.Until.Equal(why.until) {
		return true
	}
	told := h.Reason == why.reason
	h.Until = why.until
	e.enter(now, name, h, h.Phase, why.reason, why.message, out)
	if !told {
		e.say(now, out, e.about(h, name, Event{Kind: EventHeld, Reason: why.reason, Message: why.message + untilText(why.until)}))
	}
	return true
}
