package hub

import (
	"context"
	"fmt"
	"net/http"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// actor is the user behind a request. The zero actor has no role, so it may do nothing that takes one.
type actor struct {
	name  string
	role  access.Role
	scope access.Scope
	sites access.Sites // of the scope, when the request came
	hash  string       // of the token; empty for the admin of the first start
}

type actorKey struct{}

// withActor is ctx with the user that was admitted.
func withActor(ctx context.Context, a actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// actorOf is the user behind a request.
func actorOf(ctx context.Context) actor {
	a, _ := ctx.Value(actorKey{}).(actor)
	return a
}

// inRollout is the user as rollouts know it.
func (a actor) inRollout() rollout.Actor {
	return rollout.Actor{Name: a.name, Approver: a.role.Covers(access.Approver)}
}

// sees says whether sites with the labels are in the user's scope.
func (a actor) sees(labels map[string]string) bool { return a.sites.Has(labels) }

// outOfScope is the refusal of a write, the same for sites that are not known: who may not see them does not learn which there are.
func outOfScope(a actor, site bundle.SiteID) *api.Error {
	return refuse(http.StatusForbidden, "OutOfScope", fmt.Sprintf("site %s is not in your scope", site), "the scope of "+a.name+" is "+a.scope.String(), "")
}

// allowed refuses a write to sites outside the scope of the user behind ctx.
func (h *Hub) allowed(ctx context.Context, sites ...bundle.SiteID) error {
	a := actorOf(ctx)
	if a.scope.Empty() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, site := range sites {
		if record, known := h.view.Record(site); !known || !a.sees(record.Labels) {
			return outOfScope(a, site)
		}
	}
	return nil
}
