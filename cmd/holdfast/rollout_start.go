package main

import (
	"github.com/spf13/cobra"
)

func newRolloutStart(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "start NAME@VERSION", Short: "Start a rollout",
		Long: `Start a rollout of a bundle version by a plan. The waves are frozen now; new and returning sites join the last one. What would happen is shown first.`,
		Example: `  holdfast rollout start pos@1.4.2 --plan canary.yaml
  holdfast rollout start pos@1.4.2 --plan retail --yes -o json`, Args: exactly("NAME@VERSION"),
	}
	f, plan := outputFlag(cmd), planFlag(cmd)
	id := cmd.Flags().String("id", "", "the rollout's `id` (default: name and version)")
	accept := cmd.Flags().Bool("accept-loss", false, "let sites apply what they halt as suspicious, whatever the plan says: deleting most of what the bundle has there, or stopping all of it; a rollback is never part of it")
	yes := cmd.Flags().BoolP("yes", "y", false, "do it without asking")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, _, err := plan.read(cmd.Context(), d)
		if err != nil {
			return err
		}
		if *accept {
			if raw, err = acceptingLoss(raw); err != nil {
				return err
			}
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		if !*yes {
			dry, err := startRequest(cmd.Context(), hub, args[0], raw, *id, true)
			if err != nil {
				return err
			}
			if err := d.draw(layoutPage(dry.Layout, false)); err != nil {
				return err
			}
			if err := d.agree(false); err != nil {
				return err
			}
		}
		started, err := startRequest(cmd.Context(), hub, args[0], raw, *id, false)
		if err != nil {
			return err
		}
		for _, warning := range started.Layout.Warnings {
			d.sayf("warning: %s", warning)
		}
		d.sayf("rollout %s has begun; follow it with holdfast rollout watch %s", started.Rollout.ID, started.Rollout.ID)
		return d.show(*f, started, func() page {
			p := layoutPage(started.Layout, false)
			p.facts = append([]fact{{"Rollout", text(started.Rollout.ID)}}, p.facts...)
			return p
		})
	}
	return cmd
}
