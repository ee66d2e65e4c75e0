package chart

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// write makes a chart of files under a new directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "demo")
	if files["Chart.yaml"] == "" {
		files["Chart.yaml"] = "apiVersion: v2\nname: demo\nversion: 1.2.3\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-x\n  namespace: {{ .Release.Namespace }}\ndata:\n"

func text(r *Rendered) string {
	var b strings.Builder
	for _, f := range r.Files {
		b.WriteString("# " + f.Name + "\n")
		b.Write(f.YAML)
	}
	return b.String()
}

func TestRenderValuesAndDependencies(t *testing.T) {
	dir := write(t, map[string]string{
		"values.yaml":                   "a: one\nb: two\nsub: {enabled: true}\n",
		"templates/x.yaml":              configMap + "  a: {{ .Values.a }}\n  b: {{ .Values.b }}\n  kube: {{ .Capabilities.KubeVersion }}\n  apps: \"{{ .Capabilities.APIVersions.Has \"apps/v1\" }}\"\n  mine: \"{{ .Capabilities.APIVersions.Has \"acme.dev/v1\" }}\"\n",
		"templates/NOTES.txt":           "thank you",
		"templates/_help.tpl":           "{{ define \"x\" }}{{ end }}",
		"templates/off.yaml":            "{{ if .Values.off }}no{{ end }}",
		"crds/c.yaml":                   "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: cs.acme.dev}\n",
		"charts/sub/Chart.yaml":         "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
		"charts/sub/values.yaml":        "enabled: false\n",
		"charts/sub/templates/sub.yaml": "{{ if .Values.enabled }}\napiVersion: v1\nkind: Service\nmetadata: {name: sub}\n{{ end }}\n",
	})
	values := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(values, []byte("a: file\nb: file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Render(dir, Options{Release: "rel", Namespace: "ns", Values: []string{values}, Set: []string{"b=set"}, APIVersions: []string{"acme.dev/v1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := text(r)
	for _, want := range []string{"name: rel-x", "namespace: ns", "a: file", "b: set", "kube: " + DefaultKubernetes, `apps: "true"`, `mine: "true"`, "kind: Service", "kind: CustomResourceDefinition", "# demo/templates/x.yaml"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	for _, not := range []string{"thank you", "NOTES", "_help", "off.yaml"} {
		if strings.Contains(got, not) {
			t.Errorf("%q is in\n%s", not, got)
		}
	}
	again, err := Render(dir, Options{Release: "rel", Namespace: "ns", Values: []string{values}, Set: []string{"b=set"}, APIVersions: []string{"acme.dev/v1"}})
	if err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("the second time it gives\n%s, %v", text(again), err)
	}
}

func TestHooksAreNeverSilent(t *testing.T) {
	job := func(name, hook string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n  annotations:\n    helm.sh/hook: " + hook + "\n"
	}
	dir := write(t, map[string]string{
		"templates/x.yaml":    configMap + "  a: b\n",
		"templates/pre.yaml":  job("certs", "pre-install,pre-upgrade"),
		"templates/test.yaml": job("probe", "test"),
	})
	_, err := Render(dir, Options{Release: "r", Hooks: HooksRefuse})
	var refused *HooksError
	if !errors.As(err, &refused) || len(refused.Hooks) != 1 || !strings.Contains(err.Error(), "Job certs (pre-install, pre-upgrade hook of demo/templates/pre.yaml)") {
		t.Errorf("got %v", err)
	}
	kept, err := Render(dir, Options{Release: "r", Hooks: HooksKeep})
	if err != nil || len(kept.Kept) != 1 || len(kept.Left) != 1 || !strings.Contains(text(kept), "name: certs") || strings.Contains(text(kept), "name: probe") {
		t.Errorf("%+v, %v", kept, err)
	}
	dropped, err := Render(dir, Options{Release: "r", Hooks: HooksDrop})
	if err != nil || len(dropped.Left) != 2 || strings.Contains(text(dropped), "name: certs") {
		t.Errorf("%+v, %v", dropped, err)
	}
}

func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		files map[string]string
		o     Options
		want  string
	}{
		"random":      {files: map[string]string{"templates/x.yaml": configMap + "  a: {{ randAlphaNum 20 }}\n"}, want: "demo/templates/x.yaml: gives something else each time"},
		"certificate": {files: map[string]string{"templates/x.yaml": configMap + "  a: {{ (genCA \"ca\" 1).Cert | b64enc }}\n"}, want: "gives something else each time"},
		"template":    {files: map[string]string{"templates/x.yaml": "a: {{ .Values.a.b.c }}\n"}, want: "demo/templates/x.yaml:1"},
		"required":    {files: map[string]string{"templates/x.yaml": configMap + "  a: {{ required \"name is needed\" .Values.name }}\n"}, want: "name is needed"},
		"schema":      {files: map[string]string{"values.schema.json": `{"required":["name"]}`, "templates/x.yaml": configMap}, want: "name"},
		"library":     {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.2.3\ntype: library\n"}, want: "a library chart has no objects"},
		"dependency":  {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.2.3\ndependencies:\n- name: db\n  version: 1.0.0\n  repository: https://example.com\n"}, want: "db: not in charts/; run helm dependency build first"},
		"kubernetes":  {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.2.3\nkubeVersion: '>=1.40.0'\n", "templates/x.yaml": configMap}, want: "it wants Kubernetes >=1.40.0"},
		"version":     {files: map[string]string{"templates/x.yaml": configMap}, o: Options{Kubernetes: "new"}, want: `Kubernetes version "new"`},
		"empty":       {files: map[string]string{"templates/x.yaml": "{{ if .Values.on }}x{{ end }}"}, want: "it gives no objects with these values"},
		"no values":   {files: map[string]string{"templates/x.yaml": configMap}, o: Options{Values: []string{"/nowhere/values.yaml"}}, want: "/nowhere/values.yaml"},
		"set":         {files: map[string]string{"templates/x.yaml": configMap}, o: Options{Set: []string{"a[x"}}, want: "--set a[x"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.o.Release = "r"
			r, err := Render(write(t, c.files), c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, c.want)
			}
		})
	}
}

func TestIs(t *testing.T) {
	dir := write(t, map[string]string{"templates/x.yaml": configMap})
	for path, want := range map[string]bool{dir: true, filepath.Join(dir, "templates"): false, filepath.Join(dir, "Chart.yaml"): false, "/nowhere": false} {
		if Is(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
