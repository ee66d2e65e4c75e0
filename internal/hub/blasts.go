package hub

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

var dryRunAsks = parameter{"dryRun", "true: say what it would take away, and change nothing", object{"type": "boolean"}}

// destroys is the route of a write that takes something away. With dryRun=true it gives the Impact that it would have, which is audited as a dry run.
func destroys[In, Out any](h *Hub, pattern string, least access.Role, reach reach, what, about string, f endpoint[Out], foresee endpoint[api.Impact]) route {
	rt := writes[In](h, pattern, least, reach, what, about, f).asking(dryRunAsks)
	carryOut, look := rt.handler, write(h, what, foresee)
	rt.foresees = true
	rt.handler = func(w http.ResponseWriter, r *http.Request) {
		switch asked := r.URL.Query().Get(dryRunAsks.name); asked {
		case "", "false":
			carryOut(w, r)
		case "true":
			look(w, r)
		default:
			writeProblem(w, problemOf(malformed("dryRun is neither true nor false", fmt.Errorf("%.40q", asked))))
		}
	}
	return rt
}

// foreseenOf is the endpoint of the foresight about what the path's parameter names; whatever becomes of it, the audit log says of what it was a dry run.
func foreseenOf[In any](parameter string, foresee func(r *http.Request, name string, request In) (api.Impact, error)) endpoint[api.Impact] {
	return func(w http.ResponseWriter, r *http.Request) (impact api.Impact, err error) {
		name := r.PathValue(parameter)
		request, err := bodyOf[In](w, r)
		if err == nil {
			impact, err = foresee(r, name, request)
		}
		impact.Target, impact.DryRun = name, true
		return impact, err
	}
}

// foresightOfSite is foreseenOf a site within the user's scope.
func foresightOfSite[In any](h *Hub, end func(In) ending) endpoint[api.Impact] {
	return foreseenOf("site", func(r *http.Request, name string, request In) (impact api.Impact, err error) {
		id, err := bundle.ParseSiteID(name)
		if err != nil {
			return impact, malformed("not a site's name", err)
		}
		if err := h.allowed(r.Context(), id); err != nil {
			return impact, err
		}
		h.mu.Lock()
		_, known := h.view.Record(id)
		h.mu.Unlock()
		if !known {
			return impact, unknownSite(id)
		}
		seats, err := h.seats(r.Context(), id)
		if err != nil {
			return impact, err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.view.impactOfEnding(id, end(request), seats), nil
	})
}

func always[In any](end ending) func(In) ending { return func(In) ending { return end } }

func decommissioning(request api.Decommission) ending {
	if request.RemoveWorkloads {
		return endCleared
	}
	return endLeft
}

// seats are a site's places in the rollouts that have not ended.
func (h *Hub) seats(ctx context.Context, id bundle.SiteID) (seats []seat, err error) {
	for _, head := range h.rollouts.list() {
		if head.Phase != rollout.Running && head.Phase != rollout.Paused {
			continue
		}
		err := h.seeRollout(ctx, head.ID, func(r *rollout.Rollout) {
			if record, member := r.Site(id); member && r.Active() {
				seats = append(seats, seat{head, r.Waves[record.Wave].Name, record.Outcome})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return seats, nil
}

// foreseeGroup says who names the group.
func (h *Hub) foreseeGroup(ctx context.Context, name bundle.Name) (api.Impact, error) {
	use := inUse{users: h.users.all()}
	for _, head := range h.rollouts.list() {
		if head.Back || head.Pulled || head.Retired || head.Phase == rollout.Aborted {
			continue
		}
		err := h.seeRollout(ctx, head.ID, func(r *rollout.Rollout) {
			if slices.Contains(r.Plan.Groups(), string(name)) {
				use.rollouts = append(use.rollouts, head)
			}
		})
		if err != nil {
			return api.Impact{}, err
		}
	}
	var err error
	if use.tokens, err = h.Tokens(ctx); err != nil {
		return api.Impact{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.view.Group(name); !known {
		return api.Impact{}, unknownGroup(name)
	}
	return h.view.impactOfGroup(h.cfg.Now(), name, use), nil
}

func (h *Hub) foreseeGroupDelete(r *http.Request, _ string, _ struct{}) (api.Impact, error) {
	name, err := groupOf(r)
	if err != nil {
		return api.Impact{}, err
	}
	return h.foreseeGroup(r.Context(), name)
}

func (h *Hub) foreseePlanDelete(r *http.Request, _ string, _ struct{}) (api.Impact, error) {
	plan, err := h.getPlan(nil, r)
	if err != nil {
		return api.Impact{}, err
	}
	return impactOfPlan(plan, h.rollouts.list()), nil
}

func (h *Hub) foreseeTokenRevocation(r *http.Request, id string, _ api.Because) (api.Impact, error) {
	if _, err := enrol.ParseID(id); err != nil {
		return api.Impact{}, err
	}
	token, _, err := h.token(r.Context(), id)
	if err == nil && token == nil {
		err = unknownToken(id)
	}
	if err != nil {
		return api.Impact{}, err
	}
	return impactOfToken(h.cfg.Now(), shown(*token)), nil
}

func (h *Hub) foreseeUserRevocation(r *http.Request, name string, _ api.Because) (api.Impact, error) {
	user, _, err := h.user(r.Context(), name)
	if err != nil {
		return api.Impact{}, err
	}
	return impactOfUser(user, h.feed.watches(name)), nil
}

// foreseeAct carries an act out on a copy that nobody stores.
func (h *Hub) foreseeAct(act string) func(*http.Request, string, api.RolloutAct) (api.Impact, error) {
	return func(r *http.Request, id string, request api.RolloutAct) (api.Impact, error) {
		whole, _, err := h.loadRollout(r.Context(), id)
		if err != nil {
			return api.Impact{}, err
		}
		now := h.cfg.Now().UTC()
		impact := impactOfAbort(now, whole)
		back, err := h.act(whole, now, act, request, actorOf(r.Context()).inRollout())
		if err != nil {
			return api.Impact{}, notNow(whole, err)
		}
		if back != nil {
			impact = impactOfRollback(whole, back)
		}
		return impact, nil
	}
}
