package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// happened is an event of shop-1 so many minutes after noon, heard so many minutes after noon.
func happened(seq uint64, at, heard int, kind fleetsync.EventKind, more ...func(*SiteEvent)) SiteEvent {
	e := SiteEvent{Site: "shop-1", Epoch: "a", Received: noon.Add(time.Duration(heard) * time.Minute)}
	e.Sequence, e.At, e.Kind, e.Clock = seq, noon.Add(time.Duration(at)*time.Minute), kind, fleetsync.TimeTrusted
	for _, f := range more {
		f(&e)
	}
	return e
}

func offline(e *SiteEvent)   { e.Offline = true }
func untrusted(e *SiteEvent) { e.Clock = fleetsync.TimeUntrusted }
func epoch(id string) func(*SiteEvent) {
	return func(e *SiteEvent) { e.Epoch = id }
}

// words writes a story as its sequences and marks.
func words(lines []StoryLine) string {
	var all []string
	for _, line := range lines {
		if m := line.Mark; m != nil {
			all = append(all, "["+m.Text()+"]")
		} else {
			all = append(all, fmt.Sprint(line.Sequence))
		}
	}
	return strings.Join(all, " ")
}

func TestP08_AStoryMarksWhatLiesBetweenEvents(t *testing.T) {
	missing := func(from, to uint64, why fleetsync.GapWhy) Site {
		return Site{ID: "shop-1", Events: EventWindow{Flaws: []fleetsync.Flaw{{Epoch: "a", Range: fleetsync.Range{From: from, To: to}, Why: why}}}}
	}
	for name, c := range map[string]struct {
		site   Site
		events []SiteEvent
		live   bool
		want   string
	}{
		"a period without the hub": {Site{ID: "shop-1"}, []SiteEvent{
			happened(4, 0, 0, fleetsync.EventHealthy), happened(5, 10, 130, fleetsync.EventLinkDown), happened(6, 20, 130, fleetsync.EventDriftCorrected, offline),
			happened(7, 30, 130, fleetsync.EventDriftCorrected, offline), happened(8, 40, 130, fleetsync.EventApplied, offline), happened(9, 130, 130, fleetsync.EventLinkUp),
		}, false, "4 5 6 7 8 9 [offline from 2026-11-27T12:10:00Z to 2026-11-27T14:10:00Z, 2h0m0s; meanwhile: 2 DriftCorrected, 1 Applied]"},
		"a start is none": {Site{ID: "shop-1"}, []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted, offline), happened(2, 0, 0, fleetsync.EventLinkUp)}, false, "1 2"},
		"a start finds its cluster, too": {Site{ID: "shop-1"}, []SiteEvent{
			happened(1, 0, 0, fleetsync.EventStarted, offline), happened(2, 0, 0, fleetsync.EventClusterUp, offline), happened(3, 0, 0, fleetsync.EventLinkUp),
		}, false, "1 2 3"},
		"a start that found drift is one": {Site{ID: "shop-1"}, []SiteEvent{
			happened(1, 0, 0, fleetsync.EventStarted, offline), happened(2, 0, 0, fleetsync.EventDriftFound, offline), happened(3, 0, 0, fleetsync.EventLinkUp),
		}, false, "1 2 3 [offline at least from 2026-11-27T12:00:00Z to 2026-11-27T12:00:00Z, 0s; meanwhile: 1 AgentStarted, 1 DriftFound]"},
		"a start without the hub is one": {Site{ID: "shop-1"}, []SiteEvent{happened(1, 0, 9, fleetsync.EventStarted, offline), happened(2, 9, 9, fleetsync.EventLinkUp)}, false,
			"1 2 [offline at least from 2026-11-27T12:00:00Z to 2026-11-27T12:09:00Z, 9m0s; meanwhile: 1 AgentStarted]"},
		"dropped": {Site{ID: "shop-1"}, []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted), happened(2, 1, 1, fleetsync.EventGap, func(e *SiteEvent) {
			e.From, e.To, e.Gaps = 2, 6, []fleetsync.Range{{From: 2, To: 3}, {From: 6, To: 6}}
			e.Lost = []fleetsync.Lost{{Kind: fleetsync.EventDriftFound, Why: fleetsync.LostDrift, Count: 3}}
		})}, false, "1 2 [events 2 to 3, 6 (3) dropped by the site's quota: 3 DriftFound (RoutineDrift)]"},
		"no longer kept": {Site{ID: "shop-1"}, []SiteEvent{happened(9, 1, 1, fleetsync.EventGap, func(e *SiteEvent) { e.From, e.To, e.Reason = 2, 2, fleetsync.LostTail })}, false,
			"9 [event 2 lost: the site no longer keeps them]"},
		"missing":                                 {missing(2, 3, fleetsync.GapMissing), []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted), happened(4, 0, 0, fleetsync.EventHealthy)}, false, "1 [events 2 to 3 (2) not here yet, although later ones are: the site is asked for them] 4"},
		"missing at the beginning":                {missing(1, 3, fleetsync.GapMissing), []SiteEvent{happened(4, 0, 0, fleetsync.EventHealthy)}, false, "[events 1 to 3 (3) not here yet, although later ones are: the site is asked for them] 4"},
		"missing before the page":                 {missing(1, 3, fleetsync.GapMissing), []SiteEvent{happened(40, 0, 0, fleetsync.EventHealthy)}, false, "40"},
		"a hole in a list is not known to be one": {Site{ID: "shop-1"}, []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted), happened(4, 0, 0, fleetsync.EventHealthy)}, false, "1 4"},
		"a hole in what comes is":                 {Site{ID: "shop-1"}, []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted), happened(4, 0, 0, fleetsync.EventHealthy)}, true, "1 [events 2 to 3 (2) not here yet, although later ones are: the site is asked for them] 4"},
		"a copy": {missing(2, 2, fleetsync.GapCopy), []SiteEvent{happened(1, 0, 0, fleetsync.EventStarted), happened(2, 0, 0, fleetsync.EventHealthy)}, false,
			"1 [event 2 recorded by another copy of the site's store: what stands before is not what this one recorded] 2"},
		"a new store": {Site{ID: "shop-1"}, []SiteEvent{happened(7, 0, 0, fleetsync.EventHealthy), happened(1, 9, 9, fleetsync.EventStarted, epoch("b"))}, false,
			"7 [the store began anew (epoch b after a, of which event 7 is the last here): what was recorded after that and not sent is lost] 1"},
	} {
		t.Run(name, func(t *testing.T) {
			story := NewStory(c.site)
			if c.live {
				story.Live()
			}
			if got := words(story.Tell(c.events...)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A site whose last word is old is offline until it is heard, whatever its events say.
func TestP08_AStoryEndsWithWhoIsNotHeard(t *testing.T) {
	heard := noon.Add(-time.Hour)
	site := Site{ID: "shop-1", Freshness: Stale, LastSeen: &heard}
	story := NewStory(site)
	story.Tell(happened(1, -60, -60, fleetsync.EventHealthy))
	if got, want := words(story.End(site)), "[not heard from since 2026-11-27T11:00:00Z: what it does now is not known]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	site.Freshness = Fresh
	if got := story.End(site); len(got) != 0 {
		t.Errorf("a site that is heard is told to be away: %s", words(got))
	}
}

// F17: a clock that nobody told the time is off as far as it was when the line came back, for all that it stamped since its start.
func TestF17_AStorySaysHowFarAnUntrustedClockWasOff(t *testing.T) {
	lines := NewStory().Tell(
		happened(1, -600, 60, fleetsync.EventStarted, offline, untrusted), happened(2, -590, 60, fleetsync.EventDriftCorrected, offline, untrusted),
		happened(3, -540, 60, fleetsync.EventLinkUp, untrusted), happened(4, 60, 60, fleetsync.EventAssigned),
	)
	for i, line := range lines[:3] {
		if line.ClockOffset == nil || *line.ClockOffset != -600*60 {
			t.Errorf("event %d: offset %v, want ten hours behind", i+1, line.ClockOffset)
		}
	}
	if trusted := lines[4]; trusted.SiteEvent == nil || trusted.ClockOffset != nil {
		t.Errorf("an event with a trusted time has an offset: %+v", trusted)
	}
	if lone := NewStory().Tell(happened(1, -600, 60, fleetsync.EventStarted, offline, untrusted)); lone[0].ClockOffset != nil {
		t.Errorf("the offset of a clock that never met the hub is claimed to be %d s", *lone[0].ClockOffset)
	}
}

// Told in any pieces, a story is the same but for offsets; every event stands in it once, in its order.
func TestAStoryIsTheSameInPieces(t *testing.T) {
	kinds := []fleetsync.EventKind{fleetsync.EventStarted, fleetsync.EventLinkDown, fleetsync.EventLinkUp, fleetsync.EventDriftCorrected, fleetsync.EventHealthy}
	rapid.Check(t, func(t *rapid.T) {
		var events []SiteEvent
		for i := range rapid.IntRange(0, 30).Draw(t, "events") {
			e := happened(uint64(i+1), i, i, rapid.SampledFrom(kinds).Draw(t, "kind"))
			e.Offline = rapid.Bool().Draw(t, "offline")
			events = append(events, e)
		}
		whole, pieces, story := NewStory().Tell(events...), []StoryLine(nil), NewStory()
		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		pieces = append(append(pieces, story.Tell(events[:cut]...)...), story.Tell(events[cut:]...)...)
		if words(whole) != words(pieces) {
			t.Fatalf("whole\n%s\npieces\n%s", words(whole), words(pieces))
		}
		next := uint64(0)
		for _, line := range whole {
			if line.SiteEvent != nil {
				if next++; line.Sequence != next {
					t.Fatalf("event %d stands where %d should", line.Sequence, next)
				}
			}
		}
		if next != uint64(len(events)) {
			t.Fatalf("%d events of %d", next, len(events))
		}
	})
}
