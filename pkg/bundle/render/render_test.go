package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const content = `{"apiVersion":"v1","data":{"a":"x","title":"Store ${{ params.store }} #${{ params.replicas }}"},"kind":"ConfigMap","metadata":{"name":"c","namespace":"shop"}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80}]}}
{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{"paused":"${{ params.paused }}","replicas":"${{ params.replicas }}","template":{"spec":{"containers":[{"image":"web:1","name":"web"},{"image":"log:1","name":"log"}]}}}}
{"apiVersion":"shop.example/v1","kind":"Till","metadata":{"name":"front","namespace":"shop"},"spec":{"drawers":[1,2],"lamp":"red"}}
`

func decode(t testing.TB, text string) []bundle.Object {
	t.Helper()
	objects, err := bundle.DecodeContent([]byte(text), bundle.ContentInfo{Digest: bundle.DigestOf([]byte(text)), Size: int64(len(text)), Objects: strings.Count(text, "\n")})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func manifest(variants ...bundle.Variant) *bundle.Manifest {
	return &bundle.Manifest{
		Schema: bundle.Schema, Name: "shop", Version: "1.0.0", Counter: 1, Created: time.Unix(1e9, 0).UTC(),
		Parameters: []bundle.Parameter{
			{Name: "replicas", Type: bundle.TypeInteger, Default: int64(2)},
			{Name: "paused", Type: bundle.TypeBoolean, Default: false},
			{Name: "store", Type: bundle.TypeString, Required: true, Pattern: `[^!]*`},
		},
		Variants: variants,
		Policy:   bundle.Policy{Drift: bundle.DriftEnforce},
		Content:  bundle.ContentInfo{Digest: bundle.DigestOf([]byte(content)), Size: int64(len(content)), Objects: 4},
	}
}

func text(objects []bundle.Object) string {
	var b strings.Builder
	for _, o := range objects {
		b.Write(o.JSON)
		b.WriteByte('\n')
	}
	return b.String()
}

func TestParametersFillScalars(t *testing.T) {
	r, err := Render(manifest(), decode(t, content), Inputs{Values: map[string]any{"store": "<é> \"x\"\n", "replicas": json.Number("5"), "paused": true}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`"${{ params.paused }}"`, "true", `"${{ params.replicas }}"`, "5", "${{ params.replicas }}", "5", "${{ params.store }}", `<é> \"x\"\n`).Replace(content)
	if got := text(r.Objects); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if r.Digest != bundle.DigestOf([]byte(want)) {
		t.Error("the digest is not that of the rendered content")
	}
	decode(t, want)
}

func TestR3_NoValueAddsAnything(t *testing.T) {
	for _, v := range []string{`","x":"y`, "a\nspec: {}", "{}", "[1]", "null", "true", "7", "${{ params.replicas }}", "---", "&a *a", "\\", "\u2028"} {
		r, err := Render(manifest(), decode(t, content), Inputs{Values: map[string]any{"store": v}})
		if err != nil {
			t.Errorf("%q: %v", v, err)
			continue
		}
		tree, err := bundle.DecodeValue(r.Objects[0].JSON, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		data := tree.(map[string]any)["data"].(map[string]any)
		if len(data) != 2 || data["title"] != "Store "+v+" #2" {
			t.Errorf("%q became %v", v, data)
		}
	}
}

func TestValuesAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		want   string
	}{
		"missing":       {nil, "parameter store: required"},
		"unknown":       {map[string]any{"store": "x", "zip": "y"}, `parameter "zip": the bundle declares none`},
		"string for 5":  {map[string]any{"store": "x", "replicas": "canary"}, "parameter replicas: want a value of type integer, not string"},
		"fraction":      {map[string]any{"store": "x", "replicas": 2.5}, "parameter replicas: want a value of type integer, not number"},
		"null":          {map[string]any{"store": nil}, "not null"},
		"list":          {map[string]any{"store": []any{"canary"}}, "not list"},
		"pattern":       {map[string]any{"store": "canary!"}, "does not match the pattern"},
		"invalid UTF-8": {map[string]any{"store": "canary\xff"}, "UTF-8"},
		"too long":      {map[string]any{"store": strings.Repeat("canary", 1000)}, "longer"},
	} {
		_, err := Render(manifest(), decode(t, content), Inputs{Values: c.values})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("T16: %s: the error shows the value: %v", name, err)
		}
	}
}

func merge(kind string, patch map[string]any) bundle.Patch {
	return bundle.Patch{Target: bundle.PatchTarget{Kind: kind}, Merge: patch}
}

func operations(kind string, ops ...map[string]any) bundle.Patch {
	p := bundle.Patch{Target: bundle.PatchTarget{Kind: kind}}
	for _, op := range ops {
		p.JSON = append(p.JSON, op)
	}
	return p
}

func containers(list ...any) map[string]any {
	return map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": list}}}}
}

func TestVariantsApplyByLabels(t *testing.T) {
	m := manifest(
		bundle.Variant{Name: "large", Selector: "size=large", Patches: []bundle.Patch{
			merge("Deployment", containers(map[string]any{"name": "web", "image": "web:${{ params.store }}"}, map[string]any{"name": "log", "$patch": "delete"})),
			merge("Till", map[string]any{"spec": map[string]any{"drawers": []any{int64(9)}, "lamp": nil}}),
		}},
		bundle.Variant{Name: "eu", Selector: "region=eu", Patches: []bundle.Patch{
			operations("Till", map[string]any{"op": "add", "path": "/spec/drawers/-", "value": int64(7)}),
		}},
	)
	objects := decode(t, content)
	for labels, want := range map[string][2]string{
		"":                     {`"containers":[{"image":"web:1","name":"web"},{"image":"log:1","name":"log"}]`, `"spec":{"drawers":[1,2],"lamp":"red"}`},
		"size=large":           {`"containers":[{"image":"web:v2","name":"web"}]`, `"spec":{"drawers":[9]}`},
		"region=eu":            {`"image":"log:1"`, `"spec":{"drawers":[1,2,7],"lamp":"red"}`},
		"size=large,region=eu": {`"image":"web:v2"`, `"spec":{"drawers":[9,7]}`},
		"size=small":           {`"image":"log:1"`, `"lamp":"red"`},
	} {
		site := map[string]string{}
		for _, pair := range strings.Split(labels, ",") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				site[k] = v
			}
		}
		for range 3 { // twice the same, and the patches unharmed
			r, err := Render(m, objects, Inputs{Labels: site, Values: map[string]any{"store": "v2"}})
			if err != nil {
				t.Fatal(err)
			}
			got := text(r.Objects)
			if !strings.Contains(got, want[0]) || !strings.Contains(got, want[1]) {
				t.Errorf("%s: got\n%s\nwant %s", labels, got, want)
			}
		}
	}
	if text(objects) != content {
		t.Error("rendering changed the content")
	}
}

func TestR2_PatchesThatDoNotFit(t *testing.T) {
	huge := strings.Repeat("x", bundle.MaxObjectSize)
	for name, c := range map[string]struct {
		patch bundle.Patch
		want  string
	}{
		"no target":       {merge("DaemonSet", map[string]any{"spec": nil}), "no object matches its target DaemonSet"},
		"renames":         {merge("Till", map[string]any{"metadata": map[string]any{"name": "b"}}), "changes its identity"},
		"moves":           {merge("Service", map[string]any{"metadata": map[string]any{"namespace": "kube-system"}}), "changes its identity"},
		"other kind":      {operations("Service", map[string]any{"op": "replace", "path": "/kind", "value": "Secret"}), "changes its identity"},
		"other version":   {operations("Deployment", map[string]any{"op": "replace", "path": "/apiVersion", "value": "apps/v2"}), "changes its identity"},
		"no kind":         {operations("Service", map[string]any{"op": "remove", "path": "/kind"}), "without kind"},
		"deletes":         {merge("Service", map[string]any{"$patch": "delete"}), "without"},
		"whole":           {operations("Service", map[string]any{"op": "replace", "path": "", "value": int64(1)}), "JSON patch"},
		"missing path":    {operations("Service", map[string]any{"op": "remove", "path": "/spec/x"}), "JSON patch"},
		"failing test":    {operations("Service", map[string]any{"op": "test", "path": "/kind", "value": "Pod"}), "JSON patch"},
		"negative index":  {operations("Till", map[string]any{"op": "remove", "path": "/spec/drawers/-1"}), "JSON patch"},
		"huge index":      {operations("Till", map[string]any{"op": "add", "path": "/spec/drawers/99999999", "value": int64(1)}), "JSON patch"},
		"wrong structure": {merge("Deployment", containers("web")), "strategic merge"},
		"too large":       {merge("Till", map[string]any{"x": huge}), "more than"},
		"undeclared":      {merge("Till", map[string]any{"x": "${{ params.unknown }}"}), "the manifest does not declare"},
	} {
		m := manifest(bundle.Variant{Name: "v", Selector: "a=b", Patches: []bundle.Patch{c.patch}})
		_, err := Render(m, decode(t, content), Inputs{Labels: map[string]string{"a": "b"}, Values: map[string]any{"store": "x"}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.300v, want %q", name, err, c.want)
		}
	}
}

func TestT11_RenderingBombs(t *testing.T) {
	double := make([]map[string]any, 0, 60)
	for i := range 60 {
		double = append(double, map[string]any{"op": "copy", "from": "/spec", "path": fmt.Sprintf("/spec/x%d", i)})
	}
	m := manifest(bundle.Variant{Name: "v", Selector: "a=b", Patches: []bundle.Patch{operations("Till", double...)}})
	many := `{"apiVersion":"v1","data":{"a":"` + strings.Repeat("${{ params.store }}", 100000) + `"},"kind":"ConfigMap","metadata":{"name":"c","namespace":"shop"}}` + "\n"
	for name, render := range map[string]func() error{
		"copies": func() error {
			_, err := Render(m, decode(t, content), Inputs{Labels: map[string]string{"a": "b"}, Values: map[string]any{"store": "x"}})
			return err
		},
		"references": func() error {
			_, err := Render(manifest(), decode(t, many), Inputs{Values: map[string]any{"store": strings.Repeat("x", bundle.MaxParameterValue)}})
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := render()
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
			t.Errorf("%s: %d MiB allocated", name, used>>20)
		}
	}
}

func TestR4_UntouchedObjectsAreNotCopied(t *testing.T) {
	objects := decode(t, content)
	r, err := Render(manifest(), objects, Inputs{Values: map[string]any{"store": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, touched := range []bool{true, false, true, false} {
		if same := &r.Objects[i].JSON[0] == &objects[i].JSON[0]; same == touched {
			t.Errorf("%s: shared %v", objects[i].ID, same)
		}
	}
}

// FuzzPatch applies any patch to any object: an error at worst, and the identity stays.
func FuzzPatch(f *testing.F) {
	deployment := strings.Split(content, "\n")[2]
	f.Add([]byte(deployment), []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","$patch":"delete"}]}}}}`))
	f.Add([]byte(deployment), []byte(`[{"op":"move","from":"/spec/replicas","path":"/spec/x"}]`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"w"},"spec":{"ports":[1]}}`), []byte(`{"spec":{"ports":[{"port":1}],"$setElementOrder/ports":[{}]}}`))
	f.Fuzz(func(t *testing.T, object, patch []byte) {
		o, err := bundle.NewObject(object)
		if err != nil {
			return
		}
		tree, err := bundle.DecodeValue(patch, 1<<16)
		if err != nil {
			return
		}
		p := bundle.Patch{Target: bundle.PatchTarget{Kind: o.ID.Kind}}
		switch tree := tree.(type) {
		case map[string]any:
			p.Merge = tree
		case []any:
			p.JSON = tree
		}
		out, err := ApplyVariant([]bundle.Object{o}, bundle.Variant{Name: "v", Patches: []bundle.Patch{p}})
		if err == nil && (len(out) != 1 || out[0].ID != o.ID) {
			t.Fatalf("%s became %v", o.ID, out)
		}
	})
}

func BenchmarkRenderUntouched(b *testing.B) {
	var many bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&many, `{"apiVersion":"v1","data":{"a":"%s"},"kind":"ConfigMap","metadata":{"name":"c%05d","namespace":"shop"}}`+"\n", strings.Repeat("x", 700), i)
	}
	objects := decode(b, many.String())
	b.SetBytes(int64(many.Len()))
	for b.Loop() {
		if _, err := Render(manifest(), objects, Inputs{Values: map[string]any{"store": "x"}}); err != nil {
			b.Fatal(err)
		}
	}
}
