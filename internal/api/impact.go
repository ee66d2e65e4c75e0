package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Impact is the blast radius of an act that takes something away, as the hub foresees it. A write with dryRun=true gives it and changes nothing.
type Impact struct {
	Act     string   `json:"act"`
	Target  string   `json:"target"`
	DryRun  bool     `json:"dryRun"`
	Changed bool     `json:"changed"` // false: nothing changes by it, or the act is refused
	Sites   int      `json:"sites"`   // that lose something
	Losses  []Loss   `json:"losses"`
	Refused *Problem `json:"refused,omitempty"` // why the act is not done as things are
}

// Loss is what something or somebody loses by an act.
type Loss struct {
	Kind  string        `json:"kind"` // site, bundle, rollout, group, plan, user, token
	Name  string        `json:"name"`
	Site  bundle.SiteID `json:"site,omitempty"` // where
	Loses string        `json:"loses"`
}

// Lose adds a loss.
func (i *Impact) Lose(kind, name string, site bundle.SiteID, format string, args ...any) {
	i.Losses = append(i.Losses, Loss{kind, name, site, fmt.Sprintf(format, args...)})
}

// Foresight asks what an act would do; nothing changes.
type Foresight struct{ c *Client }

// Foresee gives the acts that can be foreseen.
func (c *Client) Foresee() Foresight { return Foresight{c} }

func (f Foresight) ask(ctx context.Context, method string, request any, path ...string) (Impact, error) {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return Impact{}, fmt.Errorf("request: encode: %w", err)
		}
	}
	return ask[Impact](ctx, f.c, method, url.Values{"dryRun": {"true"}}, body, path...)
}

// RevokeSite foresees Client.RevokeSite.
func (f Foresight) RevokeSite(ctx context.Context, site bundle.SiteID) (Impact, error) {
	return f.ask(ctx, http.MethodPost, Because{}, "sites", string(site), "revocation")
}

// ReplaceSite foresees Client.ReplaceSite, and what becomes of the site when the other hardware takes its place.
func (f Foresight) ReplaceSite(ctx context.Context, site bundle.SiteID, request TokenRequest) (Impact, error) {
	return f.ask(ctx, http.MethodPost, request, "sites", string(site), "replacement")
}

// DecommissionSite foresees Client.DecommissionSite.
func (f Foresight) DecommissionSite(ctx context.Context, site bundle.SiteID, request Decommission) (Impact, error) {
	return f.ask(ctx, http.MethodPost, request, "sites", string(site), "decommission")
}

// RevokeToken foresees Client.RevokeToken.
func (f Foresight) RevokeToken(ctx context.Context, id string) (Impact, error) {
	return f.ask(ctx, http.MethodPost, Because{}, "tokens", id, "revocation")
}

// RevokeUser foresees Client.RevokeUser.
func (f Foresight) RevokeUser(ctx context.Context, name string) (Impact, error) {
	return f.ask(ctx, http.MethodPost, Because{}, "users", name, "revocation")
}

// DeleteGroup foresees Client.DeleteGroup.
func (f Foresight) DeleteGroup(ctx context.Context, name bundle.Name) (Impact, error) {
	return f.ask(ctx, http.MethodDelete, nil, "groups", string(name))
}

// DeletePlan foresees Client.DeletePlan.
func (f Foresight) DeletePlan(ctx context.Context, name bundle.Name) (Impact, error) {
	return f.ask(ctx, http.MethodDelete, nil, "plans", string(name))
}

// ActOnRollout foresees an abort or a rollback.
func (f Foresight) ActOnRollout(ctx context.Context, id, act string, request RolloutAct) (Impact, error) {
	return f.ask(ctx, http.MethodPost, request, "rollouts", id, act)
}
