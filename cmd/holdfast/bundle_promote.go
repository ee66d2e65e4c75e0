package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func newBundlePromote(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote NAME@VERSION --from GROUP --to GROUP",
		Short: "Have a group run a bundle version that another group has shown to be well",
		Long: `Have a group run a bundle version that another group has shown to be well. How the sites of the first group stand with the version is the evidence:
it is refused where one of them fails with it, and where none runs it healthily and said so lately. --force goes on all the same, and wants a --why
for the audit log. What a silent site said last is no evidence.

Then it is holdfast assign: which site changes from what to what is shown first, and on a terminal it is asked whether to go on.`,
		Example: "  holdfast bundle promote shop@1.1.0 --from canary --to retail\n  holdfast bundle promote shop@1.1.0 --from canary --to retail --dry-run",
		Args:    exactly("NAME@VERSION"),
	}
	from := cmd.Flags().String("from", "", "the `group` that runs it")
	to := cmd.Flags().String("to", "", "the `group` that is to run it")
	force := cmd.Flags().Bool("force", false, "promote against the evidence; wants --why")
	why := whyFlag(cmd)
	sets := cmd.Flags().StringArray("set", nil, "`name=value` of a parameter; may be repeated")
	asked := foresightFlags(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := bundle.ParseRef(args[0])
		switch {
		case err != nil:
			return err
		case *from == "" || *to == "":
			return usagef(cmd, "--from and --to are needed")
		case *force && *why == "":
			return usagef(cmd, "--force wants a --why")
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		group, err := hub.Group(cmd.Context(), bundle.Name(*from))
		if err != nil {
			return err
		}
		sites, err := hub.Sites(cmd.Context(), group.Selector)
		if err != nil {
			return err
		}
		found := evidenceOf(ref, sites)
		d.sayf("%s", found.text(*from, ref, d.now()))
		if against := found.against(*from, ref); against != "" {
			if !*force {
				return &failure{code: exitRefused, message: against, hint: "holdfast site list shows how the sites stand; --force --why promotes all the same"}
			}
			d.sayf("warning: %s; promoted all the same: %s", against, *why)
		}
		ids, err := (&choice{group: *to}).sites(cmd.Context(), cmd, hub, nil)
		if err != nil {
			return err
		}
		values, err := valuesFor(cmd.Context(), hub, ref, *sets)
		if err != nil {
			return err
		}
		reason := fmt.Sprintf("promoted from %s: %d of %d healthy, %d failing", *from, found.healthy, found.sites, len(found.failing))
		if *why != "" {
			reason += ": " + *why
		}
		request := api.AssignRequest{Sites: ids, Bundle: ref, Values: values, Why: reason}
		return d.foreseen(*f, asked, func(dry bool) ([]api.AssignResult, error) {
			request.DryRun = dry
			return hub.Assign(cmd.Context(), request)
		})
	}
	return cmd
}

// evidence is how the sites of a group stand with a bundle version.
type evidence struct {
	sites   int
	healthy int
	silent  int       // assigned, and not heard from in time
	since   time.Time // the youngest of the healthy ones came to it then, by its own clock
	failing []string
}

func evidenceOf(ref bundle.Ref, sites []api.Site) evidence {
	e := evidence{sites: len(sites)}
	for _, s := range sites {
		for _, want := range s.Assigned {
			if want.Name != ref.Name || want.Version != ref.Version {
				continue
			}
			var row bundleStatus
			row.count(s, want)
			e.healthy, e.silent = e.healthy+row.Current, e.silent+row.Silent
			if row.Failing > 0 {
				e.failing = append(e.failing, string(s.ID))
			}
			if row.Current > 0 {
				e.since = later(e.since, sinceWhen(s, want))
			}
		}
	}
	return e
}

func sinceWhen(s api.Site, want fleetsync.AssignedBundle) (since time.Time) {
	for _, b := range s.State.Bundles {
		if b.Name == want.Name {
			since = b.Since
		}
	}
	return since
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (e evidence) text(group string, ref bundle.Ref, now time.Time) string {
	text := fmt.Sprintf("evidence: %d of %d %s of %s run %s healthily", e.healthy, e.sites, plural(e.sites, "site"), group, ref)
	if e.healthy > 0 {
		text += ", the last since " + api.Age(now, e.since)
	}
	return text + fmt.Sprintf("; %d failing, %d silent", len(e.failing), e.silent)
}

// against is what speaks against a promotion, or empty.
func (e evidence) against(group string, ref bundle.Ref) string {
	switch {
	case len(e.failing) > 0:
		return fmt.Sprintf("%s fails at %d %s of %s: %s", ref, len(e.failing), plural(len(e.failing), "site"), group, some(e.failing, 5))
	case e.healthy == 0:
		return fmt.Sprintf("no site of %s is known to run %s healthily", group, ref)
	}
	return ""
}
