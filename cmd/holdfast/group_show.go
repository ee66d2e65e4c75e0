package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newGroupShow(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "show GROUP", Short: "Show a group", Example: "  holdfast group show canary"}
	f := outputFlag(cmd)
	return nameVerb(d, cmd, "GROUP", func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		g, err := hub.Group(cmd.Context(), name)
		if err != nil {
			return err
		}
		return d.show(*f, g, func() page { return groupsPage([]api.Group{g}) })
	})
}
