package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// lookout is a Watcher that runs, and what it said.
type lookout struct {
	*apply.Watcher
	mu      sync.Mutex
	said    []string
	health  []apply.HealthSeen
	reach   string
	correct bool
	stop    func()
}

func watch(t *testing.T, executor *apply.Executor, correct bool, track ...func(*apply.Watcher)) *lookout {
	t.Helper()
	l := &lookout{correct: correct}
	l.Watcher = apply.NewWatcher(executor, l.hear)
	for _, tr := range track {
		tr(l.Watcher)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	l.stop = func() { cancel(); <-done }
	t.Cleanup(l.stop)
	return l
}

func (l *lookout) hear(e apply.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case apply.DriftSeen:
		what := "changed"
		if e.Drift.Deleted {
			what = "deleted"
		}
		if e.Gone {
			what = "gone"
		}
		l.said = append(l.said, fmt.Sprint(what, " ", e.Drift.Object, " ", e.Drift.Paths, " ", e.Drift.Managers))
		if l.correct && !e.Gone && !e.Drift.Left {
			l.Correct(e.Bundle, e.Drift.Object)
		}
	case apply.Corrected:
		l.said = append(l.said, fmt.Sprint("corrected ", e.Drift.Object, " ", e.Err))
	case apply.ClusterSeen:
		l.reach = "reachable"
		if !e.Reachable {
			l.reach = e.Message
		}
	case apply.HealthSeen:
		l.health = append(l.health, e)
	}
}

func (l *lookout) heard(t *testing.T, want ...string) {
	t.Helper()
	clustertest.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !slices.Equal(l.said, want) {
			return fmt.Errorf("heard %q, want %q", l.said, want)
		}
		return nil
	})
}

func (l *lookout) healthy(t *testing.T, want ...string) {
	t.Helper()
	clustertest.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.health) == 0 {
			return errors.New("no health yet")
		}
		var got []string
		for _, u := range l.health[len(l.health)-1].Unhealthy {
			got = append(got, fmt.Sprint(u.Object, " ", u.Status))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("unhealthy %q, want %q", got, want)
		}
		return nil
	})
}

func (s *site) track(d apply.Desired) func(*apply.Watcher) {
	return func(w *apply.Watcher) { w.Track(d, s.inventory) }
}

// synced waits until the watches know everything.
func (l *lookout) synced(t *testing.T, kinds int) {
	t.Helper()
	clustertest.Eventually(t, func() error {
		if f := l.Facts(""); len(f.Known) != kinds {
			return fmt.Errorf("%d kinds are known, want %d", len(f.Known), kinds)
		}
		return nil
	})
}

func TestDriftIsCorrected(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1"), configMap("default", "b", "1")})
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	edit(t, s.cluster, "default", "a", "kubectl-edit", "by hand")
	l.heard(t, "changed ConfigMap/default/a [/data/k] [kubectl-edit]", "corrected ConfigMap/default/a <nil>")
	s.cluster.Remove(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "b"})
	l.heard(t, "changed ConfigMap/default/a [/data/k] [kubectl-edit]", "corrected ConfigMap/default/a <nil>",
		"deleted ConfigMap/default/b [] []", "corrected ConfigMap/default/b <nil>")
	s.has("ConfigMap/default/a", "ConfigMap/default/b")
	if v := s.cluster.Body(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "a"})["data"]; fmt.Sprint(v) != "map[k:1]" {
		t.Errorf("data %v", v)
	}
	inv, _ := l.Inventory("shop")
	if inv.Items[1].UID == s.inventory.Items[1].UID {
		t.Error("the inventory does not know the new object")
	}
}

// What others changed since our apply is told and stays – over corrections of the rest, restarts and versions that do not change it themselves –
// until they give it up. What is deleted comes back.
func TestDriftIsRespected(t *testing.T) {
	s := newSite(t)
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce, DriftRules: []bundle.DriftRule{{Target: bundle.PatchTarget{Kind: "ConfigMap", Name: "a"}, Drift: bundle.DriftRespect}}}
	version := func(k, l string) apply.Desired {
		return desirePolicy(t, "shop", []bundle.Object{configMap("default", "b", "1"),
			object(fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q,"l":%q},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}`, k, l))}, policy)
	}
	a := bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "a"}
	data := func(want string) {
		t.Helper()
		if got := fmt.Sprint(s.cluster.Body(a)["data"]); got != want {
			t.Errorf("data is %s, want %s", got, want)
		}
	}
	told := "changed ConfigMap/default/a [/data/k] [kubectl-edit]"
	d := version("1", "1")
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	edit(t, s.cluster, "default", "a", "kubectl-edit", "by hand")
	l.heard(t, told)
	edit(t, s.cluster, "default", "b", "kubectl-edit", "by hand")
	l.heard(t, told, "changed ConfigMap/default/b [/data/k] [kubectl-edit]", "corrected ConfigMap/default/b <nil>")
	s.inventory, _ = l.Inventory("shop")
	l.stop()
	data("map[k:by hand l:1]")

	// A later version that leaves it alone, and a life that begins with it.
	d = version("1", "2")
	s.must(d)
	data("map[k:by hand l:2]")
	l = watch(t, s.executor, true, s.track(d))
	l.heard(t, told)
	// The object comes back whole.
	s.cluster.Remove(a)
	l.heard(t, told, "deleted ConfigMap/default/a [] []", "corrected ConfigMap/default/a <nil>")
	data("map[k:1 l:2]")
	edit(t, s.cluster, "default", "a", "kubectl-edit", "again")
	l.heard(t, told, "deleted ConfigMap/default/a [] []", "corrected ConfigMap/default/a <nil>", told)
	edit(t, s.cluster, "default", "a", "kubectl-edit", "1")
	l.heard(t, told, "deleted ConfigMap/default/a [] []", "corrected ConfigMap/default/a <nil>", told, "gone ConfigMap/default/a [/data/k] [kubectl-edit]")
	edit(t, s.cluster, "default", "a", "kubectl-edit", "again")
	l.heard(t, told, "deleted ConfigMap/default/a [] []", "corrected ConfigMap/default/a <nil>", told, "gone ConfigMap/default/a [/data/k] [kubectl-edit]", told)
	s.inventory, _ = l.Inventory("shop")
	l.stop()

	// A version that changes the field itself has it.
	s.must(version("3", "2"))
	data("map[k:3 l:2]")
}

// A bundle that was enforced and is respected from now on takes what it finds changed then as changed by others.
func TestRespectBeginsWithWhatWasApplied(t *testing.T) {
	s := newSite(t)
	objects := []bundle.Object{configMap("default", "a", "1")}
	s.must(desire(t, "shop", objects))
	d := desire(t, "shop", objects).WithDrift(bundle.DriftRespect)
	based, changed := apply.Rebase(d, s.inventory)
	if !changed {
		t.Fatal("no base was added")
	}
	s.inventory = based
	if _, changed := apply.Rebase(d, based); changed {
		t.Error("the base was added twice")
	}
	edit(t, s.cluster, "default", "a", "kubectl-edit", "by hand")
	s.must(d)
	if v := s.cluster.Body(objects[0].ID)["data"]; fmt.Sprint(v) != "map[k:by hand]" {
		t.Errorf("data %v", v)
	}
	if !s.inventory.Items[0].Left {
		t.Error("the inventory does not know that something was left")
	}
}

// A status that changes before the first list of a watch, or while it is broken, is seen with the list.
func TestF21_HealthThatChangedUnwatched(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{deployment("default", "web", 1)})
	s.must(d)
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "watch" {
			return &apply.ServerError{Class: apply.Passing, Code: 503, Words: "not now"}
		}
		return nil
	})
	l := watch(t, s.executor, true, s.track(d))
	l.healthy(t)
	s.cluster.SetVerdict(d.Objects[0].ObjectID, apply.Verdict{Status: apply.StatusFailed})
	s.cluster.Fail(nil)
	s.cluster.Break(nil)
	l.healthy(t, "Deployment.apps/default/web Failed")
}

// Expressions and probes of the policy take part in the bundle's health, and a kind that is otherwise healthy by being there is looked at.
func TestHealthByPolicy(t *testing.T) {
	s := newSite(t)
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftRespect,
		Health: []bundle.HealthRule{{Target: bundle.PatchTarget{Kind: "ConfigMap", Name: "a"}, Ready: `object.data.k == "ready"`, Failed: `object.data.k == "broken"`}},
		Probes: []bundle.Probe{{Namespace: "default", Service: "web", Port: 80, Path: "/healthz"}}}
	d := desirePolicy(t, "shop", []bundle.Object{configMap("default", "a", "1"), configMap("default", "b", "1"),
		object(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},"spec":{"ports":[{"port":80}]}}`)}, policy)
	s.must(d)
	var down atomic.Bool
	down.Store(true)
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "probe" && down.Load() {
			return &apply.ServerError{Class: apply.Passing, Code: 503, Words: "no endpoints available"}
		}
		return nil
	})
	l := watch(t, s.executor, true, s.track(d))
	l.healthy(t, "ConfigMap/default/a InProgress", "Service/default/web InProgress")
	edit(t, s.cluster, "default", "a", "controller", "broken")
	l.healthy(t, "ConfigMap/default/a Failed", "Service/default/web InProgress")
	edit(t, s.cluster, "default", "a", "controller", "ready")
	l.healthy(t, "Service/default/web InProgress")
	down.Store(false)
	s.cluster.SetVerdict(bundle.ObjectID{Kind: "Service", Namespace: "default", Name: "web"}, apply.Verdict{Status: apply.StatusCurrent})
	l.healthy(t)
}

// T29: a probe reaches nothing that is not an object of its own bundle, and an expression that does not compile is refused before the cluster is asked.
func TestT29_ProbesNameOwnServices(t *testing.T) {
	for name, policy := range map[string]bundle.Policy{
		"a Service of others":            {Drift: bundle.DriftEnforce, Probes: []bundle.Probe{{Namespace: "kube-system", Service: "kube-dns", Port: 80, Path: "/"}}},
		"pods of others":                 {Drift: bundle.DriftEnforce, Probes: []bundle.Probe{{Namespace: "kube-system", Pods: map[string]string{"k8s-app": "kube-dns"}, Port: 53}}},
		"an expression of another world": {Drift: bundle.DriftEnforce, Health: []bundle.HealthRule{{Target: bundle.PatchTarget{Kind: "ConfigMap"}, Ready: "self.ok"}}},
	} {
		v := verifytest.Verified(t, []bundle.Object{configMap("default", "a", "1")}, func(m *bundle.Manifest) { m.Policy = policy })
		if _, err := apply.Prepare(v, render.Inputs{}, apply.Anything()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A probe of pods is about the workload whose pods have the labels, and takes part in its health.
func TestProbesOfPods(t *testing.T) {
	s := newSite(t)
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce, Probes: []bundle.Probe{
		{Namespace: "default", Pods: map[string]string{"app": "web"}, Port: 5432}, {Namespace: "default", Pods: map[string]string{"app": "web"}, Port: 8080, Path: "/ready"},
	}}
	d := desirePolicy(t, "shop", podsOf("default"), policy)
	for _, o := range d.Objects {
		if want := map[string]int{"Deployment": 2}[o.ObjectID.Kind]; len(o.Probes) != want {
			t.Errorf("%s has %d probes, want %d", o.ObjectID, len(o.Probes), want)
		}
	}
	s.must(d)
	var down atomic.Bool
	down.Store(true)
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "probe" && down.Load() {
			return errors.New("pod web-1: connection refused")
		}
		return nil
	})
	l := watch(t, s.executor, true, s.track(d))
	l.healthy(t, "Deployment.apps/default/web InProgress")
	down.Store(false)
	s.cluster.SetVerdict(bundle.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "default", Name: "web"}, apply.Verdict{Status: apply.StatusCurrent})
	l.healthy(t)
}

func TestDriftWhileNobodyWatchedIsFoundAtTheStart(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1"), configMap("default", "b", "1"), configMap("default", "c", "1")})
	s.must(d)
	s.cluster.Remove(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "a"})
	edit(t, s.cluster, "default", "b", "kubectl-edit", "by hand")
	l := watch(t, s.executor, true, s.track(d))
	clustertest.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.said) != 4 {
			return fmt.Errorf("heard %q", l.said)
		}
		return nil
	})
}

func TestReportedDriftStaysAndGoes(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	s.must(d)
	l := watch(t, s.executor, false, s.track(d))
	l.synced(t, 1)
	edit(t, s.cluster, "default", "a", "kubectl-edit", "by hand")
	l.heard(t, "changed ConfigMap/default/a [/data/k] [kubectl-edit]")
	edit(t, s.cluster, "default", "a", "kubectl-edit", "1")
	l.heard(t, "changed ConfigMap/default/a [/data/k] [kubectl-edit]", "gone ConfigMap/default/a [/data/k] [kubectl-edit]")
}

func TestUnlabelledObjectIsDrift(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	err := s.cluster.Edit(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "a"}, "kubectl-label", func(body map[string]any) {
		delete(body["metadata"].(map[string]any), "labels")
	})
	if err != nil {
		t.Fatal(err)
	}
	l.heard(t, "changed ConfigMap/default/a [/metadata/labels/holdfast.dev~1bundle] []", "corrected ConfigMap/default/a <nil>")
}

func TestSteadyStateCostsNothing(t *testing.T) {
	s := newSite(t)
	var objects []bundle.Object
	for i := range 100 {
		objects = append(objects, configMap("default", fmt.Sprintf("c%03d", i), "1"))
	}
	d := desire(t, "shop", objects)
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	l.healthy(t)
	before := s.cluster.Requests()
	result, err := s.executor.Apply(t.Context(), apply.Request{Desired: d, Inventory: s.inventory, Facts: l.Facts("")})
	if err != nil || result.Kept != 100 || result.Changed {
		t.Errorf("%+v, %v", result.Outcomes, err)
	}
	objects[50] = configMap("default", "c050", "2")
	next := desire(t, "shop", objects)
	l.Hold("shop")
	if result, err = s.executor.Apply(t.Context(), apply.Request{Desired: next, Inventory: s.inventory, Facts: l.Facts("")}); err != nil {
		t.Fatal(err)
	}
	l.Track(next, result.Inventory)
	edit(t, s.cluster, "default", "c051", "kubectl-edit", "2")
	l.heard(t, "changed ConfigMap/default/c051 [/data/k] [kubectl-edit]", "corrected ConfigMap/default/c051 <nil>")
	if n := s.cluster.Requests() - before; n != 4 {
		t.Errorf("%d requests, want 2 for the change, 2 for the drift", n)
	}
}

func TestHealthFollowsTheObjects(t *testing.T) {
	s := newSite(t)
	web := object(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default"},"spec":{"replicas":1}}`)
	s.cluster.SetVerdict(web.ID, apply.Verdict{Status: apply.StatusInProgress, Message: "0/1"})
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1"), web})
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.healthy(t, "Deployment.apps/default/web InProgress")
	s.cluster.SetVerdict(web.ID, apply.Verdict{Status: apply.StatusCurrent})
	l.healthy(t)
}

func TestF21_CorrectionsThatFailAreTriedAgain(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	var mu sync.Mutex
	refusals := 2
	s.cluster.Fail(func(c memcluster.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Verb == "apply" && refusals > 0 {
			refusals--
			return &apply.ServerError{Class: apply.Passing, Code: 503, Words: "try later"}
		}
		return nil
	})
	edit(t, s.cluster, "default", "a", "kubectl-edit", "by hand")
	l.heard(t, "changed ConfigMap/default/a [/data/k] [kubectl-edit]", "corrected ConfigMap/default/a try later",
		"corrected ConfigMap/default/a try later", "corrected ConfigMap/default/a <nil>")
}

func TestF21_AFightIsNotAHotLoop(t *testing.T) {
	s := newSite(t)
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	s.must(d)
	l := watch(t, s.executor, true, s.track(d))
	l.synced(t, 1)
	for round := range 12 {
		edit(t, s.cluster, "default", "a", "rival", fmt.Sprint("round ", round))
		clustertest.Eventually(t, func() error {
			l.mu.Lock()
			defer l.mu.Unlock()
			last := ""
			if n := len(l.said); n > 0 {
				last = l.said[n-1]
			}
			corrections := 0
			for _, s := range l.said {
				if strings.HasPrefix(s, "corrected") {
					corrections++
				}
			}
			if corrections < round+1 {
				return fmt.Errorf("round %d: %q", round, last)
			}
			return nil
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.said[len(l.said)-1]; !strings.Contains(last, "rival undoes every correction; the next is tried in 2s") {
		t.Errorf("the twelfth answer: %q", last)
	}
}

func TestFightStretchesAndEnds(t *testing.T) {
	var f apply.Fight
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		if p := f.Pause(now); p != 0 {
			t.Fatalf("correction %d waits %v", i, p)
		}
		f.Corrected(now, []string{"rival"})
	}
	var pauses []time.Duration
	for range 10 {
		f.Corrected(now, []string{"rival"})
		p := f.Pause(now)
		pauses = append(pauses, p)
		now = now.Add(p)
	}
	want := []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300}
	for i := range want {
		if pauses[i] != want[i]*time.Second {
			t.Fatalf("pauses %v, want %v seconds", pauses, want)
		}
	}
	if p := f.Pause(now.Add(11 * time.Minute)); p != 0 {
		t.Errorf("after peace: %v", p)
	}
	for i := range 100 {
		now = now.Add(20 * time.Minute)
		if p := f.Pause(now); p != 0 {
			t.Fatalf("slow correction %d waits %v", i, p)
		}
		f.Corrected(now, nil)
	}
}
