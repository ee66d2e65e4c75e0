package api

import (
	"fmt"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Tone is how a fact is meant; its words always say it too.
type Tone string

// The tones.
const (
	TonePlain Tone = ""
	ToneWarn  Tone = "warn"
	ToneBad   Tone = "bad"
	ToneFaint Tone = "faint" // old, or not known
)

// Fact is one line of what is known of a site, for people: the CLI and the pages tell the same ones.
type Fact struct {
	Name string
	Text string
	Tone Tone
	Said bool // the site's own word, as of Site.StateAt
}

// OffBy is how far off a clock must be for it to be worth a word.
const OffBy = 2 * time.Second

// Facts are what a site said of itself and what the hub knows of that: what a silent site said last is told in the past tense, what it never said as
// unknown (P8).
func (s Site) Facts(now time.Time) []Fact {
	if s.State == nil {
		facts := []Fact{{Name: "Assignment", Text: fmt.Sprintf("%d, not yet seen by the site", s.Sequence)}}
		for _, name := range []string{"State", "Agent", "Cluster", "Clock", "Trust", "Line", "Events"} {
			facts = append(facts, unknown(name))
		}
		return append(facts, s.leaseFacts(now)...)
	}
	st := s.State
	said := []Fact{
		s.desiredFact(), {Name: "State", Text: "of " + stamp(st.At) + " by the site's time"}, {Name: "Agent", Text: st.Agent + ", up since " + stamp(st.Started)},
		s.clusterFact(), s.clockFact(), s.trustFact(now),
	}
	if !st.Credential.IsZero() {
		said = append(said, s.credentialFact(now))
	}
	if st.Store != "" {
		said = append(said, Fact{Name: "Store", Text: st.Store, Tone: ToneBad})
	}
	if st.PutBack != "" {
		said = append(said, Fact{Name: "Memory", Text: st.PutBack, Tone: ToneBad})
	}
	said = append(said, s.lineFact())
	for i := range said {
		f := &said[i]
		f.Said = true
		if s.Freshness != Fresh && f.Text != string(Unknown) {
			f.Text, f.Tone = "was "+f.Text, ToneFaint
		}
	}
	facts := append([]Fact{s.assignmentFact()}, said...)
	return append(append(facts, s.leaseFacts(now)...), s.eventsFact())
}

// Dated is the fact's text, with how old it is where it is the site's word.
func (f Fact) Dated(s Site, now time.Time) string {
	if !f.Said || s.StateAt == nil {
		return f.Text
	}
	return fmt.Sprintf("%s (%s, %s)", f.Text, s.Freshness, Age(now, *s.StateAt))
}

func unknown(name string) Fact { return Fact{Name: name, Text: string(Unknown), Tone: ToneFaint} }

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func (s Site) assignmentFact() Fact {
	f := Fact{Name: "Assignment", Text: fmt.Sprintf("%d, which the site has", s.Sequence)}
	switch {
	case s.Freshness != Fresh:
		f.Text, f.Tone = fmt.Sprintf("%d; the site had %d", s.Sequence, s.State.Assignment), ToneFaint
	case s.State.Assignment != s.Sequence:
		f.Text, f.Tone = fmt.Sprintf("%d; the site has %d", s.Sequence, s.State.Assignment), ToneWarn
	}
	return f
}

func (s Site) desiredFact() Fact {
	switch d := s.State.Desired; {
	case d.Stale != "":
		return Fact{Name: "Desired", Text: "may not be the newest: " + d.Stale, Tone: ToneWarn}
	case d.AsOf.IsZero():
		return unknown("Desired")
	default:
		return Fact{Name: "Desired", Text: "proven to be the newest at " + stamp(d.AsOf)}
	}
}

func (s Site) clusterFact() Fact {
	c := s.State.Cluster
	if !c.Reachable {
		return Fact{Name: "Cluster", Text: fmt.Sprintf("unreachable since %s: %s", stamp(c.Since), c.Message), Tone: ToneBad}
	}
	return Fact{Name: "Cluster", Text: "reachable, Kubernetes " + c.Version}
}

// clockFact is what the site knows of the time, and how far its own clock was off when its snapshot came.
func (s Site) clockFact() Fact {
	clock := s.State.Clock
	if clock.Quality == "" {
		return unknown("Clock")
	}
	f := Fact{Name: "Clock", Text: string(clock.Quality)}
	if clock.Quality == fleetsync.TimeUntrusted {
		f.Tone = ToneWarn
	}
	if s.StateAt != nil && !clock.Wall.IsZero() {
		switch off := clock.Wall.Sub(*s.StateAt); {
		case off > OffBy:
			f.Text += ", its own clock " + Span(off) + " ahead"
		case off < -OffBy:
			f.Text += ", its own clock " + Span(-off) + " behind"
		}
	}
	return f
}

func (s Site) trustFact(now time.Time) Fact {
	t := s.State.Trust
	if t.Root == 0 {
		return unknown("Trust")
	}
	f := Fact{Name: "Trust", Text: fmt.Sprintf("root %d, targets %d", t.Root, t.Targets)}
	switch {
	case t.Expires.IsZero():
	case now.Before(t.Expires):
		f.Text += ", until " + stamp(t.Expires)
	default:
		f.Text, f.Tone = f.Text+", to be renewed since "+stamp(t.Expires), ToneWarn
	}
	if t.Error != "" {
		f.Text, f.Tone = f.Text+"; "+t.Error, ToneWarn
	}
	return f
}

func (s Site) credentialFact(now time.Time) Fact {
	until := s.State.Credential
	if now.Before(until) {
		return Fact{Name: "Credential", Text: "good until " + stamp(until)}
	}
	return Fact{Name: "Credential", Text: "expired at " + stamp(until) + ": the site renews it by proof of its key", Tone: ToneWarn}
}

// lineFact is what the site's line carried.
func (s Site) lineFact() Fact {
	t := s.State.Traffic
	if t.Connections == 0 {
		return unknown("Line")
	}
	metered := ""
	if s.State.Metered {
		metered = fmt.Sprintf("; metered: it says hello every %s, and fetches what has windows an hour before them", s.State.Beat(0))
	}
	connections := "1 connection"
	if t.Connections > 1 {
		connections = fmt.Sprintf("%d connections", t.Connections)
	}
	f := Fact{Name: "Line", Text: fmt.Sprintf("%s in, %s out, %s since the agent started", Bytes(t.In), Bytes(t.Out), connections)}
	if up := s.State.At.Sub(s.State.Started); up >= 24*time.Hour {
		f.Text += ", " + Bytes(uint64(float64(min(t.In+t.Out, fleetsync.MaxSequence))*float64(24*time.Hour)/float64(up))) + " a day"
	}
	f.Text += metered
	return f
}

// leaseFacts are the leases of what is assigned: the hub's own word, which does not age.
func (s Site) leaseFacts(now time.Time) (facts []Fact) {
	for _, b := range s.Assigned {
		if b.ApplyBy.IsZero() {
			continue
		}
		f := Fact{Name: "Lease", Text: fmt.Sprintf("%s %s may begin until %s", b.Name, b.Version, stamp(b.ApplyBy))}
		if now.After(b.ApplyBy) {
			f.Text, f.Tone = fmt.Sprintf("%s %s lapsed %s: a site that has not begun does not begin", b.Name, b.Version, Age(now, b.ApplyBy)), ToneFaint
		}
		facts = append(facts, f)
	}
	return facts
}

// eventsFact is what the hub has, and what the site had yet to send.
func (s Site) eventsFact() Fact {
	st := s.State
	f := Fact{Name: "Events", Text: fmt.Sprintf("%d here", s.Events.Upto)}
	if waiting := int64(st.Outbox.Next) - 1 - int64(s.Events.Upto); waiting > 0 && st.Epoch == s.Events.Epoch {
		where := "at the site on the way"
		if s.Freshness != Fresh {
			where = "were at the site on the way"
		}
		f.Text += fmt.Sprintf(", %d %s", waiting, where)
	}
	if st.Outbox.Dropped > 0 {
		f.Text, f.Tone = fmt.Sprintf("%s, %d dropped (see the gap events)", f.Text, st.Outbox.Dropped), ToneWarn
	}
	for _, flaw := range s.Events.Flaws {
		f.Text, f.Tone = fmt.Sprintf("%s; %d to %d %s", f.Text, flaw.From, flaw.To, flaw.Why), ToneWarn
	}
	return f
}
