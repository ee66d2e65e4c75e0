package bundle

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

func object(t testing.TB, json string) Object {
	t.Helper()
	o, err := NewObject([]byte(json))
	if err != nil {
		t.Fatalf("%s: %v", json, err)
	}
	return o
}

func info(content []byte) ContentInfo {
	return ContentInfo{Digest: DigestOf(content), Size: int64(len(content)), Objects: bytes.Count(content, []byte{'\n'})}
}

// exampleLines are in content order, one of each stage at least.
var exampleLines = []string{
	`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`,
	`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"tills.shop.example"}}`,
	`{"apiVersion":"v1","data":{"a":"1"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"shop"}}`,
	`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","namespace":"shop"}}`,
	`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"shop"}}`,
	`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"p"}}`,
	`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"system:shop"}}`,
	`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"token","namespace":"shop"}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"}}`,
	`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"system:shop"}}`,
	`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"}}`,
	`{"apiVersion":"shop.example/v1","kind":"Till","metadata":{"name":"one","namespace":"shop"}}`,
	`{"apiVersion":"snapshot.storage.k8s.io/v1","kind":"VolumeSnapshotClass","metadata":{"name":"s"}}`,
	`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"w"}}`,
	`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.x"}}`,
}

func TestContentIsInApplyOrder(t *testing.T) {
	var objects []Object
	for _, line := range exampleLines {
		objects = append(objects, object(t, line))
	}
	want := strings.Join(exampleLines, "\n") + "\n"
	for seed := range int64(20) {
		rand.New(rand.NewSource(seed)).Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		got, err := EncodeContent(objects)
		if err != nil || string(got) != want {
			t.Fatalf("seed %d: %v\n%s", seed, err, got)
		}
	}
	decoded, err := DecodeContent([]byte(want), info([]byte(want)))
	if err != nil {
		t.Fatal(err)
	}
	stage := 0
	for i, o := range decoded {
		if string(o.JSON) != exampleLines[i] {
			t.Errorf("line %d: %s", i, o.JSON)
		}
		if s := Stage(o); s < stage || s >= Stages {
			t.Errorf("%s: stage %d after %d", o.ID, s, stage)
		} else {
			stage = s
		}
	}
	if stage != StageGates {
		t.Error("no gates")
	}
	if got := ContentDigest(decoded); got != DigestOf([]byte(want)) {
		t.Errorf("digest %s", got)
	}
	if id := decoded[10].ID; id != (ObjectID{"apps", "Deployment", "shop", "web"}) || decoded[10].Version != "v1" {
		t.Errorf("identity %+v", id)
	}
}

func TestDecodedObjectsShareTheContent(t *testing.T) {
	content := []byte(strings.Join(exampleLines, "\n") + "\n")
	i := info(content)
	if n := testing.AllocsPerRun(10, func() {
		if _, err := DecodeContent(content, i); err != nil {
			t.Fatal(err)
		}
	}); n > 20*float64(len(exampleLines)) {
		t.Errorf("%v allocations for %d objects", n, len(exampleLines))
	}
}

func TestT06_ContentIsWhatTheManifestSays(t *testing.T) {
	content := []byte(strings.Join(exampleLines, "\n") + "\n")
	for name, change := range map[string]func(*ContentInfo){
		"digest":       func(c *ContentInfo) { c.Digest = DigestOf(nil) },
		"size":         func(c *ContentInfo) { c.Size-- },
		"more objects": func(c *ContentInfo) { c.Objects++ },
		"less objects": func(c *ContentInfo) { c.Objects-- },
		"zero":         func(c *ContentInfo) { *c = ContentInfo{} },
	} {
		i := info(content)
		change(&i)
		if _, err := DecodeContent(content, i); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for i := range content {
		bad := bytes.Clone(content)
		bad[i] ^= 1
		if _, err := DecodeContent(bad, info(content)); err == nil {
			t.Fatalf("byte %d flipped: no error", i)
		}
	}
}

func TestT13_ContentHasOneSpelling(t *testing.T) {
	const meta = `"metadata":{"name":"a"}}`
	for name, c := range map[string]struct{ content, want string }{
		"no newline at the end": {exampleLines[0], "newline"},
		"empty line":            {exampleLines[0] + "\n\n", "not a JSON object"},
		"carriage return":       {exampleLines[0] + "\r\n", "after the end"},
		"wrong order":           {exampleLines[2] + "\n" + exampleLines[0] + "\n", "stands after"},
		"twice":                 {exampleLines[0] + "\n" + exampleLines[0] + "\n", "twice"},
		"twice in two versions": {`{"apiVersion":"apps/v1","kind":"Deployment",` + meta + "\n" + `{"apiVersion":"apps/v2","kind":"Deployment",` + meta + "\n", "twice"},
		"a list":                {"[]\n", "not a JSON object"},
		"List":                  {`{"apiVersion":"v1","items":[],"kind":"List",` + meta + "\n", "list"},
		"ConfigMapList":         {`{"apiVersion":"v1","items":[],"kind":"ConfigMapList",` + meta + "\n", "list"},
		"no apiVersion":         {`{"kind":"Pod",` + meta + "\n", "apiVersion"},
		"no kind":               {`{"apiVersion":"v1",` + meta + "\n", "kind"},
		"no name":               {`{"apiVersion":"v1","kind":"Pod","metadata":{}}` + "\n", "name"},
		"no metadata":           {`{"apiVersion":"v1","kind":"Pod"}` + "\n", "name"},
		"generateName":          {`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"a","name":"a"}}` + "\n", "generateName"},
		"name is a number":      {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":1}}` + "\n", "not a string"},
		"name with a slash":     {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"../a"}}` + "\n", "name"},
		"name ..":               {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":".."}}` + "\n", "name"},
		"name with a newline":   {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a\nb"}}` + "\n", "name"},
		"namespace":             {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"A/b"}}` + "\n", "namespace"},
		"apiVersion":            {`{"apiVersion":"a/b/c","kind":"Pod",` + meta + "\n", "apiVersion"},
		"kind":                  {`{"apiVersion":"v1","kind":"Pod/x",` + meta + "\n", "kind"},
		"Kind beside kind":      {`{"Kind":"Secret","apiVersion":"v1","kind":"Pod",` + meta + "\n", "it is written kind"},
		"Metadata":              {`{"Metadata":{},"apiVersion":"v1","kind":"Pod",` + meta + "\n", "it is written metadata"},
		"Name beside name":      {`{"apiVersion":"v1","kind":"Pod","metadata":{"Name":"b","name":"a"}}` + "\n", "it is written metadata.name"},
		"duplicate key":         {`{"apiVersion":"v1","kind":"Pod","kind":"Pod",` + meta + "\n", "duplicate"},
		"space":                 {`{"apiVersion": "v1","kind":"Pod",` + meta + "\n", "space"},
	} {
		_, err := DecodeContent([]byte(c.content), ContentInfo{Digest: DigestOf([]byte(c.content)), Size: int64(len(c.content)), Objects: max(1, strings.Count(c.content, "\n"))})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// "name" and "kind" below the top belong to nobody but the object.
	object(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"Name":"x","generateName":"y"},"name":"a"},"spec":{"Kind":1,"metadata":{"Name":2},"name":3}}`)
}

func TestT11_ContentTooLarge(t *testing.T) {
	big := fmt.Sprintf(`{"apiVersion":"v1","data":{"a":"%s"},"kind":"ConfigMap","metadata":{"name":"a"}}`, strings.Repeat("a", MaxObjectSize))
	if _, err := NewObject([]byte(big)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("object: %v", err)
	}
	many := make([]Object, MaxObjects+1)
	for i := range many {
		many[i] = object(t, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%d"}}`, i))
	}
	if _, err := EncodeContent(many); err == nil {
		t.Error("wrote too many objects")
	}
	fat := fmt.Sprintf(`,"data":{"a":"%s"},"kind":"ConfigMap"`, strings.Repeat("a", MaxObjectSize-200))
	var fats []Object
	for i := range 1 + MaxContentSize/len(fat) {
		fats = append(fats, Object{ID: ObjectID{Kind: "ConfigMap", Name: fmt.Sprint(i)}, Version: "v1", JSON: fmt.Appendf(nil, `{"apiVersion":"v1"%s,"metadata":{"name":"%d"}}`, fat, i)})
	}
	if _, err := EncodeContent(fats); err == nil || !strings.Contains(err.Error(), "bytes allowed") {
		t.Errorf("content: %v", err)
	}
}

func TestEncodeContentRefusesAWrongIdentity(t *testing.T) {
	o := object(t, exampleLines[0])
	o.ID.Name = "other"
	if _, err := EncodeContent([]Object{o}); err == nil {
		t.Error("an object passed under another name")
	}
	if _, err := EncodeContent(nil); err == nil {
		t.Error("empty content passed")
	}
	o = object(t, exampleLines[0])
	if _, err := EncodeContent([]Object{o, o}); err == nil {
		t.Error("an object passed twice")
	}
}

func TestChunks(t *testing.T) {
	for _, n := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3 * ChunkSize} {
		b := make([]byte, n)
		chunks := Chunks(b)
		if got := bytes.Join(chunks, nil); !bytes.Equal(got, b) || len(chunks) != (n+ChunkSize-1)/ChunkSize {
			t.Errorf("%d bytes: %d chunks", n, len(chunks))
		}
		for _, c := range chunks {
			if len(c) == 0 || len(c) > ChunkSize {
				t.Errorf("%d bytes: a chunk of %d", n, len(c))
			}
		}
	}
}

func TestDiffShowsPathsAndHidesSecrets(t *testing.T) {
	a := []Object{
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"gone"}}`),
		object(t, `{"apiVersion":"v1","data":{"a/b":"1","k":"canary-old"},"kind":"Secret","metadata":{"name":"s","namespace":"x"}}`),
		object(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"w","namespace":"x"},"spec":{"l":[1,{"a":1},3],"n":null,"same":{}}}`),
	}
	b := []Object{
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new"}}`),
		object(t, `{"apiVersion":"v1","data":{"a/b":"canary-2","k":"canary-new"},"kind":"Secret","metadata":{"name":"s","namespace":"x"}}`),
		object(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"w","namespace":"x"},"spec":{"l":[1,{"a":2}],"same":{}}}`),
	}
	changes, err := DiffContent(a, b)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(changes)
	want := `[{Namespace/gone removed []} {Namespace/new added []} {Secret/x/s changed [{/data/a~1b (hidden) (hidden)} {/data/k (hidden) (hidden)}]} {Deployment.apps/x/w changed [{/spec/l/1/a 1 2} {/spec/l/2 3 } {/spec/n null }]}]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(got, "canary") {
		t.Error("T16: a secret is shown")
	}
	if same, err := DiffContent(a, a); err != nil || len(same) != 0 {
		t.Errorf("a differs from itself: %v, %v", same, err)
	}
}

func FuzzDecodeContent(f *testing.F) {
	f.Add([]byte(strings.Join(exampleLines, "\n") + "\n"))
	f.Add([]byte(exampleLines[3] + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		objects, err := DecodeContent(content, info(content))
		if err != nil {
			return
		}
		again, err := EncodeContent(objects)
		if err != nil || !bytes.Equal(again, content) {
			t.Fatalf("%q has two spellings: %q, %v", content, again, err)
		}
	})
}
