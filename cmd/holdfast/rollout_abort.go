package main

import "github.com/spf13/cobra"

func newRolloutAbort(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "abort ROLLOUT --why TEXT", Short: "Stop a rollout and take its offers back",
		Long: `Stop a rollout and take back every offer that has not ended, under a higher sequence. A site that is away with a lease that still runs may apply the
version all the same: how many there are is shown before and after. Sites that have taken the version keep it; holdfast rollout rollback brings them back.`,
		Example: `  holdfast rollout abort pos-1-4-2 --why "wrong prices" --yes`,
	}
	return actOn(d, cmd, "abort", true, because(whyFlag(cmd)))
}
