package build

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
)

// Options are what the input itself does not say.
type Options struct {
	Dir     string // where the input and its configuration are; BuildObjects takes only the configuration from it
	Name    bundle.Name
	Version bundle.Version
	// Counter is the release counter. 0 takes the seconds of Created since 1970, which grow by themselves.
	Counter bundle.Counter
	Created time.Time  // whole seconds; the caller's clock, so that a build can be repeated
	Expires *time.Time // nil: never

	// Namespace and CreateNamespaces add to what the configuration says.
	Namespace        string
	CreateNamespaces bool
	Strict           bool           // warnings are errors
	Policy           *bundle.Policy // instead of the configuration's
	Config           *Config        // instead of the one in Dir
}

// Result is a bundle that is not yet signed.
type Result struct {
	Manifest      *bundle.Manifest
	ManifestBytes []byte
	Content       []byte          // not compressed
	Objects       []bundle.Object // of Content, whose memory they share
	Warnings      []*Error
	Sources       []string // names of what was read, in order
}

// Build makes a bundle of a directory. What is wrong with the input is an *Errors.
func Build(ctx context.Context, o Options) (*Result, error) {
	form, err := Detect(o.Dir)
	if err != nil {
		return nil, err
	}
	var sources []Source
	switch form {
	case FormHelm:
		return nil, fmt.Errorf("build: %s is a Helm chart: render it first (BuildObjects)", o.Dir)
	case FormKustomize:
		sources, err = kustomizeSources(ctx, o.Dir)
	default:
		sources, err = plainSources(ctx, o.Dir)
	}
	if err != nil {
		return nil, err
	}
	return BuildObjects(ctx, sources, o)
}

// BuildObjects makes a bundle of YAML that was read or rendered elsewhere.
func BuildObjects(ctx context.Context, sources []Source, o Options) (*Result, error) {
	config := o.Config
	if config == nil {
		config = &Config{}
		if o.Dir != "" {
			var err error
			if config, err = ReadConfig(o.Dir); err != nil {
				return nil, err
			}
		}
	}
	b := builder{options: o, config: config, namespace: cmp.Or(o.Namespace, config.Namespace)}
	return b.build(ctx, sources)
}

type builder struct {
	options   Options
	config    *Config
	namespace string
	findings  findings
}

func (b *builder) build(ctx context.Context, sources []Source) (*Result, error) {
	b.config.check(&b.findings)
	items, err := b.read(ctx, sources)
	if err != nil {
		return nil, err
	}
	if err := b.findings.err(); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("build: no Kubernetes objects found")
	}
	draft, err := b.manifest(bundle.ContentInfo{Digest: bundle.DigestOf(nil), Size: 1, Objects: 1})
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	items = append(items, b.namespaces(items)...)
	objects := b.objects(items)
	b.checkReferences(items)
	b.checkProbes(objects)
	if err := b.findings.err(); err != nil {
		return nil, err
	}
	b.checkVariants(draft, objects)
	if b.options.Strict {
		b.findings.errors = append(b.findings.errors, b.findings.warnings...)
	}
	if err := b.findings.err(); err != nil {
		return nil, err
	}
	return b.result(objects, sources)
}

// read turns sources into items that each have an identity and a place.
func (b *builder) read(ctx context.Context, sources []Source) ([]*item, error) {
	var items []*item
	f := &b.findings
	for _, s := range sources {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, it := range readItems(s, f) {
			if it.identify(f) {
				items = append(items, it)
			}
		}
		if len(items) > bundle.MaxObjects {
			return nil, fmt.Errorf("build: more than the %d objects allowed", bundle.MaxObjects)
		}
	}
	defined := definedKinds(items, b.config.ExternalKinds, f)
	for _, it := range items {
		it.place(defined, b.namespace, f)
		it.warnSecret(f)
	}
	refuseDuplicates(items, f)
	return items, nil
}

// namespaces returns the namespaces that are to be created, or warns of those that must be there.
func (b *builder) namespaces(items []*item) []*item {
	have := map[string]bool{}
	for _, it := range items {
		if it.id.Group == "" && it.id.Kind == "Namespace" {
			have[it.id.Name] = true
		}
	}
	var created []*item
	for _, it := range items {
		ns := it.id.Namespace
		if ns == "" || have[ns] || lastingNamespaces[ns] {
			continue
		}
		have[ns] = true
		if !b.options.CreateNamespaces && !b.config.CreateNamespaces {
			b.findings.warn(it.fail("/metadata/namespace", "namespace %s is not in the bundle: it must exist at the site, or build with --create-namespace", ns))
			continue
		}
		created = append(created, &item{
			document: it.document, node: it.node, version: "v1", id: bundle.ObjectID{Kind: "Namespace", Name: ns},
			value: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns}},
		})
	}
	return created
}

func (b *builder) objects(items []*item) []bundle.Object {
	objects := make([]bundle.Object, 0, len(items))
	for _, it := range items {
		object, err := it.object()
		if err != nil {
			b.findings.refuse(it.fail("", "%w", err))
			continue
		}
		objects = append(objects, object)
	}
	slices.SortFunc(objects, func(x, y bundle.Object) int { return bundle.CompareIDs(x.ID, y.ID) })
	return objects
}

// checkProbes refuses probes of what is not in the bundle: no site would take them.
func (b *builder) checkProbes(objects []bundle.Object) {
	for i, p := range b.config.Policy.Probes {
		if !slices.ContainsFunc(objects, func(o bundle.Object) bool { return p.About(o.ID, o.JSON) }) {
			b.findings.refuse(b.config.fail(fmt.Sprintf("/policy/probes/%d", i), fmt.Errorf("a probe of %s in namespace %s: no Service or workload of the bundle is meant by it", p.Target(), p.Namespace)))
		}
	}
}

func (b *builder) checkReferences(items []*item) {
	r := references{declared: map[string]bool{}, used: map[string]bool{}}
	for _, p := range b.config.Parameters {
		r.declared[p.Name] = true
	}
	for _, it := range items {
		r.check(it.value, "", func(pointer string, err error) { b.findings.refuse(it.fail(pointer, "%s: %w", pointer, err)) })
	}
	for i, v := range b.config.Variants {
		for j, p := range v.Patches {
			at := fmt.Sprintf("/variants/%d/patches/%d", i, j)
			fail := func(pointer string, err error) {
				b.findings.refuse(b.config.fail(pointer, fmt.Errorf("variant %s: %w", v.Name, err)))
			}
			if p.Merge != nil {
				r.check(p.Merge, at+"/merge", fail)
			}
			r.check(p.JSON, at+"/json", fail)
		}
	}
	for i, p := range b.config.Parameters {
		if !r.used[p.Name] {
			b.findings.warn(b.config.fail(fmt.Sprintf("/parameters/%d", i), fmt.Errorf("parameter %s is never used", p.Name)))
		}
	}
}

// checkVariants applies each variant by itself, so that no site is the first to find out that a patch does not fit.
func (b *builder) checkVariants(m *bundle.Manifest, objects []bundle.Object) {
	for i, v := range m.Variants {
		if _, err := render.ApplyVariant(objects, v); err != nil {
			b.findings.refuse(b.config.fail(fmt.Sprintf("/variants/%d", i), err))
		}
	}
}

func (b *builder) manifest(content bundle.ContentInfo) (*bundle.Manifest, error) {
	o, c := b.options, b.config
	if o.Created.IsZero() {
		return nil, errors.New("the time of creation is not given")
	}
	created := o.Created.UTC().Truncate(time.Second)
	m := &bundle.Manifest{
		Schema: bundle.Schema, Name: o.Name, Version: o.Version, Counter: o.Counter, Created: created,
		Target: c.Target, Requires: c.Requires, Parameters: c.Parameters, Variants: c.Variants, Policy: c.Policy.policy(), Content: content,
	}
	if m.Counter == 0 {
		m.Counter = bundle.Counter(created.Unix())
	}
	if o.Expires != nil {
		expires := o.Expires.UTC().Truncate(time.Second)
		m.Expires = &expires
	}
	if o.Policy != nil {
		m.Policy = *o.Policy
	}
	encoded, err := bundle.EncodeManifest(m)
	if err != nil {
		return nil, err
	}
	return bundle.DecodeManifest(encoded)
}

func (b *builder) result(objects []bundle.Object, sources []Source) (*Result, error) {
	content, err := bundle.EncodeContent(objects)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	info := bundle.ContentInfo{Digest: bundle.DigestOf(content), Size: int64(len(content)), Objects: bytes.Count(content, []byte{'\n'})}
	m, err := b.manifest(info)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	encoded, err := bundle.EncodeManifest(m)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	// What is given out is what any reader will read.
	decoded, err := bundle.DecodeContent(content, info)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	r := &Result{Manifest: m, ManifestBytes: encoded, Content: content, Objects: decoded, Warnings: sortErrors(b.findings.warnings)}
	for _, s := range sources {
		r.Sources = append(r.Sources, s.Name)
	}
	return r, nil
}
