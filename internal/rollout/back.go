package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// BackOrder is a request to roll back.
type BackOrder struct {
	ID   string // of the rollback
	By   string
	Why  string
	Mode RollbackMode // empty: the plan's
	// Releases says under which release an earlier version is offered: going back means the old content under a higher counter. A digest that is
	// not in it is offered as it was.
	Releases map[bundle.Digest]Version
}

// Rollback makes the rollback of r: a rollout of its own that brings every site which took the version, or may have taken it, to what it ran
// before (R15). r is aborted if it is active, and its version is pulled: nobody gets it any more. r has to be stored with RolledBack before the
// rollback is.
func (r *Rollout) Rollback(now time.Time, o BackOrder, fleet []Facts) (*Rollout, error) {
	mode := or(o.Mode, r.Plan.Spec.Rollback)
	switch {
	case r.Back:
		return nil, refuse("rollback", "this is a rollback: start a rollout of the version that you want")
	case r.BackBy != "" && r.BackBy != o.ID:
		return nil, refuse("rollback", "rollout %s does it", r.BackBy)
	case o.Why == "":
		return nil, refuse("rollback", "say why: the reason is kept in the audit log")
	case !oneOf(mode, Backwards, AtOnce):
		return nil, refuse("rollback", "mode %.40q: want backwards or at-once", mode)
	case r.Retired:
		return nil, refuse("rollback", "a newer rollout of %s has begun", r.Bundle.Name)
	}
	if err := (&Order{ID: o.ID, By: o.By, Bundle: r.Bundle}).check(); err != nil {
		return nil, err
	}
	back := r.backTo(now, o, mode)
	if len(back.Sites) == 0 {
		return nil, refuse("rollback", "no site has taken %s@%s, and none may have", r.Bundle.Name, r.Bundle.Version.Version)
	}
	if r.Active() {
		if err := r.Abort(now, Actor{Name: o.By}, o.Why); err != nil {
			return nil, err
		}
	}
	r.Pulled = true
	r.note(Entry{At: now, By: o.By, Act: "rollback", Why: o.Why})
	for _, f := range fleet {
		back.Observe(f)
	}
	return back, nil
}

// RolledBack says that the rollback was stored.
func (r *Rollout) RolledBack(id string) {
	if r.BackBy == "" {
		r.BackBy = id
		r.Revision++
	}
}

func (r *Rollout) backTo(now time.Time, o BackOrder, mode RollbackMode) *Rollout {
	back := &Rollout{
		Schema: Schema, ID: o.ID, Back: true, Parent: r.ID, Plan: r.Plan, Bundle: r.Bundle, By: o.By, Started: now, Phase: Running, Attempt: 1,
	}
	back.Plan.Spec.Waves = nil
	back.Plan.Spec.Windows, back.Plan.Spec.Blackouts, back.Plan.Spec.SitesPerHour = nil, nil, 0
	waveOf := make([]int, len(r.Waves))
	order := make([]int, 0, len(r.Waves))
	for w := range r.Waves {
		if r.took(w) > 0 {
			order = append(order, w)
		}
	}
	slices.Reverse(order)
	for place, w := range order {
		waveOf[w] = place
		if mode == AtOnce {
			waveOf[w] = 0
			continue
		}
		back.addBackWave(r.Plan.Spec.Waves[w], r.Waves[w].Name, r.took(w), r.Waves[w].MaxUnavailable, r.Waves[w].PerRegion)
	}
	if mode == AtOnce && len(order) > 0 {
		total := 0
		for _, w := range order {
			total += r.took(w)
		}
		back.addBackWave(r.Plan.Spec.Waves[order[0]], "all", total, total, 0)
	}
	for i := range r.Sites {
		if s := &r.Sites[i]; s.mayHaveTaken() {
			before := r.versionAt(s.Before)
			goal := before
			if release, has := o.Releases[before.Digest]; has {
				goal = release
			}
			back.Sites = append(back.Sites, SiteRecord{
				Site: s.Site, Wave: waveOf[s.Wave], Region: s.Region, Before: back.version(r.goal(s)), Goal: back.version(goal),
				Epoch: s.Epoch, Seq: s.Seq, Beat: s.Beat, Epochs: slices.Clone(s.Epochs),
			})
		}
	}
	for w := range back.Waves {
		var ids []bundle.SiteID
		for i := range back.Sites {
			if back.Sites[i].Wave == w {
				ids = append(ids, back.Sites[i].Site)
			}
		}
		back.Waves[w].Sites = DigestOfSites(ids)
	}
	back.note(Entry{At: now, By: o.By, Act: "start", Why: fmt.Sprintf("rollback of %s, %s, %d sites: %s", r.ID, mode, len(back.Sites), o.Why)})
	return back
}

// addBackWave makes a wave of a rollback: nobody approves, nothing soaks, failures are reported and stop nothing.
func (r *Rollout) addBackWave(spec PlanWave, name string, size, unavailable, perRegion int) {
	none, soak, ratio := maxSites, Duration(0), 0.0
	spec.Name, spec.MaxFailures, spec.Soak, spec.Ratio, spec.Approvals, spec.Checks = name, &none, &soak, &ratio, 0, nil
	r.Plan.Spec.Waves = append(r.Plan.Spec.Waves, spec)
	r.Waves = append(r.Waves, Wave{Name: name, Size: size, MaxUnavailable: unavailable, PerRegion: perRegion, MaxFailures: none})
}

func (r *Rollout) took(w int) int {
	n := 0
	for i := range r.Sites {
		if r.Sites[i].Wave == w && r.Sites[i].mayHaveTaken() {
			n++
		}
	}
	return n
}

// mayHaveTaken says that the version was at work at the site, or that an offer is out which may still put it there.
func (s *SiteRecord) mayHaveTaken() bool {
	return s.Took || s.unavailable()
}
