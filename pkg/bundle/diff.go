package bundle

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// ChangeKind says what became of an object.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is what became of one object between two contents.
type Change struct {
	ID    ObjectID     `json:"id"`
	Kind  ChangeKind   `json:"kind"`
	Paths []PathChange `json:"paths,omitempty"` // of a changed object, in order of pointers
}

// PathChange is one place of an object. Old and New are canonical JSON; empty where there was or is nothing.
// What a Secret holds, its annotations included, is "(hidden)".
type PathChange struct {
	Pointer string `json:"pointer"` // RFC 6901
	Old     string `json:"old,omitempty"`
	New     string `json:"new,omitempty"`
}

// Hidden stands for a value that is not to be shown.
const Hidden = "(hidden)"

// DiffContent compares two contents by object, in content order. Members of lists are compared by their place.
func DiffContent(a, b []Object) ([]Change, error) {
	was := make(map[ObjectID]Object, len(a))
	for _, o := range a {
		was[o.ID] = o
	}
	var changes []Change
	for _, o := range b {
		old, had := was[o.ID]
		delete(was, o.ID)
		if !had {
			changes = append(changes, Change{ID: o.ID, Kind: Added})
			continue
		}
		if bytes.Equal(old.JSON, o.JSON) {
			continue
		}
		paths, err := diffObject(old, o)
		if err != nil {
			return nil, fmt.Errorf("diff: %s: %w", o.ID, err)
		}
		changes = append(changes, Change{ID: o.ID, Kind: Changed, Paths: paths})
	}
	for id := range was {
		changes = append(changes, Change{ID: id, Kind: Removed})
	}
	slices.SortFunc(changes, func(x, y Change) int { return CompareIDs(x.ID, y.ID) })
	return changes, nil
}

func diffObject(a, b Object) ([]PathChange, error) {
	va, err := DecodeValue(a.JSON, MaxObjectSize)
	if err != nil {
		return nil, err
	}
	vb, err := DecodeValue(b.JSON, MaxObjectSize)
	if err != nil {
		return nil, err
	}
	d := differ{secret: a.ID.Group == "" && a.ID.Kind == "Secret"}
	d.compare("", va, vb)
	return d.paths, nil
}

type differ struct {
	secret bool
	paths  []PathChange
}

// absent stands for no value at all, which null is not.
type absent struct{}

func (d *differ) compare(at string, a, b any) {
	switch a := a.(type) {
	case map[string]any:
		if b, same := b.(map[string]any); same {
			d.compareMaps(at, a, b)
			return
		}
	case []any:
		if b, same := b.([]any); same {
			for i := range max(len(a), len(b)) {
				d.compare(fmt.Sprintf("%s/%d", at, i), member(a, i), member(b, i))
			}
			return
		}
	}
	was, is := d.show(at, a), d.show(at, b)
	if was.plain != is.plain {
		d.paths = append(d.paths, PathChange{Pointer: at, Old: was.shown, New: is.shown})
	}
}

func member(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

func (d *differ) compareMaps(at string, a, b map[string]any) {
	keys := make([]string, 0, len(a)+len(b))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, k := range keys {
		va, inA := a[k]
		vb, inB := b[k]
		if !inA {
			va = absent{}
		}
		if !inB {
			vb = absent{}
		}
		d.compare(at+"/"+escape.Replace(k), va, vb)
	}
}

type shownValue struct{ plain, shown string }

func (d *differ) show(at string, v any) shownValue {
	if _, none := v.(absent); none {
		return shownValue{}
	}
	b, err := Canonical(v)
	if err != nil {
		b = fmt.Appendf(nil, "%v", v)
	}
	if d.secret && !strings.HasPrefix(at, "/metadata/labels/") && at != "/type" {
		return shownValue{string(b), Hidden}
	}
	return shownValue{string(b), string(b)}
}
