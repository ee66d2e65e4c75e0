package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
)

func newBundleRender(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render FILE",
		Short: "Show the objects a site with these labels and values would apply",
		Long: `Show the objects a site with these labels and values would apply. With -o json they are the very bytes a site's rendered digest
is over, one object a line; with -o yaml (the default) the same objects to read. The digest is told on stderr.
With --site, labels and values are those the hub has for the site, and its own digest is compared. Nothing is verified.`,
		Example: `  holdfast bundle render shop-1.0.0.hfb --site-labels region=eu --set replicas=3
  holdfast bundle render shop-1.0.0.hfb --site shop-berlin -o json | sha256sum`,
		Args: exactly("FILE"),
	}
	labels := cmd.Flags().StringArray("site-labels", nil, "`name=value` of the site, separated by commas; may be repeated")
	sets := cmd.Flags().StringArray("set", nil, "`name=value` of a parameter; may be repeated")
	site := cmd.Flags().String("site", "", "take labels and values from this `site` at the hub")
	f := formatYAML
	cmd.Flags().VarP(&f, "output", "o", "yaml or json")
	complete(cmd, "output", "yaml", "json")
	cmd.MarkFlagsMutuallyExclusive("site", "site-labels")
	cmd.MarkFlagsMutuallyExclusive("site", "set")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f == formatTable {
			return usagef(cmd, "-o table: want yaml or json")
		}
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		in, said, err := d.inputs(cmd.Context(), b.manifest, *site, *labels, *sets)
		if err != nil {
			return err
		}
		return d.render(b, in, said, f)
	}
	return cmd
}

// inputs are what the site brings, and the digest it said it rendered, where it did so of this very bundle.
func (d *desk) inputs(ctx context.Context, m *bundle.Manifest, site string, labels, sets []string) (in render.Inputs, said bundle.Digest, err error) {
	if site != "" {
		return d.inputsOf(ctx, m, site)
	}
	if in.Labels, err = siteLabels(labels); err != nil {
		return in, "", err
	}
	in.Values, err = typedValues(sets, m.Parameters)
	return in, "", err
}

func (d *desk) inputsOf(ctx context.Context, m *bundle.Manifest, site string) (in render.Inputs, said bundle.Digest, err error) {
	id, err := bundle.ParseSiteID(site)
	if err != nil {
		return in, "", err
	}
	hub, err := d.hub()
	if err != nil {
		return in, "", err
	}
	known, err := hub.Site(ctx, id)
	if err != nil {
		return in, "", err
	}
	in.Labels = known.Labels
	assigned := false
	for _, a := range known.Assigned {
		if a.Name == m.Name {
			in.Values, assigned = a.Values, true
		}
	}
	if !assigned {
		d.sayf("warning: %s is not assigned to %s: it is rendered with the defaults", m.Name, id)
	}
	return in, renderedThere(known, m), nil
}

// renderedThere is the digest the site said it rendered of this name and version.
func renderedThere(s api.Site, m *bundle.Manifest) bundle.Digest {
	if s.State == nil {
		return ""
	}
	for _, b := range s.State.Bundles {
		if b.Name == m.Name && b.Desired == m.Version {
			return b.Rendered
		}
	}
	return ""
}

func (d *desk) render(b *opened, in render.Inputs, said bundle.Digest, f format) error {
	_, objects, err := b.content()
	if err != nil {
		return err
	}
	rendered, err := render.Render(b.manifest, objects, in)
	if err != nil {
		return withHint(err, "holdfast bundle inspect FILE lists parameters and variants")
	}
	var out bytes.Buffer
	for _, o := range rendered.Objects {
		if f == formatJSON {
			out.Write(o.JSON)
			out.WriteByte('\n')
			continue
		}
		text, err := yaml.JSONToYAML(o.JSON)
		if err != nil {
			return fmt.Errorf("%s: %w", o.ID, err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	if _, err := d.out.Write(out.Bytes()); err != nil {
		return err
	}
	d.sayf("%d %s, rendered digest %s", len(rendered.Objects), plural(len(rendered.Objects), "object"), rendered.Digest)
	switch said {
	case "":
	case rendered.Digest:
		d.sayf("the site said it rendered the same")
	default:
		return &failure{code: exitDifferent, message: "the site said it rendered something else: " + string(said), hint: "it may not have the newest assignment yet: holdfast site show tells"}
	}
	return nil
}
