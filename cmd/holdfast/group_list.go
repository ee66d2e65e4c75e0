package main

import "github.com/spf13/cobra"

func newGroupList(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List groups", Example: "  holdfast group list", Args: exactly()}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		groups, err := hub.Groups(cmd.Context())
		if err != nil {
			return err
		}
		return d.show(*f, groups, func() page { return groupsPage(groups) })
	}
	return cmd
}
