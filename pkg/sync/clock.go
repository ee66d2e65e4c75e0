package sync

import (
	"time"
)

// TimeQuality says how far a site knows what time it is.
type TimeQuality string

// The qualities.
const (
	TimeTrusted   TimeQuality = "trusted"    // the hub said it a moment ago, in answer to a nonce
	TimeSinceBoot TimeQuality = "since-boot" // the hub said it since the machine was started, and its boot clock has counted since
	TimeUntrusted TimeQuality = "untrusted"  // nobody has since the machine was started: it is only known to be later than the floor
)

// Boot says which start of the machine this is, and for how long it has been up. The zero value is a machine that does not know: its time is not
// trusted after a restart of the agent either.
type Boot struct {
	ID string
	Up time.Duration
}

// clockRecord is what is kept of the time.
type clockRecord struct {
	// Floor is the latest time in anything that was signed: it is later than that now. Nothing else raises it, least of all the wall clock.
	Floor time.Time `json:"floor"`
	// Base was the time, by a fresh statement of the hub, when the machine had been up for Up in the boot named Boot.
	Base time.Time     `json:"base,omitzero"`
	Boot string        `json:"boot,omitempty"`
	Up   time.Duration `json:"up,omitempty"`
}

// clock is the site's trusted time (F17, T25). The times that Step is given serve only to measure how long something took within one life:
// their monotonic reading counts, and what the wall clock says is believed in nothing.
type clock struct {
	clockRecord
	boot    Boot
	started time.Time     // of this life
	risen   time.Time     // when Floor was what it is, in this life
	proven  time.Time     // when the hub's last fresh statement came, in this life
	stored  time.Time     // Base as it was last made durable
	trusted time.Duration // how long after a fresh statement the time counts as trusted: one question may go unanswered
}

// storeEvery is how often a time that only went on is made durable.
const storeEvery = time.Hour

func (c *clock) begin(now time.Time, boot Boot) {
	c.boot, c.started, c.risen = boot, now, now
	c.stored = c.Base
}

// up is how long the machine has been up.
func (c *clock) up(now time.Time) time.Duration { return c.boot.Up + max(now.Sub(c.started), 0) }

// anchored says that the hub told the time in this boot of the machine.
func (c *clock) anchored(now time.Time) bool {
	return !c.proven.IsZero() || c.boot.ID != "" && c.Boot == c.boot.ID && !c.Base.IsZero() && c.up(now) >= c.Up
}

// time is what the time is at least, and with another quality than untrusted what it is.
func (c *clock) time(now time.Time) time.Time {
	t := c.Floor
	if !t.IsZero() {
		t = t.Add(max(now.Sub(c.risen), 0))
	}
	if c.anchored(now) {
		// A boot clock that runs fast must not drive the time for ever: the hub's word replaces it, and only what was signed is the floor.
		t = later(c.Floor, c.Base.Add(c.up(now)-c.Up))
	}
	return t
}

func (c *clock) quality(now time.Time) TimeQuality {
	switch {
	case !c.anchored(now):
		return TimeUntrusted
	case !c.proven.IsZero() && now.Sub(c.proven) <= c.trusted:
		return TimeTrusted
	}
	return TimeSinceBoot
}

// raise takes the time in something that was signed. It says whether the floor rose.
func (c *clock) raise(now, signed time.Time) bool {
	if !signed.After(c.Floor) {
		return false
	}
	c.Floor, c.risen = signed, now
	return true
}

// prove takes the time in a fresh statement. It says whether that is worth making durable.
func (c *clock) prove(now, said time.Time) bool {
	first := !c.anchored(now)
	c.raise(now, said)
	c.Base, c.Boot, c.Up, c.proven = later(said, c.Floor), c.boot.ID, c.up(now), now
	if first || c.Base.Sub(c.stored) >= storeEvery {
		c.stored = c.Base
		return true
	}
	return false
}

// at is what is written down as the time of something: the trusted time, or the wall clock where there is none.
func (c *clock) at(now time.Time) time.Time {
	if c.anchored(now) {
		return c.time(now)
	}
	return now
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
