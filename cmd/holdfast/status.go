package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newStatus(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the fleet in a few lines: each bundle version, and how its sites stand",
		Long:    "Show the fleet in a few lines. A site that was not heard from in time counts as silent, whatever it said last.",
		Example: "  holdfast status --watch",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	labels := cmd.Flags().StringP("labels", "l", "", "only sites that match the label `selector`")
	watch := watchFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return d.watched(cmd.Context(), *f, watch, func(ctx context.Context) (any, func() page, error) {
			sites, err := hub.Sites(ctx, *labels)
			fleet := summarise(sites)
			var refused *api.Error
			if err == nil {
				if fleet.Troubles, err = hub.Troubles(ctx); errors.As(err, &refused) {
					err = nil // a user with a scope may not ask, and a hub from before cannot be asked
				}
			}
			return fleet, func() page { return statusPage(fleet) }, err
		})
	}
	return cmd
}
