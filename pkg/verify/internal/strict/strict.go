// Package strict decodes small JSON documents so that there is one way to read them.
//
// encoding/json forgives what another parser may read otherwise: keys in another case, the last of two equal keys, invalid UTF-8,
// bytes that follow. Here each of these is an error, as are unknown keys, null, and nesting deeper than 16.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of arrays and objects.
const maxDepth = 16

var rawMessage = reflect.TypeFor[json.RawMessage]()

// Decode decodes raw, which may have at most limit bytes, into the value that into points to. The value is made of structs with json
// tags, maps with string keys, slices and scalars; a json.RawMessage takes any value whose keys are unique.
func Decode(raw []byte, limit int, into any) error {
	if len(raw) > limit {
		return fmt.Errorf("%d bytes are more than the %d it may have", len(raw), limit)
	}
	if !utf8.Valid(raw) {
		return errors.New("not valid UTF-8")
	}
	walker := json.NewDecoder(bytes.NewReader(raw))
	walker.UseNumber()
	if err := walk(walker, reflect.TypeOf(into).Elem(), 0); err != nil {
		return plain(err)
	}
	if _, err := walker.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("bytes after the document at offset %d", walker.InputOffset())
	}
	return plain(json.Unmarshal(raw, into))
}

// plain words the end of input as a person would.
func plain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the document ends too early")
	}
	return err
}

// walk reads one value and compares its keys with the type that will hold it. A nil type stands for any value.
func walk(d *json.Decoder, t reflect.Type, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == rawMessage || t != nil && t.Kind() == reflect.Interface {
		t = nil
	}
	switch token {
	case nil:
		return fmt.Errorf("null at offset %d", d.InputOffset())
	case json.Delim('{'), json.Delim('['):
		if depth == maxDepth {
			return fmt.Errorf("nested deeper than %d", maxDepth)
		}
	}
	switch token {
	case json.Delim('{'):
		return walkObject(d, t, depth+1)
	case json.Delim('['):
		for d.More() {
			if err := walk(d, elem(t), depth+1); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func walkObject(d *json.Decoder, t reflect.Type, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if seen[key] {
			return fmt.Errorf("key %.40q stands twice", key)
		}
		seen[key] = true
		value := elem(t)
		if t != nil && t.Kind() == reflect.Struct {
			if value = field(t, key); value == nil {
				return fmt.Errorf("unknown key %.40q", key)
			}
		}
		if err := walk(d, value, depth); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// elem is the type of the values in a map or slice, or nil.
func elem(t reflect.Type) reflect.Type {
	if t != nil && (t.Kind() == reflect.Map || t.Kind() == reflect.Slice) {
		return t.Elem()
	}
	return nil
}

// field is the type of the field with exactly that JSON name, or nil.
func field(t reflect.Type, key string) reflect.Type {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == key && name != "" {
			return t.Field(i).Type
		}
	}
	return nil
}
