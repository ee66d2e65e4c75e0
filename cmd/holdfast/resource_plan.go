package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// planDocument reads a RolloutPlan as strictly as the hub does.
func planDocument(raw []byte) (resource, error) {
	plan, err := rollout.DecodePlan(raw)
	if err != nil {
		return resource{}, err
	}
	return newResource(rollout.KindPlan, plan.Metadata.Name, plan.Spec)
}

func (c resourceChange) storePlan(ctx context.Context, hub *api.Client) error {
	raw, err := json.Marshal(c.wanted)
	if err != nil {
		return fmt.Errorf("%s: encode: %w", c.wanted, err)
	}
	_, err = hub.SetPlan(ctx, bundle.Name(c.wanted.Metadata.Name), raw)
	return err
}
