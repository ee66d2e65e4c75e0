package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newRolloutApprove(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "approve ROLLOUT --wave NAME", Short: "Let a wave open",
		Long:    "Let a wave open that asks for approval. It takes the role approver, and somebody else than who started the rollout.",
		Example: "  holdfast rollout approve pos-1-4-2 --wave early",
	}
	wave := cmd.Flags().String("wave", "", "`name` of the wave")
	return actOn(d, cmd, "approval", false, func(cmd *cobra.Command) (api.RolloutAct, error) {
		if *wave == "" {
			return api.RolloutAct{}, usagef(cmd, "--wave is needed")
		}
		return api.RolloutAct{Wave: *wave}, nil
	})
}
