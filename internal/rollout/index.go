package rollout

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// index is what can be counted anew from a rollout's value and the facts of its sites. It is kept up with every change, so that a decision costs
// what changed and not what exists. Positions are of Rollout.Sites.
type index struct {
	facts    *known
	ranks    []uint64          // by position; shared between copies, never written
	tallies  []Tally           // per wave
	regions  map[string]int    // unavailable sites
	lanes    []map[lane]*queue // per wave: sites that can be offered
	queued   []place           // where a site stands in line
	silence  dueHeap           // when to look whether a site is dark
	watched  []bool            // in silence
	recent   []time.Time       // offers, where their rate is bounded
	unplaced map[int]bool      // offers not yet signed
	pulling  map[int]bool      // withdrawals not yet signed
	barred   map[int]bool      // connected, and not to be offered for a reason of their own
}

// known is what Observe was told.
type known struct {
	members []Facts
	outside map[bundle.SiteID]Facts // sites of the fleet that are not in the rollout: they are control only
}

// Tally counts the sites of a wave by what they are to its gate.
type Tally struct {
	Size        int `json:"size"`
	Ready       int `json:"ready,omitempty"`  // can be offered
	Barred      int `json:"barred,omitempty"` // connected, and held for a reason of their own
	Away        int `json:"away,omitempty"`   // not offered: offline or cordoned
	InFlight    int `json:"inFlight,omitempty"`
	Unknown     int `json:"unknown,omitempty"`
	Succeeded   int `json:"succeeded"`
	Late        int `json:"late,omitempty"` // succeeded, and said so again after the soak
	Failed      int `json:"failed,omitempty"`
	Reverted    int `json:"reverted,omitempty"`
	Skipped     int `json:"skipped,omitempty"`
	Unavailable int `json:"unavailable,omitempty"` // count against the budget
}

// lane is a line of sites that the same window and the same region's budget let through.
type lane struct {
	region string
	zone   *time.Location
}

type place struct {
	wave  int
	lane  lane
	stand bool
}

func (k *known) clone() *known {
	return &known{slices.Clone(k.members), maps.Clone(k.outside)}
}

func newIndex(r *Rollout, facts *known, ranks []uint64) *index {
	n := len(r.Sites)
	if len(ranks) != n {
		ranks = make([]uint64, n)
		for i := range ranks {
			ranks[i] = rank(r.Sites[i].Site)
		}
	}
	x := &index{
		facts: facts, ranks: ranks, tallies: make([]Tally, len(r.Waves)), regions: map[string]int{}, lanes: make([]map[lane]*queue, len(r.Waves)),
		queued: make([]place, n), watched: make([]bool, n), unplaced: map[int]bool{}, pulling: map[int]bool{}, barred: map[int]bool{},
	}
	for i := range x.lanes {
		x.lanes[i] = map[lane]*queue{}
	}
	for i := range r.Sites {
		x.add(r, i, 1)
		x.settle(r, i)
		if s := &r.Sites[i]; r.Plan.Spec.SitesPerHour > 0 && !s.Offered.IsZero() {
			x.recent = append(x.recent, s.Offered)
		}
	}
	x.recent = append(x.recent, r.Again...)
	slices.SortFunc(x.recent, time.Time.Compare)
	return x
}

// indexed is the index, counted anew where there is none.
func (r *Rollout) indexed() *index {
	if r.index == nil {
		r.index = newIndex(r, &known{make([]Facts, len(r.Sites)), map[bundle.SiteID]Facts{}}, nil)
	}
	return r.index
}

// recount throws the index away but not the facts: for changes that touch everything.
func (r *Rollout) recount() {
	if r.index != nil {
		r.index = newIndex(r, r.index.facts, r.index.ranks)
	}
}

// change is the only way to edit a site's record: it keeps the index true.
func (r *Rollout) change(i int, edit func(*SiteRecord)) {
	x := r.indexed()
	x.add(r, i, -1)
	edit(&r.Sites[i])
	x.add(r, i, 1)
	x.settle(r, i)
	r.Revision++
}

// add counts the site in, or out with sign -1.
func (x *index) add(r *Rollout, i, sign int) {
	s := &r.Sites[i]
	t := &x.tallies[s.Wave]
	t.Size += sign
	switch s.Outcome {
	case NotOffered:
		switch f := &x.facts.members[i]; {
		case !f.Connected || f.Cordoned:
			t.Away += sign
		case r.barred(f) != "":
			t.Barred += sign
		default:
			t.Ready += sign
		}
	case Offered, Accepted, Applying:
		t.InFlight += sign
	case Succeeded:
		t.Succeeded += sign
		if s.Late {
			t.Late += sign
		}
	case Failed:
		t.Failed += sign
	case Reverted:
		t.Reverted += sign
	case Unknown:
		t.Unknown += sign
	case Skipped:
		t.Skipped += sign
	}
	if s.unavailable() {
		t.Unavailable += sign
		x.regions[s.Region] += sign
	}
}

// settle puts the site where its state needs it: in line for an offer, under watch for silence, among the effects to carry out.
func (x *index) settle(r *Rollout, i int) {
	s := &r.Sites[i]
	f := &x.facts.members[i]
	if at := r.place(i, f); at.stand && x.queued[i] != at {
		q := x.lanes[at.wave][at.lane]
		if q == nil {
			q = new(queue)
			x.lanes[at.wave][at.lane] = q
		}
		heap.Push(q, ticket{i, x.ranks[i], s.Slot})
		x.queued[i] = at
	}
	if s.Outcome.inFlight() && !x.watched[i] {
		x.watched[i] = true
		heap.Push(&x.silence, due{r.darkAt(i, f), i})
	}
	mark(x.barred, i, s.Outcome == NotOffered && f.Connected && !f.Cordoned && r.barred(f) != "")
	mark(x.unplaced, i, s.Outcome == Offered && s.Placed == 0)
	mark(x.pulling, i, s.Withdraw == ToWithdraw)
}

func mark(set map[int]bool, i int, in bool) {
	if in {
		set[i] = true
	} else {
		delete(set, i)
	}
}

// place is where the site has to stand in line, if it has to.
func (r *Rollout) place(i int, f *Facts) place {
	s := &r.Sites[i]
	if s.Outcome != NotOffered || !f.Connected || f.Cordoned || r.barred(f) != "" {
		return place{}
	}
	return place{s.Wave, lane{s.Region, f.zone()}, true}
}

// barred says why a connected site cannot be offered for a reason of its own, or "".
func (r *Rollout) barred(f *Facts) Code {
	switch {
	case f.Conflict != "":
		return HoldConflict
	case r.Back:
		return ""
	case f.Unresolved != "" && f.Unresolved != r.Bundle.Digest && !r.Bundle.Supersedes && r.Plan.Spec.Subject != SubjectAgent:
		return HoldPriorUnknown
	case f.Current.Counter > r.Bundle.Counter && r.Bundle.Counter > 0:
		return HoldNewerThere
	case f.ClockUntrusted && !r.schedule().Empty():
		return HoldTimeless
	}
	return ""
}

func (r *Rollout) schedule() fleetsync.Schedule {
	return fleetsync.Schedule{Windows: r.Plan.Spec.Windows, Blackouts: r.Plan.Spec.Blackouts}
}

// ticket is a site in line; one that cannot be offered any more is passed over when its turn comes.
type ticket struct {
	site int
	rank uint64
	slot bool // has its place in the budget already: goes first, or a full budget would keep it out for ever
}

type queue []ticket

func (q queue) Len() int { return len(q) }
func (q queue) Less(a, b int) bool {
	if q[a].slot != q[b].slot {
		return q[a].slot
	}
	if q[a].rank != q[b].rank {
		return q[a].rank < q[b].rank
	}
	return q[a].site < q[b].site
}
func (q queue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }
func (q *queue) Push(v any)   { *q = append(*q, v.(ticket)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// due is a time to look at a site. Times only ever move away: a site that was heard is looked at again later, when its turn comes.
type due struct {
	at   time.Time
	site int
}

type dueHeap []due

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(a, b int) bool {
	if c := h[a].at.Compare(h[b].at); c != 0 {
		return c < 0
	}
	return h[a].site < h[b].site
}
func (h dueHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *dueHeap) Push(v any)   { *h = append(*h, v.(due)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
