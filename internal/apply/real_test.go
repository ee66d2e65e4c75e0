package apply_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

func connect(t testing.TB, c *cluster.Cluster) *kube.Conn {
	t.Helper()
	conn, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// object makes an object of any JSON, canonical or not.
func object(text string) bundle.Object {
	v, err := bundle.DecodeValue([]byte(text), 8<<20)
	if err != nil {
		panic(err)
	}
	b, err := bundle.Canonical(v)
	if err != nil {
		panic(err)
	}
	o, err := bundle.NewObject(b)
	if err != nil {
		panic(err)
	}
	return o
}

func desire(t testing.TB, name string, objects []bundle.Object) apply.Desired {
	t.Helper()
	return desirePolicy(t, name, objects, bundle.Policy{Prune: true, Drift: bundle.DriftEnforce})
}

func desirePolicy(t testing.TB, name string, objects []bundle.Object, policy bundle.Policy) apply.Desired {
	t.Helper()
	v := verifytest.Verified(t, objects, func(m *bundle.Manifest) {
		m.Name, m.Policy = bundle.Name(name), policy
	})
	d, err := apply.Prepare(v, render.Inputs{}, apply.Anything())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func namespaces(t testing.TB, conn *kube.Conn, names ...string) {
	t.Helper()
	for _, n := range names {
		o := object(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + n + `"}}`)
		if _, err := conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: o.ID, Version: "v1"}, Body: o.JSON, Manager: "test"}); err != nil {
			t.Fatal(err)
		}
	}
}

func deleteCollection(t testing.TB, _ *kube.Conn, namespace string) {
	t.Helper()
	d, err := dynamic.NewForConfig(cluster.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}
	err = d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(namespace).
		DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
