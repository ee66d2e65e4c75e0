// Package chart renders a Helm chart to plain YAML at the desk, with Helm's own library. It is not an installer: nothing of Helm
// reaches a site, and no release exists there.
//
// What it promises:
//
//	H1  The same chart and values give the same bytes: capabilities are fixed and no cluster, DNS or environment is asked. A chart
//	    whose templates give something else the second time (random passwords, certificates, dates) is refused by the name of the template.
//	H2  Hooks are never dropped or run in silence. Test hooks are left out and named; any other hook is refused unless the caller says
//	    whether to keep it as an ordinary object or to leave it out.
//	H3  What is in crds/ is included.
package chart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// DefaultKubernetes is the version charts are told where the caller says none. It is part of what a bundle is made of, so it
// changes only with a release of Holdfast.
const DefaultKubernetes = "v1.34.0"

// Hooks is what becomes of hooks that are not tests.
type Hooks string

// The choices.
const (
	HooksRefuse Hooks = "refuse"
	HooksKeep   Hooks = "keep" // as ordinary objects
	HooksDrop   Hooks = "drop"
)

// Options are what a chart is rendered with.
type Options struct {
	Release    string // .Release.Name
	Namespace  string // .Release.Namespace
	Kubernetes string // version, empty is DefaultKubernetes
	// APIVersions are added to what .Capabilities.APIVersions.Has knows: the kinds built into Kubernetes.
	APIVersions []string
	Values      []string // YAML files, later ones win
	Set         []string // as helm's --set, win over files
	Hooks       Hooks
}

// File is rendered YAML of one template, named by its path within the chart.
type File struct {
	Name string
	YAML []byte
}

// Rendered is what a chart gives.
type Rendered struct {
	Files []File // in order of names
	// Left are hooks that were left out, as "Job demo-test (test hook of templates/tests/test.yaml)".
	Left []string
	// Kept are hooks that became ordinary objects.
	Kept []string
}

// Is says whether path holds a chart: a directory with a Chart.yaml, or a packaged chart.
func Is(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.IsDir() {
		_, err := os.Stat(filepath.Join(path, chartutil.ChartfileName))
		return err == nil
	}
	return strings.HasSuffix(path, ".tgz")
}

// Render renders the chart at path, a directory or a packaged chart.
func Render(path string, o Options) (*Rendered, error) {
	first, err := renderOnce(path, o)
	if err != nil {
		return nil, err
	}
	again, err := renderOnce(path, o)
	if err != nil {
		return nil, err
	}
	if unsteady := differing(first.files, again.files); len(unsteady) > 0 {
		return nil, fmt.Errorf("chart %s: %s: gives something else each time (a random value, a certificate, a date); set what it generates through values", path, strings.Join(unsteady, ", "))
	}
	return assemble(path, first, o.Hooks)
}

// once is one rendering.
type once struct {
	chart *helm.Chart
	files map[string]string
}

func renderOnce(path string, o Options) (*once, error) {
	c, err := loader.Load(path)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	if err := usable(c); err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	given, err := values(o)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	capabilities, err := capabilities(c, o)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	if err := chartutil.ProcessDependenciesWithMerge(c, given); err != nil {
		return nil, fmt.Errorf("chart %s: dependencies: %w", path, err)
	}
	options := chartutil.ReleaseOptions{Name: o.Release, Namespace: o.Namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, given, options, capabilities)
	if err != nil {
		return nil, fmt.Errorf("chart %s: values: %w", path, err)
	}
	files, err := engine.Engine{}.Render(c, all)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
		}
	}
	return &once{c, files}, nil
}

// usable refuses what cannot give a bundle.
func usable(c *helm.Chart) error {
	if c.Metadata.Type == "library" {
		return errors.New("a library chart has no objects of its own")
	}
	have := map[string]bool{}
	for _, d := range c.Dependencies() {
		have[d.Name()] = true
	}
	var missing []string
	for _, want := range c.Metadata.Dependencies {
		if !have[want.Name] {
			missing = append(missing, want.Name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: not in charts/; run helm dependency build first", strings.Join(missing, ", "))
	}
	return nil
}

// valuesLimit bounds one file of values, in bytes.
const valuesLimit = 4 << 20

func values(o Options) (map[string]any, error) {
	all := map[string]any{}
	for _, path := range o.Values {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Size() > valuesLimit {
			return nil, fmt.Errorf("%s: larger than %d bytes", path, valuesLimit)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		one := map[string]any{}
		if err := yaml.Unmarshal(raw, &one); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = chartutil.MergeTables(one, all)
	}
	for _, set := range o.Set {
		if err := strvals.ParseInto(set, all); err != nil {
			return nil, fmt.Errorf("--set %s: %w", set, err)
		}
	}
	return all, nil
}

// capabilities are those of the version asked for, and of no machine.
func capabilities(c *helm.Chart, o Options) (*chartutil.Capabilities, error) {
	version := o.Kubernetes
	if version == "" {
		version = DefaultKubernetes
	}
	kubernetes, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		return nil, fmt.Errorf("Kubernetes version %q: %w", version, err)
	}
	if want := c.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, kubernetes.String()) {
		return nil, fmt.Errorf("it wants Kubernetes %s, not %s (--kube-version)", want, kubernetes)
	}
	all := chartutil.DefaultCapabilities.Copy()
	all.KubeVersion = *kubernetes
	all.APIVersions = append(slices.Clone(all.APIVersions), o.APIVersions...)
	all.HelmVersion.GoVersion, all.HelmVersion.GitCommit, all.HelmVersion.GitTreeState = "", "", ""
	return all, nil
}

func differing(a, b map[string]string) []string {
	var names []string
	for name, text := range a {
		if b[name] != text {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// assemble sorts what was rendered into objects and hooks.
func assemble(path string, r *once, choice Hooks) (*Rendered, error) {
	hooks, manifests, err := releaseutil.SortManifests(r.files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	texts := map[string]string{}
	add := func(name, text string) {
		texts[name] += "---\n" + strings.TrimSuffix(text, "\n") + "\n"
	}
	for _, crd := range r.chart.CRDObjects() {
		add(crd.Filename, string(crd.File.Data))
	}
	for _, m := range manifests {
		add(m.Name, m.Content)
	}
	out := &Rendered{}
	if err := out.sortHooks(path, hooks, choice, add); err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("chart %s: it gives no objects with these values", path)
	}
	for name, text := range texts {
		out.Files = append(out.Files, File{name, []byte(text)})
	}
	sort.Slice(out.Files, func(i, j int) bool { return out.Files[i].Name < out.Files[j].Name })
	return out, nil
}

func (r *Rendered) sortHooks(path string, hooks []*release.Hook, choice Hooks, add func(name, text string)) error {
	sort.Slice(hooks, func(i, j int) bool {
		a, b := hooks[i], hooks[j]
		return a.Path+"\x00"+a.Kind+"\x00"+a.Name < b.Path+"\x00"+b.Kind+"\x00"+b.Name
	})
	var refused []string
	for _, h := range hooks {
		events := make([]string, len(h.Events))
		for i, e := range h.Events {
			events[i] = string(e)
		}
		said := fmt.Sprintf("%s %s (%s hook of %s)", h.Kind, h.Name, strings.Join(events, ", "), h.Path)
		switch {
		case slices.Contains(h.Events, release.HookTest) || choice == HooksDrop:
			r.Left = append(r.Left, said)
		case choice == HooksKeep:
			r.Kept = append(r.Kept, said)
			add(h.Path, h.Manifest)
		default:
			refused = append(refused, said)
		}
	}
	if len(refused) > 0 {
		return &HooksError{Chart: path, Hooks: refused}
	}
	return nil
}

// HooksError says that a chart has hooks, which a site does not run.
type HooksError struct {
	Chart string
	Hooks []string
}

func (e *HooksError) Error() string {
	return fmt.Sprintf("chart %s: hooks are not run at a site: %s", e.Chart, strings.Join(e.Hooks, "; "))
}

// Hint says what to do about it.
func (e *HooksError) Hint() string {
	return "--hooks keep makes them ordinary objects, --hooks drop leaves them out"
}
