package sync

import (
	"cmp"
	"slices"
)

// GapWhy says why events of a site are not at the hub.
type GapWhy string

// Why events are not at the hub.
const (
	GapDropped GapWhy = "dropped" // at the site, because its outbox was full: what was worth least
	GapMissing GapWhy = "missing" // not arrived although later ones have: the site is asked for them
	GapLost    GapWhy = "lost"    // for good: the site no longer keeps them
	GapCopy    GapWhy = "copy"    // there, and not what the events before them were recorded with: two copies of the site's store use the same numbers
)

// Flaw is a run of events of an epoch that are not at the hub, and that no gap event speaks of, or that do not follow those before them.
type Flaw struct {
	Epoch string `json:"epoch"`
	Range
	Why GapWhy `json:"why"`
}

// maxFlaws bounds the flaws of one sort in an epoch.
const maxFlaws = 16

// Flaws are those of all epochs that are remembered, the oldest first, by sequence.
func (in *Ingest) Flaws() (flaws []Flaw) {
	for i, epoch := range in.epochs {
		first, why := len(flaws), GapMissing
		if i < len(in.epochs)-1 {
			why = GapLost
		}
		for _, run := range epoch.missing(epoch.highest) {
			flaws = append(flaws, Flaw{epoch.id, run, why})
		}
		for _, run := range epoch.broken[:min(len(epoch.broken), maxFlaws)] {
			flaws = append(flaws, Flaw{epoch.id, run, GapCopy})
		}
		slices.SortStableFunc(flaws[first:], func(a, b Flaw) int { return cmp.Compare(a.From, b.From) })
	}
	return flaws
}
