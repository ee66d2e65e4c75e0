package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// siteVerb makes a verb about one site.
func siteVerb(d *desk, cmd *cobra.Command, carryOut func(ctx context.Context, hub *api.Client, id bundle.SiteID) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = exactly("ID"), d.completeSites
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := bundle.ParseSiteID(args[0])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return carryOut(cmd.Context(), hub, id)
	}
	return cmd
}

func newSiteRevoke(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Shut a site out at once: a stolen or compromised device",
		Long: `Shut a site out at once. Its connections are cut, it is let in no more, nothing it sends is believed and it is given nothing.
What it runs goes on running there. On a bus that the hub does not run itself, live connections end when the credential expires or when
that bus is configured to refuse the key.

holdfast site replace lets the site come back on other hardware.`,
		Example: `  holdfast site revoke shop-berlin --why "stolen, ticket 4711"`,
	}
	why := cmd.Flags().String("why", "", "reason, for the audit log")
	f, asked := outputFlag(cmd), destructive(cmd)
	return siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		impact, err := hub.Foresee().RevokeSite(ctx, id)
		if err != nil {
			return err
		}
		return d.destroy(*f, asked, forGood, impact, func() (string, error) {
			_, err := hub.RevokeSite(ctx, id, *why)
			return fmt.Sprintf("site %s is revoked", id), err
		})
	})
}

func newSiteRelease(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "release ID", Short: "End the hold of a site of which two live copies were seen",
		Long: `End the hold of a site of which two live copies were seen, after the wrong one was switched off. Should it be heard again, the site is held
again. If the copy's disk may be in other hands, use holdfast site replace instead.`,
		Example: "  holdfast site release shop-berlin",
	}
	why := cmd.Flags().String("why", "", "reason, for the audit log")
	return siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		if _, err := hub.ReleaseSite(ctx, id, *why); err != nil {
			return err
		}
		d.sayf("site %s is held no more", id)
		return nil
	})
}

func newSiteDecommission(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "decommission ID", Short: "Let a site leave the fleet, with or without removing what it runs",
		Long: `Let a site leave the fleet. It is shut out and its name is not used again; what it runs stays as it is. With --remove-workloads it is first told
to remove everything, and leaves as soon as it says that it has; until then it is shown as leaving.`,
		Example: "  holdfast site decommission shop-berlin --remove-workloads --yes",
	}
	remove := cmd.Flags().Bool("remove-workloads", false, "have the site remove all its bundles first")
	why := cmd.Flags().String("why", "", "reason, for the audit log")
	f, asked := outputFlag(cmd), destructive(cmd)
	return siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		request := api.Decommission{RemoveWorkloads: *remove, Why: *why}
		impact, err := hub.Foresee().DecommissionSite(ctx, id, request)
		if err != nil {
			return err
		}
		return d.destroy(*f, asked, forGood, impact, func() (string, error) {
			site, err := hub.DecommissionSite(ctx, id, request)
			return fmt.Sprintf("site %s: %s", id, site.Status), err
		})
	})
}

func newSiteReplace(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "replace ID -o FILE", Short: "Let other hardware take a site's place: same name, labels and bundles, new key",
		Long: `Write an enrolment file with which one other device takes the site's place: same name, same labels, same bundles, a key of its own. When it is
approved, the old key is shut out for good. What that takes away is shown first; the file alone takes nothing away, so a script is not asked.

Secrets were sealed for the old hardware's key and stay shut for the new one, so they are named here: seal them again once the new hardware has spoken. If the old hardware may be in other hands,
it has their values: give them others.`,
		Example: "  holdfast site replace shop-berlin -o enrol.json",
	}
	var shared tokenFlags
	shared.add(cmd)
	asked := destructive(cmd)
	verb := siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		request := api.TokenRequest{Seconds: int64(shared.expires / time.Second), PreApproved: shared.preApproved}
		impact, err := hub.Foresee().ReplaceSite(ctx, id, request)
		if err != nil {
			return err
		}
		if asked.dry {
			return d.showImpact(formatTable, impact)
		}
		if !asked.yes {
			if err := d.drawImpact(impact); err != nil {
				return err
			}
			if err := d.agreeTo(undone, string(id)); err != nil {
				return err
			}
		}
		site, err := hub.Site(ctx, id)
		if err != nil {
			return err
		}
		if err := d.writeToken(shared, func() (api.TokenGrant, error) { return hub.ReplaceSite(ctx, id, request) }); err != nil {
			return err
		}
		d.leaveSite(ctx, hub, id)
		d.saySealed(site)
		return nil
	})
	run := verb.RunE
	verb.RunE = func(cmd *cobra.Command, args []string) error {
		if !asked.dry {
			if err := shared.check(cmd); err != nil {
				return err
			}
		}
		return run(cmd, args)
	}
	return verb
}

// saySealed names the secrets of a site that other hardware cannot open.
func (d *desk) saySealed(site api.Site) {
	var sealed []string
	for _, b := range site.Assigned {
		if ref, ok := secretOf(b.Name); ok {
			sealed = append(sealed, ref.String())
		}
	}
	if len(sealed) == 0 {
		return
	}
	d.sayf("%d %s sealed for the old hardware alone: %s", len(sealed), plural(len(sealed), "secret"), strings.Join(sealed, ", "))
	d.sayf("when the new hardware has spoken, seal each again: holdfast secret set NAMESPACE/NAME --site %s --accept %s=WORDS --from-file …", site.ID, site.ID)
}

func newSiteLabel(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "label ID NAME=VALUE... NAME-...", Short: "Set labels of a site, or remove them",
		Long: `Set labels of a site, or remove those that are followed by a dash. The site learns of it with its next assignment. Bundles that are no longer
meant for it stay until they are unassigned.`,
		Example: "  holdfast site label shop-berlin tier=flagship pilot-",
		Args:    cobra.ArbitraryArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usagef(cmd, "want ID and labels, got %d %s", len(args), plural(len(args), "argument"))
		}
		id, err := bundle.ParseSiteID(args[0])
		if err != nil {
			return err
		}
		change, err := labelChange(args[1:])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		site, err := hub.LabelSite(cmd.Context(), id, change)
		if err != nil {
			return err
		}
		d.sayf("site %s: %s", id, orDash(labelsText(site.Labels)))
		return nil
	}
	return cmd
}

func labelChange(args []string) (change api.LabelChange, err error) {
	var set []string
	for _, arg := range args {
		if name := arg[:max(len(arg)-1, 0)]; len(name) > 0 && arg == name+"-" {
			change.Remove = append(change.Remove, name)
			continue
		}
		set = append(set, arg)
	}
	change.Set, err = siteLabels(set)
	return change, err
}
