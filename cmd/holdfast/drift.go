package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newDrift(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "List objects that differ from what was applied and are not corrected",
		Long: `List objects that differ from what was applied and are not corrected: paths, never values. Corrected drift is counted in
site show and told in events.`,
		Example: "  holdfast drift --site shop-berlin",
		Args:    exactly(),
	}
	f, limit := outputFlag(cmd), limitFlag(cmd)
	site := cmd.Flags().String("site", "", "only this `site`")
	fail := cmd.Flags().Bool("exit-code", false, "exit with 8 if there is drift")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		id := bundle.SiteID(*site)
		if *site != "" {
			if _, err := bundle.ParseSiteID(*site); err != nil {
				return err
			}
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		count := 0
		pages := func(yield func([]api.SiteDrift, error) bool) {
			for drifts, err := range hub.DriftPages(cmd.Context(), id, *limit) {
				count += driftCount(drifts)
				if !yield(drifts, err) {
					return
				}
			}
		}
		if err := showList(d, *f, pages, func(drifts []api.SiteDrift) page { return page{tables: []table{driftTable(drifts, d.now(), true)}} }); err != nil {
			return err
		}
		if *fail && count > 0 {
			return &failure{code: exitDifferent}
		}
		return nil
	}
	return cmd
}

func driftCount(drifts []api.SiteDrift) int {
	n := 0
	for _, s := range drifts {
		n += s.Count
	}
	return n
}
