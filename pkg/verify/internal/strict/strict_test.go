package strict_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

type document struct {
	Name   string            `json:"name"`
	List   []document        `json:"list,omitempty"`
	Labels map[string]uint64 `json:"labels"`
	Any    json.RawMessage   `json:"any"`
	hidden int
}

func TestT13_Decode(t *testing.T) {
	for raw, want := range map[string]string{
		`{"name":"a","labels":{"x":1,"X":2},"any":{"b":[1,{"B":2}]},"list":[{"name":"c"}]}`: "",
		" {}\n":                                "",
		``:                                     "ends too early",
		`{`:                                    "ends too early",
		`{}{}`:                                 "bytes after",
		`{} x`:                                 "bytes after",
		`{"Name":"a"}`:                         "unknown key",
		`{"hidden":1}`:                         "unknown key",
		`{"":1}`:                               "unknown key",
		`{"list":[{"NAME":"a"}]}`:              "unknown key",
		`{"name":"a","name":"a"}`:              "stands twice",
		`{"labels":{"x":1,"\u0078":2}}`:        "stands twice",
		`{"any":{"x":{"y":1,"y":2}}}`:          "stands twice",
		`{"name":null}`:                        "null",
		`{"any":null}`:                         "null",
		`{"any":[null]}`:                       "null",
		`{"name":1}`:                           "cannot unmarshal",
		`{"labels":{"x":-1}}`:                  "cannot unmarshal",
		"{\"name\":\"\xff\"}":                  "UTF-8",
		"\ufeff{}":                             "invalid character",
		"{}\x00":                               "bytes after",
		`{"any":` + strings.Repeat("[", 20):    "deeper than 16",
		strings.Repeat(`{"any":`, 20):          "deeper than 16",
		`{"name":"` + strings.Repeat("x", 200): "more than the",
	} {
		var d document
		err := strict.Decode([]byte(raw), 200, &d)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", raw, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", raw, err, want)
		}
	}
}
