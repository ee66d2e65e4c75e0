package rollout

import (
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Stake is what an abort or a rollback means for one site.
type Stake struct {
	Site        bundle.SiteID
	Taken       bool      // it has been seen with the version
	Outstanding bool      // its offer has not ended
	ApplyBy     time.Time // lease of the offer: until then a site that is away may apply whatever is decided
}

func (s *SiteRecord) stake() Stake { return Stake{s.Site, s.Took, s.unavailable(), s.ApplyBy} }

// Stakes are those of the sites that were offered the version, by name.
func (r *Rollout) Stakes() (stakes []Stake) {
	for i := range r.Sites {
		if r.Sites[i].mayHaveTaken() {
			stakes = append(stakes, r.Sites[i].stake())
		}
	}
	return stakes
}

// Return is where a rollback brings one site.
type Return struct {
	Site     bundle.SiteID
	From, To bundle.Version // empty: nothing of the bundle
}

// Returns are those of a rollback's sites, by name.
func (r *Rollout) Returns() (returns []Return) {
	for i := range r.Sites {
		s := &r.Sites[i]
		returns = append(returns, Return{s.Site, r.versionAt(s.Before).Version, r.goal(s).Version})
	}
	return returns
}

// Groups are the groups that the plan names.
func (p *Plan) Groups() (names []string) {
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(p.Spec.Targets.Group)
	add(p.Spec.Exclude.Group)
	for _, w := range p.Spec.Waves {
		add(w.Sites.Group)
	}
	return names
}
