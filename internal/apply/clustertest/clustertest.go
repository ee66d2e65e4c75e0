// Package clustertest is what every apply.Cluster must do: internal/kube against a real API server, memcluster in memory.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// World is a cluster and the outside hands that a test needs.
type World struct {
	Cluster apply.Cluster
	// Namespace exists and is empty.
	Namespace string
	// Tenant gives an account that may do everything with ConfigMaps in Namespace, and nothing else.
	Tenant func(t *testing.T) bundle.Account
	// SetData sets one key of a ConfigMap's data as another field manager, as kubectl edit does.
	SetData func(t *testing.T, name, key, value, manager string)
	// Unlabel takes the bundle's label off a ConfigMap.
	Unlabel func(t *testing.T, name string)
}

const patience = 20 * time.Second

// Run runs the suite; make gives a fresh World for each test.
func Run(t *testing.T, makeWorld func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"dry run stores nothing and says whether the object is new":     testDryRun,
		"a second apply of the same changes no resource version":        testSecondApply,
		"what another manager holds is a conflict, and force takes it":  testConflict,
		"a field that is no longer applied goes away":                   testFieldRemoved,
		"an ignored field keeps its live value":                         testIgnore,
		"what others changed stays, by the base, until we change it":    testRespect,
		"what a manager that is yielded to holds stays":                 testYield,
		"look tells missing objects from others":                        testLook,
		"a gate judges the object":                                      testJudge,
		"a namespace that does not exist and a kind nobody knows":       testNowhere,
		"delete asks for the UID":                                       testDelete,
		"diff names paths and managers and no values":                   testDiff,
		"a namespace's foreign objects are seen":                        testForeign,
		"a watch lists, then tells, and losing the label is being gone": testWatch,
		"an account may do what it may, and no more":                    testAccount,
	} {
		t.Run(name, func(t *testing.T) { test(t, makeWorld(t)) })
	}
}

const owner = bundle.Name("suite")

func (w World) patch(name string, data string) apply.Patch {
	return apply.Patch{
		Ref:     apply.Ref{ObjectID: bundle.ObjectID{Kind: "ConfigMap", Namespace: w.Namespace, Name: name}, Version: "v1"},
		Manager: apply.Owner(owner),
		Body: fmt.Appendf(nil, `{"apiVersion":"v1","data":%s,"kind":"ConfigMap","metadata":{"labels":{%q:%q},"name":%q,"namespace":%q}}`,
			data, apply.Label, owner, name, w.Namespace),
	}
}

func (w World) apply(t *testing.T, p apply.Patch) apply.Seen {
	t.Helper()
	seen, err := w.Cluster.Apply(t.Context(), p)
	if err != nil {
		t.Fatalf("apply %s: %v", p.ObjectID, err)
	}
	return seen
}

func wantClass(t *testing.T, err error, want apply.Class) *apply.ServerError {
	t.Helper()
	var s *apply.ServerError
	if !errors.As(err, &s) || s.Class != want {
		t.Fatalf("got %v, want a server error of class %v", err, want)
	}
	return s
}

func testDryRun(t *testing.T, w World) {
	p := w.patch("a", `{"k":"1"}`)
	p.DryRun = true
	if seen := w.apply(t, p); seen.ResourceVersion != "" || seen.UID != "" {
		t.Errorf("a dry run of a new object answered with version %q, uid %q", seen.ResourceVersion, seen.UID)
	}
	_, err := w.Cluster.Look(t.Context(), p.Ref, apply.ViewMetadata)
	wantClass(t, err, apply.Missing)
	real := w.patch("a", `{"k":"1"}`)
	made := w.apply(t, real)
	if made.UID == "" || made.ResourceVersion == "" || made.Labels[apply.Label] != string(owner) {
		t.Errorf("apply answered %+v", made)
	}
	if seen := w.apply(t, p); seen.ResourceVersion == "" || seen.UID != made.UID {
		t.Errorf("a dry run of an existing object answered %+v", seen)
	}
}

func testSecondApply(t *testing.T, w World) {
	first := w.apply(t, w.patch("a", `{"k":"1"}`))
	if second := w.apply(t, w.patch("a", `{"k":"1"}`)); second.ResourceVersion != first.ResourceVersion {
		t.Errorf("version went from %s to %s", first.ResourceVersion, second.ResourceVersion)
	}
	if third := w.apply(t, w.patch("a", `{"k":"2"}`)); third.ResourceVersion == first.ResourceVersion || third.UID != first.UID {
		t.Errorf("a change answered %+v after %+v", third, first)
	}
}

func testConflict(t *testing.T, w World) {
	w.apply(t, w.patch("a", `{"k":"1"}`))
	w.SetData(t, "a", "k", "2", "kubectl-edit")
	_, err := w.Cluster.Apply(t.Context(), w.patch("a", `{"k":"1"}`))
	s := wantClass(t, err, apply.Conflict)
	if !slices.Equal(s.Managers, []string{"kubectl-edit"}) {
		t.Errorf("managers %q", s.Managers)
	}
	force := w.patch("a", `{"k":"1"}`)
	force.Force = true
	w.apply(t, force)
	if d, err := w.Cluster.Diff(t.Context(), force); err != nil || !d.None() {
		t.Errorf("after force: %+v, %v", d, err)
	}
}

func testFieldRemoved(t *testing.T, w World) {
	before := w.apply(t, w.patch("a", `{"k":"1","l":"1"}`))
	after := w.apply(t, w.patch("a", `{"k":"1"}`))
	if before.ResourceVersion == after.ResourceVersion {
		t.Error("nothing changed")
	}
	back := w.patch("a", `{"k":"1","l":"1"}`)
	if d, err := w.Cluster.Diff(t.Context(), back); err != nil || !slices.Equal(d.Paths, []string{"/data/l"}) {
		t.Errorf("the removed field: %+v, %v", d, err)
	}
}

func testIgnore(t *testing.T, w World) {
	w.apply(t, w.patch("a", `{"k":"1","l":"1"}`))
	p := w.patch("a", `{"k":"1","l":"1"}`)
	p.Ignore, p.Force = []string{"/data/k"}, true
	unchanged := w.apply(t, p)
	w.SetData(t, "a", "k", "theirs", "autoscaler")
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !d.None() {
		t.Errorf("an ignored field is drift: %+v, %v", d, err)
	}
	w.apply(t, p)
	bare := w.patch("a", `{"k":"theirs","l":"1"}`)
	bare.Force = true
	if d, err := w.Cluster.Diff(t.Context(), bare); err != nil || !d.None() {
		t.Errorf("the live value did not stay: %+v, %v", d, err)
	}
	if unchanged.UID == "" {
		t.Error("no object")
	}
}

func testRespect(t *testing.T, w World) {
	first := w.patch("a", `{"k":"1","l":"1","m":"1"}`)
	first.Force = true
	if made := w.apply(t, first); made.Left {
		t.Error("something was left to nobody")
	}
	w.SetData(t, "a", "k", "theirs", "kubectl-edit")
	w.SetData(t, "a", "l", "theirs", "kubectl-edit")
	respecting := first
	respecting.Base = apply.BaseOf(first.Body)
	d, err := w.Cluster.Diff(t.Context(), respecting)
	if err != nil || len(d.Paths) != 0 || !slices.Equal(d.Left, []string{"/data/k", "/data/l"}) || !slices.Equal(d.Managers, []string{"kubectl-edit"}) {
		t.Errorf("of an edit: %+v, %v", d, err)
	}
	next := w.patch("a", `{"k":"1","l":"2","m":"2"}`) // changes l itself, and not k
	next.Force, next.Base = true, respecting.Base
	for _, dry := range []bool{true, false} {
		next.DryRun = dry
		if seen := w.apply(t, next); !seen.Left {
			t.Errorf("dry run %v: nothing was left", dry)
		}
	}
	want := w.patch("a", `{"k":"theirs","l":"2","m":"2"}`)
	want.Force = true
	if d, err := w.Cluster.Diff(t.Context(), want); err != nil || !d.None() {
		t.Errorf("after the next version: %+v, %v", d, err)
	}
	next.Base = apply.BaseOf(next.Body)
	if d, err := w.Cluster.Diff(t.Context(), next); err != nil || len(d.Paths) != 0 || !slices.Equal(d.Left, []string{"/data/k"}) {
		t.Errorf("what was left is not told any more: %+v, %v", d, err)
	}
	w.Unlabel(t, "a")
	if d, err := w.Cluster.Diff(t.Context(), next); err != nil || len(d.Paths) != 1 || !strings.HasPrefix(d.Paths[0], "/metadata/labels") {
		t.Errorf("our own label is left to others: %+v, %v", d, err)
	}
}

func testYield(t *testing.T, w World) {
	p := w.patch("a", `{"k":"1","l":"1"}`)
	p.Force = true
	w.apply(t, p)
	w.SetData(t, "a", "k", "theirs", "autoscaler")
	w.SetData(t, "a", "l", "theirs", "kubectl-edit")
	p.Yield = []string{"autoscaler"}
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !slices.Equal(d.Paths, []string{"/data/l"}) || len(d.Left) != 0 || !slices.Equal(d.Managers, []string{"kubectl-edit"}) {
		t.Errorf("%+v, %v", d, err)
	}
	if seen := w.apply(t, p); seen.Left {
		t.Error("what is ignored is told")
	}
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !d.None() {
		t.Errorf("after the correction: %+v, %v", d, err)
	}
	want := w.patch("a", `{"k":"theirs","l":"1"}`)
	want.Force = true
	if d, err := w.Cluster.Diff(t.Context(), want); err != nil || !d.None() {
		t.Errorf("the yielded field: %+v, %v", d, err)
	}
}

func testLook(t *testing.T, w World) {
	p := w.patch("a", `{"k":"1"}`)
	_, err := w.Cluster.Look(t.Context(), p.Ref, apply.ViewStatus)
	wantClass(t, err, apply.Missing)
	made := w.apply(t, p)
	seen, err := w.Cluster.Look(t.Context(), p.Ref, apply.ViewStatus)
	if err != nil || seen.UID != made.UID || seen.Status != apply.StatusCurrent {
		t.Errorf("%+v, %v", seen, err)
	}
}

func testJudge(t *testing.T, w World) {
	p := w.patch("a", `{"phase":"canary"}`)
	g, err := gate.Compile(bundle.HealthRule{Ready: `object.data.phase == "done"`, Failed: `object.data.phase == "broken"`})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Cluster.Judge(t.Context(), p.Ref, g)
	wantClass(t, err, apply.Missing)
	made := w.apply(t, p)
	for phase, want := range map[string]apply.Status{"canary": apply.StatusInProgress, "done": apply.StatusCurrent, "broken": apply.StatusFailed} {
		w.SetData(t, "a", "phase", phase, "controller")
		if seen, err := w.Cluster.Judge(t.Context(), p.Ref, g); err != nil || seen.UID != made.UID || seen.Status != want || strings.Contains(seen.Message, "canary") {
			t.Errorf("%s: %+v, %v", phase, seen, err)
		}
	}
}

func testNowhere(t *testing.T, w World) {
	p := w.patch("a", `{"k":"1"}`)
	p.ObjectID.Namespace = w.Namespace + "-not"
	p.Body = []byte(strings.ReplaceAll(string(p.Body), fmt.Sprintf(`"namespace":%q`, w.Namespace), fmt.Sprintf(`"namespace":%q`, p.ObjectID.Namespace)))
	for _, dry := range []bool{true, false} {
		p.DryRun = dry
		_, err := w.Cluster.Apply(t.Context(), p)
		wantClass(t, err, apply.NoNamespace)
	}
	custom := apply.Ref{ObjectID: bundle.ObjectID{Group: "nobody.example.com", Kind: "Thing", Namespace: w.Namespace, Name: "a"}, Version: "v1"}
	_, err := w.Cluster.Apply(t.Context(), apply.Patch{Ref: custom, Manager: "m",
		Body: []byte(`{"apiVersion":"nobody.example.com/v1","kind":"Thing","metadata":{"name":"a","namespace":"` + w.Namespace + `"}}`)})
	wantClass(t, err, apply.NoKind)
}

func testDelete(t *testing.T, w World) {
	p := w.patch("a", `{"k":"1"}`)
	made := w.apply(t, p)
	_, err := w.Cluster.Delete(t.Context(), p.Ref, "another")
	wantClass(t, err, apply.Stale)
	for _, what := range []string{"there", "gone"} {
		if gone, err := w.Cluster.Delete(t.Context(), p.Ref, made.UID); err != nil || !gone {
			t.Errorf("delete of what is %s: gone %v, %v", what, gone, err)
		}
	}
}

func testDiff(t *testing.T, w World) {
	p := w.patch("a", `{"k":"canary-ours","l":"1"}`)
	p.Force = true
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !d.Missing {
		t.Errorf("of nothing: %+v, %v", d, err)
	}
	made := w.apply(t, p)
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !d.None() || d.Seen.UID != made.UID {
		t.Errorf("of the same: %+v, %v", d, err)
	}
	w.SetData(t, "a", "k", "canary-theirs", "kubectl-edit")
	d, err := w.Cluster.Diff(t.Context(), p)
	if err != nil || !slices.Equal(d.Paths, []string{"/data/k"}) || !slices.Equal(d.Managers, []string{"kubectl-edit"}) {
		t.Errorf("of an edit: %+v, %v", d, err)
	}
	if strings.Contains(fmt.Sprint(d), "canary") {
		t.Errorf("T16: a value is in the difference: %+v", d)
	}
	w.SetData(t, "a", "z", "theirs", "kubectl-edit")
	w.apply(t, p)
	if d, err := w.Cluster.Diff(t.Context(), p); err != nil || !d.None() {
		t.Errorf("a field that is not ours is drift: %+v, %v", d, err)
	}
}

func testForeign(t *testing.T, w World) {
	w.apply(t, w.patch("a", `{"k":"1"}`))
	container := apply.Ref{ObjectID: bundle.ObjectID{Kind: "Namespace", Name: w.Namespace}, Version: "v1"}
	if f, err := w.Cluster.Foreign(t.Context(), container, owner); err != nil || len(f) != 0 {
		t.Errorf("our own objects are foreign: %q, %v", f, err)
	}
	w.Unlabel(t, "a")
	if f, err := w.Cluster.Foreign(t.Context(), container, owner); err != nil || len(f) != 1 {
		t.Errorf("a foreign object is not seen: %q, %v", f, err)
	}
}

func testWatch(t *testing.T, w World) {
	w.apply(t, w.patch("a", `{"k":"1"}`))
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var said []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Cluster.Watch(ctx, apply.Place{Kind: apply.Kind{Version: "v1", Kind: "ConfigMap"}}, func(s apply.Sighting) {
			mu.Lock()
			defer mu.Unlock()
			switch s.Kind {
			case apply.SightListed:
				for _, o := range s.All {
					if o.Namespace == w.Namespace {
						said = append(said, "listed "+o.Name)
					}
				}
			case apply.SightPresent:
				if s.Object.Namespace == w.Namespace {
					said = append(said, "present "+s.Object.Name)
				}
			case apply.SightGone:
				if s.Object.Namespace == w.Namespace {
					said = append(said, "gone "+s.Object.Name)
				}
			}
		})
	}()
	heard := func(want ...string) {
		t.Helper()
		Eventually(t, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(said, want) {
				return fmt.Errorf("heard %q, want %q", said, want)
			}
			return nil
		})
	}
	heard("listed a")
	b := w.apply(t, w.patch("b", `{"k":"1"}`))
	heard("listed a", "present b")
	w.apply(t, w.patch("b", `{"k":"2"}`))
	heard("listed a", "present b", "present b")
	w.Unlabel(t, "a")
	heard("listed a", "present b", "present b", "gone a")
	if _, err := w.Cluster.Delete(t.Context(), w.patch("b", `{}`).Ref, b.UID); err != nil {
		t.Fatal(err)
	}
	heard("listed a", "present b", "present b", "gone a", "gone b")
	cancel()
	<-done
}

func testAccount(t *testing.T, w World) {
	as := w.Cluster.As(w.Tenant(t))
	lent := w
	lent.Cluster = as
	p := lent.patch("a", `{"k":"1"}`)
	p.DryRun = true
	lent.apply(t, p)
	p.DryRun = false
	made := lent.apply(t, p)
	if _, err := as.Look(t.Context(), p.Ref, apply.ViewStatus); err != nil {
		t.Errorf("look: %v", err)
	}
	p.Force = true
	if d, err := as.Diff(t.Context(), p); err != nil || !d.None() {
		t.Errorf("diff: %+v, %v", d, err)
	}
	first := func(place apply.Place) apply.Sighting {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var said apply.Sighting
		as.Watch(ctx, place, func(s apply.Sighting) {
			if ctx.Err() == nil {
				said = s
				cancel()
			}
		})
		return said
	}
	maps := apply.Kind{Version: "v1", Kind: "ConfigMap"}
	if s := first(apply.Place{Kind: maps, Namespace: w.Namespace}); s.Kind != apply.SightListed || len(s.All) != 1 {
		t.Errorf("its own namespace: %+v", s)
	}

	elsewhere := p
	elsewhere.ObjectID.Namespace = "kube-system"
	elsewhere.Body = []byte(strings.ReplaceAll(string(p.Body), fmt.Sprintf(`"namespace":%q`, w.Namespace), `"namespace":"kube-system"`))
	for _, dry := range []bool{true, false} {
		elsewhere.DryRun = dry
		_, err := as.Apply(t.Context(), elsewhere)
		wantClass(t, err, apply.Permanent)
	}
	_, err := as.Look(t.Context(), elsewhere.Ref, apply.ViewMetadata)
	wantClass(t, err, apply.Permanent)
	_, err = as.Diff(t.Context(), elsewhere)
	wantClass(t, err, apply.Permanent)
	_, err = as.Delete(t.Context(), elsewhere.Ref, made.UID)
	wantClass(t, err, apply.Permanent)
	_, err = as.Foreign(t.Context(), apply.Ref{ObjectID: bundle.ObjectID{Kind: "Namespace", Name: "kube-system"}, Version: "v1"}, owner)
	wantClass(t, err, apply.Permanent)
	for _, place := range []apply.Place{{Kind: maps}, {Kind: maps, Namespace: "kube-system"}} {
		if s := first(place); s.Kind != apply.SightBroken || apply.ClassOf(s.Err) != apply.Permanent {
			t.Errorf("%+v: %+v", place, s)
		}
	}
	if gone, err := as.Delete(t.Context(), p.Ref, made.UID); err != nil || !gone {
		t.Errorf("delete: %v, %v", gone, err)
	}
}

// Eventually asks until there is no error or patience ends.
func Eventually(t testing.TB, ask func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}
