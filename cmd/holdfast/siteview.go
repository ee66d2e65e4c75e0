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
		t.add(text(string(s.ID)), heard(now, s.Freshness, s.StateAt), cell{st.Agent, style}, cell{orDash(string(st.Clock.Quality)), style}, cell{api.Bytes(st.Traffic.In), style},
			cell{api.Bytes(st.Traffic.Out), style}, cell{fmt.Sprint(waiting), style})
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

var toneStyles = map[api.Tone]style{api.ToneWarn: warn, api.ToneBad: bad, api.ToneFaint: faint}

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
	for _, f := range s.Facts(now) {
		p.facts = append(p.facts, fact{f.Name, cell{f.Dated(s, now), toneStyles[f.Tone]}})
	}
	for _, a := range s.Alarms {
		p.facts = append(p.facts, fact{"Alarm", cell{a, bad}})
	}
	p.tables = append(p.tables, siteBundles(s, now))
	if s.State != nil {
		p.tables = append(p.tables, unhealthyTable(s), driftTable(siteDrift(s), now, false))
	}
	return p
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
