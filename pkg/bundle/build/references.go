package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// references looks for the parameters that values refer to.
type references struct {
	declared map[string]bool
	used     map[string]bool
}

// check walks a value and calls fail for every string that refers to something that is not a declared parameter.
func (r *references) check(v any, at string, fail func(pointer string, err error)) {
	switch v := v.(type) {
	case string:
		names, _, err := bundle.References(v)
		if err != nil {
			fail(at, err)
		}
		for _, name := range names {
			r.used[name] = true
			if !r.declared[name] {
				fail(at, fmt.Errorf("refers to the parameter %s, which %s does not declare", name, ConfigFile))
			}
		}
	case []any:
		for i, member := range v {
			r.check(member, fmt.Sprintf("%s/%d", at, i), fail)
		}
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			pointer := at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			if strings.Contains(key, bundle.ReferenceMark) {
				fail(pointer, errors.New("a key refers to a parameter: only values may"))
			}
			r.check(v[key], pointer, fail)
		}
	}
}
