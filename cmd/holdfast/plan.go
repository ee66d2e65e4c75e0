package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newPlan(d *desk) *cobra.Command {
	return group("plan", "Rollout plans that the hub keeps: holdfast apply stores one, holdfast get plan writes it", newPlanList(d), newPlanDelete(d))
}

func newPlanList(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the plans that the hub keeps", Example: "  holdfast plan list", Args: exactly()}
	f, limit := outputFlag(cmd), limitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return showList(d, *f, hub.PlanPages(cmd.Context(), *limit), func(plans []api.Plan) page { return plansPage(plans, d.now()) })
	}
	return cmd
}

func plansPage(plans []api.Plan, now time.Time) page {
	t := table{head: []string{"PLAN", "WAVES", "CHANGED", "BY"}, none: "no plans"}
	for _, p := range plans {
		var plan rollout.Plan
		waves := text("-")
		if json.Unmarshal(p.Plan, &plan) == nil {
			waves = textf("%d", len(plan.Spec.Waves))
		}
		t.add(text(string(p.Name)), waves, text(api.Age(now, p.Changed)), text(p.By))
	}
	return page{tables: []table{t}}
}

func newPlanDelete(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete PLAN", Short: "Forget a plan", Long: "Forget a plan that the hub keeps. Rollouts that were started by it go on by it.",
		Example: "  holdfast plan delete retail --yes",
	}
	return deleteVerb(d, cmd, "PLAN", api.Foresight.DeletePlan, func(hub *api.Client, ctx context.Context, name bundle.Name) error {
		_, err := hub.DeletePlan(ctx, name)
		return err
	})
}
