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
	f, limit := outputFlag(cmd), limitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return showList(d, *f, hub.BundlePages(cmd.Context(), *limit), func(bundles []api.Bundle) page { return bundlesPage(bundles, d.now()) })
	}
	return cmd
}
