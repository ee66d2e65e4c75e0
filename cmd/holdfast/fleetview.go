package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// driftTable lists objects that differ from what was applied and are not corrected. With sites, each line begins with the site and its age.
func driftTable(drifts []api.SiteDrift, now time.Time, sites bool) table {
	t := table{head: []string{"DRIFTED", "KIND", "SINCE", "PATHS", "BY", "MESSAGE"}}
	if sites {
		t.head = append([]string{"SITE", "AS OF", "BUNDLE"}, t.head...)
		t.none = "no drift that is not corrected"
	}
	for _, s := range drifts {
		begin := func() []cell {
			if !sites {
				return nil
			}
			return []cell{text(string(s.Site)), heard(now, s.Freshness, &s.At), text(string(s.Bundle))}
		}
		for _, d := range s.Drift {
			t.add(append(begin(), text(d.Object), text(string(d.Kind)), text(api.Age(now, d.At)), text(some(d.Paths, 3)), text(some(d.Managers, 2)), text(d.Message))...)
		}
		if more := s.Count - len(s.Drift); more > 0 {
			t.add(append(begin(), cell{fmt.Sprintf("and %d more", more), faint})...)
		}
	}
	return t
}

// some lists at most n words and says how many more there are.
func some(words []string, n int) string {
	if len(words) <= n {
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(words[:n], " "), len(words)-n)
}

// storyTable is a story in the order given.
func storyTable(lines []api.StoryLine) table {
	t := table{head: []string{"AT", "CLOCK", "HEARD", "SITE", "EVENT", "BUNDLE", "WHAT"}, none: "no events"}
	for _, line := range lines {
		t.add(storyRow(line)...)
	}
	return t
}

func storyRow(line api.StoryLine) []cell {
	if m := line.Mark; m != nil {
		at := ""
		if !m.From.IsZero() {
			at = m.From.UTC().Format(eventClock)
		}
		return []cell{{at, faint}, text(string(m.Clock)), {}, text(string(m.Site)), {"--- " + string(m.Kind) + " ---", markStyle(*m)}, {}, {m.Text(), markStyle(*m)}}
	}
	e := *line.SiteEvent
	kind := cell{text: string(e.Kind), style: eventStyle(e.Kind)}
	if e.Offline {
		kind.text += " (offline)"
	}
	what := []string{}
	for _, part := range []string{e.Object, strings.Join(e.Paths, " "), e.Reason, e.Message} {
		if part != "" {
			what = append(what, part)
		}
	}
	ref := string(e.Bundle)
	if e.Version != "" {
		ref += "@" + string(e.Version)
	}
	return []cell{text(e.At.UTC().Format(eventClock)), clockCell(line), lateCell(e), text(string(e.Site)), kind, text(ref), text(strings.Join(what, " "))}
}

const eventClock = "2006-01-02T15:04:05Z"

// lateAfter is how late an event must come for it to be worth a word.
const lateAfter = 30 * time.Second

// clockCell is what the time of an event is worth.
func clockCell(line api.StoryLine) cell {
	c := cell{text: string(line.Clock)}
	if line.Clock == fleetsync.TimeUntrusted {
		c.style = warn
	}
	if line.ClockOffset != nil {
		switch off := time.Duration(*line.ClockOffset) * time.Second; {
		case off > api.OffBy:
			c.text += " +" + api.Span(off)
		case off < -api.OffBy:
			c.text += " -" + api.Span(-off)
		}
	}
	return c
}

// lateCell is how much later than it happened an event was heard: by clocks of which one may be wrong.
func lateCell(e api.SiteEvent) cell {
	switch late := e.Received.Sub(e.At); {
	case late > lateAfter:
		return cell{"+" + api.Span(late), warn}
	case late < -api.OffBy:
		return cell{"-" + api.Span(-late), warn}
	}
	return cell{text: "at once"}
}

func markStyle(m api.Mark) style {
	if m.Kind == api.MarkOffline {
		return warn
	}
	return bad
}

func eventStyle(k fleetsync.EventKind) style {
	switch k {
	case fleetsync.EventHealthy, fleetsync.EventDriftGone:
		return good
	case fleetsync.EventAssignRefused, fleetsync.EventRefused, fleetsync.EventApplyFailed, fleetsync.EventUnhealthy,
		fleetsync.EventStoreDamaged, fleetsync.EventPutBack, fleetsync.EventNoteBehind, fleetsync.EventNoteRefused, fleetsync.EventNoteFailed, fleetsync.EventGap, fleetsync.EventClusterDown:
		return bad
	case fleetsync.EventDriftCorrected, fleetsync.EventDriftFound, fleetsync.EventLinkDown:
		return warn
	}
	return plain
}

// bundlesPage is the catalog.
func bundlesPage(bundles []api.Bundle, now time.Time) page {
	t := table{head: []string{"BUNDLE", "COUNTER", "DIGEST", "OBJECTS", "SIZE", "WIRE", "SITES", "PUSHED"}, none: "no bundles"}
	for _, b := range bundles {
		sites := text("-")
		if b.Sites > 0 {
			sites = textf("%d of %d current", b.Current, b.Sites)
		}
		t.add(textf("%s@%s", b.Name, b.Version), textf("%d", b.Counter), text(b.Digest.Short()), textf("%d", b.Objects),
			text(api.Bytes(b.Size)), text(wireText(b)), sites, text(api.Age(now, b.Pushed)))
	}
	return page{tables: []table{t}}
}

// wireText is what a site fetches: the full content, and the smallest delta where there is one.
func wireText(b api.Bundle) string {
	full := api.Bytes(b.Wire)
	if len(b.Deltas) == 0 {
		return full
	}
	least := b.Deltas[0]
	for _, d := range b.Deltas {
		if d.Wire < least.Wire {
			least = d
		}
	}
	return fmt.Sprintf("%s (%s from %s)", full, api.Bytes(least.Wire), least.From)
}

// fleetStatus is the fleet in few lines: one for each bundle version that is assigned somewhere.
type fleetStatus struct {
	Sites   int `json:"sites"`
	Fresh   int `json:"fresh"`
	Stale   int `json:"stale"`
	Unknown int `json:"unknown"`
	Drift   int `json:"drift"`
	Alarms  int `json:"alarms"`
	// Untrusted are fresh sites that do not know what time it is. In and Out are bytes on the sites' lines since their agents started, as they last said.
	Untrusted int    `json:"untrustedClocks"`
	In        uint64 `json:"bytesIn"`
	Out       uint64 `json:"bytesOut"`
	// Troubles are what is not well at the hub itself; nil: the user may not ask.
	Troubles []string       `json:"troubles,omitempty"`
	Bundles  []bundleStatus `json:"bundles"`
}

// bundleStatus counts the sites a bundle version is assigned to by what is known about them.
type bundleStatus struct {
	Bundle  string `json:"bundle"`
	Sites   int    `json:"sites"`
	Current int    `json:"current"` // fresh sites that run it, healthy
	Working int    `json:"working"` // fresh sites on their way
	Failing int    `json:"failing"` // fresh sites where it is refused, failed, unhealthy, halted or reverted
	Silent  int    `json:"silent"`  // sites not heard from in time: nothing is claimed about them
}

// summarise counts the fleet. A silent site is never counted as current.
func summarise(sites []api.Site) fleetStatus {
	f := fleetStatus{Sites: len(sites), Bundles: []bundleStatus{}}
	rows := map[string]*bundleStatus{}
	for _, s := range sites {
		switch s.Freshness {
		case api.Fresh:
			f.Fresh++
		case api.Stale:
			f.Stale++
		default:
			f.Unknown++
		}
		f.Alarms += len(s.Alarms)
		if s.State != nil {
			f.In, f.Out = f.In+min(s.State.Traffic.In, fleetsync.MaxSequence), f.Out+min(s.State.Traffic.Out, fleetsync.MaxSequence)
			if s.Freshness == api.Fresh && s.State.Clock.Quality == fleetsync.TimeUntrusted {
				f.Untrusted++
			}
			for _, b := range s.State.Bundles {
				f.Drift += b.DriftCount
			}
		}
		for _, want := range s.Assigned {
			ref := fmt.Sprintf("%s@%s", want.Name, want.Version)
			if rows[ref] == nil {
				rows[ref] = &bundleStatus{Bundle: ref}
			}
			rows[ref].count(s, want)
		}
	}
	for _, row := range rows {
		f.Bundles = append(f.Bundles, *row)
	}
	sort.Slice(f.Bundles, func(i, j int) bool { return f.Bundles[i].Bundle < f.Bundles[j].Bundle })
	return f
}

func (r *bundleStatus) count(s api.Site, want fleetsync.AssignedBundle) {
	r.Sites++
	if s.Freshness != api.Fresh || s.State == nil {
		r.Silent++
		return
	}
	for _, b := range s.State.Bundles {
		if b.Name != want.Name || b.Digest != want.Digest {
			continue
		}
		switch b.Phase {
		case fleetsync.PhaseCurrent:
			r.Current++
			return
		case fleetsync.PhaseUnhealthy, fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseHalted, fleetsync.PhaseReverting, fleetsync.PhaseReverted:
			r.Failing++
			return
		}
	}
	r.Working++
}

func statusPage(f fleetStatus) page {
	t := table{head: []string{"BUNDLE", "SITES", "CURRENT", "WORKING", "FAILING", "SILENT"}, none: "nothing is assigned"}
	for _, b := range f.Bundles {
		t.add(text(b.Bundle), textf("%d", b.Sites), counted(b.Current, good), counted(b.Working, warn), counted(b.Failing, bad), counted(b.Silent, faint))
	}
	facts := []fact{
		{"Sites", textf("%d: %d fresh, %d stale, %d never heard from", f.Sites, f.Fresh, f.Stale, f.Unknown)},
		{"Drift", counted(f.Drift, warn)},
		{"Alarms", counted(f.Alarms, bad)},
	}
	if f.Untrusted > 0 {
		facts = append(facts, fact{"Clocks", cell{fmt.Sprintf("%d untrusted: what has a window does not begin there", f.Untrusted), warn}})
	}
	if f.In+f.Out > 0 {
		facts = append(facts, fact{"Lines", textf("%s in, %s out since the agents started", api.Bytes(f.In), api.Bytes(f.Out))})
	}
	for _, trouble := range f.Troubles {
		facts = append(facts, fact{"Hub", cell{trouble, bad}})
	}
	return page{facts: facts, tables: []table{t}}
}

func counted(n int, s style) cell {
	c := textf("%d", n)
	if n > 0 {
		c.style = s
	}
	return c
}
