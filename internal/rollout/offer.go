package rollout

import (
	"container/heap"
	"slices"
	"strings"
	"time"
)

// offer gives the version to as many sites of open waves as budget, rate and windows let through, in the order of their rank (R10).
func (r *Rollout) offer(now time.Time, d *Decision) (any bool) {
	offered := []int{}
	for w := range r.Waves {
		if r.Waves[w].Opened.IsZero() {
			break
		}
		offered = r.offerWave(now, d, w, offered)
	}
	if len(offered) == 0 {
		return false
	}
	reason := r.about(MoveOffered, offered)
	reason.Have = len(offered)
	r.move(now, d, reason)
	return true
}

func (r *Rollout) offerWave(now time.Time, d *Decision, w int, offered []int) []int {
	x := r.index
	if x.tallies[w].Ready == 0 {
		return offered
	}
	open := r.openLanes(now, d, w)
	for {
		best, hold := r.next(w, open)
		if best == nil {
			if hold != nil {
				d.hold(*hold)
			}
			return offered
		}
		if reason := r.rate(now, w); reason != nil {
			d.hold(*reason)
			d.wake(reason.Until)
			return offered
		}
		i := heap.Pop(best).(ticket).site
		x.queued[i] = place{}
		if r.Plan.Spec.SitesPerHour > 0 {
			x.recent = append(x.recent, now)
			r.again(now, r.Sites[i].Offered)
		}
		applyBy := r.Plan.Spec.Waves[w].ApplyBy.after(now)
		r.change(i, func(s *SiteRecord) {
			*s = SiteRecord{
				Site: s.Site, Wave: s.Wave, Region: s.Region, Before: s.Before, Goal: s.Goal, Joined: s.Joined, Took: s.Took,
				Epoch: s.Epoch, Seq: s.Seq, Beat: s.Beat, Epochs: s.Epochs,
				Outcome: Offered, Attempt: r.Attempt, Offered: now, ApplyBy: applyBy,
			}
		})
		offered = append(offered, i)
	}
}

// again keeps the time of an offer that is about to be overwritten.
func (r *Rollout) again(now, offered time.Time) {
	hourAgo := now.Add(-time.Hour)
	r.Again = slices.DeleteFunc(r.Again, func(t time.Time) bool { return !t.After(hourAgo) })
	if offered.After(hourAgo) {
		r.Again = append(r.Again, offered)
	}
}

// openLanes are the lines whose window is open; for the others it says when they will be.
func (r *Rollout) openLanes(now time.Time, d *Decision, w int) map[lane]*queue {
	schedule := r.schedule()
	if schedule.Empty() {
		return r.index.lanes[w]
	}
	open := map[lane]*queue{}
	type closed struct {
		until time.Time
		why   string
	}
	told := map[closed]bool{}
	for l, q := range r.index.lanes[w] {
		if r.head(w, l, q) == nil {
			continue
		}
		is, again, why := schedule.Open(now, l.zone)
		if is {
			open[l] = q
			continue
		}
		told[closed{again.UTC(), why}] = true
	}
	var holds []Reason
	for c := range told {
		holds = append(holds, Reason{Code: choose(c.why != "", HoldBlackout, HoldWindow), Wave: r.Waves[w].Name, Until: c.until, Detail: c.why})
		d.wake(c.until)
	}
	slices.SortFunc(holds, func(a, b Reason) int {
		if c := a.Until.Compare(b.Until); c != 0 {
			return c
		}
		return strings.Compare(a.Detail, b.Detail)
	})
	d.Holds = append(d.Holds, holds...)
	return open
}

// head is the first of a line who can still be offered. Who left the line is taken out of it.
func (r *Rollout) head(w int, l lane, q *queue) *ticket {
	at := place{w, l, true}
	for len(*q) > 0 {
		t := &(*q)[0]
		if r.place(t.site, &r.index.facts.members[t.site]) == at {
			return t
		}
		if r.index.queued[t.site] == at {
			r.index.queued[t.site] = place{}
		}
		heap.Pop(q)
	}
	delete(r.index.lanes[w], l)
	return nil
}

// next is the line whose head has the lowest rank and fits into the budgets, or why none does.
func (r *Rollout) next(w int, lanes map[lane]*queue) (best *queue, hold *Reason) {
	x, wave := r.index, &r.Waves[w]
	full := x.tallies[w].Unavailable >= wave.MaxUnavailable
	var first *ticket
	region := "" // the first that is full, by name
	regions := 0
	for l, q := range lanes {
		t := r.head(w, l, q)
		if t == nil {
			continue
		}
		if !t.slot && !full && wave.PerRegion > 0 && x.regions[l.region] >= wave.PerRegion {
			if regions++; regions == 1 || l.region < region {
				region = l.region
			}
			continue
		}
		if !t.slot && full {
			hold = &Reason{Code: HoldBudget, Wave: wave.Name, Have: x.tallies[w].Unavailable, Want: wave.MaxUnavailable, Of: wave.Sites}
			continue
		}
		if first == nil || (queue{*t, *first}).Less(0, 1) {
			best, first = q, t
		}
	}
	if hold == nil && regions > 0 {
		hold = &Reason{Code: HoldRegion, Wave: wave.Name, Have: x.regions[region], Want: wave.PerRegion, Detail: region}
	}
	return best, hold
}

// rate is R10's bound on the offers of any hour, or nil where there is room.
func (r *Rollout) rate(now time.Time, w int) *Reason {
	limit := r.Plan.Spec.SitesPerHour
	if limit == 0 {
		return nil
	}
	x := r.index
	hourAgo := now.Add(-time.Hour)
	for len(x.recent) > 0 && !x.recent[0].After(hourAgo) {
		x.recent = x.recent[1:]
	}
	if len(x.recent) < limit {
		return nil
	}
	return &Reason{Code: HoldRate, Wave: r.Waves[w].Name, Have: len(x.recent), Want: limit, Until: x.recent[len(x.recent)-limit].Add(time.Hour)}
}
