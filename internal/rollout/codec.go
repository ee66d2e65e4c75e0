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
	if err := checkKeys(tree, reflect.TypeOf(into), ""); err != nil {
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
func checkKeys(v any, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil {
		return fmt.Errorf("%s: null: leave it out or give it a value", or(at, "/"))
	}
	if p := reflect.PointerTo(t); p.Implements(textual) || p.Implements(ownJSON) {
		return nil
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			if t.Kind() != reflect.Slice {
				break
			}
			if err := checkKeys(v[i], t.Elem(), fmt.Sprintf("%s/%d", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return nil
		}
		fields := fieldsOf(t)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			field, known := fields[key]
			if !known {
				return unknownKey(at, key, fields)
			}
			if err := checkKeys(v[key], field, at+"/"+key); err != nil {
				return err
			}
		}
	}
	return nil
}

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

func unknownKey(at, key string, fields map[string]reflect.Type) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if strings.EqualFold(name, key) {
			return fmt.Errorf("%s: unknown key %.80q: it is written %q", or(at, "/"), key, name)
		}
	}
	return fmt.Errorf("%s: unknown key %.80q: want one of %s", or(at, "/"), key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
}
