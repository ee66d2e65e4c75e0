package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newGroupDelete(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete GROUP", Short: "Forget a group",
		Long:    "Forget a group. Rollouts that have begun keep the sites they have; plans and users' scopes that name it match nobody.",
		Example: "  holdfast group delete canary --yes",
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do it without asking")
	return groupVerb(d, cmd, func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		g, err := hub.Group(cmd.Context(), name)
		if err != nil {
			return err
		}
		d.sayf("group %s (%s, %d %s now) would be forgotten", name, g.Selector, g.Sites, plural(g.Sites, "site"))
		if err := d.agree(*yes); err != nil {
			return err
		}
		_, err = hub.DeleteGroup(cmd.Context(), name)
		return err
	})
}
