package api

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// StoryLine is one line of the story of sites: an event, or with Mark what the events mean together.
type StoryLine struct {
	*SiteEvent       // nil for a mark
	Mark       *Mark `json:"mark,omitempty"`
	// ClockOffset is how far the site's clock was ahead of the hub's, in seconds, where its time was not trusted and that is known; negative: behind.
	ClockOffset *int64 `json:"clockOffsetSeconds,omitempty"`
}

// MarkKind is what a mark is of.
type MarkKind string

// The marks.
const (
	MarkOffline MarkKind = "offline" // the site was without the hub
	MarkGap     MarkKind = "gap"     // events are not here
	MarkLife    MarkKind = "life"    // the site's store began anew: sequences begin at 1 again
)

// Mark is what lies between events.
type Mark struct {
	Kind  MarkKind      `json:"kind"`
	Site  bundle.SiteID `json:"site"`
	Epoch string        `json:"epoch,omitempty"`

	// Of MarkOffline: from when until when, by the site's clock. A zero To: it is not known to be over.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// AtLeast says that it began before From: that event is not among these, or the agent was started without the hub.
	AtLeast bool `json:"atLeast,omitempty"`
	// Seconds is how long it took, by the trusted time or the site's clock: Clock is the worse of both ends.
	Seconds int64                 `json:"seconds,omitempty"`
	Clock   fleetsync.TimeQuality `json:"clock,omitempty"`
	// Meanwhile counts what the site did, by kind.
	Meanwhile []KindCount `json:"meanwhile,omitempty"`

	// Of MarkGap: the sequences that are not here, how many, and why.
	Why    fleetsync.GapWhy  `json:"why,omitempty"`
	Runs   []fleetsync.Range `json:"runs,omitempty"`
	Events uint64            `json:"events,omitempty"`
	Lost   []fleetsync.Lost  `json:"lost,omitempty"` // what was dropped, by kind and reason

	// Of MarkLife: the epoch before, and the last sequence that is here of it.
	Before string `json:"before,omitempty"`
	Last   uint64 `json:"last,omitempty"`
}

// KindCount is how many events there were of a kind.
type KindCount struct {
	Kind  fleetsync.EventKind `json:"kind"`
	Count int                 `json:"count"`
}

// shortAway is how long an agent may be without the hub after its start before that is a period of its own: every start takes a moment.
const shortAway = time.Minute

// Story tells what events mean together, as they come: in order of epoch and sequence for each site. It is pure; one goroutine at a time.
type Story struct {
	sites map[bundle.SiteID]*chapter
	live  bool // what comes is what the hub just took: a hole in it is one
}

// chapter is where the story of one site stands.
type chapter struct {
	flaws []fleetsync.Flaw // that the hub knows of, not told yet
	epoch string
	last  uint64
	away  *Mark // under way
}

// NewStory begins a story. Of the sites given it also tells which of their events are missing.
func NewStory(sites ...Site) *Story {
	s := &Story{sites: map[bundle.SiteID]*chapter{}}
	for _, site := range sites {
		s.of(site.ID).flaws = slices.Clone(site.Events.Flaws)
	}
	return s
}

func (s *Story) of(site bundle.SiteID) *chapter {
	if s.sites[site] == nil {
		s.sites[site] = &chapter{}
	}
	return s.sites[site]
}

// Live says that what comes from now on comes as the hub takes it.
func (s *Story) Live() { s.live = true }

// Tell goes on with events. What ends with one is told behind it, what is missing before it.
func (s *Story) Tell(events ...SiteEvent) []StoryLine {
	lines := make([]StoryLine, 0, len(events))
	for _, event := range events {
		lines = s.of(event.Site).tell(lines, event, s.live)
	}
	offsets(lines)
	return lines
}

// End is what is still under way: sites that are without the hub as far as is known. silent are sites as the hub sees them.
func (s *Story) End(silent ...Site) (lines []StoryLine) {
	for _, site := range silent {
		c := s.of(site.ID)
		if site.Freshness == Fresh || site.LastSeen == nil {
			continue
		}
		mark := Mark{Kind: MarkOffline, Site: site.ID, Epoch: c.epoch, From: *site.LastSeen, AtLeast: true}
		lines = append(lines, StoryLine{Mark: &mark})
	}
	return lines
}

func (c *chapter) tell(lines []StoryLine, event SiteEvent, live bool) []StoryLine {
	mark := func(m Mark) { m.Site, m.Epoch = event.Site, event.Epoch; lines = append(lines, StoryLine{Mark: &m}) }
	if c.epoch != "" && c.epoch != event.Epoch {
		mark(Mark{Kind: MarkLife, Before: c.epoch, Last: c.last})
		c.last, c.away = 0, nil
	}
	begun := c.epoch == event.Epoch
	c.epoch = event.Epoch
	c.flaws = slices.DeleteFunc(c.flaws, func(f fleetsync.Flaw) bool {
		due := f.Epoch == event.Epoch && f.From <= event.Sequence
		if due && (begun || f.To+1 >= event.Sequence) { // what lies before the first event here is not part of this story
			mark(Mark{Kind: MarkGap, Why: f.Why, Runs: []fleetsync.Range{f.Range}, Events: f.To - f.From + 1})
		}
		return due
	})
	if covered := event.Kind == fleetsync.EventGap && event.From <= c.last+1; live && begun && event.Sequence > c.last+1 && !covered {
		hole := fleetsync.Range{From: c.last + 1, To: event.Sequence - 1}
		mark(Mark{Kind: MarkGap, Why: fleetsync.GapMissing, Runs: []fleetsync.Range{hole}, Events: hole.To - hole.From + 1})
	}
	c.last = max(c.last, event.Sequence)
	lines = append(lines, StoryLine{SiteEvent: &event})
	if event.Kind == fleetsync.EventGap {
		c.last = max(c.last, event.To)
		mark(gapMark(event.Event))
	}
	if away := c.see(event); away != nil {
		mark(*away)
	}
	return lines
}

// see follows the line to the hub. It gives the period that ended with the event.
func (c *chapter) see(event SiteEvent) (over *Mark) {
	switch away := c.away; {
	case event.Kind == fleetsync.EventLinkUp && away != nil:
		c.away = nil
		took := event.At.Sub(away.From)
		if away.AtLeast && took < shortAway && !slices.ContainsFunc(away.Meanwhile, KindCount.afterStart) {
			return nil
		}
		away.To, away.Seconds, away.Clock = event.At, max(0, int64(took/time.Second)), worse(away.Clock, event.Clock)
		slices.SortFunc(away.Meanwhile, func(a, b KindCount) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind)) })
		return away
	case event.Kind == fleetsync.EventLinkUp:
	case event.Kind == fleetsync.EventLinkDown:
		if away == nil {
			c.away = &Mark{Kind: MarkOffline, From: event.At, Clock: event.Clock}
		}
	case event.Offline:
		if away == nil {
			c.away = &Mark{Kind: MarkOffline, From: event.At, Clock: event.Clock, AtLeast: true}
		}
		c.away.count(event.Kind)
	}
	return nil
}

// afterStart says that it is more than what every agent does when it starts.
func (k KindCount) afterStart() bool {
	return k.Count > 1 || k.Kind != fleetsync.EventStarted && k.Kind != fleetsync.EventClusterUp
}

func (m *Mark) count(kind fleetsync.EventKind) {
	for i := range m.Meanwhile {
		if m.Meanwhile[i].Kind == kind {
			m.Meanwhile[i].Count++
			return
		}
	}
	m.Meanwhile = append(m.Meanwhile, KindCount{kind, 1})
}

// gapMark is what a gap event says.
func gapMark(event fleetsync.Event) Mark {
	m := Mark{Kind: MarkGap, Why: fleetsync.GapDropped, Runs: event.Gaps, Lost: event.Lost}
	if event.Reason == fleetsync.LostTail {
		m.Why = fleetsync.GapLost
	}
	if len(m.Runs) == 0 {
		m.Runs = []fleetsync.Range{{From: event.From, To: event.To}}
	}
	for _, run := range m.Runs {
		m.Events += run.To - min(run.To, run.From) + 1
	}
	return m
}

func worse(a, b fleetsync.TimeQuality) fleetsync.TimeQuality {
	order := []fleetsync.TimeQuality{"", fleetsync.TimeTrusted, fleetsync.TimeSinceBoot, fleetsync.TimeUntrusted}
	if slices.Index(order, a) > slices.Index(order, b) {
		return a
	}
	return b
}

// offsets says of events by an untrusted clock how far it was off. The way to the hub only makes an event look older, so of all that one life of
// the agent recorded by that clock the one that looks newest tells; where the life never had a link, none does.
func offsets(lines []StoryLine) {
	lives := map[bundle.SiteID][]*StoryLine{}
	end := func(site bundle.SiteID) {
		most, linked := time.Duration(math.MinInt64), false
		for _, line := range lives[site] {
			most, linked = max(most, line.At.Sub(line.Received)), linked || line.Kind == fleetsync.EventLinkUp
		}
		for _, line := range lives[site] {
			if off := int64(most.Round(time.Second) / time.Second); linked {
				line.ClockOffset = &off
			}
		}
		delete(lives, site)
	}
	for i := range lines {
		event := lines[i].SiteEvent
		if event == nil {
			continue
		}
		if life := lives[event.Site]; len(life) > 0 && (event.Clock != fleetsync.TimeUntrusted || event.Kind == fleetsync.EventStarted || event.Epoch != life[0].Epoch) {
			end(event.Site)
		}
		if event.Clock == fleetsync.TimeUntrusted {
			lives[event.Site] = append(lives[event.Site], &lines[i])
		}
	}
	for site := range lives {
		end(site)
	}
}

// Text is the mark in words.
func (m Mark) Text() string {
	switch m.Kind {
	case MarkOffline:
		return m.offlineText()
	case MarkGap:
		return m.gapText()
	}
	return fmt.Sprintf("the store began anew (epoch %.8s after %.8s, of which event %d is the last here): what was recorded after that and not sent is lost", m.Epoch, m.Before, m.Last)
}

const clock = "2006-01-02T15:04:05Z"

func (m Mark) offlineText() string {
	from := m.From.UTC().Format(clock)
	if m.To.IsZero() {
		return "not heard from since " + from + ": what it does now is not known"
	}
	since := ""
	if m.AtLeast {
		since = "at least "
	}
	text := fmt.Sprintf("offline %sfrom %s to %s, %s", since, from, m.To.UTC().Format(clock), time.Duration(m.Seconds)*time.Second)
	if m.Clock == fleetsync.TimeUntrusted {
		text += " by an untrusted clock"
	}
	did := make([]string, len(m.Meanwhile))
	for i, k := range m.Meanwhile {
		did[i] = fmt.Sprintf("%d %s", k.Count, k.Kind)
	}
	return text + "; meanwhile: " + cmp.Or(strings.Join(did, ", "), "nothing to tell")
}

func (m Mark) gapText() string {
	runs := make([]string, len(m.Runs))
	for i, run := range m.Runs {
		if runs[i] = fmt.Sprint(run.From); run.To > run.From {
			runs[i] = fmt.Sprintf("%d to %d", run.From, run.To)
		}
	}
	which := "event " + strings.Join(runs, ", ")
	if m.Events != 1 {
		which = fmt.Sprintf("events %s (%d)", strings.Join(runs, ", "), m.Events)
	}
	switch m.Why {
	case fleetsync.GapDropped:
		lost := make([]string, len(m.Lost))
		for i, l := range m.Lost {
			lost[i] = fmt.Sprintf("%d %s (%s)", l.Count, l.Kind, l.Why)
		}
		return which + " dropped by the site's quota: " + cmp.Or(strings.Join(lost, ", "), "the outbox was full")
	case fleetsync.GapLost:
		return which + " lost: the site no longer keeps them"
	case fleetsync.GapCopy:
		return which + " recorded by another copy of the site's store: what stands before is not what this one recorded"
	}
	return which + " not here yet, although later ones are: the site is asked for them"
}
