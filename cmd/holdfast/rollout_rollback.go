package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func newRolloutRollback(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollback ROLLOUT --why TEXT", Short: "Bring every site that took the version, or may have, to what it ran before",
		Long: `Bring every site that took the version, or may have, to what it ran before. It is a rollout of its own, in the same waves backwards or at once, and the
version is given to nobody any more. A site takes no older release: the earlier content must have been built, signed and pushed under a higher counter.`,
		Example: `  holdfast rollout rollback pos-1-4-2 --why "wrong prices" --mode at-once --yes`,
	}
	why := whyFlag(cmd)
	mode := cmd.Flags().String("mode", "", "`backwards` or at-once (default: the plan's)")
	complete(cmd, "mode", string(rollout.Backwards), string(rollout.AtOnce))
	return actOn(d, cmd, "rollback", true, func(cmd *cobra.Command) (api.RolloutAct, error) {
		request, err := because(why)(cmd)
		request.Mode = rollout.RollbackMode(*mode)
		return request, err
	})
}
