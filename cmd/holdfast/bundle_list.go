package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newBundleList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the bundles the hub has, and how many sites run them",
		Example: "  holdfast bundle list -o json",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		bundles, err := hub.Bundles(cmd.Context())
		if err != nil {
			return err
		}
		if bundles == nil {
			bundles = []api.Bundle{}
		}
		return d.show(*f, bundles, func() page { return bundlesPage(bundles, d.now()) })
	}
	return cmd
}
