package deploy_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/deploy"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// TestInstallationsAreAcceptedByARealAPIServer applies what the READMEs of this folder install: with no field the server does not know, and with pods
// that the security level of their own namespaces admits.
func TestInstallationsAreAcceptedByARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	for name, objects := range map[string]map[string]object{
		"hub":                      kustomized(t, "hub"),
		"edge":                     kustomized(t, "edge"),
		"edge with its token":      decoded(t, string(withToken(t))),
		"edge with all components": kustomized(t, withComponents(t)),
		"edge with a tenant":       merged(kustomized(t, "edge"), kustomized(t, filepath.Join("edge", "tenant"))),
		"chart of the hub": merged(
			map[string]object{"fleet": {"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "fleet", "labels": object{"pod-security.kubernetes.io/enforce": "restricted"}}}},
			charted(t, "helm/holdfast-hub", "fleet", object{"podDisruptionBudget": object{"enabled": true}, "service": object{"type": "LoadBalancer"}, "storageClass": "fast", "websocket": object{"enabled": true}, "storeKey": "hub-store-key",
				"extraArgs": []any{"--nats-url=tls://nats:4222"}, "networkPolicy": object{"enabled": true, "egressPorts": []any{4222}}})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster.ForTest(t, cluster.Options{Name: "install"})
			client := dynamic.NewForConfigOrDie(c.Config())
			mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovery.NewDiscoveryClientForConfigOrDie(c.Config())))
			for _, o := range inOrder(objects) {
				if err := create(t.Context(), client, mapper, o); err != nil {
					t.Errorf("%s: %v", nameOf(o.Object), err)
				}
			}
			pods := kubernetes.NewForConfigOrDie(c.Config())
			for _, o := range objects {
				if kind := o["kind"]; kind == "Deployment" || kind == "StatefulSet" {
					admitted(t, pods, o)
				}
			}
		})
	}
}

// withToken is the edge as holdfast token create --format manifest writes it.
func withToken(t *testing.T) []byte {
	t.Helper()
	manifest, err := deploy.EdgeManifest("registry.example/holdfast-edge:1", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// withComponents is a kustomization of the edge with every component.
func withComponents(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	edge, err := filepath.Rel(dir, filepath.Join(here, "edge"))
	if err != nil {
		t.Fatal(err)
	}
	components, err := os.ReadDir(filepath.Join("edge", "components"))
	if err != nil {
		t.Fatal(err)
	}
	file := object{"resources": []string{edge}}
	for _, c := range components {
		all, _ := file["components"].([]string)
		file["components"] = append(all, filepath.Join(edge, "components", c.Name()))
	}
	raw, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func merged(a, b map[string]object) map[string]object {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// inOrder puts namespaces first.
func inOrder(objects map[string]object) []unstructured.Unstructured {
	var namespaces, others []unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		if o := (unstructured.Unstructured{Object: objects[name]}); o.GetKind() == "Namespace" {
			namespaces = append(namespaces, o)
		} else {
			others = append(others, o)
		}
	}
	return append(namespaces, others...)
}

// create applies an object with strict validation, as `kubectl apply --server-side` does.
func create(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, o unstructured.Unstructured) error {
	mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	body, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		to = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	_, err = to.Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "install", FieldValidation: metav1.FieldValidationStrict})
	return err
}

// admitted waits for a pod of a workload. Where the namespace's security level refuses it, the test says why.
func admitted(t *testing.T, client kubernetes.Interface, workload object) {
	t.Helper()
	o := unstructured.Unstructured{Object: workload}
	app, _, _ := unstructured.NestedString(workload, "spec", "selector", "matchLabels", "app.kubernetes.io/name")
	if app == "" {
		t.Errorf("%s selects no app.kubernetes.io/name", nameOf(workload))
		return
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		pods, err := client.CoreV1().Pods(o.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + app})
		return err == nil && len(pods.Items) > 0, ignoreNotFound(err)
	})
	if err != nil {
		t.Errorf("%s: no pod: %v%s", nameOf(workload), err, refusals(t, client, o.GetNamespace()))
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// refusals are what the controllers say of pods that could not be made.
func refusals(t *testing.T, client kubernetes.Interface, namespace string) (all string) {
	t.Helper()
	sets, err := client.AppsV1().ReplicaSets(namespace).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, set := range sets.Items {
		for _, c := range set.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				all += fmt.Sprintf("\n%s: %s", set.Name, c.Message)
			}
		}
	}
	return all
}
