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
	p := SitePage{Site: site, Drift: drift, Timeline: timelineOf(events), Events: limit}
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

// Moment is one line of a timeline: an event, or what lies between events.
type Moment struct {
	Event api.SiteEvent
	// Away is what a span without the hub took; set on the moment that ended it.
	Away time.Duration
	// Life says that a new epoch begins here: the site's store was new.
	Life bool
	// Lost is how many events were dropped at the site, Hole how many are missing here and may still come.
	Lost, Hole uint64
}

// Late is how much later than it happened the event was heard; 0 where that is not worth a word.
func (m Moment) Late() time.Duration {
	if late := m.Event.Received.Sub(m.Event.At); late > 30*time.Second {
		return late
	}
	return 0
}

// Tone is how the event is meant, in the words of the style sheet.
func (m Moment) Tone() string {
	switch m.Event.Kind {
	case fleetsync.EventHealthy, fleetsync.EventDriftGone, fleetsync.EventStoreRecovered:
		return "current"
	case fleetsync.EventAssignRefused, fleetsync.EventRefused, fleetsync.EventApplyFailed, fleetsync.EventUnhealthy, fleetsync.EventStoreDamaged,
		fleetsync.EventStoreDegraded, fleetsync.EventGap, fleetsync.EventClusterDown, fleetsync.EventReverting, fleetsync.EventReverted:
		return "failing"
	case fleetsync.EventDriftCorrected, fleetsync.EventDriftFound:
		return "drifted"
	case fleetsync.EventLinkDown:
		return "stale"
	}
	return "working"
}

// timelineOf is the newest first. Events come in order of epoch and sequence.
func timelineOf(events []api.SiteEvent) []Moment {
	line := make([]Moment, 0, len(events))
	var down time.Time // the link went; by the site's clock
	for i, event := range events {
		m := Moment{Event: event}
		switch event.Kind {
		case fleetsync.EventLinkDown:
			down = event.At
		case fleetsync.EventLinkUp:
			if !down.IsZero() {
				m.Away = max(0, event.At.Sub(down))
			}
			down = time.Time{}
		case fleetsync.EventGap:
			m.Lost = event.To - min(event.To, event.From) + 1
		}
		if i > 0 {
			before := events[i-1]
			covered := event.Kind == fleetsync.EventGap && event.From <= before.Sequence+1
			switch {
			case before.Epoch != event.Epoch:
				m.Life = true
			case event.Sequence > before.Sequence+1 && !covered:
				m.Hole = event.Sequence - before.Sequence - 1
			}
		}
		line = append(line, m)
	}
	slices.Reverse(line)
	return line
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
