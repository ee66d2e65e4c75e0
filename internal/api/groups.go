package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Group is a named label selector over sites.
type Group struct {
	Name     bundle.Name `json:"name"`
	Selector string      `json:"labels"`
	Sites    int         `json:"sites"` // that match now
}

// Groups lists the groups by name.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return ask[[]Group](ctx, c, http.MethodGet, nil, nil, "groups")
}

// Group gives one of them.
func (c *Client) Group(ctx context.Context, name bundle.Name) (Group, error) {
	return ask[Group](ctx, c, http.MethodGet, nil, nil, "groups", string(name))
}

// SetGroup makes a group, or gives it another selector.
func (c *Client) SetGroup(ctx context.Context, name bundle.Name, selector string) (Group, error) {
	body, err := json.Marshal(GroupRequest{selector})
	if err != nil {
		return Group{}, fmt.Errorf("request: encode: %w", err)
	}
	return ask[Group](ctx, c, http.MethodPut, nil, body, "groups", string(name))
}

// DeleteGroup forgets a group. Rollouts that were planned with it keep their sites.
func (c *Client) DeleteGroup(ctx context.Context, name bundle.Name) (Group, error) {
	return ask[Group](ctx, c, http.MethodDelete, nil, nil, "groups", string(name))
}

// GroupRequest is what a group is set to.
type GroupRequest struct {
	Selector string `json:"labels"`
}
