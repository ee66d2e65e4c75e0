package sync

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of a Schedule.
const (
	maxSchedule = 64   // windows, blackouts
	maxWhy      = 4096 // bytes of a blackout's reason
)

// Window is a time of the week in which sites may be moved, in the site's own time zone. A window whose end is not after its beginning
// ends on the next day.
type Window struct {
	Days []Weekday `json:"days,omitempty"` // on which it begins; empty: every day
	From ClockTime `json:"from"`
	To   ClockTime `json:"to"`
}

// Blackout is a span in which nothing is moved, by the site's own calendar.
type Blackout struct {
	From Moment `json:"from"`
	To   Moment `json:"to"` // exclusive
	Why  string `json:"why,omitempty"`
}

// Weekday is a day of the week: mon, tue, wed, thu, fri, sat, sun.
type Weekday time.Weekday

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// UnmarshalText reads a day.
func (d *Weekday) UnmarshalText(text []byte) error {
	i := slices.Index(weekdays, string(text))
	if i < 0 {
		return fmt.Errorf("day %.20q: want one of mon, tue, wed, thu, fri, sat, sun", text)
	}
	*d = Weekday(i)
	return nil
}

// MarshalText writes a day.
func (d Weekday) MarshalText() ([]byte, error) {
	if d < 0 || int(d) >= len(weekdays) {
		return nil, fmt.Errorf("day %d: there is none", int(d))
	}
	return []byte(weekdays[d]), nil
}

// ClockTime is a time of day, in minutes after midnight. It is written 02:00; 24:00 is the end of the day.
type ClockTime int

// UnmarshalText reads a time of day.
func (c *ClockTime) UnmarshalText(text []byte) error {
	if string(text) == "24:00" {
		*c = 24 * 60
		return nil
	}
	t, err := time.Parse("15:04", string(text))
	if err != nil || len(text) != 5 {
		return fmt.Errorf("time %.20q: want hours and minutes, for example 02:00", text)
	}
	*c = ClockTime(t.Hour()*60 + t.Minute())
	return nil
}

// MarshalText writes a time of day.
func (c ClockTime) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%02d:%02d", int(c)/60, int(c)%60), nil
}

// Moment is a date and time without a zone: the site's. It is written 2026-11-27 or 2026-11-27T18:00.
type Moment struct{ at time.Time } // in UTC, read as if it were the site's zone

// UnmarshalText reads a moment.
func (m *Moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			m.at = t
			return nil
		}
	}
	return fmt.Errorf("date %.30q: want 2026-11-27 or 2026-11-27T18:00", text)
}

// MarshalText writes a moment.
func (m Moment) MarshalText() ([]byte, error) { return []byte(m.at.Format("2006-01-02T15:04")), nil }

func (m Moment) in(zone *time.Location) time.Time {
	t := m.at
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, zone)
}

// Check refuses windows and blackouts that cannot be.
func (s Schedule) Check() error {
	if len(s.Windows) > maxSchedule || len(s.Blackouts) > maxSchedule {
		return fmt.Errorf("windows and blackouts: at most %d of each", maxSchedule)
	}
	for _, w := range s.Windows {
		if w.From == w.To || w.From == 24*60 {
			return errors.New("windows: a window that has no length: want from and to that differ, or 00:00 and 24:00 for the whole day")
		}
	}
	for _, b := range s.Blackouts {
		if !b.To.at.After(b.From.at) {
			return errors.New("blackouts: want an end after the beginning")
		}
		if len(b.Why) > maxWhy {
			return fmt.Errorf("blackouts: why is longer than %d bytes", maxWhy)
		}
	}
	return nil
}

// Schedule is when a site may be moved. The hub asks it before an offer; the site asks it before an apply, by its own trusted time (R17).
type Schedule struct {
	Windows   []Window   `json:"windows,omitempty"`
	Blackouts []Blackout `json:"blackouts,omitempty"`
}

// Empty says whether any time is good.
func (s Schedule) Empty() bool { return len(s.Windows) == 0 && len(s.Blackouts) == 0 }

// Open says whether a site in the zone may be moved now, and if not, when to ask again: never later than the next opening.
// why is the blackout's, or empty outside the windows.
func (s Schedule) Open(now time.Time, zone *time.Location) (open bool, again time.Time, why string) {
	local := now.In(zone)
	for _, b := range s.Blackouts {
		if end := b.To.in(zone); !local.Before(b.From.in(zone)) && local.Before(end) {
			return false, end, cmp.Or(b.Why, "blackout")
		}
	}
	if len(s.Windows) == 0 {
		return true, time.Time{}, ""
	}
	// From yesterday, whose window may reach into today, to a week ahead, which has every day once.
	for day := -1; day <= 7; day++ {
		for _, w := range s.Windows {
			from, to, is := w.on(local, day)
			if is && !local.Before(from) && local.Before(to) {
				return true, time.Time{}, ""
			}
			if is && from.After(local) && (again.IsZero() || from.Before(again)) {
				again = from
			}
		}
	}
	return false, again, ""
}

// on is the window as it begins day days after local's.
func (w Window) on(local time.Time, day int) (from, to time.Time, is bool) {
	at := func(extra int, c ClockTime) time.Time {
		return time.Date(local.Year(), local.Month(), local.Day()+day+extra, int(c)/60, int(c)%60, 0, 0, local.Location())
	}
	midnight := at(0, 0)
	if len(w.Days) > 0 && !slices.Contains(w.Days, Weekday(midnight.Weekday())) {
		return from, to, false
	}
	next := 0
	if w.To <= w.From {
		next = 1
	}
	return at(0, w.From), at(next, w.To), true
}
