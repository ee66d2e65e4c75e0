package main

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// heard is a freshness with its age: "fresh, 3s ago"; "unknown" where nothing was ever heard.
func heard(now time.Time, f api.Freshness, at *time.Time) cell {
	if at == nil || at.IsZero() {
		return cell{text: string(api.Unknown), style: faint}
	}
	c := cell{text: fmt.Sprintf("%s, %s", f, api.Age(now, *at))}
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
