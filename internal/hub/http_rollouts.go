package hub

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// maxParts is how many of the newest rollouts are looked through for a user with a scope: each is read whole.
const maxParts = 100

// getRollouts lists them all, or those of the newest that touch the user's sites, each as far as it does.
func (h *Hub) getRollouts(w http.ResponseWriter, r *http.Request) ([]api.Rollout, error) {
	all := h.rollouts.list()
	if !actorOf(r.Context()).scope.Empty() {
		var err error
		if all, err = h.rolloutParts(r, all); err != nil {
			return nil, err
		}
	}
	return pageOf(w, r, all, newestFirst)
}

// newestFirst is a key in whose order rollouts are listed.
func newestFirst(r api.Rollout) string {
	return fmt.Sprintf("%020d\x00%s", math.MaxInt64-max(r.Started.UnixNano(), 0), r.ID)
}

// rolloutParts are those of the newest rollouts that touch the user's sites.
func (h *Hub) rolloutParts(r *http.Request, all []api.Rollout) ([]api.Rollout, error) {
	parts, in := []api.Rollout{}, h.inScope(r.Context())
	for _, head := range all[:min(len(all), maxParts)] {
		part, err := h.rolloutPart(r.Context(), head.ID, in)
		if err != nil {
			return nil, err
		}
		if part.Sites > 0 {
			parts = append(parts, part)
		}
	}
	return parts, nil
}

func (h *Hub) getRollout(_ http.ResponseWriter, r *http.Request) (api.Rollout, error) {
	id := r.PathValue("id")
	if actorOf(r.Context()).scope.Empty() {
		head, err := h.readHead(r.Context(), id)
		return head.Rollout, err
	}
	part, err := h.rolloutPart(r.Context(), id, h.inScope(r.Context()))
	if err == nil && part.Sites == 0 {
		err = unknownRollout(id)
	}
	if err != nil {
		return api.Rollout{}, err
	}
	return part, nil
}

func (h *Hub) getExplanation(_ http.ResponseWriter, r *http.Request) (rollout.Explanation, error) {
	id := r.PathValue("id")
	if actorOf(r.Context()).scope.Empty() {
		return h.ExplainRollout(r.Context(), id)
	}
	in, touched := h.inScope(r.Context()), false
	var e rollout.Explanation
	err := h.seeRollout(r.Context(), id, func(whole *rollout.Rollout) {
		touched = slices.ContainsFunc(whole.Sites, func(s rollout.SiteRecord) bool { return in(s.Site) })
		if touched {
			e = whole.ExplainPart(h.cfg.Now(), in)
		}
	})
	if err == nil && !touched {
		err = unknownRollout(id)
	}
	return e, err
}

// rolloutPart is what a list shows of a rollout to somebody who may know of some sites only.
func (h *Hub) rolloutPart(ctx context.Context, id string, in func(bundle.SiteID) bool) (part api.Rollout, err error) {
	err = h.seeRollout(ctx, id, func(r *rollout.Rollout) { part = headOf(r.Part(in)) })
	return part, err
}

// inScope says of a site whether the user behind ctx may know of it, as of now.
func (h *Hub) inScope(ctx context.Context) func(bundle.SiteID) bool {
	a, sites := actorOf(ctx), map[bundle.SiteID]bool{}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, site := range h.view.sites {
		sites[id] = a.sees(site.record.Labels)
	}
	return func(id bundle.SiteID) bool { return sites[id] }
}

func (h *Hub) getRolloutFleet(_ http.ResponseWriter, r *http.Request) (api.RolloutFleet, error) {
	ref, err := refOf(r)
	if err != nil {
		return api.RolloutFleet{}, err
	}
	return h.RolloutFleet(r.Context(), ref)
}

func (h *Hub) postRollout(w http.ResponseWriter, r *http.Request) (api.RolloutStart, error) {
	request, err := decodeRequest[api.RolloutRequest](w, r)
	if err != nil {
		return api.RolloutStart{}, err
	}
	// A client that goes away does not leave it half done.
	started, err := h.StartRollout(context.WithoutCancel(r.Context()), request, actorOf(r.Context()).inRollout())
	started.DryRun, started.Layout.Bundle = request.DryRun, request.Bundle // a refusal says in the audit log what was tried
	return started, err
}

// actsOn is the endpoint of one act on rollouts.
func (h *Hub) actsOn(act string) endpoint[api.RolloutActed] {
	return func(w http.ResponseWriter, r *http.Request) (api.RolloutActed, error) {
		request, err := decodeRequest[api.RolloutAct](w, r)
		if err != nil {
			return api.RolloutActed{}, err
		}
		return h.ActOnRollout(context.WithoutCancel(r.Context()), r.PathValue("id"), act, request, actorOf(r.Context()).inRollout())
	}
}
