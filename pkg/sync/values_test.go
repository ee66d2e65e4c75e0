package sync

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestValuesKeepTheirTypes(t *testing.T) {
	var assigned AssignedBundle
	raw := `{"name":"shop","version":"1.0.0","digest":"","values":{"s":"1","i":9007199254740993,"n":-3,"b":true}}`
	if err := decodeStrict([]byte(raw), &assigned); err != nil {
		t.Fatal(err)
	}
	want := Values{"s": "1", "i": int64(9007199254740993), "n": int64(-3), "b": true}
	if !reflect.DeepEqual(assigned.Values, want) {
		t.Fatalf("values %#v, want %#v", assigned.Values, want)
	}
	again, err := json.Marshal(assigned)
	if err != nil || string(again) == "" {
		t.Fatal(err)
	}
	var back AssignedBundle
	if err := decodeStrict(again, &back); err != nil || !reflect.DeepEqual(back, assigned) {
		t.Fatalf("%s: %#v, %v", again, back, err)
	}
}

func TestP07_ValuesOfOtherTypesAreRefused(t *testing.T) {
	for _, raw := range []string{`{"a":null}`, `{"a":1.5}`, `{"a":1e3}`, `{"a":9223372036854775808}`, `{"a":[]}`, `{"a":{"b":1}}`, `[]`, `3`} {
		var values Values
		if err := json.Unmarshal([]byte(raw), &values); err == nil {
			t.Errorf("%s: accepted as %#v", raw, values)
		}
	}
}
