package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newSecret(d *desk) *cobra.Command {
	return group("secret", "Give sites secrets that neither the hub nor the bus can read", newSecretSet(d), newSecretList(d), newSecretDelete(d))
}

// secretRef is the namespace and name of a Kubernetes Secret at sites.
type secretRef struct{ namespace, name string }

func (r secretRef) String() string { return r.namespace + "/" + r.name }

func (r secretRef) bundle() bundle.Name {
	return bundle.Name(secret.BundlePrefix + r.namespace + secret.BundleInner + r.name)
}

func parseSecretRef(s string) (secretRef, error) {
	namespace, name, both := strings.Cut(s, "/")
	r := secretRef{namespace, name}
	_, bad := bundle.ParseName(string(r.bundle()))
	for _, part := range []string{namespace, name} {
		if _, err := bundle.ParseName(part); err != nil || strings.Contains(part, secret.BundleInner) {
			bad = fmt.Errorf("%.80q", part)
		}
	}
	if !both || bad != nil {
		return secretRef{}, &failure{code: exitUsage, message: fmt.Sprintf("secret %.120q: want NAMESPACE/NAME", s),
			hint: "both of lower-case letters, digits and single inner dashes, together at most 54 characters"}
	}
	return r, nil
}

// secretOf is the secret that a bundle is for; ok is false for any other bundle.
func secretOf(name bundle.Name) (r secretRef, ok bool) {
	r.namespace, r.name, ok = secret.OfBundle(name)
	return r, ok
}

// siteChoice is choice with the sites named by flags, for verbs whose argument is something else.
func siteChoice(cmd *cobra.Command) func(context.Context, *api.Client) ([]bundle.SiteID, error) {
	named := cmd.Flags().StringSlice("site", nil, "`sites` by name; may be repeated")
	chosen := choiceFlags(cmd)
	return func(ctx context.Context, hub *api.Client) ([]bundle.SiteID, error) {
		return chosen.sites(ctx, cmd, hub, *named)
	}
}

// chosenSites are what the hub knows of the chosen sites, in their order.
func chosenSites(ctx context.Context, hub *api.Client, ids []bundle.SiteID) ([]api.Site, error) {
	if len(ids) == 1 {
		site, err := hub.Site(ctx, ids[0])
		return []api.Site{site}, err
	}
	known, err := hub.Sites(ctx, "")
	if err != nil {
		return nil, err
	}
	byID := make(map[bundle.SiteID]api.Site, len(known))
	for _, s := range known {
		byID[s.ID] = s
	}
	sites := make([]api.Site, 0, len(ids))
	for _, id := range ids {
		s, ok := byID[id]
		if !ok {
			return nil, &failure{code: exitNotFound, message: fmt.Sprintf("site %s is not known", id), hint: "holdfast site list shows the sites"}
		}
		sites = append(sites, s)
	}
	return sites, nil
}
