package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

var planKind = resourceKind{
	name: rollout.KindPlan, word: "plan",
	decode: planDocument,
	one: func(ctx context.Context, hub *api.Client, name string) (resource, bool, error) {
		p, err := hub.Plan(ctx, bundle.Name(name))
		return resourceFound(p, err, ofPlan)
	},
	all: func(ctx context.Context, hub *api.Client) ([]resource, error) {
		plans, err := hub.Plans(ctx)
		return resourcesOf(plans, err, ofPlan)
	},
	set: func(ctx context.Context, hub *api.Client, c resourceChange) error {
		raw, err := json.Marshal(c.wanted)
		if err != nil {
			return fmt.Errorf("%s: encode: %w", c.wanted, err)
		}
		_, err = hub.SetPlan(ctx, bundle.Name(c.wanted.Metadata.Name), raw)
		return err
	},
}

func ofPlan(p api.Plan) (resource, error) { return planDocument(p.Plan) }

// planDocument reads a RolloutPlan as strictly as the hub does.
func planDocument(raw []byte) (resource, error) {
	plan, err := rollout.DecodePlan(raw)
	if err != nil {
		return resource{}, err
	}
	return newResource(rollout.KindPlan, plan.Metadata.Name, plan.Spec)
}
