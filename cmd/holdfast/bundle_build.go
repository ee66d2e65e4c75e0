package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/cmd/holdfast/chart"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/build"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
)

// buildPlan is what bundle build was told.
type buildPlan struct {
	path, name, version, out string
	counter                  uint64
	created, expires, config string
	namespace                string
	createNamespace, strict  bool
	chart                    chart.Options
	hooks                    string
}

func newBundleBuild(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build DIR|CHART --name NAME --version VERSION",
		Short: "Build a bundle of plain YAML, a kustomization or a Helm chart",
		Long: `Build a bundle of a directory of YAML, a kustomization or a Helm chart (a directory with a Chart.yaml, or a .tgz).
Parameters, variants by site label and policy come from holdfast.yaml in the directory, or --config.

The same input gives the same bytes on every machine. So the time of building is noted only if you give it: --created, or
SOURCE_DATE_EPOCH. The release counter is made of the version (1.4.2 is 1004002900); --counter gives another, for example to
publish old content again. All that is wrong with the input is listed, with file and line.`,
		Example: `  holdfast bundle build ./manifests --name shop --version 1.0.0 -o shop-1.0.0.hfb
  holdfast bundle build ./chart --name shop --version 1.0.0 --namespace shop --create-namespace --set image.tag=1.0.0`,
		Args: exactly("DIR"),
	}
	var p buildPlan
	flags := cmd.Flags()
	flags.StringVar(&p.name, "name", "", "`name` of the bundle")
	flags.StringVar(&p.version, "version", "", "semantic `version` of the bundle")
	flags.StringVarP(&p.out, "output", "o", "", "`file` to write (default NAME-VERSION.hfb)")
	flags.Uint64Var(&p.counter, "counter", 0, "release counter (default: made of the version)")
	flags.StringVar(&p.created, "created", "", "now, or a `time` in RFC 3339 (default SOURCE_DATE_EPOCH, or not recorded)")
	flags.StringVar(&p.expires, "expires", "", "`time` in RFC 3339 from which no site applies it for the first time")
	flags.StringVar(&p.config, "config", "", "`file` instead of the holdfast.yaml in the directory")
	flags.StringVarP(&p.namespace, "namespace", "n", "", "`namespace` for namespaced objects that have none")
	flags.BoolVar(&p.createNamespace, "create-namespace", false, "add the namespaces that objects stand in and the input does not create")
	flags.BoolVar(&p.strict, "strict", false, "refuse what is otherwise warned of, such as plain-text Secrets")
	flags.StringArrayVar(&p.chart.Values, "values", nil, "`file` of values for a Helm chart; may be repeated")
	flags.StringArrayVar(&p.chart.Set, "set", nil, "`key=value` for a Helm chart, as helm's --set; may be repeated")
	flags.StringVar(&p.chart.Release, "release", "", "release `name` a Helm chart is told (default NAME)")
	flags.StringVar(&p.chart.Kubernetes, "kube-version", chart.DefaultKubernetes, "Kubernetes `version` a Helm chart is told")
	flags.StringArrayVar(&p.chart.APIVersions, "api-versions", nil, "API version a Helm chart is told there is; may be repeated")
	flags.StringVar(&p.hooks, "hooks", string(chart.HooksRefuse), "what becomes of a Helm chart's hooks: `refuse`, keep or drop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.path = args[0]
		if p.name == "" || p.version == "" {
			return usagef(cmd, "--name and --version are needed")
		}
		p.chart.Hooks = chart.Hooks(p.hooks)
		switch p.chart.Hooks {
		case chart.HooksRefuse, chart.HooksKeep, chart.HooksDrop:
		default:
			return usagef(cmd, "--hooks %q: want refuse, keep or drop", p.hooks)
		}
		return d.build(cmd, p)
	}
	return cmd
}

func (d *desk) build(cmd *cobra.Command, p buildPlan) error {
	options, err := d.buildOptions(p)
	if err != nil {
		return err
	}
	built, err := d.buildFrom(cmd, p, options)
	if err != nil {
		return explainBuild(err)
	}
	for _, w := range built.Warnings {
		d.sayf("warning: %s", w)
	}
	packed, err := wire.Compress(built.Content)
	if err != nil {
		return err
	}
	raw, err := bundle.EncodeFile(&bundle.File{Manifest: built.ManifestBytes, Content: packed})
	if err != nil {
		return err
	}
	out := p.out
	if out == "" {
		out = p.name + "-" + p.version + ".hfb"
	}
	if err := d.writeWhole(out, raw, 0o644); err != nil {
		return err
	}
	m := built.Manifest
	d.sayf("%s: %d %s, %s, counter %d, written to %s (%s)", m.Ref(), len(built.Objects), plural(len(built.Objects), "object"),
		api.Bytes(m.Content.Size), m.Counter, out, api.Bytes(len(raw)))
	d.sayf("digest %s", bundle.DigestOf(built.ManifestBytes))
	return nil
}

func (d *desk) buildOptions(p buildPlan) (o build.Options, err error) {
	if o.Name, err = bundle.ParseName(p.name); err != nil {
		return o, err
	}
	if o.Version, err = bundle.ParseVersion(p.version); err != nil {
		return o, err
	}
	if o.Counter = bundle.Counter(p.counter); p.counter == 0 {
		if o.Counter, err = counterOf(o.Version); err != nil {
			return o, err
		}
	}
	if o.Created, err = d.creation(p.created); err != nil {
		return o, err
	}
	if p.expires != "" {
		expires, err := time.Parse(time.RFC3339, p.expires)
		if err != nil {
			return o, fmt.Errorf("--expires %q: want a time such as 2027-01-01T00:00:00Z", p.expires)
		}
		o.Expires = &expires
	}
	if p.config != "" {
		raw, err := readLimited(p.config, bundle.MaxManifestSize)
		if err != nil {
			return o, err
		}
		if o.Config, err = build.ParseConfig(raw); err != nil {
			return o, fmt.Errorf("%s: %w", p.config, err)
		}
	}
	o.Namespace, o.CreateNamespaces, o.Strict = p.namespace, p.createNamespace, p.strict
	return o, nil
}

func (d *desk) buildFrom(cmd *cobra.Command, p buildPlan, o build.Options) (*build.Result, error) {
	if !chart.Is(p.path) {
		if f := cmd.Flags(); f.Changed("values") || f.Changed("set") || f.Changed("release") || f.Changed("hooks") || f.Changed("kube-version") || f.Changed("api-versions") {
			return nil, usagef(cmd, "%s is no Helm chart: --values, --set, --release, --hooks, --kube-version and --api-versions are for charts", p.path)
		}
		o.Dir = p.path
		return build.Build(cmd.Context(), o)
	}
	if info, err := os.Stat(p.path); err == nil && info.IsDir() && o.Config == nil {
		if o.Config, err = build.ReadConfig(p.path); err != nil {
			return nil, err
		}
	}
	how := p.chart
	if how.Release == "" {
		how.Release = p.name
	}
	if how.Namespace = p.namespace; how.Namespace == "" && o.Config != nil {
		how.Namespace = o.Config.Namespace
	}
	rendered, err := chart.Render(p.path, how)
	if err != nil {
		return nil, err
	}
	for _, hook := range rendered.Left {
		d.sayf("warning: left out: %s", hook)
	}
	for _, hook := range rendered.Kept {
		d.sayf("warning: kept as an ordinary object: %s", hook)
	}
	sources := make([]build.Source, len(rendered.Files))
	for i, f := range rendered.Files {
		sources[i] = build.Source{Name: f.Name, YAML: f.YAML}
	}
	return build.BuildObjects(cmd.Context(), sources, o)
}

// explainBuild adds what to do about a refusal, where there is something.
func explainBuild(err error) error {
	var hooks *chart.HooksError
	if errors.As(err, &hooks) {
		return withHint(err, hooks.Hint())
	}
	return err
}
