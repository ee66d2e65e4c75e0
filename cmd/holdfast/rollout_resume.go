package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newRolloutResume(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume ROLLOUT --why TEXT", Short: "Go on after a pause or an abort, and accept the failures that there are",
		Long: `Go on after a pause or an abort, and accept the failures that there are: they do not count again. With --again sites that failed are offered the version
anew. After an abort it is a new attempt, in which nothing counts that was said about the old one.`,
		Example: `  holdfast rollout resume pos-1-4-2 --why "the disk of shop-berlin was full" --again`,
	}
	why := whyFlag(cmd)
	again := cmd.Flags().Bool("again", false, "offer the version anew to sites that failed")
	return actOn(d, cmd, "resume", false, func(cmd *cobra.Command) (api.RolloutAct, error) {
		request, err := because(why)(cmd)
		request.Again = *again
		return request, err
	})
}
