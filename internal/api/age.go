package api

import (
	"fmt"
	"time"
)

// Age says how long before now a time was, in one unit: "3s ago", "5m ago", "2h ago", "4d ago", and "never" for no time. A time ahead
// of now by more than a second is said to be so, because it means that two clocks disagree.
func Age(now, at time.Time) string {
	switch d := now.Sub(at); {
	case at.IsZero():
		return "never"
	case d < -time.Second:
		return Span(-d) + " ahead"
	default:
		return Span(max(d, 0)) + " ago"
	}
}

// Span writes a duration in its largest whole unit.
func Span(d time.Duration) string {
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
