package apply_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// Every way in which a server says a value other than it was sent: quantities, ports, defaults of kinds and of definitions, a policy that rewrites
// what we apply and adds to it.
func awkward(namespace, group string) []bundle.Object {
	return []bundle.Object{
		namespaceObject(namespace),
		object(fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.%[1]s"},"spec":{"group":%[1]q,"scope":"Namespaced",
			"names":{"kind":"Gadget","plural":"gadgets"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object",
			"properties":{"size":{"type":"integer"},"colour":{"type":"string","default":"red"},"deep":{"type":"object","default":{},"properties":{"on":{"type":"boolean","default":true}}},
			"port":{"x-kubernetes-int-or-string":true}}}}}}}]}}`, group)),
		object(fmt.Sprintf(`{"apiVersion":%q,"kind":"Gadget","metadata":{"name":"g","namespace":%q},"spec":{"size":1,"port":"http"}}`, group+"/v1", namespace)),
		object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":%q},"spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":"http","name":"a"},{"port":81,"targetPort":8081,"name":"b"}]}}`, namespace)),
		object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":%q},"stringData":{"password":"canary-secret"}}`, namespace)),
		object(fmt.Sprintf(`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"n","namespace":%q},"spec":{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}}`, namespace)),
		object(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":%q},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
			"spec":{"containers":[{"name":"c","image":"nginx:1","ports":[{"containerPort":80,"name":"http"}],"resources":{"limits":{"cpu":"1000m","memory":"1024Mi"},"requests":{"cpu":0.5,"memory":"1e3"}},
			"env":[{"name":"A","value":"1"}],"livenessProbe":{"httpGet":{"path":"/","port":"http"}}}]}}}}`, namespace)),
	}
}

// mutate has the server rewrite the Deployments of a namespace: their image, which we apply, and an environment variable before ours, which we do not.
func (r *real) mutate(namespace string) {
	r.t.Helper()
	ctx := context.Background()
	api := r.hands.AdmissionregistrationV1()
	rewrite := `(object.spec.template.spec.containers[0].image.startsWith("mirror.") ? [] :
		[JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/image", value: "mirror.example.com/" + object.spec.template.spec.containers[0].image}]) +
		(object.spec.template.spec.containers[0].env.exists(e, e.name == "INJECTED") ? [] :
		[JSONPatch{op: "add", path: "/spec/template/spec/containers/0/env/0", value: Object.spec.template.spec.containers.env{name: "INJECTED", value: "1"}}])`
	fail := admissionregistrationv1.Fail
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
		FailurePolicy: &fail, ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}}}}}},
		Mutations: []admissionregistrationv1.Mutation{{PatchType: admissionregistrationv1.PatchTypeJSONPatch, JSONPatch: &admissionregistrationv1.JSONPatch{Expression: rewrite}}},
	}}
	if _, err := api.MutatingAdmissionPolicies().Create(ctx, policy, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: namespace}}
	if _, err := api.MutatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = api.MutatingAdmissionPolicyBindings().Delete(ctx, namespace, metav1.DeleteOptions{})
		_ = api.MutatingAdmissionPolicies().Delete(ctx, namespace, metav1.DeleteOptions{})
	})
	// The server takes up a policy a moment later.
	objects := awkward(namespace, namespace)
	probe := object(strings.ReplaceAll(string(objects[len(objects)-1].JSON), `"web"`, `"probe"`))
	clustertest.Eventually(r.t, func() error {
		seen, err := r.conn.Diff(ctx, apply.Patch{Ref: apply.Ref{ObjectID: probe.ID, Version: "v1"}, Body: probe.JSON, Manager: "probe", Force: true})
		if err != nil {
			return err
		}
		if seen.Missing {
			if _, err = r.conn.Apply(ctx, apply.Patch{Ref: apply.Ref{ObjectID: probe.ID, Version: "v1"}, Body: probe.JSON, Manager: "probe", Force: true}); err != nil {
				return err
			}
		}
		live, err := r.hands.AppsV1().Deployments(namespace).Get(ctx, "probe", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if image := live.Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(image, "mirror.") {
			if err := r.hands.AppsV1().Deployments(namespace).Delete(ctx, "probe", metav1.DeleteOptions{}); err != nil {
				return err
			}
			return fmt.Errorf("the policy is not in force: image %s", image)
		}
		return r.hands.AppsV1().Deployments(namespace).Delete(ctx, "probe", metav1.DeleteOptions{})
	})
}

// Neither defaults nor the server's own spelling nor a policy that rewrites objects is drift, whether a fact made it suspicious or not; a real
// change beside them is, and is corrected or respected.
func TestRealF21_NoFalseDrift(t *testing.T) {
	r := newReal(t)
	r.must(desire(t, r.name, []bundle.Object{namespaceObject(r.name)}))
	r.mutate(r.name)
	for _, mode := range []bundle.DriftMode{bundle.DriftEnforce, bundle.DriftRespect} {
		d := desire(t, r.name, awkward(r.name, r.name+".example.com")).WithDrift(mode)
		r.must(d)
		for i := range d.Objects {
			o := &d.Objects[i]
			body, err := o.Body()
			if err != nil {
				t.Fatal(err)
			}
			patch := apply.Patch{Ref: o.Ref, Body: body, Manager: apply.Owner(bundle.Name(r.name)), Force: true}
			if mode == bundle.DriftRespect {
				patch.Base = apply.BaseOf(body)
			}
			if diff, err := r.conn.Diff(t.Context(), patch); err != nil || !diff.None() {
				t.Errorf("%s: %s: %+v, %v", mode, o.ObjectID, diff, err)
			}
		}
		before := r.versions()
		l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
		l.synced(t, 7)
		l.stop()
		r.must(d)
		if after := r.versions(); after != before {
			t.Errorf("%s: applied again\n%sbecame\n%s", mode, before, after)
		}
	}

	// kubectl set image, and a scale by an autoscaler; both stay over a version that changes neither.
	d := desirePolicy(t, r.name, awkward(r.name, r.name+".example.com"), bundle.Policy{Prune: true, Drift: bundle.DriftRespect, IgnoreManagers: []string{"autoscaler"}})
	r.must(d)
	web := r.hands.AppsV1().Deployments(r.name)
	patch := func(manager, change string) {
		t.Helper()
		if _, err := web.Patch(t.Context(), "web", types.StrategicMergePatchType, []byte(change), metav1.PatchOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	patch("autoscaler", `{"spec":{"template":{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"3"}}}]}}}}`)
	patch("kubectl-set", `{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"theirs"}]}]}}}}`)
	l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	told := "changed Deployment.apps/" + r.name + "/web [/spec/template/spec/containers/0/env/1/value] [kubectl-set]"
	l.heard(t, told)
	r.inventory, _ = l.Inventory(bundle.Name(r.name))
	l.stop()
	objects := awkward(r.name, r.name+".example.com")
	last := len(objects) - 1
	objects[last] = object(strings.Replace(string(objects[last].JSON), `"spec":{"selector"`, `"spec":{"minReadySeconds":1,"selector"`, 1))
	d = desirePolicy(t, r.name, objects, d.Policy)
	r.must(d)
	live, err := web.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := live.Spec.Template.Spec.Containers[0]
	if live.Spec.MinReadySeconds != 1 || c.Env[1].Value != "theirs" || c.Resources.Limits.Cpu().String() != "3" || c.Image != "mirror.example.com/nginx:1" || len(c.Env) != 2 {
		t.Errorf("minReadySeconds %d, container %+v", live.Spec.MinReadySeconds, c)
	}
	l = watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	l.heard(t, told)
	l.stop()
	r.remove()
}

// What the server says about a Secret or ConfigMap it refuses reaches nobody with the value in it.
func TestRealT16_RefusalsNameNoValues(t *testing.T) {
	r := newReal(t)
	_, err := r.apply(desire(t, r.name, []bundle.Object{
		object(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"` + r.name + `","namespace":"default"},"data":{"password":"canary-no-base64"}}`),
		object(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + r.name + `","namespace":"default"},"data":{"bad key":"canary-value"}}`),
		object(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + r.name + `-n","namespace":"default"},"data":{"k":31415926}}`),
	}), apply.Facts{})
	f := failure(t, err, apply.AtPreflight)
	if len(f.Refusals) != 3 || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "31415926") {
		t.Error(err)
	}
	t.Log(err)
}

// A custom resource is judged by the policy's expression; a Service without pods does not answer its probe.
func TestRealHealthByPolicy(t *testing.T) {
	r := newReal(t)
	group := r.name + ".example.com"
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce,
		Health: []bundle.HealthRule{{Target: bundle.PatchTarget{Group: group, Kind: "Thing"}, Ready: `object.spec.size == 1 && object.metadata.generation == 1`}},
		Probes: []bundle.Probe{{Namespace: r.name, Service: "web", Port: 80, Path: "/healthz"}}}
	d := desirePolicy(t, r.name, []bundle.Object{namespaceObject(r.name), definition(group, "Thing"), custom(group, "Thing", r.name, "ready", "1"), custom(group, "Thing", r.name, "waits", "2"),
		object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":%q},"spec":{"ports":[{"port":80}],"selector":{"app":"nobody"}}}`, r.name))}, policy)
	r.must(d)
	l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	l.healthy(t, "Service/"+r.name+"/web InProgress", "Thing."+group+"/"+r.name+"/waits InProgress")
	l.mu.Lock()
	words := l.health[len(l.health)-1].Unhealthy[0].Message
	l.mu.Unlock()
	if words != "probe of port 80/healthz: status 503" {
		t.Error(words)
	}
	l.stop()
	r.remove()
}

// Bundles bring secrets that others open: SealedSecret and ExternalSecret objects are applied, judged by their conditions, corrected and removed as
// any custom resource is.
func TestRealSealedAndExternalSecrets(t *testing.T) {
	r := newReal(t)
	crd := func(group, kind, version string) bundle.Object {
		plural := strings.ToLower(kind) + "s"
		return object(fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[3]s.%[1]s"},"spec":{"group":%[1]q,"scope":"Namespaced",
			"names":{"kind":%[2]q,"plural":%[3]q},"versions":[{"name":%[4]q,"served":true,"storage":true,"subresources":{"status":{}},
			"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`, group, kind, plural, version))
	}
	objects := []bundle.Object{
		namespaceObject(r.name), crd("bitnami.com", "SealedSecret", "v1alpha1"), crd("external-secrets.io", "ExternalSecret", "v1"),
		object(fmt.Sprintf(`{"apiVersion":"bitnami.com/v1alpha1","kind":"SealedSecret","metadata":{"name":"sealed","namespace":%q},"spec":{"encryptedData":{"password":"AgBy3i4OJSWK"},
			"template":{"metadata":{"name":"sealed"},"type":"Opaque"}}}`, r.name)),
		object(fmt.Sprintf(`{"apiVersion":"external-secrets.io/v1","kind":"ExternalSecret","metadata":{"name":"external","namespace":%q},"spec":{"refreshInterval":"1h",
			"secretStoreRef":{"name":"vault","kind":"SecretStore"},"target":{"name":"external"},"data":[{"secretKey":"password","remoteRef":{"key":"shop"}}]}}`, r.name)),
	}
	d := desire(t, r.name, objects)
	r.must(d)
	l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	l.healthy(t)
	things := dynamic.NewForConfigOrDie(cluster.Shared(t).Config()).Resource(schema.GroupVersionResource{Group: "external-secrets.io", Version: "v1", Resource: "externalsecrets"}).Namespace(r.name)
	status := `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"SecretSyncedError","message":"could not get secret data from provider"}]}}`
	if _, err := things.Patch(t.Context(), "external", types.MergePatchType, []byte(status), metav1.PatchOptions{FieldManager: "external-secrets"}, "status"); err != nil {
		t.Fatal(err)
	}
	l.healthy(t, "ExternalSecret.external-secrets.io/"+r.name+"/external InProgress")
	if _, err := things.Patch(t.Context(), "external", types.MergePatchType, []byte(`{"spec":{"refreshInterval":"9h"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	changed := "changed ExternalSecret.external-secrets.io/" + r.name + "/external [/spec/refreshInterval] [kubectl-edit]"
	l.heard(t, changed, "corrected ExternalSecret.external-secrets.io/"+r.name+"/external <nil>")
	l.stop()
	r.inventory, _ = l.Inventory(bundle.Name(r.name))
	r.remove()
	for _, o := range objects {
		if r.exists(o) {
			t.Errorf("%s is left", o.ID)
		}
	}
}
