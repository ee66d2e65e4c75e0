package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// words are the functions of the templates.
var words = template.FuncMap{
	"age": api.Age, "seconds": seconds, "span": api.Span, "stamp": stamp, "bytes": size, "glyph": glyph, "tone": tone, "labels": labels, "bars": BarOf, "share": share,
	"asset": func(name string) string { return "/ui/static/" + name + "?" + mark },
	"phase": phaseTone,
	"join":  func(all []string) string { return strings.Join(all, ", ") },
	"short": func(s string) string { return fmt.Sprintf("%.19s", s) },
}

// seconds is an age for the script, which goes on counting.
func seconds(now, at time.Time) int { return int(now.Sub(at).Seconds()) }

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func labels(all map[string]string) []string {
	list := make([]string, 0, len(all))
	for key, value := range all {
		list = append(list, key+"="+value)
	}
	slices.Sort(list)
	return list
}

// share is part of whole in thousandths, for the width of a bar.
func share(part, whole int) int {
	if whole <= 0 {
		return 0
	}
	return min(1000, max(0, part*1000/whole))
}

// glyph tells a standing without colour.
func glyph(s api.Standing) string {
	switch s {
	case api.StandingHeld:
		return "‖"
	case api.StandingFailing:
		return "✕"
	case api.StandingAlarmed:
		return "!"
	case api.StandingDrifted:
		return "Δ"
	case api.StandingStale:
		return "~"
	case api.StandingUnknown:
		return "?"
	case api.StandingWorking:
		return "↻"
	case api.StandingCurrent:
		return "✓"
	}
	return "–"
}

// phaseTone is how a bundle's phase is meant, in the words of the style sheet. Of a silent site nothing is meant.
func phaseTone(freshness api.Freshness, p fleetsync.Phase) string {
	if freshness != api.Fresh {
		return "stale"
	}
	switch p {
	case fleetsync.PhaseCurrent:
		return "current"
	case fleetsync.PhaseUnhealthy, fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseReverting, fleetsync.PhaseReverted, fleetsync.PhaseHalted:
		return "failing"
	}
	return "working"
}

// tone is the same for a rollout.
func tone(p rollout.Phase) string {
	switch p {
	case rollout.Completed:
		return "current"
	case rollout.Running:
		return "working"
	case rollout.Paused:
		return "alarmed"
	}
	return "failing"
}
