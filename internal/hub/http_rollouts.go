package hub

import (
	"context"
	"net/http"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func (h *Hub) getRollouts(http.ResponseWriter, *http.Request) ([]api.Rollout, error) {
	return h.rollouts.list(), nil
}

func (h *Hub) getRollout(_ http.ResponseWriter, r *http.Request) (api.Rollout, error) {
	head, err := h.readHead(r.Context(), r.PathValue("id"))
	return head.Rollout, err
}

func (h *Hub) getExplanation(_ http.ResponseWriter, r *http.Request) (rollout.Explanation, error) {
	return h.ExplainRollout(r.Context(), r.PathValue("id"))
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
