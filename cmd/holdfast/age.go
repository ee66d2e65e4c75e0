package main

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// age says how long ago at was, in one unit: "3s ago", "5m ago", "2h ago", "4d ago". A time ahead of now by more than a
// second is said to be so, because it means that two clocks disagree.
func age(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	d := now.Sub(at)
	if d < -time.Second {
		return span(-d) + " ahead"
	}
	return span(max(d, 0)) + " ago"
}

// span writes a duration in its largest whole unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// heard is a freshness with its age: "fresh, 3s ago"; "unknown" where nothing was ever heard.
func heard(now time.Time, f api.Freshness, at *time.Time) cell {
	if at == nil || at.IsZero() {
		return cell{text: string(api.Unknown), style: faint}
	}
	c := cell{text: fmt.Sprintf("%s, %s", f, age(now, *at))}
	switch f {
	case api.Fresh:
		c.style = good
	case api.Stale:
		c.style = warn
	default:
		c.style = faint
	}
	return c
}
