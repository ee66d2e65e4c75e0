package rollout

import (
	"container/heap"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// darkAt is when the site's silence will be too long, if it is not heard until then. An apply that cuts the link has the time to be confirmed
// or reverted on top (R14).
func (r *Rollout) darkAt(i int, f *Facts) time.Time {
	s := &r.Sites[i]
	limit := r.silence(f)
	if s.Outcome == Applying && r.Bundle.AffectsConnectivity {
		limit += r.Bundle.ConfirmWithin
	}
	return limit.after(r.lastHeard(i, f))
}

// silence is how long a site may be silent.
func (r *Rollout) silence(f *Facts) Duration {
	return *r.Plan.Spec.Offline.DarkAfter + Duration(f.Patience)
}

// lastHeard is from when silence counts: never from before the offer, the grace after a hub's start, or a resume.
func (r *Rollout) lastHeard(i int, f *Facts) time.Time {
	s := &r.Sites[i]
	return latest(f.LastSeen, s.Heard, s.Offered, r.Grace, r.Calm)
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// darkness judges the sites in flight that are silent for too long: Unknown (R1), or, if they were applying and others still report, Failed (R3).
func (r *Rollout) darkness(now time.Time, d *Decision) {
	x := r.indexed()
	var silent, applying []int
	for len(x.silence) > 0 && !x.silence[0].at.After(now) {
		i := heap.Pop(&x.silence).(due).site
		x.watched[i] = false
		if !r.Sites[i].Outcome.inFlight() {
			continue
		}
		if at := r.darkAt(i, &x.facts.members[i]); at.After(now) {
			x.watched[i] = true
			heap.Push(&x.silence, due{at, i})
			continue
		}
		if r.Sites[i].Outcome == Applying {
			applying = append(applying, i)
		} else {
			silent = append(silent, i)
		}
	}
	r.silenced(now, d, silent)
	if len(applying) > 0 {
		r.blame(now, d, applying)
	}
}

// silenced makes sites Unknown that said nothing of applying.
func (r *Rollout) silenced(now time.Time, d *Decision, sites []int) {
	for _, i := range sites {
		r.change(i, func(s *SiteRecord) { s.Outcome, s.Was, s.Dark = Unknown, s.Outcome, now })
	}
	if len(sites) > 0 {
		reason := r.about(MoveSilent, sites)
		reason.Have = len(sites)
		r.move(now, d, reason)
	}
}

// blame asks the control about sites that went dark while they applied.
func (r *Rollout) blame(now time.Time, d *Decision, sites []int) {
	control := r.newControl()
	var failed, unclear []int
	var alive, all int
	for _, i := range sites {
		f := &r.index.facts.members[i]
		a, n := control.report(now, r.lastHeard(i, f), r.Sites[i].Region, time.Duration(r.silence(f)))
		alive, all = max(alive, a), max(all, n)
		if a > 0 && 2*a >= n {
			failed = append(failed, i)
			r.change(i, func(s *SiteRecord) { s.Outcome, s.Why, s.Dark = Failed, DarkReason, now })
		} else {
			unclear = append(unclear, i)
			r.change(i, func(s *SiteRecord) { s.Outcome, s.Was, s.Dark = Unknown, Applying, now })
		}
	}
	if len(failed) > 0 {
		reason := r.about(MoveDark, failed)
		reason.Have, reason.Want = alive, all
		r.move(now, d, reason)
	}
	if len(unclear) > 0 {
		reason := r.about(MoveInconclusive, unclear)
		reason.Have, reason.Want = alive, all
		reason.Detail = "sites went dark while applying, and so did too many that were not offered it: nobody is blamed"
		if r.Phase != Running || r.Back { // nothing to stop: a rollback goes on without the sites that do not answer
			r.move(now, d, reason)
			return
		}
		r.halt(now, d, Paused, reason)
	}
}

// control is when the sites were last heard that do not run the new version.
type control struct {
	all     []time.Time // sorted
	regions map[string][]time.Time
}

func (r *Rollout) newControl() control {
	c := control{regions: map[string][]time.Time{}}
	add := func(f *Facts) {
		if !f.LastSeen.IsZero() && (f.Current.Digest != r.Bundle.Digest || r.Back) {
			c.all = append(c.all, f.LastSeen)
			c.regions[f.Region] = append(c.regions[f.Region], f.LastSeen)
		}
	}
	for i := range r.Sites {
		if s := &r.Sites[i]; s.Outcome == NotOffered || s.Outcome == Skipped {
			add(&r.index.facts.members[i])
		}
	}
	for _, f := range r.index.facts.outside {
		add(&f)
	}
	slices.SortFunc(c.all, time.Time.Compare)
	for _, times := range c.regions {
		slices.SortFunc(times, time.Time.Compare)
	}
	return c
}

// report counts the control sites that were alive when a site fell silent, and of these the ones that still are: its neighbours if it has any, or
// else the whole fleet.
func (c control) report(now, silent time.Time, region string, darkAfter time.Duration) (alive, all int) {
	count := func(times []time.Time) (alive, all int) {
		after := func(t time.Time) int {
			i, _ := slices.BinarySearchFunc(times, t, time.Time.Compare)
			return len(times) - i
		}
		return after(now.Add(-darkAfter)), after(silent.Add(-darkAfter))
	}
	if alive, all = count(c.regions[region]); all > 0 {
		return alive, all
	}
	return count(c.all)
}

// about is a reason with the sites it is about, all of one wave or of several.
func (r *Rollout) about(code Code, sites []int) Reason {
	ids := make([]bundle.SiteID, len(sites))
	for j, i := range sites {
		ids[j] = r.Sites[i].Site
	}
	slices.Sort(ids)
	reason := Reason{Code: code, Of: DigestOfSites(ids), Sites: ids[:min(len(ids), maxNamed)]}
	if len(sites) > 0 && !slices.ContainsFunc(sites, func(i int) bool { return r.Sites[i].Wave != r.Sites[sites[0]].Wave }) {
		reason.Wave = r.Waves[r.Sites[sites[0]].Wave].Name
	}
	return reason
}
