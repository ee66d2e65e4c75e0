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

// Bytes writes a size for people: "812 B", "3.4 KiB", "12 MiB".
func Bytes[N int | int64 | uint64](n N) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, 0
	for value >= unit && suffix < 3 {
		value /= unit
		suffix++
	}
	name := []string{"KiB", "MiB", "GiB", "TiB"}[suffix]
	if value < 10 {
		return fmt.Sprintf("%.1f %s", value, name)
	}
	return fmt.Sprintf("%.0f %s", value, name)
}
