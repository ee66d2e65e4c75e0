package apply_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// real is a bundle's life on a real API server.
type real struct {
	t         testing.TB
	name      string // of the bundle and of its namespace
	conn      *kube.Conn
	executor  *apply.Executor
	hands     *kubernetes.Clientset
	inventory apply.Inventory
}

var lives atomic.Int64

func newReal(t testing.TB) *real {
	t.Helper()
	c := cluster.Shared(t)
	conn := connect(t, c)
	return &real{t: t, name: fmt.Sprintf("life-%d", lives.Add(1)), conn: conn, executor: apply.NewExecutor(conn, apply.Options{}),
		hands: kubernetes.NewForConfigOrDie(c.Config())}
}

func (r *real) apply(d apply.Desired, facts apply.Facts) (apply.Result, error) {
	result, err := r.executor.Apply(r.t.Context(), apply.Request{Desired: d, Inventory: r.inventory, Facts: facts,
		Persist: func(inv apply.Inventory) error {
			_, err := inv.Encode()
			return err
		}})
	r.inventory = result.Inventory
	return result, err
}

func (r *real) must(d apply.Desired) apply.Result {
	r.t.Helper()
	result, err := r.apply(d, apply.Facts{})
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

func (r *real) remove() apply.Result {
	r.t.Helper()
	result, err := r.executor.Remove(r.t.Context(), r.inventory, apply.Anything(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

func (r *real) exists(o bundle.Object) bool {
	r.t.Helper()
	_, err := r.conn.Look(r.t.Context(), apply.Ref{ObjectID: o.ID, Version: o.Version}, apply.ViewMetadata)
	if err == nil {
		return true
	}
	if c := apply.ClassOf(err); c != apply.Missing && c != apply.NoKind {
		r.t.Fatal(err)
	}
	return false
}

func (r *real) versions() string {
	r.t.Helper()
	var b strings.Builder
	for _, it := range r.inventory.Items {
		seen, err := r.conn.Look(r.t.Context(), it.Ref, apply.ViewMetadata)
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintln(&b, it.ObjectID, seen.ResourceVersion)
	}
	return b.String()
}

func deployment(namespace, name string, replicas int) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[2]q,"namespace":%[1]q},"spec":{"replicas":%[3]d,
		"selector":{"matchLabels":{"app":%[2]q}},"template":{"metadata":{"labels":{"app":%[2]q}},"spec":{"containers":[{"name":"c","image":"nginx:1"}]}}}}`, namespace, name, replicas))
}

func job(namespace, name, image string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":%q,"namespace":%q},"spec":{"template":{"spec":{
		"restartPolicy":"Never","containers":[{"name":"c","image":%q}]}}}}`, name, namespace, image))
}

func TestRealF22_RefusedBundleChangesNothing(t *testing.T) {
	r := newReal(t)
	group := r.name + ".example.com"
	objects := []bundle.Object{namespaceObject(r.name), definition(group, "Thing"), custom(group, "Thing", r.name, "x", `"many"`), configMap(r.name, "a", "1"),
		configMap("default", r.name, "1"), object(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"bad_name","namespace":"default"},"spec":{"ports":[{"port":1}]}}`)}
	_, err := r.apply(desire(t, r.name, objects), apply.Facts{})
	f := failure(t, err, apply.AtPreflight)
	if !f.Permanent() || f.Refusals[0].Object.Name != "bad_name" || !strings.Contains(err.Error(), "bad_name") {
		t.Error(err)
	}
	_, err = r.apply(desire(t, r.name, objects[:5]), apply.Facts{})
	f = failure(t, err, apply.AtPreflight)
	if !f.Permanent() || len(f.Refusals) != 1 || f.Refusals[0].Object.Kind != "Thing" {
		t.Error(err)
	}
	t.Log(err)
	for _, o := range objects {
		if r.exists(o) {
			t.Errorf("%s is there", o.ID)
		}
	}
	if len(r.inventory.Items) != 0 {
		t.Errorf("owned: %v", r.inventory.Items)
	}
}

func TestRealDefinitionAndResourceThenNothingThenRemoval(t *testing.T) {
	r := newReal(t)
	group := r.name + ".example.com"
	objects := []bundle.Object{namespaceObject(r.name), definition(group, "Thing"), custom(group, "Thing", r.name, "x", "1"),
		configMap(r.name, "a", "1"), deployment(r.name, "web", 2)}
	d := desire(t, r.name, objects)
	r.must(d)
	result := r.must(d)
	if result.Kept != 0 {
		t.Errorf("kept %d without facts", result.Kept)
	}
	l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	l.healthy(t)
	before := r.versions()
	r.must(d)
	if after := r.versions(); after != before {
		t.Errorf("a second apply changed\n%sto\n%s", before, after)
	}
	l.stop()
	r.remove()
	for _, o := range objects {
		if r.exists(o) {
			t.Errorf("%s is left", o.ID)
		}
	}
}

func TestRealImmutableJob(t *testing.T) {
	r := newReal(t)
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce}
	r.must(desirePolicy(t, r.name, []bundle.Object{namespaceObject(r.name), job(r.name, "migrate", "busybox:1")}, policy))
	next := []bundle.Object{namespaceObject(r.name), job(r.name, "migrate", "busybox:2")}
	_, err := r.apply(desirePolicy(t, r.name, next, policy), apply.Facts{})
	if f := failure(t, err, apply.AtPreflight); !strings.Contains(f.Error(), `list "batch/Job" in policy.replace`) {
		t.Error(f)
	}
	policy.Replace = []string{"batch/Job"}
	uid := r.inventory.Items[1].UID
	r.must(desirePolicy(t, r.name, next, policy))
	if it := r.inventory.Items[1]; it.Kind != "Job" || it.UID == uid || uid == "" {
		t.Errorf("%+v after %s", it, uid)
	}
	r.remove()
}

func TestRealDriftIsCorrected(t *testing.T) {
	r := newReal(t)
	secret := object(fmt.Sprintf(`{"apiVersion":"v1","data":{"password":"Y2FuYXJ5LW91cnM="},"kind":"Secret","metadata":{"name":"s","namespace":%q}}`, r.name))
	d := desire(t, r.name, []bundle.Object{namespaceObject(r.name), configMap(r.name, "a", "1"), deployment(r.name, "web", 2), secret})
	r.must(d)
	l := watch(t, r.executor, true, func(w *apply.Watcher) { w.Track(d, r.inventory) })
	l.synced(t, 4)
	l.healthy(t)
	// kubectl scale, kubectl edit, kubectl delete.
	if _, err := r.hands.AppsV1().Deployments(r.name).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "kubectl-scale"}); err != nil {
		t.Fatal(err)
	}
	web := "changed Deployment.apps/" + r.name + "/web [/spec/replicas] [kubectl-scale]"
	l.heard(t, web, "corrected Deployment.apps/"+r.name+"/web <nil>")
	if _, err := r.hands.CoreV1().Secrets(r.name).Patch(t.Context(), "s", types.MergePatchType, []byte(`{"data":{"password":"Y2FuYXJ5LXRoZWlycw=="}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	said := []string{web, "corrected Deployment.apps/" + r.name + "/web <nil>", "changed Secret/" + r.name + "/s [/data/password] [kubectl-edit]", "corrected Secret/" + r.name + "/s <nil>"}
	l.heard(t, said...)
	if err := r.hands.CoreV1().ConfigMaps(r.name).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.heard(t, append(said, "deleted ConfigMap/"+r.name+"/a [] []", "corrected ConfigMap/"+r.name+"/a <nil>")...)
	l.healthy(t)
	l.stop()
	r.inventory, _ = l.Inventory(bundle.Name(r.name))
	r.remove()
}

func TestRealForeignObjectsAreUntouched(t *testing.T) {
	r := newReal(t)
	d := desire(t, r.name, []bundle.Object{namespaceObject(r.name), configMap(r.name, "a", "1")})
	r.must(d)
	theirs := configMap(r.name, "theirs", "1")
	if _, err := r.conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: theirs.ID, Version: "v1"}, Body: theirs.JSON, Manager: "helm"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.apply(desire(t, r.name, []bundle.Object{namespaceObject(r.name), configMap(r.name, "a", "1"), configMap(r.name, "theirs", "ours")}), apply.Facts{})
	f := failure(t, err, apply.AtPreflight)
	if f.Refusals[0].Class != apply.Conflict || f.Refusals[0].Managers[0] != "helm" {
		t.Error(err)
	}
	result := r.remove()
	if !r.exists(theirs) || !r.exists(namespaceObject(r.name)) || r.exists(configMap(r.name, "a", "1")) {
		t.Errorf("wrong things were deleted: %+v", result.Outcomes)
	}
}

func TestRealCorpus(t *testing.T) {
	// The end-to-end suite does this with the whole edge; here it is for working on this package.
	root := os.Getenv("HOLDFAST_CORPUS")
	if root == "" {
		t.Skip("HOLDFAST_CORPUS names no directory")
	}
	names, err := filepath.Glob(filepath.Join(root, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range names {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			r := newReal(t)
			for _, version := range []string{"old", "new"} {
				objects := corpus(t, filepath.Join(dir, version))
				if len(objects) == 0 {
					continue
				}
				policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce, Replace: []string{"batch/Job"}}
				d := desirePolicy(t, r.name, objects, policy)
				before, began := total(r.conn), time.Now()
				r.must(d)
				t.Logf("%s: %d objects, %d requests, %v", version, len(objects), total(r.conn)-before, time.Since(began))
				t.Log(r.conn.Requests())
				if len(r.inventory.Items) != len(objects) {
					t.Errorf("%d owned", len(r.inventory.Items))
				}
			}
			began := time.Now()
			result := r.remove()
			t.Logf("removed in %v", time.Since(began))
			for _, o := range result.Outcomes {
				if o.Action != apply.Prune {
					t.Errorf("%s: %s", o.Object, o.Detail)
				}
			}
		})
	}
}

// corpus reads a directory of manifests as the builder would, as far as these need it.
func corpus(t *testing.T, dir string) []bundle.Object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	setup, err := filepath.Glob(filepath.Join(dir, "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, setup...)
	fallback := map[string]string{"argo-cd": "argocd", "online-boutique": "default"}[filepath.Base(filepath.Dir(dir))]
	var out []bundle.Object
	add := func(v map[string]any) {
		if fallback != "" {
			meta := v["metadata"].(map[string]any)
			switch v["kind"] {
			case "Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding":
			default:
				if meta["namespace"] == nil {
					meta["namespace"] = fallback
				}
			}
		}
		delete(v, "status")
		b, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err = yaml.YAMLToJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, object(string(b)))
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(b), "\n---") {
			var v map[string]any
			if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
				t.Fatal(errors.Join(fmt.Errorf("%s", f), err))
			}
			if len(v) == 0 {
				continue
			}
			if items, ok := v["items"].([]any); ok && strings.HasSuffix(v["kind"].(string), "List") {
				for _, it := range items {
					add(it.(map[string]any))
				}
				continue
			}
			add(v)
		}
	}
	if fallback == "argocd" && len(out) > 0 {
		out = append(out, namespaceObject("argocd"))
	}
	return out
}
