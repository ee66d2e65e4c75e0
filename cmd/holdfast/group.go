package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newGroup(d *desk) *cobra.Command {
	return group("group", "Name label selectors, for plans and scopes", newGroupList(d), newGroupShow(d), newGroupSet(d), newGroupDelete(d))
}

func groupsPage(groups []api.Group) page {
	t := table{head: []string{"GROUP", "SITES", "LABELS"}, none: "no groups"}
	for _, g := range groups {
		t.add(text(string(g.Name)), textf("%d", g.Sites), text(g.Selector))
	}
	return page{tables: []table{t}}
}

// groupVerb makes a verb about one group.
func groupVerb(d *desk, cmd *cobra.Command, do func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error) *cobra.Command {
	cmd.Args = exactly("GROUP")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := bundle.ParseName(args[0])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return do(cmd, hub, name)
	}
	return cmd
}
