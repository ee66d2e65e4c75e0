package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/deploy"
)

type object = map[string]any

func at(o object, path ...string) any {
	var v any = o
	for _, key := range path {
		inner, _ := v.(object)
		v = inner[key]
	}
	return v
}

func nameOf(o object) string {
	return fmt.Sprintf("%v %v/%v", o["kind"], at(o, "metadata", "namespace"), at(o, "metadata", "name"))
}

// kustomized are the objects of a kustomization by name.
func kustomized(t *testing.T, dir string) map[string]object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, string(raw))
}

// charted are the objects of a chart by name.
func charted(t *testing.T, dir, namespace string, values object) map[string]object {
	t.Helper()
	chart, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	render, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "test", Namespace: namespace, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Engine{Strict: true}.Render(chart, render)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, text := range files {
		all = append(all, text)
	}
	return decoded(t, strings.Join(all, "\n---\n"))
}

func decoded(t *testing.T, text string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, one := range strings.Split("\n"+text, "\n---") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(one), &o); err != nil {
			t.Fatalf("%v in\n%s", err, one)
		}
		if len(o) == 0 {
			continue
		}
		if _, twice := all[nameOf(o)]; twice {
			t.Errorf("%s stands twice", nameOf(o))
		}
		all[nameOf(o)] = o
	}
	return all
}

func TestChartsAndKustomizationsGiveTheSame(t *testing.T) {
	for _, c := range []struct{ kustomization, chart, namespace string }{{"hub", "helm/holdfast-hub", "holdfast-hub"}, {"edge", "helm/holdfast-edge", "holdfast-system"}} {
		want := kustomized(t, c.kustomization)
		delete(want, "Namespace <nil>/"+c.namespace) // a chart's release has one already
		got := charted(t, c.chart, c.namespace, nil)
		for name, o := range want {
			if !reflect.DeepEqual(o, got[name]) {
				a, _ := json.MarshalIndent(o, "", " ")
				b, _ := json.MarshalIndent(got[name], "", " ")
				t.Errorf("%s: kustomize gives\n%s\nHelm gives\n%s", name, a, b)
			}
			delete(got, name)
		}
		for name := range got {
			t.Errorf("%s: only the chart has %s", c.chart, name)
		}
	}
}

// TestAnInstallationIsWrittenWithItsToken: what holdfast token create writes is the default installation, with the image and the enrolment file.
func TestAnInstallationIsWrittenWithItsToken(t *testing.T) {
	const image = "registry.example/holdfast-edge@sha256:abc"
	enrolment := "{\n  \"token\": \"hft_: # '\u2028\"\n}\n"
	manifest, err := deploy.EdgeManifest(image, []byte(enrolment))
	if err != nil {
		t.Fatal(err)
	}
	values, err := deploy.EdgeValues(image, []byte(enrolment))
	if err != nil {
		t.Fatal(err)
	}
	var given object
	if err := yaml.Unmarshal(values, &given); err != nil {
		t.Fatal(err)
	}
	want := kustomized(t, "edge")
	want["Secret holdfast-system/"+deploy.EnrolmentSecret] = object{"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": object{"namespace": "holdfast-system", "name": deploy.EnrolmentSecret},
		"stringData": object{"enrol.json": enrolment}}
	at(want["Deployment holdfast-system/holdfast-edge"], "spec", "template", "spec", "containers").([]any)[0].(object)["image"] = image
	if got := decoded(t, string(manifest)); !reflect.DeepEqual(got, want) {
		t.Errorf("the manifest is\n%s", manifest)
	}
	delete(want, "Namespace <nil>/holdfast-system")
	if got := charted(t, "helm/holdfast-edge", "holdfast-system", given); !reflect.DeepEqual(got, want) {
		t.Errorf("the chart gives %v", slices.Sorted(maps.Keys(got)))
	}
	for _, bad := range []string{"", "a b", "a\nb", `a"b`, strings.Repeat("a", 600)} {
		if _, err := deploy.EdgeManifest(bad, nil); err == nil {
			t.Errorf("image %.20q is taken", bad)
		}
	}
}

func TestT15_NothingInstalledHasMoreThanItNeeds(t *testing.T) {
	everything := []map[string]object{
		kustomized(t, "hub"), kustomized(t, "edge"), charted(t, "helm/holdfast-edge", "holdfast-system", nil),
		charted(t, "helm/holdfast-hub", "fleet", object{"podDisruptionBudget": object{"enabled": true}, "service": object{"type": "LoadBalancer"}, "storageClass": "fast", "websocket": object{"enabled": true}, "storeKey": "hub-store-key",
			"extraArgs": []any{"--nats-url=tls://nats:4222"}, "networkPolicy": object{"enabled": true, "egressPorts": []any{4222}}}),
	}
	pods, roles := 0, 0
	for _, objects := range everything {
		for name, o := range objects {
			switch o["kind"] {
			case "ClusterRole", "ClusterRoleBinding":
				t.Errorf("%s: rights over a whole cluster", name)
			case "Role":
				roles++
				checkRole(t, name, o)
			case "Secret", "ConfigMap":
				if o["data"] != nil || o["stringData"] != nil {
					t.Errorf("%s is not empty: everybody who installs would have it", name)
				}
			case "ServiceAccount":
				if o["automountServiceAccountToken"] != false {
					t.Errorf("%s mounts its token everywhere", name)
				}
			case "StatefulSet", "Deployment":
				pods++
				checkPod(t, name, at(o, "spec", "template", "spec").(object), o["kind"] == "StatefulSet")
			}
		}
	}
	if pods != 4 {
		t.Errorf("%d workloads were looked at, want 4", pods)
	}
	if roles != 6 {
		t.Errorf("%d roles were looked at, want 6", roles)
	}
}

// checkRole wants no wildcard, and Secrets and ConfigMaps to be read and patched by name only.
func checkRole(t *testing.T, name string, role object) {
	t.Helper()
	for _, rule := range role["rules"].([]any) {
		rule := rule.(object)
		said := fmt.Sprint(rule["verbs"], rule["apiGroups"], rule["resources"], rule["resourceNames"])
		if strings.Contains(said, "*") || strings.Contains(said, "secrets") && said != "[get patch] [] [secrets] [holdfast-edge-store-key]" ||
			strings.Contains(said, "configmaps") && said != "[get patch] [] [configmaps] [holdfast-edge-note]" {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func checkPod(t *testing.T, name string, pod object, hub bool) {
	t.Helper()
	if at(pod, "securityContext", "runAsNonRoot") != true || at(pod, "securityContext", "seccompProfile", "type") != "RuntimeDefault" {
		t.Errorf("%s: pod security %v", name, pod["securityContext"])
	}
	for _, volume := range pod["volumes"].([]any) {
		if at(volume.(object), "hostPath") != nil {
			t.Errorf("%s: a path of the host", name)
		}
	}
	for _, c := range pod["containers"].([]any) {
		c := c.(object)
		if at(c, "securityContext", "readOnlyRootFilesystem") != true || at(c, "securityContext", "allowPrivilegeEscalation") != false ||
			!reflect.DeepEqual(at(c, "securityContext", "capabilities", "drop"), []any{"ALL"}) || at(c, "resources", "limits", "memory") == nil {
			t.Errorf("%s: container %v", name, c["securityContext"])
		}
		if hub && (at(c, "readinessProbe", "httpGet", "path") != "/readyz" || at(c, "livenessProbe", "httpGet", "path") != "/healthz" || at(c, "readinessProbe", "httpGet", "scheme") != "HTTPS") {
			t.Errorf("%s: probes %v %v", name, c["readinessProbe"], c["livenessProbe"])
		}
	}
}

// Each alert says what it is about, how bad it is, and has a section in the runbook; each panel of the dashboard asks something.
func TestAlertsAreExplainedAndDashboardsAsk(t *testing.T) {
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(read(t, "monitoring", "alerts.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	runbook := string(read(t, "..", "docs", "runbook.md"))
	var names []string
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
			if rule.Expr == "" || rule.For == "" || rule.Annotations["summary"] == "" || rule.Labels["severity"] != "page" && rule.Labels["severity"] != "ticket" {
				t.Errorf("alert %+v", rule)
			}
			if !strings.Contains(runbook, "\n### "+rule.Alert+"\n") {
				t.Errorf("the runbook has no section %s", rule.Alert)
			}
		}
	}
	if sort.Strings(names); len(names) < 8 {
		t.Errorf("alerts %v", names)
	}
	for _, file := range []string{"fleet-dashboard.json", "site-dashboard.json"} {
		var dashboard struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(read(t, "monitoring", file), &dashboard); err != nil {
			t.Fatal(err)
		}
		if dashboard.Title == "" || len(dashboard.Panels) == 0 {
			t.Errorf("%s is empty", file)
		}
		for _, panel := range dashboard.Panels {
			if panel.Title == "" || len(panel.Targets) == 0 || panel.Targets[0].Expr == "" {
				t.Errorf("%s: panel %+v", file, panel)
			}
		}
	}
}

func read(t *testing.T, elements ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
