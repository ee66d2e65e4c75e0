package main

import (
	"context"
	"fmt"
	"strings"

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

// nameVerb makes a verb about one thing that has a name: what is GROUP or PLAN.
func nameVerb(d *desk, cmd *cobra.Command, what string, do func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error) *cobra.Command {
	cmd.Args = exactly(what)
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

// deleteVerb makes the verb that has the hub forget something with a name.
func deleteVerb(d *desk, cmd *cobra.Command, what string, foresee func(api.Foresight, context.Context, bundle.Name) (api.Impact, error), forget func(*api.Client, context.Context, bundle.Name) error) *cobra.Command {
	f, asked := outputFlag(cmd), destructive(cmd)
	return nameVerb(d, cmd, what, func(cmd *cobra.Command, hub *api.Client, name bundle.Name) error {
		impact, err := foresee(hub.Foresee(), cmd.Context(), name)
		if err != nil {
			return err
		}
		return d.destroy(*f, asked, mended, impact, func() (string, error) {
			return fmt.Sprintf("%s %s is forgotten", strings.ToLower(what), name), forget(hub, cmd.Context(), name)
		})
	})
}
