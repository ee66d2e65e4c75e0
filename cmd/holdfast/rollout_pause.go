package main

import "github.com/spf13/cobra"

func newRolloutPause(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause ROLLOUT --why TEXT", Short: "Make no new offers until somebody resumes",
		Long:    "Make no new offers until somebody resumes. What was offered already goes on; holdfast rollout abort takes it back.",
		Example: `  holdfast rollout pause pos-1-4-2 --why "tills are slow, ticket 4711"`,
	}
	return actOn(d, cmd, "pause", false, because(whyFlag(cmd)))
}
