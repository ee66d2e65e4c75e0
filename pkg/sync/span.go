package sync

import "time"

// span is a stretch of time that restarts do not make longer than they must: within one boot of the machine it ends when the boot clock says, over a
// boot by the trusted time. Where neither is known it begins anew with each boot.
type span struct {
	Length time.Duration `json:"length"`
	Boot   string        `json:"boot,omitempty"`
	Up     time.Duration `json:"up,omitempty"` // of the machine in Boot, at the end
	End    time.Time     `json:"end,omitzero"` // by the trusted time, where it was known
}

// span begins one now.
func (c *clock) span(now time.Time, length time.Duration) span {
	s := span{Length: length, Boot: c.boot.ID, Up: c.up(now) + length}
	if c.anchored(now) {
		s.End = c.time(now).Add(length)
	}
	return s
}

// left is how much of the span is left; not more than nothing says that it is over.
func (c *clock) left(now time.Time, s span) time.Duration {
	switch {
	case s.Boot != "" && s.Boot == c.boot.ID:
		return s.Up - c.up(now)
	case !s.End.IsZero() && (c.anchored(now) || !c.time(now).Before(s.End)):
		return s.End.Sub(c.time(now))
	}
	return s.Length - now.Sub(c.started)
}

// end is when the span is over, as it is written down.
func (c *clock) end(now time.Time, s span) time.Time {
	return c.at(now).Add(c.left(now, s)).Truncate(time.Second)
}
