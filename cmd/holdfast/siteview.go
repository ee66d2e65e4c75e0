package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// wideTable is what a site costs and what it is worth: agent, clock, bytes on its line.
func wideTable(sites []api.Site, now time.Time) table {
	t := table{head: []string{"SITE", "AS OF", "AGENT", "CLOCK", "IN", "OUT", "WAITING"}, none: "no sites"}
	for _, s := range sites {
		if s.State == nil {
			t.add(text(string(s.ID)), heard(now, s.Freshness, s.StateAt))
			continue
		}
		style := plain
		if s.Freshness != api.Fresh {
			style = faint
		}
		st := s.State
		waiting := max(0, int64(st.Outbox.Next)-1-int64(st.Outbox.Acked))
		t.add(text(string(s.ID)), heard(now, s.Freshness, s.StateAt), cell{st.Agent, style}, cell{orDash(string(st.Clock.Quality)), style}, cell{bytesText(int64(min(st.Traffic.In, fleetsync.MaxSequence))), style},
			cell{bytesText(int64(min(st.Traffic.Out, fleetsync.MaxSequence))), style}, cell{fmt.Sprint(waiting), style})
	}
	return t
}

// sitesPage is the fleet, a site a line, the ones a person should look at recognisable without colour.
func sitesPage(sites []api.Site, now time.Time) page {
	t := table{head: []string{"SITE", "HEARD", "BUNDLES", "DRIFT", "LABELS"}, none: "no sites"}
	for _, s := range sites {
		name := text(string(s.ID))
		if s.Cordoned != nil {
			name = cell{name.text + " (cordoned)", warn}
		}
		t.add(name, heard(now, s.Freshness, s.LastSeen), bundlesCell(s), driftCell(s), cell{labelsText(s.Labels), faint})
	}
	return page{tables: []table{t, alarmsTable(sites)}}
}

func alarmsTable(sites []api.Site) table {
	t := table{head: []string{"SITE", "ALARM"}}
	for _, s := range sites {
		for _, a := range s.Alarms {
			t.add(text(string(s.ID)), cell{a, bad})
		}
	}
	return t
}

// standing is what one bundle's line says: where it stands, and how that is meant.
type standing struct {
	bundle string // shop 1.0.0, or shop 1.0.0 → 1.1.0
	phase  string
	style  style
}

// standings joins what a site should run with what it said it runs. What a silent site said is put in the past tense.
func standings(s api.Site) []standing {
	said := map[string]fleetsync.BundleStatus{}
	if s.State != nil {
		for _, b := range s.State.Bundles {
			said[string(b.Name)] = b
		}
	}
	var all []standing
	for _, want := range s.Assigned {
		b, ok := said[string(want.Name)]
		delete(said, string(want.Name))
		if !ok {
			all = append(all, standing{fmt.Sprintf("%s %s", want.Name, want.Version), "not yet seen", faint})
			continue
		}
		all = append(all, stand(s, b, string(want.Version), b.Digest == want.Digest))
	}
	for _, b := range said {
		all = append(all, stand(s, b, string(b.Desired), b.Desired == ""))
	}
	sort.Slice(all, func(i, j int) bool { return all[i].bundle < all[j].bundle })
	return all
}

func stand(s api.Site, b fleetsync.BundleStatus, want string, informed bool) standing {
	line := standing{bundle: fmt.Sprintf("%s %s", b.Name, want), phase: string(b.Phase), style: phaseStyle(b.Phase)}
	switch {
	case want == "":
		line.bundle = fmt.Sprintf("%s %s", b.Name, b.Current)
	case b.Current != "" && string(b.Current) != want:
		line.bundle = fmt.Sprintf("%s %s → %s", b.Name, b.Current, want)
	}
	if !informed {
		line.phase, line.style = "not yet told", faint
	}
	if s.Freshness != api.Fresh {
		line.phase, line.style = "was "+line.phase, faint
		if !informed {
			line.phase = "not yet told"
		}
	}
	return line
}

func phaseStyle(p fleetsync.Phase) style {
	switch p {
	case fleetsync.PhaseCurrent:
		return good
	case fleetsync.PhaseUnhealthy, fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseHalted:
		return bad
	}
	return warn
}

// bundlesCell is one bundle in full, or how many stand where.
func bundlesCell(s api.Site) cell {
	all := standings(s)
	switch len(all) {
	case 0:
		return cell{"-", faint}
	case 1:
		return cell{all[0].bundle + " " + all[0].phase, all[0].style}
	}
	counts, worst := map[string]int{}, all[0].style
	for _, one := range all {
		counts[one.phase]++
		if severity[one.style] > severity[worst] {
			worst = one.style
		}
	}
	phases := make([]string, 0, len(counts))
	for phase := range counts {
		phases = append(phases, phase)
	}
	sort.Strings(phases)
	for i, phase := range phases {
		phases[i] = fmt.Sprintf("%d %s", counts[phase], phase)
	}
	return cell{fmt.Sprintf("%d bundles: %s", len(all), strings.Join(phases, ", ")), worst}
}

// severity orders styles by how much a person should care.
var severity = map[style]int{good: 0, plain: 1, faint: 2, warn: 3, bad: 4}

func driftCell(s api.Site) cell {
	if s.State == nil {
		return cell{"?", faint}
	}
	count := 0
	for _, b := range s.State.Bundles {
		count += b.DriftCount
	}
	c := cell{text: fmt.Sprint(count)}
	if count > 0 {
		c.style = warn
	}
	if s.Freshness != api.Fresh {
		c.text, c.style = "was "+c.text, faint
	}
	return c
}

// sitePage is all that is known about one site.
func sitePage(s api.Site, now time.Time) page {
	p := page{facts: []fact{
		{"Site", cell{string(s.ID), strong}},
		{"Labels", text(orDash(labelsText(s.Labels)))},
		{"Added", text(api.Age(now, s.Added))},
		{"Heard", heard(now, s.Freshness, s.LastSeen)},
	}}
	if c := s.Cordoned; c != nil {
		p.facts = append(p.facts, fact{"Cordoned", cell{fmt.Sprintf("%s by %s: %s", api.Age(now, c.At), c.By, c.Why), warn}})
	}
	p.facts = append(p.facts, stateFacts(s, now)...)
	for _, a := range s.Alarms {
		p.facts = append(p.facts, fact{"Alarm", cell{a, bad}})
	}
	p.tables = append(p.tables, siteBundles(s, now))
	if s.State != nil {
		p.tables = append(p.tables, unhealthyTable(s), driftTable(siteDrift(s), now, false))
	}
	return p
}

// stateFacts are what the site said of itself, each with its age: what a silent site said last is told in the past tense, and what it never said as unknown.
func stateFacts(s api.Site, now time.Time) []fact {
	if s.State == nil {
		facts := []fact{{"Assignment", textf("%d, not yet seen by the site", s.Sequence)}}
		for _, name := range []string{"State", "Agent", "Cluster", "Clock", "Trust", "Line", "Events"} {
			facts = append(facts, fact{name, cell{string(api.Unknown), faint}})
		}
		return append(facts, leaseFacts(s, now)...)
	}
	st := s.State
	assignment := textf("%d, which the site has", s.Sequence)
	if st.Assignment != s.Sequence {
		assignment = cell{fmt.Sprintf("%d; the site has %d", s.Sequence, st.Assignment), warn}
	}
	state := textf("of %s by the site's time", st.At.UTC().Format(time.RFC3339))
	if s.Freshness != api.Fresh {
		assignment = cell{fmt.Sprintf("%d; the site had %d", s.Sequence, st.Assignment), faint}
	}
	facts := []fact{
		{"Assignment", assignment}, {"Desired", said(s, desiredCell(s), now)}, {"State", said(s, state, now)},
		{"Agent", said(s, textf("%s, up since %s", st.Agent, st.Started.UTC().Format(time.RFC3339)), now)},
		{"Cluster", said(s, clusterCell(*st), now)}, {"Clock", said(s, clockFact(s), now)}, {"Trust", said(s, trustCell(*st, now), now)},
	}
	if !st.Credential.IsZero() {
		c := textf("good until %s", st.Credential.UTC().Format(time.RFC3339))
		if !now.Before(st.Credential) {
			c = cell{"expired at " + st.Credential.UTC().Format(time.RFC3339) + ": the site renews it by proof of its key", warn}
		}
		facts = append(facts, fact{"Credential", said(s, c, now)})
	}
	if st.Store != "" {
		facts = append(facts, fact{"Store", said(s, cell{st.Store, bad}, now)})
	}
	facts = append(facts, fact{"Line", said(s, lineCell(s), now)})
	return append(append(facts, leaseFacts(s, now)...), fact{"Events", eventsCell(s)})
}

// said dates what the site said.
func said(s api.Site, c cell, now time.Time) cell {
	if s.Freshness != api.Fresh && c.text != string(api.Unknown) {
		c = cell{"was " + c.text, faint}
	}
	if s.StateAt != nil {
		c.text += fmt.Sprintf(" (%s, %s)", s.Freshness, api.Age(now, *s.StateAt))
	}
	return c
}

func desiredCell(s api.Site) cell {
	switch d := s.State.Desired; {
	case d.Stale != "":
		return cell{"may not be the newest: " + d.Stale, warn}
	case d.AsOf.IsZero():
		return cell{string(api.Unknown), faint}
	default:
		return textf("proven to be the newest at %s", d.AsOf.UTC().Format(time.RFC3339))
	}
}

func clusterCell(st fleetsync.State) cell {
	if !st.Cluster.Reachable {
		return cell{fmt.Sprintf("unreachable since %s: %s", st.Cluster.Since.UTC().Format(time.RFC3339), st.Cluster.Message), bad}
	}
	return textf("reachable, Kubernetes %s", st.Cluster.Version)
}

// clockFact is what the site knows of the time, and how far its own clock was off when its snapshot came.
func clockFact(s api.Site) cell {
	clock := s.State.Clock
	if clock.Quality == "" {
		return cell{string(api.Unknown), faint}
	}
	c := text(string(clock.Quality))
	if clock.Quality == fleetsync.TimeUntrusted {
		c.style = warn
	}
	if s.StateAt != nil && !clock.Wall.IsZero() {
		switch off := clock.Wall.Sub(*s.StateAt); {
		case off > offBy:
			c.text += ", its own clock " + api.Span(off) + " ahead"
		case off < -offBy:
			c.text += ", its own clock " + api.Span(-off) + " behind"
		}
	}
	return c
}

func trustCell(st fleetsync.State, now time.Time) cell {
	t := st.Trust
	if t.Root == 0 {
		return cell{string(api.Unknown), faint}
	}
	c := textf("root %d, targets %d", t.Root, t.Targets)
	switch {
	case t.Expires.IsZero():
	case now.Before(t.Expires):
		c.text += ", until " + t.Expires.UTC().Format(time.RFC3339)
	default:
		c = cell{c.text + ", to be renewed since " + t.Expires.UTC().Format(time.RFC3339), warn}
	}
	if t.Error != "" {
		c = cell{c.text + "; " + t.Error, warn}
	}
	return c
}

// lineCell is what the site's line carried.
func lineCell(s api.Site) cell {
	t := s.State.Traffic
	if t.Connections == 0 {
		return cell{string(api.Unknown), faint}
	}
	c := textf("%s in, %s out, %d %s since the agent started", bytesText(int64(min(t.In, fleetsync.MaxSequence))), bytesText(int64(min(t.Out, fleetsync.MaxSequence))), t.Connections, plural(int(min(t.Connections, 1<<30)), "connection"))
	if up := s.State.At.Sub(s.State.Started); up >= 24*time.Hour {
		c.text += fmt.Sprintf(", %s a day", bytesText(int64(float64(min(t.In+t.Out, fleetsync.MaxSequence))*float64(24*time.Hour)/float64(up))))
	}
	return c
}

// leaseFacts are the leases of what is assigned: the hub's own word, which does not age.
func leaseFacts(s api.Site, now time.Time) (facts []fact) {
	for _, b := range s.Assigned {
		if b.ApplyBy.IsZero() {
			continue
		}
		c := textf("%s %s may begin until %s", b.Name, b.Version, b.ApplyBy.UTC().Format(time.RFC3339))
		if now.After(b.ApplyBy) {
			c = cell{fmt.Sprintf("%s %s lapsed %s: a site that has not begun does not begin", b.Name, b.Version, api.Age(now, b.ApplyBy)), faint}
		}
		facts = append(facts, fact{"Lease", c})
	}
	return facts
}

// eventsCell is what the hub has, and what the site had yet to send.
func eventsCell(s api.Site) cell {
	st := s.State
	events := textf("%d here", s.Events.Upto)
	if waiting := int64(st.Outbox.Next) - 1 - int64(s.Events.Upto); waiting > 0 && st.Epoch == s.Events.Epoch {
		where := "at the site on the way"
		if s.Freshness != api.Fresh {
			where = "were at the site on the way"
		}
		events.text += fmt.Sprintf(", %d %s", waiting, where)
	}
	if st.Outbox.Dropped > 0 {
		events = cell{fmt.Sprintf("%s, %d dropped (see the gap events)", events.text, st.Outbox.Dropped), warn}
	}
	for _, f := range s.Events.Flaws {
		events = cell{fmt.Sprintf("%s; %d to %d %s", events.text, f.From, f.To, f.Why), warn}
	}
	return events
}

func siteBundles(s api.Site, now time.Time) table {
	t := table{head: []string{"BUNDLE", "PHASE", "SINCE", "OBJECTS", "CORRECTED", "MESSAGE"}, none: "nothing is assigned"}
	details := map[string]fleetsync.BundleStatus{}
	if s.State != nil {
		for _, b := range s.State.Bundles {
			details[string(b.Name)] = b
		}
	}
	for _, one := range standings(s) {
		name, _, _ := strings.Cut(one.bundle, " ")
		b, ok := details[name]
		if !ok {
			t.add(text(one.bundle), cell{one.phase, one.style})
			continue
		}
		message := b.Message
		if b.Reason != "" && message != "" {
			message = b.Reason + ": " + message
		} else if message == "" {
			message = b.Reason
		}
		t.add(text(one.bundle), cell{one.phase, one.style}, text(api.Age(now, b.Since)), textf("%d", b.Objects), textf("%d", b.Corrected), text(message))
	}
	return t
}

func unhealthyTable(s api.Site) table {
	t := table{head: []string{"UNHEALTHY", "STATUS", "MESSAGE"}}
	for _, b := range s.State.Bundles {
		for _, o := range b.Unhealthy {
			t.add(text(o.Object), cell{o.Status, bad}, text(o.Message))
		}
	}
	return t
}

// siteDrift is the drift within a site's state, in the form the hub gives it for the fleet.
func siteDrift(s api.Site) []api.SiteDrift {
	var all []api.SiteDrift
	for _, b := range s.State.Bundles {
		if b.DriftCount > 0 {
			all = append(all, api.SiteDrift{Site: s.ID, Bundle: b.Name, At: s.State.At, Freshness: s.Freshness, Corrected: b.Corrected, Drift: b.Drift, Count: b.DriftCount})
		}
	}
	return all
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
