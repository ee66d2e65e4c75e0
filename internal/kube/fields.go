package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// parsePointer splits a JSON pointer (RFC 6901) into its tokens.
func parsePointer(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("path %.100q: want a JSON pointer such as /spec/replicas", pointer)
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, t := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

func lookup(value any, tokens []string) (any, bool) {
	for _, t := range tokens {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[t]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// without gives value without the field at tokens, and without the parents that are empty then.
func without(value any, tokens []string) any {
	if len(tokens) == 0 {
		return value
	}
	switch v := value.(type) {
	case map[string]any:
		child, ok := v[tokens[0]]
		if !ok {
			return v
		}
		if len(tokens) == 1 {
			delete(v, tokens[0])
			return v
		}
		v[tokens[0]] = without(child, tokens[1:])
	case []any:
		i, err := strconv.Atoi(tokens[0])
		if err != nil || i < 0 || i >= len(v) {
			return v
		}
		if len(tokens) == 1 {
			return slices.Delete(v, i, i+1)
		}
		v[i] = without(v[i], tokens[1:])
	}
	return value
}

// with gives value with the field at tokens set, where its parents are there.
func with(value any, tokens []string, field any) any {
	if len(tokens) == 0 {
		return field
	}
	switch v := value.(type) {
	case map[string]any:
		child, ok := v[tokens[0]]
		if !ok && len(tokens) > 1 {
			return v // the bundle says nothing of the parent
		}
		v[tokens[0]] = with(child, tokens[1:], field)
	case []any:
		if i, err := strconv.Atoi(tokens[0]); err == nil && i >= 0 && i < len(v) {
			v[i] = with(v[i], tokens[1:], field)
		}
	}
	return value
}

// maxManagers bounds the managers that one difference names.
const maxManagers = 5

// holders are the field managers other than manager that hold any of the paths, the most recent first. Of a field that is missing it is who
// last wrote to the nearest parent that is there – which is a guess, so it is made only when nobody holds a path itself.
func holders(live *unstructured.Unstructured, pointers []string, manager string) []string {
	entries := slices.Clone(live.GetManagedFields())
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		switch {
		case a.Time == nil || b.Time == nil:
			return 0
		default:
			return b.Time.Compare(a.Time.Time)
		}
	})
	var out []string
	for _, e := range entries {
		if e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply || e.Subresource == "status" || slices.Contains(out, e.Manager) {
			continue
		}
		fields := fieldsOf(e)
		for _, p := range pointers {
			tokens, err := parsePointer(p)
			if err == nil && holds(fields, live.Object, tokens) {
				out = append(out, e.Manager)
				break
			}
		}
		if len(out) == maxManagers {
			break
		}
	}
	return out
}

// heldByAnother says that a manager other than ours holds the field itself.
func heldByAnother(live *unstructured.Unstructured, tokens []string, manager string) bool {
	return slices.ContainsFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager != manager && holds(fieldsOf(e), live.Object, tokens)
	})
}

// heldBy says that one of the managers holds the field itself.
func heldBy(live *unstructured.Unstructured, tokens, managers []string) bool {
	return slices.ContainsFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return slices.Contains(managers, e.Manager) && holds(fieldsOf(e), live.Object, tokens)
	})
}

func fieldsOf(e metav1.ManagedFieldsEntry) map[string]any {
	var fields map[string]any
	if e.FieldsV1 == nil || json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	return fields
}

// holds walks a field set (FieldsV1: f:name, k:{keys}, v:value) along a pointer into the live object. A set that ends on the way holds the
// field as part of something atomic.
func holds(fields map[string]any, live any, tokens []string) bool {
	if fields == nil {
		return false
	}
	for i, t := range tokens {
		var next any
		var ok bool
		switch v := live.(type) {
		case map[string]any:
			next, ok = fields["f:"+t]
			live = v[t]
		case []any:
			at, err := strconv.Atoi(t)
			if err != nil || at < 0 || at >= len(v) {
				return false
			}
			next, ok = element(fields, v[at])
			live = v[at]
		default:
			return i > 0 && len(fields) == 0
		}
		if !ok {
			return i > 0 && len(fields) == 0
		}
		fields, _ = next.(map[string]any)
	}
	return true
}

// element finds the part of a list's field set that speaks of one element.
func element(fields map[string]any, value any) (any, bool) {
	for key, next := range fields {
		switch {
		case strings.HasPrefix(key, "k:"):
			var keys map[string]any
			object, isMap := value.(map[string]any)
			if json.Unmarshal([]byte(key[2:]), &keys) != nil || !isMap {
				continue
			}
			if same(keys, object) {
				return next, true
			}
		case strings.HasPrefix(key, "v:"):
			if b, err := json.Marshal(value); err == nil && string(b) == key[2:] {
				return next, true
			}
		}
	}
	return nil, false
}

func same(keys, object map[string]any) bool {
	for k, want := range keys {
		if fmt.Sprint(object[k]) != fmt.Sprint(want) {
			return false
		}
	}
	return true
}

// escape writes a key as a token of a JSON pointer.
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
