package main

import "github.com/spf13/cobra"

func newRolloutExplain(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain ROLLOUT", Short: "Say why a rollout stands where it does: every hold with its inputs, every site that needs a look, all that happened",
		Example: "  holdfast rollout explain pos-1-4-2", Args: exactly("ROLLOUT"),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		e, err := hub.ExplainRollout(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return d.show(*f, e, func() page { return explanationPage(e, d.now(), true) })
	}
	return cmd
}
