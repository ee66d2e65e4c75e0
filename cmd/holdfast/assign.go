package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// choice is which sites a verb is about: named ones, those with labels, or all.
type choice struct {
	all      bool
	selector string
	group    string
}

func choiceFlags(cmd *cobra.Command) *choice {
	c := &choice{}
	cmd.Flags().BoolVar(&c.all, "all", false, "every site")
	cmd.Flags().StringVarP(&c.selector, "labels", "l", "", "the sites that match the label `selector`")
	cmd.Flags().StringVar(&c.group, "group", "", "the sites of the group with the `name`")
	cmd.MarkFlagsMutuallyExclusive("all", "labels", "group")
	return c
}

// sites are the chosen ones: never none, and never some other than was said.
func (c *choice) sites(ctx context.Context, cmd *cobra.Command, hub *api.Client, named []string) ([]bundle.SiteID, error) {
	if c.all || c.selector != "" || c.group != "" {
		if len(named) > 0 {
			return nil, usagef(cmd, "name sites, or give --all, --labels or --group, not both")
		}
		selector := c.selector
		if c.group != "" {
			g, err := hub.Group(ctx, bundle.Name(c.group))
			if err != nil {
				return nil, err
			}
			selector = g.Selector
		}
		var ids []bundle.SiteID
		for known, err := range hub.SitePages(ctx, selector, 0) {
			if err != nil {
				return nil, err
			}
			for _, s := range known {
				ids = append(ids, s.ID)
			}
		}
		if len(ids) == 0 {
			return nil, &failure{code: exitNotFound, message: "no site matches", hint: "holdfast site list shows sites and their labels"}
		}
		return ids, nil
	}
	if len(named) == 0 {
		return nil, usagef(cmd, "no site: name some, or give --all, --labels or --group")
	}
	ids := make([]bundle.SiteID, len(named))
	for i, name := range named {
		id, err := bundle.ParseSiteID(name)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}

func newAssign(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "assign SITE... NAME@VERSION",
		Short: "Have sites run a bundle version",
		Long: `Have sites run a bundle version. Sites that are away learn of it when they come back. What a site runs of the same bundle
is replaced; its other bundles are left alone.

Which site changes from what to what is shown first, and on a terminal it is asked whether to go on; --yes does neither, and a script is not asked.
All the sites change at once: holdfast rollout moves a fleet in waves.

With --service-account every request about the bundle is made as that account of the site's cluster, and RBAC there decides. --allow-kind and
--allow-namespace are checked by the site before it asks its cluster for anything: a bundle with one object outside is not applied at all.
With any of the three, cluster-wide kinds are allowed only where --allow-kind names them. A site only narrows this, by its own policy. What was
said once holds for later versions too, until it is said anew or lifted with --no-scope.`,
		Example: `  holdfast assign shop-berlin shop-hamburg shop@1.1.0 --set replicas=3
  holdfast assign -l region=eu shop@1.1.0 --dry-run
  holdfast assign shop-berlin shop@1.1.0 --service-account holdfast-bundles/shop --allow-namespace shop --allow-kind apps/*,Service,ConfigMap`,
	}
	chosen := choiceFlags(cmd)
	sets := cmd.Flags().StringArray("set", nil, "`name=value` of a parameter; may be repeated")
	drift := cmd.Flags().String("drift", "", "`mode`: enforce, report or respect drift, whatever the bundle's policy says")
	complete(cmd, "drift", string(bundle.DriftEnforce), string(bundle.DriftReport), string(bundle.DriftRespect))
	accept := cmd.Flags().Bool("accept-loss", false, "let sites apply what they halt as suspicious: deleting most of what the bundle has there, or stopping all of it")
	retry := cmd.Flags().Bool("retry", false, "have sites try again what failed or was quarantined there, though the order is the same")
	scoped := scopeFlags(cmd)
	asked := foresightFlags(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(cmd, "no bundle: want SITE... NAME@VERSION")
		}
		ref, err := bundle.ParseRef(args[len(args)-1])
		if err != nil {
			return err
		}
		mode := bundle.DriftMode(*drift)
		if mode != "" {
			if _, err := bundle.ParseDriftMode(*drift); err != nil {
				return usagef(cmd, "--%v", err)
			}
		}
		scope, err := scoped()
		if err != nil {
			return usagef(cmd, "%v", err)
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ids, err := chosen.sites(cmd.Context(), cmd, hub, args[:len(args)-1])
		if err != nil {
			return err
		}
		values, err := valuesFor(cmd.Context(), hub, ref, *sets)
		if err != nil {
			return err
		}
		request := api.AssignRequest{Bundle: ref, Values: values, Drift: mode, Scope: scope, AcceptLoss: *accept, Retry: *retry}
		return d.foreseen(*f, asked, func(dry bool) ([]api.AssignResult, error) {
			request.DryRun = dry
			return d.inParts(ids, func(part []bundle.SiteID) ([]api.AssignResult, error) {
				request.Sites = part
				return hub.Assign(cmd.Context(), request)
			})
		})
	}
	return cmd
}

// scopeFlags are the flags of what a bundle may touch; the function gives nil where none was used.
func scopeFlags(cmd *cobra.Command) func() (*fleetsync.Scope, error) {
	account := cmd.Flags().String("service-account", "", "`namespace/name` of the service account that the bundle acts as at the site")
	kinds := cmd.Flags().StringSlice("allow-kind", nil, "`kinds` the bundle may hold: ConfigMap, apps/Deployment, apps/* or *; may be repeated")
	namespaces := cmd.Flags().StringSlice("allow-namespace", nil, "`namespaces` the bundle may have objects in; may be repeated")
	lifted := cmd.Flags().Bool("no-scope", false, "lift what was said with these flags before")
	for _, name := range []string{"service-account", "allow-kind", "allow-namespace"} {
		cmd.MarkFlagsMutuallyExclusive("no-scope", name)
	}
	return func() (*fleetsync.Scope, error) {
		if *lifted {
			return &fleetsync.Scope{}, nil
		}
		if *account == "" && len(*kinds) == 0 && len(*namespaces) == 0 {
			return nil, nil
		}
		scope := &fleetsync.Scope{ServiceAccount: bundle.Account(*account), Namespaces: *namespaces}
		for _, kind := range *kinds {
			scope.Kinds = append(scope.Kinds, bundle.KindPattern(kind))
		}
		return scope, scope.Check()
	}
}

// valuesFor gives --set values the types the bundle's parameters have, from the very manifest that was pushed.
func valuesFor(ctx context.Context, hub *api.Client, ref bundle.Ref, sets []string) (map[string]any, error) {
	if len(sets) == 0 {
		return nil, nil
	}
	raw, err := hub.BundleFile(ctx, ref)
	if err != nil {
		return nil, err
	}
	file, err := bundle.DecodeFile(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	manifest, err := bundle.DecodeManifest(file.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return typedValues(sets, manifest.Parameters)
}

// showResults shows each site's outcome and fails with the first failure.
func (d *desk) showResults(f format, results []api.AssignResult) error {
	if err := d.show(f, results, func() page { return resultsPage(results) }); err != nil {
		return err
	}
	failed := []string{}
	var first *failure
	for _, r := range results {
		if r.Error == nil {
			continue
		}
		failed = append(failed, string(r.Site))
		if first == nil {
			first = explainProblem(&api.Error{Problem: *r.Error})
		}
	}
	switch {
	case first == nil:
		return nil
	case len(results) > 1:
		first.message = fmt.Sprintf("%d of %d sites: %s: %s", len(failed), len(results), some(failed, 5), first.message)
	case !strings.Contains(first.message, failed[0]):
		first.message = fmt.Sprintf("site %s: %s", failed[0], first.message)
	}
	return first
}

func resultsPage(results []api.AssignResult) page {
	t := table{head: []string{"SITE", "ASSIGNMENT", "RESULT"}}
	for _, r := range results {
		switch {
		case r.Error != nil:
			t.add(text(string(r.Site)), text("-"), cell{(&api.Error{Problem: *r.Error}).Error(), bad})
		case r.Changed:
			t.add(text(string(r.Site)), textf("%d", r.Sequence), cell{"changed", good})
		default:
			t.add(text(string(r.Site)), textf("%d", r.Sequence), text("as it was"))
		}
	}
	return page{tables: []table{t}}
}
