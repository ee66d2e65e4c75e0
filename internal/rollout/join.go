package rollout

import (
	"slices"
	"time"
)

// The entries that are about one site.
const (
	actJoin = "join"        // its name is the first word of Why
	actLate = "late report" // By is its name
)

// Join takes a site in that was not there at the start: into the last wave, whatever the earlier ones select (R9). It is refused where the plan
// would never have selected it, and while another rollout has it.
func (r *Rollout) Join(now time.Time, f Facts, groups map[string]string) error {
	if _, member := r.find(f.Site); member {
		return refuse("join", "site %s is in the rollout", f.Site)
	}
	switch {
	case r.Phase == Aborted || r.Pulled:
		return refuse("join", "the version was pulled")
	case r.Retired:
		return refuse("join", "a newer rollout of %s has begun", r.Bundle.Name)
	case r.Back:
		return refuse("join", "a rollback takes only sites that had the version")
	case f.Rollout != "" && f.Rollout != r.ID:
		return refuse("join", "site %s is in rollout %s", f.Site, f.Rollout)
	case f.Cordoned:
		return refuse("join", "site %s is cordoned", f.Site)
	}
	if err := r.selects(f, groups); err != nil {
		return err
	}
	x := r.indexed()
	last := len(r.Waves) - 1
	i, _ := r.find(f.Site)
	r.Sites = slices.Insert(r.Sites, i, SiteRecord{Site: f.Site, Wave: last, Region: f.Region, Before: r.version(f.Current), Joined: true})
	x.facts.members = slices.Insert(x.facts.members, i, f)
	delete(x.facts.outside, f.Site)
	r.recount()
	r.note(Entry{At: now, By: engine, Act: actJoin, Why: string(f.Site) + " to wave " + r.Waves[last].Name})
	return nil
}

func (r *Rollout) selects(f Facts, groups map[string]string) error {
	z := freezer{groups: groups}
	targeted, err := z.matcher(r.Plan.Spec.Targets)
	if err != nil {
		return refuse("join", "%v", err)
	}
	if !targeted(f) {
		return refuse("join", "site %s is not targeted", f.Site)
	}
	if exclude := r.Plan.Spec.Exclude; !exclude.empty() {
		excluded, err := z.matcher(exclude)
		if err != nil {
			return refuse("join", "%v", err)
		}
		if excluded(f) {
			return refuse("join", "site %s is excluded", f.Site)
		}
	}
	last := r.Plan.Spec.Waves[len(r.Plan.Spec.Waves)-1].Sites
	if last.Count > 0 || last.Percent > 0 {
		return refuse("join", "the last wave is a number or a share of sites, and has them")
	}
	in, err := z.matcher(last.target())
	if err != nil {
		return refuse("join", "%v", err)
	}
	if !in(f) {
		return refuse("join", "the last wave does not select site %s", f.Site)
	}
	return nil
}

// Newest is the rollout whose version a returning or new site gets: of those that completed and were not pulled, the one that ended last. It is
// nil where there is none (R9).
func Newest(rollouts []*Rollout) *Rollout {
	var newest *Rollout
	for _, r := range rollouts {
		if r.Phase == Completed && !r.Pulled && !r.Back && (newest == nil || r.Ended.After(newest.Ended)) {
			newest = r
		}
	}
	return newest
}
