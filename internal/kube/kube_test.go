package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

var worlds atomic.Int64

func TestCluster(t *testing.T) {
	c := cluster.Shared(t)
	conn, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	hands := kubernetes.NewForConfigOrDie(c.Config())
	clustertest.Run(t, func(t *testing.T) clustertest.World {
		namespace := fmt.Sprintf("suite-%d", worlds.Add(1))
		id := bundle.ObjectID{Kind: "Namespace", Name: namespace}
		if _, err := conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: id, Version: "v1"}, Manager: "test",
			Body: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, namespace)}); err != nil {
			t.Fatal(err)
		}
		patch := func(t *testing.T, name, manager string, change any) {
			t.Helper()
			b, err := json.Marshal(change)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hands.CoreV1().ConfigMaps(namespace).Patch(t.Context(), name, types.MergePatchType, b, metav1.PatchOptions{FieldManager: manager}); err != nil {
				t.Fatal(err)
			}
		}
		return clustertest.World{
			Cluster:   conn,
			Namespace: namespace,
			SetData: func(t *testing.T, name, key, value, manager string) {
				patch(t, name, manager, map[string]any{"data": map[string]any{key: value}})
			},
			Unlabel: func(t *testing.T, name string) {
				patch(t, name, "kubectl-edit", map[string]any{"metadata": map[string]any{"labels": map[string]any{apply.Label: nil}}})
			},
		}
	})
}

func TestVersionAndUnreachable(t *testing.T) {
	conn, err := kube.Connect(cluster.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := conn.Version(t.Context()); err != nil || !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q, %v", v, err)
	}
	away, err := kube.Connect(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = away.Version(ctx)
	if want := "cluster unreachable: dial tcp 127.0.0.1:1: connect: connection refused"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if class := apply.ClassOf(err); class != apply.Passing {
		t.Errorf("class %v", class)
	}
}
