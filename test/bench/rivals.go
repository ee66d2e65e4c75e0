package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/ssa"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// workers is how many requests a rival has under way at the same time: as many as the agent.
const workers = 8

// lingering is how long a deleted object is waited for.
const lingering = time.Minute

// bareLoop is the fewest requests that look before they leap: dry-run everything, apply everything.
type bareLoop struct {
	host     string
	http     *http.Client
	builtins meta.RESTMapper
}

func newBareLoop(config *rest.Config) (*bareLoop, error) {
	config.QPS = -1
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfigAndClient(config, h)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(d)
	if err != nil {
		return nil, err
	}
	return &bareLoop{config.Host, h, restmapper.NewDiscoveryRESTMapper(groups)}, nil
}

// target is an object with its address, worked out before the clock runs.
type target struct {
	bundle.Object
	path string
}

// definition is what the loop needs to know of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group    string
		Scope    string
		Names    struct{ Kind, Plural string }
		Versions []struct{ Name string }
	}
}

// targets finds the addresses of objects; those of custom resources come from the definitions among them.
func (l *bareLoop) targets(objects []bundle.Object) ([]target, error) {
	custom := map[schema.GroupKind]definition{}
	for _, o := range objects {
		if o.ID.Kind == "CustomResourceDefinition" {
			var d definition
			if err := json.Unmarshal(o.JSON, &d); err != nil {
				return nil, err
			}
			custom[schema.GroupKind{Group: d.Spec.Group, Kind: d.Spec.Names.Kind}] = d
		}
	}
	out := make([]target, len(objects))
	for i, o := range objects {
		kind := schema.GroupKind{Group: o.ID.Group, Kind: o.ID.Kind}
		plural, namespaced := custom[kind].Spec.Names.Plural, custom[kind].Spec.Scope == "Namespaced"
		if plural == "" {
			m, err := l.builtins.RESTMapping(kind, o.Version)
			if err != nil {
				return nil, err
			}
			plural, namespaced = m.Resource.Resource, m.Scope.Name() == meta.RESTScopeNameNamespace
		}
		path := "/apis/" + o.ID.Group + "/" + o.Version
		if o.ID.Group == "" {
			path = "/api/" + o.Version
		}
		if namespaced {
			path += "/namespaces/" + o.ID.Namespace
		}
		out[i] = target{o, path + "/" + plural + "/" + url.PathEscape(o.ID.Name)}
	}
	return out, nil
}

// apply brings the objects to the cluster and says how many seconds it took.
func (l *bareLoop) apply(ctx context.Context, objects []target) (float64, error) {
	began := time.Now()
	var first, rest []target
	for _, o := range objects {
		if o.ID.Kind == "CustomResourceDefinition" || o.ID.Kind == "Namespace" {
			first = append(first, o)
		} else {
			rest = append(rest, o)
		}
	}
	for _, group := range [][]target{first, rest} {
		for _, query := range []string{"?fieldManager=bare&dryRun=All", "?fieldManager=bare"} {
			if err := parallel(len(group), func(i int) error {
				_, err := l.do(ctx, http.MethodPatch, group[i].path+query, group[i].JSON)
				return err
			}); err != nil {
				return 0, err
			}
		}
		for _, o := range group {
			if err := l.served(ctx, o); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(began).Seconds(), nil
}

// served waits until a definition's kind is served in one of its versions, as the agent does.
func (l *bareLoop) served(ctx context.Context, o target) error {
	if o.ID.Kind != "CustomResourceDefinition" {
		return nil
	}
	var d definition
	if err := json.Unmarshal(o.JSON, &d); err != nil {
		return err
	}
	for {
		for _, v := range d.Spec.Versions {
			raw, err := l.do(ctx, http.MethodGet, "/apis/"+d.Spec.Group+"/"+v.Name, nil)
			if err == nil && bytes.Contains(raw, []byte(`"name":"`+d.Spec.Names.Plural+`"`)) {
				return nil
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// healthy waits until kstatus calls every object current.
func (l *bareLoop) healthy(ctx context.Context, objects []target) error {
	waiting := objects
	for {
		good := make([]bool, len(waiting))
		if err := parallel(len(waiting), func(i int) error {
			raw, err := l.do(ctx, http.MethodGet, waiting[i].path, nil)
			if err != nil {
				return err
			}
			var u unstructured.Unstructured
			if err := u.UnmarshalJSON(raw); err != nil {
				return err
			}
			result, err := status.Compute(&u)
			good[i] = err == nil && result.Status == status.CurrentStatus
			return err
		}); err != nil {
			return err
		}
		var left []target
		for i, o := range waiting {
			if !good[i] {
				left = append(left, o)
			}
		}
		if waiting = left; len(waiting) == 0 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// remove deletes the objects, the last stage first, and waits until they are gone.
func (l *bareLoop) remove(ctx context.Context, objects []target) error {
	stages := map[int][]target{}
	for _, o := range objects {
		stages[bundle.Stage(o.Object)] = append(stages[bundle.Stage(o.Object)], o)
	}
	for stage := bundle.Stages - 1; stage >= 0; stage-- {
		group := stages[stage]
		if err := parallel(len(group), func(i int) error {
			_, err := l.do(ctx, http.MethodDelete, group[i].path+"?propagationPolicy=Background", nil)
			if gone(err) {
				return nil
			}
			return err
		}); err != nil {
			return err
		}
		if err := parallel(len(group), func(i int) error { return l.awaitGone(ctx, group[i]) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *bareLoop) awaitGone(ctx context.Context, o target) error {
	for began := time.Now(); ; {
		raw, err := l.do(ctx, http.MethodGet, o.path, nil)
		switch {
		case gone(err):
			return nil
		case err != nil:
			return err
		case time.Since(began) > lingering:
			return fmt.Errorf("%s is not gone after %s: %.2000s", o.ID, lingering, raw)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// refused is an answer that is no success.
type refused struct {
	status int
	words  string
}

func (r *refused) Error() string { return r.words }

func gone(err error) bool {
	r, ok := err.(*refused)
	return ok && r.status == http.StatusNotFound
}

func (l *bareLoop) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	resp, err := l.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, &refused{resp.StatusCode, fmt.Sprintf("%s %s: %s: %.500s", method, path, resp.Status, raw)}
	}
	return raw, nil
}

// plain applies objects with fluxcd/pkg/ssa as its authors use it, and says how many seconds it took.
func plain(ctx context.Context, config *rest.Config, objects []bundle.Object, concurrency int) (float64, error) {
	log.SetLogger(logr.Discard()) // otherwise it complains
	config.QPS = -1
	c, err := client.New(config, client.Options{})
	if err != nil {
		return 0, err
	}
	m := ssa.NewResourceManager(c, nil, ssa.Owner{Field: "plain", Group: "plain.dev"})
	m.SetConcurrency(concurrency)
	decoded := make([]*unstructured.Unstructured, len(objects))
	for i, o := range objects {
		decoded[i] = &unstructured.Unstructured{}
		if err := decoded[i].UnmarshalJSON(o.JSON); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	_, err = m.ApplyAllStaged(ctx, decoded, ssa.DefaultApplyOptions())
	return time.Since(began).Seconds(), err
}

// parallel calls do for 0 … n-1 with the workers and gives the first error.
func parallel(n int, do func(int) error) error {
	var next atomic.Int64
	var wait sync.WaitGroup
	var first atomic.Pointer[error]
	for range min(workers, n) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && first.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wait.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// underscored writes a name as part of a measure.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }
