package apply

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Base names every field of an object as it was applied, by short hashes and without values. A field that is wanted as the Base has it, and is
// otherwise in the cluster, was changed by somebody else since. The zero Base knows nothing.
type Base string

// The bounds of a Base: 48 bits name a field; of a larger object only the whole is named, so that any change of ours makes all of it ours.
const (
	baseName   = 8 // characters
	baseFields = 512
)

// BaseOf is the Base of a body, which is a JSON object.
func BaseOf(body []byte) Base {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	var names []string
	fields("", v, func(path string, value any) { names = append(names, nameOf(path, value)) })
	if len(names) > baseFields {
		return Base(nameOf("", v))
	}
	slices.Sort(names)
	return Base(strings.Join(names, ""))
}

func nameOf(path string, value any) string {
	b, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(append([]byte(path+"\x00"), b...))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

func (b Base) has(path string, value any) bool {
	name := nameOf(path, value)
	for i := 0; i+baseName <= len(b); i += baseName {
		if string(b[i:i+baseName]) == name {
			return true
		}
	}
	return false
}

// Left says whether the field at tokens, a path into merged, which is what an apply of body would make of the live object, is wanted as it was
// when it was applied last. cut is the path into body that is then to be left out. Our own label is never left to others.
func (b Base) Left(body, merged any, tokens []string) (cut []string, left bool) {
	value, path, cut, ok := follow(body, merged, tokens)
	if b == "" || !ok {
		return nil, false
	}
	left = true
	fields(path, value, func(path string, value any) {
		left = left && path != "/metadata/labels/"+Label && (len(b) == baseName || b.has(path, value))
	})
	if len(b) == baseName {
		left = left && b.has("", body)
	}
	return cut, left
}

// Counterpart is where in body the field at tokens of merged stands, if body says anything of it.
func Counterpart(body, merged any, tokens []string) ([]string, bool) {
	_, _, cut, ok := follow(body, merged, tokens)
	return cut, ok
}

// follow walks body and merged side by side, as far as body goes.
func follow(body, merged any, tokens []string) (value any, path string, at []string, ok bool) {
	value = body
	for _, t := range tokens {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[t]
			if !ok {
				return nil, "", nil, false
			}
			value, path, at = next, path+"/"+t, append(at, t)
		case []any:
			if !listOfMaps(v) {
				return value, path, at, true
			}
			i, id := counterpart(v, merged, t)
			if i < 0 {
				return nil, "", nil, false
			}
			value, path, at = v[i], path+"/"+id, append(at, strconv.Itoa(i))
		default:
			return value, path, at, true
		}
		merged = child(merged, t)
	}
	return value, path, at, true
}

// fields visits the leaves of a tree: scalars, empty maps and lists of anything but maps. The path of an element of a list of maps names it by
// what Kubernetes merges such lists by, so that it does not depend on the elements before it.
func fields(path string, value any, visit func(path string, value any)) {
	switch v := value.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fields(path+"/"+k, v[k], visit)
		}
		if len(v) > 0 {
			return
		}
	case []any:
		if listOfMaps(v) {
			for i := range v {
				fields(path+"/"+identity(v, i), v[i], visit)
			}
			return
		}
	}
	visit(path, value)
}

// counterpart finds the element of ours that is the one at index token of the merged list, or gives -1.
func counterpart(ours []any, merged any, token string) (at int, id string) {
	list, _ := merged.([]any)
	i, err := strconv.Atoi(token)
	if err != nil || i < 0 || i >= len(list) {
		return -1, ""
	}
	id = identity(list, i)
	for at := range ours {
		if identity(ours, at) == id {
			return at, id
		}
	}
	return -1, ""
}

func listOfMaps(list []any) bool {
	for _, v := range list {
		if _, ok := v.(map[string]any); !ok {
			return false
		}
	}
	return len(list) > 0
}

// identities are the keys by which Kubernetes merges lists, in the order they are looked for.
var identities = []string{"name", "containerPort", "port", "mountPath", "devicePath", "ip", "uid", "key", "topologyKey", "type"}

// identity names an element among its siblings; by its index where no key is there for it alone.
func identity(list []any, i int) string {
	key := func(v any) string {
		m, _ := v.(map[string]any)
		for _, k := range identities {
			if value, ok := m[k]; ok {
				id := fmt.Sprint(k, "=", value)
				if protocol, ok := m["protocol"]; ok && protocol != "TCP" {
					id += fmt.Sprint("/", protocol)
				}
				return id
			}
		}
		return ""
	}
	own := key(list[i])
	for j := range list {
		if own == "" || j != i && key(list[j]) == own {
			return strconv.Itoa(i)
		}
	}
	return own
}

func child(value any, token string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[token]
	case []any:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	return nil
}

// Rebase gives the inventory the bases of what is desired where exactly that was applied, and says whether it had not had them: from then on
// what others change is theirs.
func Rebase(desired Desired, inventory Inventory) (Inventory, bool) {
	wanted := make(map[bundle.ObjectID]*Object, len(desired.Objects))
	for i := range desired.Objects {
		wanted[desired.Objects[i].ObjectID] = &desired.Objects[i]
	}
	items, changed := slices.Clone(inventory.Items), false
	for i := range items {
		if o := wanted[items[i].ObjectID]; o != nil && items[i].Hash == o.Hash && items[i].Base != o.base {
			items[i].Base, changed = o.base, true
		}
	}
	inventory.Items = items
	return inventory, changed
}
