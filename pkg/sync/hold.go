package sync

import (
	"cmp"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// FirstApply is what a site does with a first apply while nobody has told it the time since its machine was started.
type FirstApply string

// The ways to begin something new without a link.
const (
	FirstApplyDeny               FirstApply = "deny"                 // nothing new begins without a link to the hub
	FirstApplyLease              FirstApply = "lease"                // what has a lease begins within it by trusted time; without that the lease counts as lapsed
	FirstApplyUntilProvenExpired FirstApply = "until-proven-expired" // what has a lease begins unless something signed is later than it
)

// Reasons why a bundle that is accepted does not begin.
const (
	ReasonWaiting       = "Waiting" // for another bundle
	ReasonOffline       = "Offline" // by the site's policy
	ReasonLeaseLapsed   = "LeaseLapsed"
	ReasonExpired       = "Expired"
	ReasonTimeUntrusted = "TimeUntrusted"
	ReasonOutsideWindow = "OutsideWindow"
	ReasonBlackout      = "Blackout"
	ReasonBusy          = "Busy"
)

// hold is why a first apply does not begin now. The zero value is none.
type hold struct {
	reason  string
	message string
	until   time.Time // by the trusted time; zero: not known
}

// hold looks for what speaks against a first apply. Nothing of it stops what runs, its corrections, an apply that was begun, or a revert.
func (e *Edge) hold(now time.Time, h *held) hold {
	quality, at, b := e.clock.quality(now), e.clock.time(now), h.Want.Bundle
	untrusted := quality == TimeUntrusted
	if missing := e.unmet(h); missing != "" {
		return hold{reason: ReasonWaiting, message: missing}
	}
	if e.cfg.FirstApply == FirstApplyDeny && quality != TimeTrusted {
		return hold{reason: ReasonOffline, message: "this site begins nothing new without a link to the hub"}
	}
	if !h.Expires.IsZero() && !at.Before(h.Expires) {
		return hold{reason: ReasonExpired, message: "the bundle expired at " + stamp(h.Expires)}
	}
	if !b.ApplyBy.IsZero() {
		switch {
		case !at.Before(b.ApplyBy):
			return hold{reason: ReasonLeaseLapsed, message: "it was to begin before " + stamp(b.ApplyBy)}
		case untrusted && e.cfg.FirstApply != FirstApplyUntilProvenExpired:
			return hold{reason: ReasonLeaseLapsed, message: "it is to begin before " + stamp(b.ApplyBy) + ", and nobody has told the time since the machine was started"}
		}
	}
	if b.Schedule != nil && !b.Schedule.Empty() {
		if held := e.closed(at, untrusted, *b.Schedule); held.reason != "" {
			return held
		}
	}
	return e.busyHold(now)
}

// closed says whether a schedule speaks against beginning (R17).
func (e *Edge) closed(at time.Time, untrusted bool, s Schedule) hold {
	if untrusted {
		return hold{reason: ReasonTimeUntrusted, message: "it has windows, and nobody has told the time since the machine was started"}
	}
	zone := time.UTC
	if name := e.assignment.Zone; name != "" {
		var err error
		if zone, err = e.zone(name); err != nil {
			return hold{reason: ReasonTimeUntrusted, message: fmt.Sprintf("the site's time zone %.60q is not known here", name)}
		}
	}
	open, again, why := s.Open(at, zone)
	switch {
	case open:
		return hold{}
	case why != "":
		return hold{ReasonBlackout, "nothing is begun in a blackout: " + why, again}
	}
	return hold{ReasonOutsideWindow, "it waits for its window", again}
}

func (e *Edge) zone(name string) (*time.Location, error) {
	if e.cfg.Zone == nil {
		return nil, fmt.Errorf("time zone %.60q: none is known", name)
	}
	return e.cfg.Zone(name)
}

// holdBack says so once, and wakes when the hold may be over.
func (e *Edge) holdBack(now time.Time, name bundle.Name, h *held, why hold, out *Effects) {
	h.heldUntil = time.Time{}
	if !why.until.IsZero() {
		h.heldUntil = now.Add(max(why.until.Sub(e.clock.time(now)), time.Second))
	}
	message := clip(why.message)
	if h.Phase == PhaseFailed || h.Reason == why.reason && h.Message == message && h.Until.Equal(why.until) {
		return
	}
	told := h.Reason == why.reason
	h.Until = why.until
	e.enter(now, name, h, PhaseAccepted, why.reason, message, out)
	if !told && why.reason != ReasonWaiting {
		e.say(now, out, e.about(h, name, Event{Kind: EventHeld, Reason: why.reason, Message: message + untilText(why.until)}))
	}
}

func untilText(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return ", until " + stamp(until)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ParseFirstApply reads a policy; empty is lease.
func ParseFirstApply(text string) (FirstApply, error) {
	switch policy := FirstApply(cmp.Or(text, string(FirstApplyLease))); policy {
	case FirstApplyDeny, FirstApplyLease, FirstApplyUntilProvenExpired:
		return policy, nil
	}
	return "", fmt.Errorf("first apply %.40q: want deny, lease or until-proven-expired", text)
}
