package apply

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// What is left to others: fields wanted as before, found by what lists are merged by and not by their index.
func TestBaseLeft(t *testing.T) {
	object := func(containers, labels string) string {
		return fmt.Sprintf(`{"metadata":{"labels":{%s}},"spec":{"replicas":2,"args":["a","b"],"containers":[%s]}}`, labels, containers)
	}
	own := `"holdfast.dev/bundle":"shop"`
	applied := object(`{"name":"web","image":"web:1","env":[{"name":"A","value":"1"}]},{"name":"log","image":"log:1"}`, own)
	next := object(`{"name":"log","image":"log:1"},{"name":"web","image":"web:2","env":[{"name":"A","value":"1"}]}`, own)
	merged := object(`{"name":"injected"},{"name":"web","image":"web:2","env":[{"name":"X"},{"name":"A","value":"1"}]},{"name":"log","image":"log:1"}`, own+`,"x":"y"`)
	parse := func(s string) (v any) {
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for path, want := range map[string]string{
		"spec/replicas":                     "spec/replicas",
		"spec/args/1":                       "spec/args",
		"spec/containers/1/image":           "", // changed by us
		"spec/containers/1/env/1/value":     "spec/containers/1/env/0/value",
		"spec/containers/2/image":           "spec/containers/0/image",
		"spec/containers/2":                 "spec/containers/0",
		"spec/containers/1":                 "",
		"spec/containers/0":                 "", // not ours
		"spec/containers/9":                 "",
		"spec/paused":                       "",
		"metadata/labels/x":                 "",
		"metadata/labels/holdfast.dev~":     "",
		"metadata/labels":                   "",
		"metadata/labels/" + "\x00slash":    "",
		"spec/containers/2/image/deeper/no": "spec/containers/0/image",
	} {
		cut, left := BaseOf([]byte(applied)).Left(parse(next), parse(merged), strings.Split(path, "/"))
		if got := strings.Join(cut, "/"); left != (want != "") || left && got != want {
			t.Errorf("%s: left %v, cut %s; want %q", path, left, got, want)
		}
	}
	if _, left := Base("").Left(parse(next), parse(merged), []string{"spec", "replicas"}); left {
		t.Error("the zero base leaves something")
	}
}

// Of a large object only the whole is named: unchanged it leaves all to others, changed nothing.
func TestBaseOfALargeObject(t *testing.T) {
	data := map[string]any{}
	for i := range baseFields + 1 {
		data[fmt.Sprint("k", i)] = "v"
	}
	body := map[string]any{"data": data}
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	b := BaseOf(raw)
	if len(b) != baseName {
		t.Fatalf("a base of %d bytes", len(b))
	}
	if _, left := b.Left(body, body, []string{"data", "k1"}); !left {
		t.Error("unchanged, and not left")
	}
	data["k2"] = "changed"
	if _, left := b.Left(body, body, []string{"data", "k1"}); left {
		t.Error("changed, and left")
	}
}
