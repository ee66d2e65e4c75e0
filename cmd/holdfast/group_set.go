package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newGroupSet(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set GROUP --labels SELECTOR", Short: "Make a group, or give it another selector",
		Long: "Make a group, or give it another selector. Rollouts that have begun keep the sites they have.", Example: "  holdfast group set canary --labels tier=canary",
	}
	labels := cmd.Flags().StringP("labels", "l", "", "label `selector`")
	return nameVerb(d, cmd, "GROUP", func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		if *labels == "" {
			return usagef(cmd, "--labels is needed")
		}
		g, err := hub.SetGroup(cmd.Context(), name, *labels)
		if err != nil {
			return err
		}
		d.sayf("group %s: %d %s now", name, g.Sites, plural(g.Sites, "site"))
		return nil
	})
}
