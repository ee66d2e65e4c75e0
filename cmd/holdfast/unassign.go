package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newUnassign(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unassign SITE... NAME",
		Short: "Have sites remove a bundle and all its objects",
		Long: `Have sites remove a bundle and all its objects, namespaces included. The plan is shown first; without a terminal to
ask on, --yes is needed. Sites that are away remove it when they come back.`,
		Example: "  holdfast unassign shop-berlin shop --yes",
	}
	chosen := choiceFlags(cmd)
	asked := destructive(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(cmd, "no bundle: want SITE... NAME")
		}
		name, err := bundle.ParseName(args[len(args)-1])
		if err != nil {
			return withHint(err, "unassign takes a bundle's name without a version")
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ids, err := chosen.sites(cmd.Context(), cmd, hub, args[:len(args)-1])
		if err != nil {
			return err
		}
		return d.remove(cmd.Context(), *f, asked, hub, name, ids)
	}
	return cmd
}

// remove has sites remove a bundle, after showing what goes where.
func (d *desk) remove(ctx context.Context, f format, asked *foresight, hub *api.Client, name bundle.Name, ids []bundle.SiteID) error {
	carryOut := func(dry bool) ([]api.AssignResult, error) {
		return d.inParts(ids, func(part []bundle.SiteID) ([]api.AssignResult, error) {
			return hub.Unassign(ctx, api.UnassignRequest{Sites: part, Name: name, DryRun: dry})
		})
	}
	if asked.dry {
		results, err := carryOut(true)
		if err != nil {
			return err
		}
		return d.showForesight(f, results)
	}
	if err := d.planRemoval(ctx, hub, name, ids); err != nil {
		return err
	}
	if err := d.agree(asked.yes); err != nil {
		return err
	}
	results, err := carryOut(false)
	if err != nil {
		return err
	}
	return d.showResults(f, results)
}

// planRemoval says what would go where. It is talk, not data, so that -o json stays one document.
func (d *desk) planRemoval(ctx context.Context, hub *api.Client, name bundle.Name, ids []bundle.SiteID) error {
	chosen := map[bundle.SiteID]bool{}
	for _, id := range ids {
		chosen[id] = true
	}
	t := table{head: []string{"SITE", "HEARD", "REMOVES"}}
	removes := 0
	for known, err := range hub.SitePages(ctx, "", 0) {
		if err != nil {
			return err
		}
		for _, s := range known {
			if !chosen[s.ID] {
				continue
			}
			what := removal(s, name)
			if what != "" {
				removes++
			}
			t.add(text(string(s.ID)), heard(d.now(), s.Freshness, s.LastSeen), text(orDash(what)))
		}
	}
	d.sayf("%d of %d %s would remove bundle %s:", removes, len(ids), plural(len(ids), "site"), name)
	return t.draw(d.talk, 0, false)
}

// removal is what of the bundle a site has, as far as it is known.
func removal(s api.Site, name bundle.Name) string {
	if s.State != nil {
		for _, b := range s.State.Bundles {
			if b.Name == name {
				return fmt.Sprintf("%s %s, %d %s", name, b.Current, b.Objects, plural(b.Objects, "object"))
			}
		}
	}
	for _, b := range s.Assigned {
		if b.Name == name {
			return fmt.Sprintf("%s %s, not yet seen there", name, b.Version)
		}
	}
	return ""
}
