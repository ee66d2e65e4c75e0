package rollout

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Part is the rollout as it is to be shown to somebody who may know of some sites only: it counts those and names no other. It is not to be decided on.
func (r *Rollout) Part(has func(bundle.SiteID) bool) *Rollout {
	c, facts := r.Clone(), &known{nil, map[bundle.SiteID]Facts{}}
	members := r.indexed().facts.members
	c.Sites = nil
	for i := range r.Sites {
		if has(r.Sites[i].Site) {
			c.Sites, facts.members = append(c.Sites, r.Sites[i]), append(facts.members, members[i])
		}
	}
	if c.Cause != nil {
		cause := c.Cause.part(has)
		c.Cause = &cause
	}
	c.Trail = slices.DeleteFunc(c.Trail, func(e Entry) bool {
		site, _, _ := strings.Cut(e.Why, " ")
		return e.Act == actJoin && !has(bundle.SiteID(site)) || e.Act == actLate && !has(bundle.SiteID(e.By))
	})
	for i := range c.Trail {
		if e := &c.Trail[i]; e.Reason != nil {
			reason := e.Reason.part(has)
			e.Reason = &reason
		}
	}
	c.index = newIndex(c, facts, nil)
	return c
}

// ExplainPart explains to somebody who may know of some sites only. Counts are of those, what a wave wants and why nothing moves are the whole rollout's.
func (r *Rollout) ExplainPart(now time.Time, has func(bundle.SiteID) bool) Explanation {
	d, p := r.Clone().Decide(now), r.Part(has)
	for _, reasons := range [][]Reason{d.Moves, d.Holds} {
		for i := range reasons {
			reasons[i] = reasons[i].part(has)
			if reasons[i].Detail == r.cause() {
				reasons[i].Detail = p.cause()
			}
		}
	}
	e := p.explain(now, d)
	for w := range e.Waves {
		e.Waves[w].Wanted = r.wanted(w)
	}
	return e
}

func (r Reason) part(has func(bundle.SiteID) bool) Reason {
	r.Sites = slices.DeleteFunc(slices.Clone(r.Sites), func(s bundle.SiteID) bool { return !has(s) })
	return r
}
