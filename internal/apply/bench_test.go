package apply_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// TestFigures prints the figures of issue 2 that depend on this package (HOLDFAST_BENCH=1).
func TestFigures(t *testing.T) {
	if os.Getenv("HOLDFAST_BENCH") == "" {
		t.Skip("HOLDFAST_BENCH is not set")
	}
	c := cluster.Shared(t)
	ctx := t.Context()
	conn := connect(t, c)
	const n, workers = 1000, 8
	namespaces(t, conn, "warm", "bare", "edge", "ssa")
	bare(t, ctx, c.Config(), configMaps("warm", n), workers)
	for range 3 {
		reset(t, conn, "bare", "edge", "ssa")
		began := time.Now()
		bare(t, ctx, c.Config(), configMaps("bare", n), workers)
		bareTime := time.Since(began)

		executor := apply.NewExecutor(conn, apply.Options{Workers: workers})
		before := total(conn)
		desired := desire(t, "bench", configMaps("edge", n))
		began = time.Now()
		result, err := executor.Apply(ctx, apply.Request{Desired: desired, Persist: func(inv apply.Inventory) error {
			_, err := inv.Encode()
			return err
		}})
		edgeTime := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		requests := total(conn) - before

		objects := configMaps("ssa", n)
		began = time.Now()
		plain(t, ctx, c.Config(), objects, workers)
		ssaTime := time.Since(began)
		t.Logf("bare %v edge %v ssa %v: apply_ratio %.2f apply_vs_ssa %.2f requests %d", bareTime, edgeTime, ssaTime,
			bareTime.Seconds()/edgeTime.Seconds(), ssaTime.Seconds()/edgeTime.Seconds(), requests)
		_ = result
	}
}

func total(conn *kube.Conn) (n int64) {
	for _, v := range conn.Requests() {
		n += v
	}
	return n
}

func configMaps(namespace string, n int) []bundle.Object {
	out := make([]bundle.Object, n)
	for i := range out {
		out[i] = object(fmt.Sprintf(`{"apiVersion":"v1","data":{"a":"value-%d","b":"%s"},"kind":"ConfigMap","metadata":{"name":"c-%04d","namespace":%q}}`,
			i, bytes.Repeat([]byte("x"), 200), i, namespace))
	}
	return out
}

// bare is the loop that everything is compared with: dry run, then apply, with plain client-go.
func bare(t *testing.T, ctx context.Context, config *rest.Config, objects []bundle.Object, workers int) {
	t.Helper()
	config.QPS = -1
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	patch := func(o bundle.Object, query string) error {
		u := fmt.Sprintf("%s/api/v1/namespaces/%s/configmaps/%s?fieldManager=bare%s", config.Host, o.ID.Namespace, o.ID.Name, query)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPatch, u, bytes.NewReader(o.JSON))
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
		resp, err := h.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s: %s", resp.Status, b.String())
		}
		return nil
	}
	for _, query := range []string{"&dryRun=All", ""} {
		var next atomic.Int64
		var wait sync.WaitGroup
		for range workers {
			wait.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(objects); i = int(next.Add(1)) - 1 {
					if err := patch(objects[i], query); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
	}
}

// plain is fluxcd/pkg/ssa as its authors use it.
func plain(t *testing.T, ctx context.Context, config *rest.Config, objects []bundle.Object, concurrency int) {
	t.Helper()
	config.QPS = -1
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := ssa.NewResourceManager(c, nil, ssa.Owner{Field: "plain", Group: "plain.dev"})
	m.SetConcurrency(concurrency)
	var us []*unstructured.Unstructured
	for _, o := range objects {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(o.JSON); err != nil {
			t.Fatal(err)
		}
		us = append(us, u)
	}
	if _, err := m.ApplyAllStaged(ctx, us, ssa.DefaultApplyOptions()); err != nil {
		t.Fatal(err)
	}
}

func reset(t *testing.T, conn *kube.Conn, names ...string) {
	t.Helper()
	for _, ns := range names {
		deleteCollection(t, conn, ns)
	}
}
