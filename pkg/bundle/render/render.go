// Package render makes the objects of one site of a bundle: the variants whose labels match, then the site's parameter values.
//
// It runs at the site and at the desk, after verification, and gives the same bytes in both places.
//
// # How
//
// Variants apply in the manifest's order, their patches in theirs. A patch applies to every object that its target matches; one that matches none is an
// error. A merge patch is a strategic merge patch for the kinds that client-go knows and a JSON merge patch (RFC 7386) for all others;
// a JSON patch follows RFC 6902, without negative indices. After the patches, references to parameters are replaced in string
// values, never in keys, once: a value that looks like a reference stays as it is.
//
// # Guarantees
//
//   - R1 The same manifest, content, labels and values give the same bytes and the same digest.
//   - R2 A rendered object has the identity and API version that it has in the content; none is added and none is lost.
//   - R3 A value fills exactly one scalar, or a part of one: it cannot add a field, a list member or an object.
//   - R4 An object that nothing applies to is passed on as it is, without being decoded. Rendered objects obey the limits of content.
//   - R5 No error shows a value: it may be a secret.
package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Inputs are what a site brings.
type Inputs struct {
	Labels map[string]string
	Values map[string]any // by parameter: string, bool, and int64 or another whole number
}

// Rendered is what a site applies.
type Rendered struct {
	Objects []bundle.Object // in content order; those that nothing applied to share the content's memory
	Digest  bundle.Digest   // of the content that Objects would make; the content's own if nothing applied
}

// Render makes the objects of one site. m and objects must be verified and decoded.
func Render(m *bundle.Manifest, objects []bundle.Object, in Inputs) (Rendered, error) {
	values, err := Values(m, in.Values)
	if err != nil {
		return Rendered{}, fmt.Errorf("render %s: %w", m.Ref(), err)
	}
	d := newDraft(objects)
	for _, v := range m.Variants {
		selector, err := bundle.ParseSelector(v.Selector)
		if err != nil {
			return Rendered{}, fmt.Errorf("render %s: variant %s: %w", m.Ref(), v.Name, err)
		}
		if !selector.Matches(in.Labels) {
			continue
		}
		if err := d.variant(v); err != nil {
			return Rendered{}, fmt.Errorf("render %s: %w", m.Ref(), err)
		}
	}
	if err := d.fill(values); err != nil {
		return Rendered{}, fmt.Errorf("render %s: %w", m.Ref(), err)
	}
	rendered, err := d.finish()
	if err != nil {
		return Rendered{}, fmt.Errorf("render %s: %w", m.Ref(), err)
	}
	return Rendered{Objects: rendered, Digest: bundle.ContentDigest(rendered)}, nil
}

// ApplyVariant applies one variant, whatever its selector says.
func ApplyVariant(objects []bundle.Object, v bundle.Variant) ([]bundle.Object, error) {
	d := newDraft(objects)
	if err := d.variant(v); err != nil {
		return nil, err
	}
	return d.finish()
}

// Values are the values of all declared parameters: the given ones, and the defaults of the others.
func Values(m *bundle.Manifest, given map[string]any) (map[string]any, error) {
	values := make(map[string]any, len(m.Parameters))
	for _, p := range m.Parameters {
		v, has := given[p.Name]
		switch {
		case has:
			v = whole(v)
			if err := p.CheckValue(v); err != nil {
				return nil, err
			}
			values[p.Name] = v
		case p.Required:
			return nil, fmt.Errorf("parameter %s: required, and no value is given", p.Name)
		default:
			values[p.Name] = p.Default
		}
	}
	unknown := make([]string, 0)
	for name := range given {
		if _, declared := values[name]; !declared {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fmt.Errorf("parameter %.80q: the bundle declares none of this name", unknown[0])
	}
	return values, nil
}

// whole turns the number types that other decoders give into int64, where they hold a whole number.
func whole(v any) any {
	switch n := v.(type) {
	case int:
		return int64(n)
	case float64:
		if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return int64(n)
		}
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return v
}

// draft is content that is being changed. Only changed objects are held as values.
type draft struct {
	objects []bundle.Object
	values  map[int]map[string]any // by index in objects
}

func newDraft(objects []bundle.Object) *draft {
	return &draft{objects: objects, values: map[int]map[string]any{}}
}

func (d *draft) value(i int) (map[string]any, error) {
	if v, open := d.values[i]; open {
		return v, nil
	}
	v, err := bundle.DecodeValue(d.objects[i].JSON, bundle.MaxObjectSize)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not an object")
	}
	d.values[i] = m
	return m, nil
}

func (d *draft) variant(v bundle.Variant) error {
	for n, p := range v.Patches {
		matched := false
		for i, o := range d.objects {
			if !p.Target.Matches(o.ID) {
				continue
			}
			matched = true
			before, err := d.value(i)
			if err == nil {
				d.values[i], err = apply(p, o, before)
			}
			if err != nil {
				return fmt.Errorf("variant %s: patch %d: %s: %w", v.Name, n, o.ID, err)
			}
		}
		if !matched {
			return fmt.Errorf("variant %s: patch %d: no object matches its target %s", v.Name, n,
				bundle.ObjectID{Group: p.Target.Group, Kind: p.Target.Kind, Namespace: p.Target.Namespace, Name: p.Target.Name})
		}
	}
	return nil
}

// fill replaces the references of every object that has any.
func (d *draft) fill(values map[string]any) error {
	if len(values) == 0 {
		return nil
	}
	mark := []byte(bundle.ReferenceMark)
	for i, o := range d.objects {
		_, open := d.values[i]
		if !open && !bytes.Contains(o.JSON, mark) {
			continue
		}
		v, err := d.value(i)
		if err != nil {
			return fmt.Errorf("%s: %w", o.ID, err)
		}
		f := filler{values: values}
		f.fill(v)
		if f.err != nil {
			return fmt.Errorf("%s: %w", o.ID, f.err)
		}
	}
	return nil
}

type filler struct {
	values map[string]any
	size   int // bytes of filled strings
	err    error
}

// fill replaces references in place and returns what belongs in the place of v.
func (f *filler) fill(v any) any {
	switch v := v.(type) {
	case string:
		return f.text(v)
	case []any:
		for i, member := range v {
			v[i] = f.fill(member)
		}
	case map[string]any:
		for key, member := range v {
			v[key] = f.fill(member)
		}
	}
	return v
}

func (f *filler) text(s string) any {
	if f.err != nil || !strings.Contains(s, "${{") {
		return s
	}
	names, _, err := bundle.References(s)
	if err != nil {
		f.err = err
		return s
	}
	for _, name := range names {
		v, declared := f.values[name]
		if !declared {
			f.err = fmt.Errorf("refers to the parameter %s, which the manifest does not declare", name)
			return s
		}
		if text, ok := v.(string); ok {
			f.size += len(text)
		}
	}
	// Checked before anything is put together: many references to one long value make a small object huge.
	if f.size > bundle.MaxObjectSize {
		f.err = fmt.Errorf("its parameters' values take more than the %d bytes allowed", bundle.MaxObjectSize)
		return s
	}
	return bundle.ReplaceReferences(s, func(name string) any { return f.values[name] })
}

// finish encodes what was changed and holds it against what it was.
func (d *draft) finish() ([]bundle.Object, error) {
	objects := slices.Clone(d.objects)
	size := 0
	for i, before := range d.objects {
		if v, changed := d.values[i]; changed {
			b, err := bundle.Canonical(v)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", before.ID, err)
			}
			after, err := bundle.NewObject(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", before.ID, err)
			}
			if after.ID != before.ID || after.Version != before.Version {
				return nil, fmt.Errorf("%s: a patch changes its identity to %s", before.ID, after.ID)
			}
			objects[i] = after
		}
		if size += len(objects[i].JSON) + 1; size > bundle.MaxContentSize {
			return nil, fmt.Errorf("more than the %d bytes of content allowed", bundle.MaxContentSize)
		}
	}
	return objects, nil
}
