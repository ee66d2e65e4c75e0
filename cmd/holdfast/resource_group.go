package main

import (
	"context"
	"encoding/json"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

type groupSpec struct {
	Labels string `json:"labels"` // selector
}

var groupKind = resourceKind{
	name: "Group", word: "group",
	decode: decodeAs[groupSpec](bundleName, nil),
	one: func(ctx context.Context, hub *api.Client, name string) (resource, bool, error) {
		g, err := hub.Group(ctx, bundle.Name(name))
		return resourceFound(g, err, ofGroup)
	},
	all: func(ctx context.Context, hub *api.Client) ([]resource, error) {
		groups, err := hub.Groups(ctx)
		return resourcesOf(groups, err, ofGroup)
	},
	set: func(ctx context.Context, hub *api.Client, c resourceChange) error {
		var spec groupSpec
		if err := json.Unmarshal(c.wanted.Spec, &spec); err != nil {
			return err
		}
		_, err := hub.SetGroup(ctx, bundle.Name(c.wanted.Metadata.Name), spec.Labels)
		return err
	},
}

func ofGroup(g api.Group) (resource, error) {
	return newResource("Group", string(g.Name), groupSpec{g.Selector})
}
