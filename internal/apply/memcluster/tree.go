package memcluster

import (
	"encoding/json"
	"reflect"
	"strings"
)

// leaves are the values of a tree by JSON pointer, as JSON. Lists and empty objects are leaves.
func leaves(body map[string]any) map[string]string {
	out := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			for k, child := range m {
				walk(prefix+"/"+escape(k), child)
			}
			return
		}
		b, err := json.Marshal(v)
		if err != nil {
			b = []byte(err.Error())
		}
		out[prefix] = string(b)
	}
	for k, v := range body {
		switch k {
		case "apiVersion", "kind":
		case "metadata":
			metadata, _ := v.(map[string]any)
			for _, part := range []string{"labels", "annotations"} {
				if m, ok := metadata[part].(map[string]any); ok && len(m) > 0 {
					walk("/metadata/"+part, m)
				}
			}
		default:
			walk("/"+escape(k), v)
		}
	}
	return out
}

func escape(k string) string { return strings.ReplaceAll(strings.ReplaceAll(k, "~", "~0"), "/", "~1") }
func unescape(k string) string {
	return strings.ReplaceAll(strings.ReplaceAll(k, "~1", "/"), "~0", "~")
}

// setLeaf copies the leaf at path from one tree to another.
func setLeaf(to map[string]any, path string, from map[string]any) {
	keys := strings.Split(path[1:], "/")
	for i, k := range keys {
		k = unescape(k)
		if i == len(keys)-1 {
			to[k] = cloneValue(from[k])
			return
		}
		child, ok := to[k].(map[string]any)
		if !ok {
			child = map[string]any{}
			to[k] = child
		}
		to = child
		from, _ = from[k].(map[string]any)
	}
}

// removeLeaf deletes the leaf at path and the parents that are empty then.
func removeLeaf(from map[string]any, path string) {
	key, rest, more := strings.Cut(path[1:], "/")
	key = unescape(key)
	if !more {
		delete(from, key)
		return
	}
	child, ok := from[key].(map[string]any)
	if !ok {
		return
	}
	removeLeaf(child, "/"+rest)
	if len(child) == 0 {
		delete(from, key)
	}
}

func ignored(path string, ignore []string) bool {
	for _, p := range ignore {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

func clone(m map[string]any) map[string]any {
	out, _ := cloneValue(m).(map[string]any)
	return out
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = cloneValue(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = cloneValue(child)
		}
		return out
	}
	return v
}

func equal(a, b map[string]any) bool { return reflect.DeepEqual(a, b) }

func without(m map[string]any, key string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

func stringsOf(v any) map[string]string {
	m, _ := v.(map[string]any)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		s, _ := v.(string)
		out[k] = s
	}
	return out
}
