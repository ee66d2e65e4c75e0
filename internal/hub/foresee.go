package hub

import (
	"context"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// foresee says what a change would do to the bundle at each site, with the refusal of each site that it would have. Nothing changes.
func (h *Hub) foresee(ctx context.Context, sites []bundle.SiteID, name bundle.Name, decide change) []api.AssignResult {
	results := make([]api.AssignResult, len(sites))
	for i, site := range sites {
		current, next, changed, err := h.foreseeSite(ctx, site, decide)
		was, _ := assignedIn(current, name)
		is, _ := assignedIn(next, name)
		results[i] = api.AssignResult{Site: site, DryRun: true, Sequence: current.Sequence, Changed: changed, From: was.Version, To: is.Version}
		if err != nil {
			problem := problemOf(err)
			results[i] = api.AssignResult{Site: site, DryRun: true, From: was.Version, Error: &problem}
		}
	}
	return results
}

func (h *Hub) foreseeSite(ctx context.Context, id bundle.SiteID, decide change) (current, next fleetsync.Assignment, changed bool, err error) {
	h.mu.Lock()
	site, known := h.view.Record(id)
	h.mu.Unlock()
	if !known {
		return current, next, false, unknownSite(id)
	}
	if err := site.refusal(); err != nil {
		return current, next, false, err
	}
	if current, _, err = h.assignment(ctx, id); err != nil {
		return current, next, false, err
	}
	next, changed, err = decide(current, site)
	return current, next, changed, err
}
