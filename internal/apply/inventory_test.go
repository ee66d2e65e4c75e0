package apply

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func anyItem(n int) *rapid.Generator[Item] {
	return rapid.Custom(func(t *rapid.T) Item {
		return Item{
			Ref: Ref{bundle.ObjectID{
				Group:     rapid.SampledFrom([]string{"", "apps", strings.Repeat("g", 200)}).Draw(t, "group"),
				Kind:      rapid.SampledFrom([]string{"ConfigMap", "Deployment", "Namespace"}).Draw(t, "kind"),
				Namespace: rapid.SampledFrom([]string{"", "shop"}).Draw(t, "namespace"),
				Name:      fmt.Sprintf("%s-%d", rapid.StringMatching(`[a-z<]{1,200}`).Draw(t, "name"), n),
			}, "v1"},
			Stage: rapid.IntRange(0, 5).Draw(t, "stage"), UID: rapid.StringMatching(`[0-9a-f-]{0,36}`).Draw(t, "uid"),
			ResourceVersion: rapid.StringMatching(`[0-9]{0,9}`).Draw(t, "version"), Generation: rapid.Int64().Draw(t, "generation"),
			Hash: rapid.StringMatching(`[a-z]{0,43}`).Draw(t, "hash"), Print: "p", Adopted: rapid.Bool().Draw(t, "adopted"),
		}
	})
}

func TestInventoryComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := Inventory{Bundle: "shop", Account: rapid.SampledFrom([]bundle.Account{"", "team-a/tenant"}).Draw(t, "account")}
		for n := range rapid.IntRange(0, 1200).Draw(t, "items") {
			inv.Items = append(inv.Items, anyItem(n).Draw(t, "item"))
		}
		records, err := inv.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if len(r) > MaxRecord {
				t.Fatalf("a record of %d bytes", len(r))
			}
		}
		back, err := DecodeInventory(records)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(inv, back) {
			t.Fatalf("went %+v, came %+v", inv, back)
		}
	})
}

func TestInventoryRefusesWhatItDidNotWrite(t *testing.T) {
	item := `{"v":"v1","k":"ConfigMap","n":"a"}`
	whole := func(items string) string { return `{"bundle":"shop","part":1,"of":1,"items":[` + items + `]}` }
	for name, records := range map[string][]string{
		"nothing":          {},
		"not JSON":         {"x"},
		"unknown field":    {whole(`{"v":"v1","k":"ConfigMap","n":"a","x":1}`)},
		"more than one":    {whole(item) + whole(item)},
		"twice":            {whole(item + "," + item)},
		"no kind":          {whole(`{"v":"v1","n":"a"}`)},
		"a part missing":   {`{"bundle":"shop","part":1,"of":2,"items":[]}`},
		"wrong order":      {`{"bundle":"shop","part":2,"of":2,"items":[]}`, `{"bundle":"shop","part":1,"of":2,"items":[]}`},
		"another bundle":   {`{"bundle":"shop","part":1,"of":2,"items":[]}`, `{"bundle":"pos","part":2,"of":2,"items":[]}`},
		"a user":           {`{"bundle":"shop","account":"system:admin","part":1,"of":1,"items":[]}`},
		"another account":  {`{"bundle":"shop","account":"a/b","part":1,"of":2,"items":[]}`, `{"bundle":"shop","part":2,"of":2,"items":[]}`},
		"no bundle":        {`{"bundle":"","part":1,"of":1,"items":[]}`},
		"too large":        {whole(item) + strings.Repeat(" ", MaxRecord)},
		"trailing garbage": {whole(item) + "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var raw [][]byte
			for _, r := range records {
				raw = append(raw, []byte(r))
			}
			if inv, err := DecodeInventory(raw); err == nil {
				t.Errorf("decoded %+v", inv)
			}
		})
	}
	if _, err := DecodeInventory([][]byte{[]byte(whole(item))}); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func FuzzDecodeInventory(f *testing.F) {
	f.Add([]byte(`{"bundle":"shop","part":1,"of":1,"items":[{"v":"v1","k":"ConfigMap","ns":"a","n":"b","u":"1","r":"2","e":3,"h":"x","p":"y","a":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		inv, err := DecodeInventory([][]byte{b})
		if err != nil {
			return
		}
		records, err := inv.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeInventory(records)
		if err != nil || !reflect.DeepEqual(inv, back) {
			t.Fatalf("%+v came back as %+v, %v", inv, back, err)
		}
	})
}

func TestLabelGoesOnTheObjectOnly(t *testing.T) {
	for in, want := range map[string]string{
		`{"metadata":{"name":"a"}}`:                                                `{"metadata":{"labels":{"holdfast.dev/bundle":"shop"},"name":"a"}}`,
		`{"metadata":{}}`:                                                          `{"metadata":{"labels":{"holdfast.dev/bundle":"shop"}}}`,
		`{"metadata":{"labels":null,"name":"a"}}`:                                  `{"metadata":{"labels":{"holdfast.dev/bundle":"shop"},"name":"a"}}`,
		`{"metadata":{"labels":{},"name":"a"}}`:                                    `{"metadata":{"labels":{"holdfast.dev/bundle":"shop"},"name":"a"}}`,
		`{"data":{"metadata":"{\"labels\":{}}"},"metadata":{"labels":{"a":"b"}}}`:  `{"data":{"metadata":"{\"labels\":{}}"},"metadata":{"labels":{"holdfast.dev/bundle":"shop","a":"b"}}}`,
		`{"metadata":{"name":"a"},"spec":{"template":{"metadata":{"labels":{}}}}}`: `{"metadata":{"labels":{"holdfast.dev/bundle":"shop"},"name":"a"},"spec":{"template":{"metadata":{"labels":{}}}}}`,
	} {
		got, err := labelled([]byte(in), "shop")
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, %v", in, got, err)
		}
	}
	for _, in := range []string{`{}`, `[]`, `{"metadata":1}`, `{"metadata":{"labels":1}}`, `{"metadata":{"labels":{"holdfast.dev/bundle":"other"}}}`, ``, `{"metadata":{"labels":`} {
		if got, err := labelled([]byte(in), "shop"); err == nil {
			t.Errorf("%s became %s", in, got)
		}
	}
}

func FuzzLabelled(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"\"}"}],"metadata":{"labels":{"a":"b"},"name":"x"},"z":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := labelled(b, "shop")
		if err != nil {
			return
		}
		if v, err := bundle.DecodeValue(b, 1<<20); err == nil {
			labels := v.(map[string]any)["metadata"].(map[string]any)
			if labels["labels"] == nil {
				labels["labels"] = map[string]any{}
			}
			labels["labels"].(map[string]any)[Label] = "shop"
			want, err := bundle.Canonical(v)
			if err != nil {
				return
			}
			got, err := bundle.DecodeValue(out, 1<<21)
			if err != nil {
				t.Fatalf("%s became %s: %v", b, out, err)
			}
			if again, err := bundle.Canonical(got); err != nil || !bytes.Equal(again, want) {
				t.Fatalf("%s became %s, want %s (%v)", b, again, want, err)
			}
		}
	})
}

func TestPackedBodiesAreTheVerifiedBytes(t *testing.T) {
	big := bundle.Object{ID: bundle.ObjectID{Kind: "ConfigMap", Namespace: "a", Name: "b"}, Version: "v1",
		JSON: []byte(`{"apiVersion":"v1","data":{"k":"` + strings.Repeat("abc", 5000) + `"},"kind":"ConfigMap","metadata":{"name":"b","namespace":"a"}}`)}
	d, err := desire(bundle.Ref{Name: "shop", Version: "1.0.0"}, "", "", bundle.Policy{}, []bundle.Object{big}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.Objects[0].Body()
	if err != nil {
		t.Fatal(err)
	}
	packed := d.Pack().Objects[0]
	if got, err := packed.Body(); err != nil || !bytes.Equal(got, want) || len(packed.body) > len(want)/10 {
		t.Errorf("%d bytes packed, %v", len(packed.body), err)
	}
	packed.body[len(packed.body)/2] ^= 1
	if _, err := packed.Body(); err == nil {
		t.Error("P1: a flipped bit went through")
	}
}
