package strict

import (
	"reflect"
	"testing"
	"time"
)

type inner struct {
	Name string `json:"name"`
}

type outer struct {
	At     time.Time      `json:"at"`
	Inner  *inner         `json:"inner,omitempty"`
	List   []inner        `json:"list"`
	Any    map[string]any `json:"any"`
	Hidden string         `json:"-"`
}

func TestT13_KeysThatATypeDoesNotHave(t *testing.T) {
	type object = map[string]any
	for _, c := range []struct {
		v    any
		want string
	}{
		{object{"at": "x", "inner": object{"name": 1}, "list": []any{object{"name": 2}}, "any": object{"Name": object{"x": 1}}}, ""},
		{object{"inner": object{"Name": 1}}, `/inner/Name: unknown key "Name": it is written "name"`},
		{object{"list": []any{object{}, object{"a/b~": 1}}}, `/list/1/a~1b~0: unknown key "a/b~"`},
		{object{"Hidden": 1}, `/Hidden: unknown key "Hidden"`},
		{object{"-": 1}, `/-: unknown key "-"`},
		{object{"z": 1, "b": 1}, `/b: unknown key "b"`},
		{object{"inner": []any{object{"x": 1}}, "list": object{"x": 1}, "at": object{"x": 1}}, ""}, // wrong types are for the decoder
		{"text", ""},
	} {
		err := Keys(c.v, reflect.TypeFor[outer]())
		if (err == nil) != (c.want == "") || (err != nil && err.Error() != c.want) {
			t.Errorf("%v: %v, want %q", c.v, err, c.want)
		}
	}
}
