package main

import "github.com/spf13/cobra"

func newRolloutPlan(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "plan NAME@VERSION", Short: "Show which site would be in which wave, and how many could be out at one time",
		Long: `Show which site would be in which wave, in the order in which they would be offered the version, and the blast radius. Nothing is changed.
A plan whose waves overlap, select nobody, want more sites than there are, or could take everything at once is refused, here and at the start.`,
		Example: "  holdfast rollout plan pos@1.4.2 --plan canary.yaml", Args: exactly("NAME@VERSION"),
	}
	f, plan := outputFlag(cmd), planFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, _, err := plan.read(cmd.Context(), d)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		dry, err := startRequest(cmd.Context(), hub, args[0], raw, "", true)
		if err != nil {
			return err
		}
		return d.show(*f, dry.Layout, func() page { return layoutPage(dry.Layout, true) })
	}
	return cmd
}
