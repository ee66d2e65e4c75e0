package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	"sigs.k8s.io/yaml"
)

// corpus is where real-world manifests lie on machines that have them.
func corpus(t testing.TB) string {
	dir := os.Getenv("HOLDFAST_CORPUS")
	if dir == "" {
		dir = "../../../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no corpus of real manifests at %s", dir)
	}
	return dir
}

func corpusOptions(name, dir string) Options {
	o := Options{Dir: dir, Name: bundle.Name(name), Version: "1.0.0", Created: time.Unix(1767225600, 0)}
	if name == "argo-cd" {
		o.Namespace, o.CreateNamespaces = "argocd", true
	}
	return o
}

var corpusNames = []string{"argo-cd", "ingress-nginx", "kube-prometheus", "metallb", "online-boutique"}

func TestRealManifestsBuild(t *testing.T) {
	dir := corpus(t)
	for _, name := range corpusNames {
		t.Run(name, func(t *testing.T) {
			content := map[string][]byte{}
			for _, age := range []string{"old", "new"} {
				folder := filepath.Join(dir, name, age)
				if _, err := os.Stat(folder); err != nil {
					continue
				}
				o := corpusOptions(name, folder)
				if name == "online-boutique" {
					o.Namespace, o.CreateNamespaces = "boutique", true
				}
				start := time.Now()
				r, err := Build(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				packed, err := wire.Compress(r.Content)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d objects, %d bytes, %d compressed, %d warnings, in %s", age, len(r.Objects), len(r.Content), len(packed), len(r.Warnings), time.Since(start))
				for _, w := range r.Warnings {
					t.Logf("  %v", w)
				}
				rendered, err := render.Render(r.Manifest, r.Objects, render.Inputs{})
				if err != nil || rendered.Digest != r.Manifest.Content.Digest {
					t.Errorf("rendered without inputs: %s, %v, want the content's own digest", rendered.Digest, err)
				}
				content[age] = r.Content
				if age == "new" && content["old"] != nil {
					checkDelta(t, content["old"], r.Content, len(packed))
				}
			}
		})
	}
}

func checkDelta(t *testing.T, from, to []byte, full int) {
	delta, err := wire.Delta(from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("delta: %d bytes, %.3f of the whole", len(delta), float64(len(delta))/float64(full))
	if float64(len(delta)) > 0.15*float64(full) || len(delta) > 16<<10 {
		t.Errorf("delta of %d bytes: want at most 0.15 of %d and 16 KiB", len(delta), full)
	}
	if got, err := wire.ApplyDelta(from, delta, int64(len(to))); err != nil || !bytes.Equal(got, to) {
		t.Errorf("the delta makes something else: %v", err)
	}
}

// TestRealManifestsReadAsKubectlReadsThem holds our reading of YAML against the one of sigs.k8s.io/yaml, which kubectl uses.
func TestRealManifestsReadAsKubectlReadsThem(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(corpus(t), "*", "*", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents, err := parse(Source{Name: file, YAML: text})
		if err != nil {
			t.Fatal(err)
		}
		parts := bytes.Split(append([]byte("\n"), text...), []byte("\n---"))
		var theirs []string
		for _, part := range parts {
			v := decodeTheirs(t, part)
			if v != "null" {
				theirs = append(theirs, v)
			}
		}
		if len(theirs) != len(documents) {
			t.Fatalf("%s: %d documents, want %d", file, len(documents), len(theirs))
		}
		for i, d := range documents {
			v, err := value(d.root)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := bundle.Canonical(v)
			if err != nil || string(ours) != theirs[i] {
				t.Errorf("%s, document %d: differs, %v", file, i+1, err)
			}
		}
	}
}

func decodeTheirs(t testing.TB, text []byte) string {
	t.Helper()
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := bundle.DecodeValue(j, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
