package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func newSite(d *desk) *cobra.Command {
	return group("site", "Add, approve, list, show, label, cordon and remove sites", newSiteAdd(d), newSiteList(d), newSiteShow(d), newSiteExport(d), newSitePending(d), newSiteApprove(d), newSiteReject(d),
		newSiteLabel(d), newSiteCordon(d), newSiteUncordon(d), newSiteRevoke(d), newSiteRelease(d), newSiteReplace(d), newSiteDecommission(d))
}

func newSiteAdd(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Make a site known to the hub and write its site file",
		Long: `Make a site known to the hub and write its site file, which is all an edge agent needs to be that site.

The site's key is made here; only its public half is sent to the hub. The file holds the secret half: it is readable by you
alone and never overwritten. Carry it to the site as you would a password.`,
		Example: "  holdfast site add shop-berlin --label region=eu --label tier=flagship -o shop-berlin.site.json",
		Args:    exactly("ID"),
	}
	labels := cmd.Flags().StringArrayP("label", "l", nil, "`name=value` of the site; may be repeated")
	out := cmd.Flags().StringP("output", "o", "", "`file` to write (default ID.site.json)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := bundle.ParseSiteID(args[0])
		if err != nil {
			return err
		}
		parsed, err := siteLabels(*labels)
		if err != nil {
			return err
		}
		path := *out
		if path == "" {
			path = string(id) + ".site.json"
		}
		return d.addSite(cmd, id, parsed, path)
	}
	return cmd
}

func siteLabels(lists []string) (map[string]string, error) {
	labels, err := parseLabels(lists)
	if err != nil {
		return nil, err
	}
	for key, value := range labels {
		if err := bundle.CheckLabel(key, value); err != nil {
			return nil, err
		}
	}
	return labels, nil
}

func (d *desk) addSite(cmd *cobra.Command, id bundle.SiteID, labels map[string]string, path string) error {
	hub, err := d.hub()
	if err != nil {
		return err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("site %s: make its key: %w", id, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return fmt.Errorf("site %s: its public key: %w", id, err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("site %s: its seed: %w", id, err)
	}
	// The file is made before the hub is asked: a grant is given once, and must have somewhere to go.
	if err := writeNew(path, nil, 0o600); err != nil {
		return err
	}
	grant, err := hub.AddSite(cmd.Context(), api.SiteRequest{ID: id, Labels: labels, PublicKey: public})
	if err != nil {
		os.Remove(path)
		return err
	}
	file := fleetsync.SiteFile{
		Schema: fleetsync.SiteFileSchema, Site: grant.Site, Servers: grant.Servers, CA: grant.CA, JWT: grant.JWT,
		Seed: string(seed), HeartBeatSeconds: grant.HeartBeat, Trust: grant.Trust,
		Hubs: grant.Hubs, HubCA: grant.HubCA,
	}
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("site file: %w", err)
	}
	if err := d.writeWhole(path, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	if raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(public)); err == nil {
		d.noteSites(cmd.Context(), hub, map[bundle.SiteID]string{id: wordsOf(raw)})
	}
	d.sayf("site %s added; its secret is in %s", id, path)
	d.sayf("next: holdfast-edge run --site-file %s --data DIR", path)
	return nil
}

func newSiteShow(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all that is known about a site, and how old it is",
		Example: "  holdfast site show shop-berlin",
		Args:    exactly("ID"),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := bundle.ParseSiteID(args[0])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		site, err := hub.Site(cmd.Context(), id)
		if err != nil {
			return err
		}
		return d.show(*f, site, func() page { return sitePage(site, d.now()) })
	}
	return cmd
}
