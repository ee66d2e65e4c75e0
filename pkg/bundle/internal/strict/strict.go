// Package strict finds keys that a Go type does not have. encoding/json takes "Name" for "name"; two readers of one document
// must not see two documents.
package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// KeyError is a key that the type at its place does not have.
type KeyError struct {
	Pointer string // JSON pointer of the key
	Key     string
	Meant   string // the key of the type that differs only in case, or empty
}

func (e *KeyError) Error() string {
	if e.Meant != "" {
		return fmt.Sprintf("%s: unknown key %.80q: it is written %q", e.Pointer, e.Key, e.Meant)
	}
	return fmt.Sprintf("%s: unknown key %.80q", e.Pointer, e.Key)
}

// Keys compares the keys of a decoded JSON value with the fields of t. Members of maps and interfaces are not looked at.
// The error is a *KeyError, the first in order of pointers.
func Keys(v any, t reflect.Type) error { return keys(v, t, "") }

var textual = reflect.TypeFor[encoding.TextUnmarshaler]()

func keys(v any, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case map[string]any:
		if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textual) {
			return nil
		}
		return members(v, t, at)
	case []any:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, member := range v {
			if err := keys(member, t.Elem(), fmt.Sprintf("%s/%d", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// escape makes a name a token of a JSON pointer.
var escape = strings.NewReplacer("~", "~0", "/", "~1")

func members(m map[string]any, t reflect.Type, at string) error {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = t.Field(i).Type
		}
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		pointer := at + "/" + escape.Replace(name)
		field, known := fields[name]
		if !known {
			return &KeyError{Pointer: pointer, Key: name, Meant: meant(name, fields)}
		}
		if err := keys(m[name], field, pointer); err != nil {
			return err
		}
	}
	return nil
}

func meant(key string, fields map[string]reflect.Type) string {
	for name := range fields {
		if strings.EqualFold(key, name) {
			return name
		}
	}
	return ""
}
