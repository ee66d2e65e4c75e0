package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newGroupDelete(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete GROUP", Short: "Forget a group that nobody names",
		Long:    "Forget a group. One that a plan, a rollout under way, a user's scope or a join token names is kept, and they are shown.",
		Example: "  holdfast group delete canary --yes",
	}
	return deleteVerb(d, cmd, "GROUP", api.Foresight.DeleteGroup, func(hub *api.Client, ctx context.Context, name bundle.Name) error {
		_, err := hub.DeleteGroup(ctx, name)
		return err
	})
}
