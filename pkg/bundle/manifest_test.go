package bundle

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exampleManifest uses every field.
func exampleManifest() *Manifest {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	expires := created.AddDate(1, 0, 0)
	return &Manifest{
		Schema: Schema, Name: "shop", Version: "1.4.2", Counter: 7, Created: created, Expires: &expires,
		Target:   Target{Selector: "region=eu,tier in (a,b)", Kubernetes: ">=1.29.0 <2.0.0"},
		Requires: []Requirement{{Name: "base", MinVersion: "1.0.0"}, {Name: "net"}},
		Parameters: []Parameter{
			{Name: "replicas", Type: TypeInteger, Default: int64(2)},
			{Name: "debug", Type: TypeBoolean, Default: false},
			{Name: "storeName", Type: TypeString, Required: true, Pattern: "[a-z]+", Description: "shown on <receipts> & screens"},
		},
		Variants: []Variant{{Name: "large", Selector: "size=large", Patches: []Patch{
			{Target: PatchTarget{Group: "apps", Kind: "Deployment", Name: "web"}, Merge: map[string]any{"spec": map[string]any{"replicas": int64(5), "x": 1.5}}},
			{Target: PatchTarget{Kind: "Service"}, JSON: []any{map[string]any{"op": "remove", "path": "/spec/a~1b"}}},
		}}},
		Policy: Policy{Prune: true, Drift: DriftEnforce, HealthTimeoutSeconds: 60, Replace: []string{"batch/Job", "Service"},
			Ignore: []IgnoreRule{{Target: PatchTarget{Kind: "Deployment"}, Paths: []string{"/spec/replicas"}}}},
		Content: ContentInfo{Digest: DigestOf([]byte("x")), Size: 1, Objects: 1},
	}
}

func TestManifestIsWrittenAsItAlwaysWas(t *testing.T) {
	got, err := EncodeManifest(exampleManifest())
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "manifest.json")
	if os.Getenv("REWRITE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m, err := DecodeManifest(want)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := m.Parameters[0].Default.(int64); !ok || n != 2 {
		t.Errorf("a default of 2 came back as %T", m.Parameters[0].Default)
	}
	if n, ok := m.Variants[0].Patches[0].Merge["spec"].(map[string]any)["replicas"].(int64); !ok || n != 5 {
		t.Error("a number in a patch is not an int64")
	}
}

func TestT13_ManifestHasOneSpelling(t *testing.T) {
	good, err := EncodeManifest(exampleManifest())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":             {`"prune":true`, `"prune":true,"prunes":1`, `unknown key "prunes"`},
		"key in another case":     {`"prune":true`, `"Prune":true`, "not canonical"},
		"key in another case 2":   {`"schema":`, `"schemb":`, `unknown key "schemb"`},
		"both cases":              {`"kind":"Service"`, `"Kind":"Pod","kind":"Service"`, `it is written "kind"`},
		"duplicate key":           {`"counter":7`, `"counter":7,"counter":8`, "duplicate key"},
		"keys out of order":       {`"minVersion":"1.0.0","name":"base"`, `"name":"base","minVersion":"1.0.0"`, "stands after"},
		"trailing bytes":          {`"version":"1.4.2"}`, `"version":"1.4.2"} `, "after the end"},
		"a second document":       {`"version":"1.4.2"}`, `"version":"1.4.2"}{}`, "after the end"},
		"space":                   {`"counter":7`, `"counter": 7`, "space"},
		"number with point":       {`"counter":7`, `"counter":7.0`, "not canonical"},
		"number with exponent":    {`"counter":7`, `"counter":7e0`, "not canonical"},
		"negative counter":        {`"counter":7`, `"counter":-7`, "counter"},
		"counter 0":               {`"counter":7`, `"counter":0`, "counter 0"},
		"counter too large":       {`"counter":7`, `"counter":1e+30`, "counter"},
		"needless escape":         {`"name":"shop"`, `"name":"\u0073hop"`, "not canonical"},
		"null for absent":         {`"expires":"2027-01-02T03:04:05Z"`, `"expires":null`, "one spelling"},
		"empty for absent":        {`"selector":"region=eu,tier in (a,b)"`, `"selector":""`, "one spelling"},
		"invalid UTF-8":           {`"name":"shop"`, "\"name\":\"sh\xffp\"", "UTF-8"},
		"other schema":            {Schema, "holdfast.dev/bundle/v2", "this software reads"},
		"bad name":                {`"name":"shop"`, `"name":"Shop"`, "bundle name"},
		"path as a name":          {`"name":"shop"`, `"name":"../shop"`, "bundle name"},
		"bad version":             {`"version":"1.4.2"}`, `"version":"v1.4"}`, "semantic version"},
		"time with fraction":      {"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z", "whole seconds"},
		"time with zero fraction": {"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z", "one spelling"},
		"time in a zone":          {"2026-01-02T03:04:05Z", "2026-01-02T03:04:05+01:00", "UTC"},
		"time in UTC by number":   {"2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00", "one spelling"},
		"not a time":              {"2026-01-02T03:04:05Z", "yesterday", "time"},
		"expired before created":  {"2027-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "not after"},
		"bad selector":            {"region=eu", "region eu", "selector"},
		"bad range":               {">=1.29.0", "~1.29", "kubernetes range"},
		"drift mode":              {`"drift":"enforce"`, `"drift":"maybe"`, "want enforce, report or respect"},
		"requires itself":         {`"name":"net"`, `"name":"shop"`, "requires itself"},
		"requires twice":          {`"name":"net"`, `"name":"base"`, "named twice"},
		"parameter type":          {`"type":"integer"`, `"type":"float"`, "want string, integer or boolean"},
		"default of wrong type":   {`"default":2`, `"default":"2"`, "want a value of type integer, not string"},
		"fraction as default":     {`"default":2`, `"default":2.5`, "not number"},
		"bad pattern":             {`"pattern":"[a-z]+"`, `"pattern":"[a-z"`, "pattern"},
		"parameter twice":         {`"name":"debug"`, `"name":"replicas"`, "declared twice"},
		"variant name":            {`"name":"large"`, `"name":"Large One"`, "variant"},
		"variant for all":         {`"selector":"size=large"`, `"selector":""`, "every site"},
		"patch without kind":      {`"kind":"Service"`, `"kind":""`, "without a kind"},
		"JSON operation":          {`"op":"remove"`, `"op":"erase"`, "want add, remove"},
		"JSON pointer":            {"/spec/a~1b", "/spec/a~2b", "'~' is written"},
		"ignored identity":        {"/spec/replicas", "/metadata/name", "identity"},
		"replace":                 {"batch/Job", "batch/v1/Job", "want a kind"},
		"health timeout":          {`"healthTimeoutSeconds":60`, `"healthTimeoutSeconds":-1`, "want 0 to"},
		"digest":                  {`"digest":"sha256:`, `"digest":"sha512:`, "digest"},
		"no objects":              {`"objects":1`, `"objects":0`, "objects"},
		"content too large":       {`"size":1`, `"size":67108865`, "size"},
	} {
		bad := bytes.Replace(good, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(bad, good) {
			t.Errorf("%s: the test changes nothing", name)
		}
		m, err := DecodeManifest(bad)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, m, err, c.want)
		}
	}
}

func TestT11_ManifestTooLargeOrTooDeep(t *testing.T) {
	if _, err := DecodeManifest(make([]byte, MaxManifestSize+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: %v", err)
	}
	if _, err := DecodeManifest(bytes.Repeat([]byte("["), MaxManifestSize)); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("too deep: %v", err)
	}
	m := exampleManifest()
	m.Parameters = nil
	m.Variants[0].Patches[0].Merge["x"] = strings.Repeat("x", MaxManifestSize)
	if _, err := EncodeManifest(m); err == nil {
		t.Error("wrote what nobody may read")
	}
}

func TestParametersReadFromTheCommandLine(t *testing.T) {
	params := map[string]Parameter{
		"i": {Name: "i", Type: TypeInteger}, "b": {Name: "b", Type: TypeBoolean}, "s": {Name: "s", Type: TypeString, Pattern: "a|bc"},
	}
	for _, c := range []struct {
		param, text string
		want        any
	}{
		{"i", "12", int64(12)}, {"i", "-1", int64(-1)}, {"i", "1.5", nil}, {"i", "x", nil}, {"i", "", nil},
		{"b", "true", true}, {"b", "false", false}, {"b", "yes", nil},
		{"s", "bc", "bc"}, {"s", "a", "a"}, {"s", "abc", nil}, {"s", "a\n", nil}, {"s", "\xff", nil}, {"s", strings.Repeat("a", 5000), nil},
	} {
		got, err := params[c.param].ParseValue(c.text)
		if c.want == nil && err == nil {
			t.Errorf("%s %.10q: got %v", c.param, c.text, got)
		}
		if c.want != nil && (err != nil || got != c.want) {
			t.Errorf("%s %q: got %v, %v", c.param, c.text, got, err)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	good, err := EncodeManifest(exampleManifest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"holdfast.dev/bundle/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := EncodeManifest(m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q has two spellings: %q, %v", b, again, err)
		}
	})
}
