package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newSiteCordon(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cordon ID --reason TEXT", Short: "Keep rollouts from giving a site anything new",
		Long: `Keep rollouts from giving a site anything new. What it was given already goes on, and holdfast assign still reaches it. Who cordoned it, when and why
is shown wherever the site is.`,
		Example: `  holdfast site cordon shop-berlin --reason "audit until friday"`,
	}
	reason := cmd.Flags().String("reason", "", "why, for whoever finds it cordoned (required)")
	verb := siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		if _, err := hub.CordonSite(ctx, id, *reason); err != nil {
			return err
		}
		d.sayf("site %s is cordoned: %s", id, *reason)
		return nil
	})
	run := verb.RunE
	verb.RunE = func(cmd *cobra.Command, args []string) error {
		if *reason == "" {
			return usagef(cmd, "--reason is needed")
		}
		return run(cmd, args)
	}
	return verb
}

func newSiteUncordon(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "uncordon ID", Short: "Let rollouts give a site something new again", Example: "  holdfast site uncordon shop-berlin",
	}
	return siteVerb(d, cmd, func(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
		if _, err := hub.UncordonSite(ctx, id); err != nil {
			return err
		}
		d.sayf("site %s is not cordoned", id)
		return nil
	})
}
