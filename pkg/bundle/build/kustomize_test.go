package build

import (
	"context"
	"strings"
	"testing"
)

const kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"

func TestKustomizationBuilds(t *testing.T) {
	dir := write(t, map[string]string{
		"base/kustomization.yaml": kustomization + "resources: [web.yaml]\nconfigMapGenerator: [{name: settings, files: [app.ini=settings.ini], literals: [\"url=https://example.com/?a=b\"]}]\n",
		"base/settings.ini":       "a = 1\n",
		"base/web.yaml":           "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  template: {spec: {containers: [{name: c, image: web, envFrom: [{configMapRef: {name: settings}}]}]}}\n",
		"prod/kustomization.yaml": kustomization + "namespace: shop\nnamePrefix: prod-\nresources: [../base]\nimages: [{name: web, newTag: v2}]\npatches:\n- patch: |\n    - {op: replace, path: /spec/replicas, value: 3}\n  target: {kind: Deployment}\n",
		"prod/holdfast.yaml":      ours + "createNamespaces: true\n",
	})
	r, err := Build(context.Background(), options(dir+"/prod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"prod-settings-`, `"app.ini":"a = 1\n"`, `"url":"https://example.com/?a=b"`, `"image":"web:v2"`, `"replicas":3`, `"kind":"Namespace","metadata":{"name":"shop"}`} {
		if !strings.Contains(string(r.Content), want) {
			t.Errorf("no %s in\n%s", want, r.Content)
		}
	}
}

func TestT29_KustomizationFetchesNothing(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"https":         {"resources: [\"https://example.com/x.yaml\"]\n", "is an address"},
		"git":           {"resources:\n- x.yaml\n- github.com/a/b?ref=v1\n", "kustomization.yaml:5: \"github.com/a/b?ref=v1\" is an address"},
		"ssh":           {"bases: [\"git@github.com:a/b\"]\n", "is an address"},
		"git::":         {"components: [\"git::file:///tmp/x\"]\n", "is an address"},
		"double slash":  {"resources: [\"example.com//x\"]\n", "is an address"},
		"dot git":       {"resources: [\"example.com/x.git\"]\n", "is an address"},
		"patch":         {"patches: [{path: \"https://example.com/x.yaml\"}]\n", "is an address"},
		"strategic":     {"patchesStrategicMerge: [\"http://example.com/x.yaml\"]\n", "is an address"},
		"generator":     {"configMapGenerator: [{name: a, files: [\"k=https://example.com/x\"]}]\n", "is an address"},
		"transformer":   {"transformers: [\"https://example.com/x\"]\n", "is an address"},
		"built-in":      {"transformers:\n- |\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: x}\n  path: https://example.com/x\n", "is an address"},
		"built-in file": {"transformers: [patch.yaml]\n", "patch.yaml:4: \"https://example.com/x\" is an address"},
		"built-in base": {"transformers: [patches]\n", "patch.yaml:4: \"https://example.com/x\" is an address"},
		"openapi":       {"openapi: {path: \"https://example.com/x\"}\n", "is an address"},
		"chart":         {"helmCharts: [{name: a, repo: \"https://example.com\"}]\n", "helmCharts: charts are fetched"},
		"in a base":     {"resources: [base]\n", "base/kustomization.yaml:3: \"https://example.com\" is an address"},
		"missing":       {"resources: [missing.yaml]\n", "kustomization.yaml:3: \"missing.yaml\": no such file"},
		"plugin":        {"generators: [plugin.yaml]\n", "kustomization"},
		"outside file":  {"resources: [../outside.yaml]\n", "kustomization"},
		"malformed":     {"resources: [\n", "malformed YAML"},
		"not a mapping": {"", ""},
	} {
		text := kustomization + c.text
		if name == "not a mapping" {
			text, c.want = "- a\n", "a kustomization is a mapping"
		}
		dir := write(t, map[string]string{
			"outside.yaml": pod, "k/kustomization.yaml": text, "k/x.yaml": pod, "k/base/kustomization.yaml": "resources:\n- x.yaml\n- https://example.com\n", "k/base/x.yaml": pod,
			"k/patch.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\npath: https://example.com/x\n", "k/patches/kustomization.yaml": "resources: [../patch.yaml]\n",
			"k/plugin.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./run.sh}\n",
		})
		_, err := Build(context.Background(), options(dir+"/k"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
