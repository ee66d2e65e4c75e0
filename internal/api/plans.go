package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Plan is a rollout plan that the hub keeps.
type Plan struct {
	Name    bundle.Name     `json:"name"`
	By      string          `json:"by"` // who stored it last
	Changed time.Time       `json:"changed"`
	Plan    json.RawMessage `json:"plan,omitempty"` // a RolloutPlan
}

// PlanRequest is what a plan is set to.
type PlanRequest struct {
	Plan json.RawMessage `json:"plan"`
}

// Plans lists the plans by name.
func (c *Client) Plans(ctx context.Context) ([]Plan, error) {
	return Whole(c.PlanPages(ctx, 0))
}

// Plan gives one of them.
func (c *Client) Plan(ctx context.Context, name bundle.Name) (Plan, error) {
	return ask[Plan](ctx, c, http.MethodGet, nil, nil, "plans", string(name))
}

// SetPlan stores a plan under its name.
func (c *Client) SetPlan(ctx context.Context, name bundle.Name, plan json.RawMessage) (Plan, error) {
	body, err := json.Marshal(PlanRequest{plan})
	if err != nil {
		return Plan{}, fmt.Errorf("request: encode: %w", err)
	}
	return ask[Plan](ctx, c, http.MethodPut, nil, body, "plans", string(name))
}

// DeletePlan forgets a plan. Rollouts that were started by it keep it.
func (c *Client) DeletePlan(ctx context.Context, name bundle.Name) (Plan, error) {
	return ask[Plan](ctx, c, http.MethodDelete, nil, nil, "plans", string(name))
}
