package web

import (
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// SitePage is all that is known of one site.
type SitePage struct {
	Site     api.Site
	Standing api.Standing
	Why      string
	Cell     Cell // how long that may be believed
	Bundles  []Bundle
	Drift    []api.SiteDrift
	Timeline []Moment
	Events   int // how many were asked for at most
}

// Bundle joins what a site should run with what it said of it.
type Bundle struct {
	Name, Wanted, Current string
	Phase                 fleetsync.Phase // empty: it has said nothing of this one
	Informed              bool            // it knows that this is wanted
	Status                *fleetsync.BundleStatus
}

// NewSite is the page of a site with its newest events, the oldest first.
func NewSite(now time.Time, heartBeat time.Duration, site api.Site, drift []api.SiteDrift, events []api.SiteEvent, limit int) SitePage {
	p := SitePage{Site: site, Drift: drift, Timeline: timelineOf(site, events), Events: limit}
	p.Standing, p.Why = site.Standing()
	p.Cell = cellOf(now, heartBeat, site, p.Standing)
	said := map[string]fleetsync.BundleStatus{}
	if site.State != nil {
		for _, b := range site.State.Bundles {
			said[string(b.Name)] = b
		}
	}
	for _, want := range site.Assigned {
		row := Bundle{Name: string(want.Name), Wanted: string(want.Version)}
		if b, known := said[row.Name]; known {
			row.Current, row.Phase, row.Informed, row.Status = string(b.Current), b.Phase, b.Digest == want.Digest, &b
			delete(said, row.Name)
		}
		p.Bundles = append(p.Bundles, row)
	}
	for _, b := range said {
		p.Bundles = append(p.Bundles, Bundle{Name: string(b.Name), Wanted: "(none)", Current: string(b.Current), Phase: b.Phase, Informed: b.Desired == "", Status: &b})
	}
	slices.SortFunc(p.Bundles, func(a, b Bundle) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return p
}

// Moment is one line of a timeline.
type Moment struct{ api.StoryLine }

// Late is how much later than it happened the event was heard; 0 where that is not worth a word.
func (m Moment) Late() time.Duration {
	if late := m.Received.Sub(m.At); late > 30*time.Second {
		return late
	}
	return 0
}

// Tone is how the event is meant, in the words of the style sheet.
func (m Moment) Tone() string {
	switch m.SiteEvent.Kind {
	case fleetsync.EventHealthy, fleetsync.EventDriftGone, fleetsync.EventStoreRecovered:
		return "current"
	case fleetsync.EventAssignRefused, fleetsync.EventRefused, fleetsync.EventApplyFailed, fleetsync.EventUnhealthy, fleetsync.EventStoreDamaged,
		fleetsync.EventPutBack, fleetsync.EventNoteBehind, fleetsync.EventNoteRefused, fleetsync.EventNoteFailed,
		fleetsync.EventStoreDegraded, fleetsync.EventGap, fleetsync.EventClusterDown, fleetsync.EventReverting, fleetsync.EventReverted:
		return "failing"
	case fleetsync.EventDriftCorrected, fleetsync.EventDriftFound:
		return "drifted"
	case fleetsync.EventLinkDown:
		return "stale"
	}
	return "working"
}

// Off is how far the site's clock was off, where that is worth a word.
func (m Moment) Off() string {
	if m.ClockOffset == nil {
		return ""
	}
	switch off := time.Duration(*m.ClockOffset) * time.Second; {
	case off > api.OffBy:
		return api.Span(off) + " ahead"
	case off < -api.OffBy:
		return api.Span(-off) + " behind"
	}
	return ""
}

// timelineOf is the newest first. Events come in order of epoch and sequence.
func timelineOf(site api.Site, events []api.SiteEvent) []Moment {
	story := api.NewStory(site)
	lines := story.Tell(events...)
	if len(events) > 0 {
		lines = append(lines, story.End(site)...)
	}
	moments := make([]Moment, len(lines))
	for i, line := range lines {
		moments[len(lines)-1-i] = Moment{line}
	}
	return moments
}

// DriftPage is what differs at any site and is not corrected.
type DriftPage struct {
	Drift   []api.SiteDrift
	Objects int
	More    int // entries that are not listed
}

// maxDrift is how many entries a page lists.
const maxDrift = 500

// NewDrift is the drift page.
func NewDrift(drift []api.SiteDrift) DriftPage {
	p := DriftPage{Drift: drift}
	for _, d := range drift {
		p.Objects += d.Count
	}
	if p.More = len(drift) - maxDrift; p.More > 0 {
		p.Drift = drift[:maxDrift]
	}
	return p
}

// RolloutPage is one rollout, as of now.
type RolloutPage struct {
	Rollout api.Rollout
	rollout.Explanation
}

// Bar is a wave's bar: where its sites stand, in thousandths of its size from the left.
type Bar struct {
	Tone        string
	From, Width int
	Sites       int
	What        string
}

// BarOf cuts a wave by how its sites fared.
func BarOf(t rollout.Tally) (bars []Bar) {
	from, done := 0, 0
	for _, part := range []struct {
		tone, what string
		sites      int
	}{
		{"current", "succeeded", t.Succeeded}, {"failing", "failed or reverted", t.Failed + t.Reverted}, {"stale", "unknown", t.Unknown},
		{"working", "in flight", t.InFlight}, {"gone", "skipped", t.Skipped},
	} {
		if part.sites <= 0 {
			continue
		}
		done += part.sites
		width := share(done, t.Size) - from
		bars = append(bars, Bar{part.tone, from, width, part.sites, part.what})
		from += width
	}
	return bars
}
