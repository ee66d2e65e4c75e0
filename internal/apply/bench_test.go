package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
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
		changeOne(t, conn, executor, n, result.Inventory)
		t.Logf("bare %v edge %v ssa %v: apply_ratio %.2f apply_vs_ssa %.2f requests %d", bareTime, edgeTime, ssaTime,
			bareTime.Seconds()/edgeTime.Seconds(), ssaTime.Seconds()/edgeTime.Seconds(), requests)
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

// changeOne applies a version that changes one object of n, then measures drift.
func changeOne(t *testing.T, conn *kube.Conn, executor *apply.Executor, n int, inventory apply.Inventory) {
	t.Helper()
	objects := configMaps("edge", n)
	d := desire(t, "bench", objects)
	var mu sync.Mutex
	corrected := make(chan struct{}, 1)
	var w *apply.Watcher
	w = apply.NewWatcher(executor, func(e apply.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case apply.DriftSeen:
			if !e.Gone {
				w.Correct(e.Bundle, e.Drift.Object)
			}
		case apply.Corrected:
			if e.Err != nil {
				t.Error(e.Err)
			}
			corrected <- struct{}{}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go w.Run(ctx)
	w.Track(d, inventory)
	clustertest.Eventually(t, func() error {
		if len(w.Facts("").Objects) < n {
			return errors.New("not synced")
		}
		return nil
	})
	objects[n/2] = object(`{"apiVersion":"v1","data":{"a":"changed"},"kind":"ConfigMap","metadata":{"name":"` + objects[n/2].ID.Name + `","namespace":"edge"}}`)
	before, began := total(conn), time.Now()
	next := desire(t, "bench", objects)
	prepared := time.Since(began)
	w.Hold("bench")
	result, err := executor.Apply(ctx, apply.Request{Desired: next, Inventory: inventory, Facts: w.Facts(""), Persist: func(inv apply.Inventory) error {
		_, err := inv.Encode()
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Track(next, result.Inventory)
	took, requests := time.Since(began), total(conn)-before
	var fixes []time.Duration
	for i := range 100 {
		began := time.Now()
		if _, err := conn.Delete(ctx, apply.Ref{ObjectID: objects[i*7].ID, Version: "v1"}, mustItem(t, result.Inventory, objects[i*7].ID).UID); err != nil {
			t.Fatal(err)
		}
		<-corrected
		fixes = append(fixes, time.Since(began))
	}
	slices.Sort(fixes)
	t.Logf("change one: %d requests, %v (preparing and signing for the test %v); drift fix p50 %v p99 %v", requests, took, prepared, fixes[50], fixes[98])
}

func mustItem(t *testing.T, inv apply.Inventory, id bundle.ObjectID) apply.Item {
	t.Helper()
	it, ok := inv.Get(id)
	if !ok {
		t.Fatalf("%s is not owned", id)
	}
	return it
}
