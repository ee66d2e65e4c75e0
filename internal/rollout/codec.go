package rollout

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// DecodePlan reads a plan in JSON and refuses unknown, duplicate and differently-cased keys and everything that is wrong with it whatever the
// fleet is. What is wrong with it for a fleet is said by Freeze.
func DecodePlan(b []byte) (Plan, error) {
	var p Plan
	if err := decode("plan", b, MaxPlanSize, &p); err != nil {
		return Plan{}, err
	}
	return p, p.check()
}

// MaxRolloutSize is the most bytes of an encoded rollout: some 20,000 sites with everything known of each.
const MaxRolloutSize = 16 << 20

// Encode writes the rollout as one JSON value, the same bytes for the same rollout.
func (r *Rollout) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("rollout %s: encode: %w", r.ID, err)
	}
	if len(b) > MaxRolloutSize {
		return nil, fmt.Errorf("rollout %s: %d bytes, more than the %d allowed", r.ID, len(b), MaxRolloutSize)
	}
	return b, nil
}

// Decode reads what Encode wrote, strictly: a store that holds something else is damaged or newer than this hub.
func Decode(b []byte) (*Rollout, error) {
	r := new(Rollout)
	if err := decode("rollout", b, MaxRolloutSize, r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("rollout %.63q: %w", r.ID, err)
	}
	return r, nil
}

func decode(what string, b []byte, limit int, into any) error {
	tree, err := bundle.DecodeValue(b, limit)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := checkKeys(tree, reflect.TypeOf(into)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: bytes after the end", what)
	}
	return nil
}

var (
	textual = reflect.TypeFor[encoding.TextUnmarshaler]()
	ownJSON = reflect.TypeFor[json.Unmarshaler]()
)

// checkKeys finds keys that the type does not have, and null, of which encoding/json would say nothing. encoding/json takes "Name" for "name";
// two readers of one plan must not see two plans.
func checkKeys(v any, t reflect.Type) error {
	return keyCheck{}.value(v, t)
}

// keyCheck remembers the fields of types: a rollout has ten thousand values of one.
type keyCheck map[reflect.Type]map[string]reflect.Type

func (c keyCheck) value(v any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil {
		return errNull
	}
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch p := reflect.PointerTo(t); {
	case !isList && !isObject, p.Implements(textual), p.Implements(ownJSON):
		return nil
	case isList && t.Kind() == reflect.Slice:
		for i := range list {
			if err := c.value(list[i], t.Elem()); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	case isObject && t.Kind() == reflect.Struct:
		return c.object(object, t)
	}
	return nil
}

func (c keyCheck) object(object map[string]any, t reflect.Type) error {
	fields, known := c[t]
	if !known {
		fields = fieldsOf(t)
		c[t] = fields
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if _, known := fields[key]; !known {
			return unknownKey(key, fields)
		}
		if err := c.value(object[key], fields[key]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

var errNull = errors.New("null: leave it out or give it a value")

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous {
			maps.Copy(fields, fieldsOf(field.Type))
		}
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = field.Type
		}
	}
	return fields
}

func unknownKey(key string, fields map[string]reflect.Type) error {
	names := slices.Sorted(maps.Keys(fields))
	for _, name := range names {
		if strings.EqualFold(name, key) {
			return fmt.Errorf("unknown key %.80q: it is written %q", key, name)
		}
	}
	return fmt.Errorf("unknown key %.80q: want one of %s", key, strings.Join(names, ", "))
}
