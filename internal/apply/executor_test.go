package apply_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

func namespaceObject(name string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, name))
}

func configMap(namespace, name, value string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":%q}}`, value, name, namespace))
}

func definition(group, kind string) bundle.Object {
	plural := strings.ToLower(kind) + "s"
	return object(fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[3]s.%[1]s"},
		"spec":{"group":%[1]q,"names":{"kind":%[2]q,"plural":%[3]q,"singular":"%[4]s","listKind":"%[2]sList"},"scope":"Namespaced",
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"size":{"type":"integer"}}}}}}}]}}`,
		group, kind, plural, strings.ToLower(kind)))
}

func custom(group, kind, namespace, name, size string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"%s/v1","kind":%q,"metadata":{"name":%q,"namespace":%q},"spec":{"size":%s}}`, group, kind, name, namespace, size))
}

// site is a bundle's life on one cluster in memory.
type site struct {
	t         *testing.T
	cluster   *memcluster.Cluster
	executor  *apply.Executor
	inventory apply.Inventory
	persisted []apply.Inventory
}

func newSite(t *testing.T) *site {
	c := memcluster.New()
	return &site{t: t, cluster: c, executor: apply.NewExecutor(c, apply.Options{Workers: 4})}
}

func (s *site) apply(d apply.Desired) (apply.Result, error) {
	s.t.Helper()
	result, err := s.executor.Apply(s.t.Context(), apply.Request{Desired: d, Inventory: s.inventory, Persist: func(inv apply.Inventory) error {
		s.persisted = append(s.persisted, inv)
		return nil
	}})
	s.inventory = result.Inventory
	return result, err
}

func (s *site) must(d apply.Desired) apply.Result {
	s.t.Helper()
	result, err := s.apply(d)
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

func (s *site) has(want ...string) {
	s.t.Helper()
	var got []string
	for _, id := range s.cluster.Objects() {
		if id.Kind != "Namespace" || id.Name != "default" && id.Name != "kube-system" {
			got = append(got, id.String())
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		s.t.Errorf("the cluster holds %q, want %q", got, want)
	}
}

func failure(t *testing.T, err error, at apply.FailedAt) *apply.Failure {
	t.Helper()
	var f *apply.Failure
	if !errors.As(err, &f) || f.At != at {
		t.Fatalf("got %v, want a failure at %s", err, at)
	}
	return f
}

func TestP01_OnlyVerifiedIsApplied(t *testing.T) {
	if _, err := apply.Prepare(verify.Verified{}, render.Inputs{}, apply.Anything()); err == nil {
		t.Error("the zero Verified was prepared")
	}
	s := newSite(t)
	if _, err := s.apply(apply.Desired{}); err == nil {
		t.Error("the zero Desired was applied")
	}
	if s.cluster.Requests() != 0 {
		t.Error("the cluster was asked")
	}
}

func TestApplyChangeAndPrune(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "1"), configMap("shop", "b", "1")}))
	s.has("Namespace/shop", "ConfigMap/shop/a", "ConfigMap/shop/b")
	if s.inventory.Bundle != "shop" || len(s.inventory.Items) != 3 || s.inventory.Items[0].Kind != "Namespace" {
		t.Errorf("inventory %+v", s.inventory)
	}
	result := s.must(desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "2")}))
	s.has("Namespace/shop", "ConfigMap/shop/a")
	if len(s.inventory.Items) != 2 || !result.Changed {
		t.Errorf("result %+v", result)
	}
	if _, err := s.executor.Remove(t.Context(), s.inventory, apply.Anything(), nil); err != nil {
		t.Fatal(err)
	}
	s.has()
}

func TestUnionIsRecordedBeforeTheFirstChange(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{configMap("default", "old", "1"), configMap("default", "both", "1")}))
	next := desire(t, "shop", []bundle.Object{configMap("default", "both", "2"), configMap("default", "new", "1")})
	_, err := s.executor.Apply(t.Context(), apply.Request{Desired: next, Inventory: s.inventory, Persist: func(inv apply.Inventory) error {
		var got []string
		for _, it := range inv.Items {
			got = append(got, fmt.Sprint(it.Name, " ", it.Hash != ""))
		}
		slices.Sort(got)
		if want := []string{"both false", "new false", "old true"}; !slices.Equal(got, want) {
			t.Errorf("recorded %q, want %q", got, want)
		}
		return errors.New("disk full")
	}})
	failure(t, err, apply.AtPersist)
	s.has("ConfigMap/default/old", "ConfigMap/default/both")
	if v := s.cluster.Body(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "both"})["data"]; fmt.Sprint(v) != "map[k:1]" {
		t.Errorf("changed without a record: %v", v)
	}
}

func TestF22_EverythingIsDryRunFirst(t *testing.T) {
	s := newSite(t)
	var objects []bundle.Object
	for i := range 20 {
		objects = append(objects, configMap("default", fmt.Sprintf("c%02d", i), "1"))
	}
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "apply" && (c.Object.Name == "c07" || c.Object.Name == "c11") {
			return &apply.ServerError{Class: apply.Permanent, Code: 422, Words: c.Object.Name + " is invalid"}
		}
		return nil
	})
	_, err := s.apply(desire(t, "shop", objects))
	f := failure(t, err, apply.AtPreflight)
	if len(f.Refusals) != 2 || !f.Permanent() || !strings.Contains(err.Error(), "ConfigMap/default/c07: c07 is invalid") {
		t.Errorf("%v", err)
	}
	s.has()
	if len(s.persisted) != 0 || len(s.inventory.Items) != 0 {
		t.Error("something was recorded")
	}
}

func TestF22_LateRefusalRemovesWhatWasMadeForIt(t *testing.T) {
	s := newSite(t)
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "apply" && c.Object.Kind == "Thing" && c.DryRun {
			return &apply.ServerError{Class: apply.Permanent, Code: 422, Words: "spec.size: must be an integer"}
		}
		return nil
	})
	_, err := s.apply(desire(t, "shop", []bundle.Object{definition("example.com", "Thing"), namespaceObject("shop"), configMap("default", "a", "1"),
		custom("example.com", "Thing", "shop", "x", `"many"`)}))
	failure(t, err, apply.AtPreflight)
	s.has()
	if len(s.inventory.Items) != 0 {
		t.Errorf("owned: %+v", s.inventory.Items)
	}
}

func TestDefinitionsAndTheirResourcesInOneBundle(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{definition("example.com", "Thing"), namespaceObject("shop"), custom("example.com", "Thing", "shop", "x", "1")}))
	s.has("CustomResourceDefinition.apiextensions.k8s.io/things.example.com", "Namespace/shop", "Thing.example.com/shop/x")
}

func TestF21_PassingFailuresAreRetriedAndBounded(t *testing.T) {
	s := newSite(t)
	calls := 0
	passing := &apply.ServerError{Class: apply.Passing, Code: 429, Words: "too many requests"}
	s.cluster.Fail(func(c memcluster.Call) error {
		if calls++; calls <= 3 {
			return passing
		}
		return nil
	})
	s.must(desire(t, "shop", []bundle.Object{configMap("default", "a", "1")}))
	if calls != 5 {
		t.Errorf("%d calls, want 3 failed and 2 done", calls)
	}
}

func TestF21_ForeignManagersAreReportedNotFought(t *testing.T) {
	s := newSite(t)
	if err := s.cluster.Create(configMap("default", "a", "theirs"), "helm"); err != nil {
		t.Fatal(err)
	}
	_, err := s.apply(desire(t, "shop", []bundle.Object{configMap("default", "a", "ours"), configMap("default", "b", "1")}))
	f := failure(t, err, apply.AtPreflight)
	if !slices.Equal(f.Refusals[0].Managers, []string{"helm"}) {
		t.Errorf("%v", err)
	}
	s.has("ConfigMap/default/a")
	other := newSite(t)
	other.must(desire(t, "one", []bundle.Object{configMap("default", "a", "1")}))
	other.inventory = apply.Inventory{}
	_, err = other.apply(desire(t, "two", []bundle.Object{configMap("default", "a", "1")}))
	if f := failure(t, err, apply.AtPreflight); f.Refusals[0].Managers[0] != "holdfast/one" {
		t.Errorf("%v", err)
	}
}

func TestLostRecordIsFoundByTheLabel(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "1")}))
	edit(t, s.cluster, "shop", "a", "kubectl-edit", "by hand")
	s.inventory = apply.Inventory{}
	s.must(desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "1")}))
	if _, err := s.executor.Remove(t.Context(), s.inventory, apply.Anything(), nil); err != nil {
		t.Fatal(err)
	}
	s.has()
}

func edit(t *testing.T, c *memcluster.Cluster, namespace, name, manager, value string) {
	t.Helper()
	err := c.Edit(bundle.ObjectID{Kind: "ConfigMap", Namespace: namespace, Name: name}, manager, func(body map[string]any) {
		body["data"].(map[string]any)["k"] = value
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImmutableIsReplacedOnlyWherePolicySays(t *testing.T) {
	for _, replace := range []bool{false, true} {
		t.Run(fmt.Sprint(replace), func(t *testing.T) {
			s := newSite(t)
			policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce}
			if replace {
				policy.Replace = []string{"ConfigMap"}
			}
			s.must(desirePolicy(t, "shop", []bundle.Object{configMap("default", "a", "1")}, policy))
			uid := s.inventory.Items[0].UID
			s.cluster.Fail(func(c memcluster.Call) error {
				if c.Verb == "apply" && s.cluster != nil && c.DryRun {
					return &apply.ServerError{Class: apply.Immutable, Code: 422, Words: "data: field is immutable"}
				}
				return nil
			})
			_, err := s.apply(desirePolicy(t, "shop", []bundle.Object{configMap("default", "a", "2")}, policy))
			if !replace {
				f := failure(t, err, apply.AtPreflight)
				if !strings.Contains(f.Error(), `list "ConfigMap" in policy.replace`) {
					t.Error(f)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.inventory.Items[0].UID == uid {
				t.Error("not made anew")
			}
		})
	}
}

func TestForeignObjectsAreNotDeleted(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "1"), configMap("shop", "b", "1"), configMap("shop", "c", "1")}))
	if err := s.cluster.Create(configMap("shop", "theirs", "1"), "kubectl"); err != nil {
		t.Fatal(err)
	}
	s.cluster.Remove(bundle.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: "b"})
	if err := s.cluster.Create(configMap("shop", "b", "theirs"), "kubectl"); err != nil {
		t.Fatal(err)
	}
	result, err := s.executor.Remove(t.Context(), s.inventory, apply.Anything(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.has("Namespace/shop", "ConfigMap/shop/theirs", "ConfigMap/shop/b")
	var kept []string
	for _, o := range result.Outcomes {
		if o.Action == apply.Leave {
			kept = append(kept, o.Object.String()+" "+o.Detail)
		}
	}
	if len(kept) != 2 || !strings.Contains(strings.Join(kept, "\n"), "Namespace/shop kept: it holds other objects: ConfigMap/shop/b, ConfigMap/shop/theirs") {
		t.Errorf("kept %q", kept)
	}
}

func TestAdoptedNamespaceStays(t *testing.T) {
	s := newSite(t)
	if err := s.cluster.Create(namespaceObject("shop"), "kubectl"); err != nil {
		t.Fatal(err)
	}
	d := desire(t, "shop", []bundle.Object{namespaceObject("shop"), configMap("shop", "a", "1")})
	// A crash between the record of the intent and the end must not make the namespace ours.
	_, _ = s.executor.Apply(t.Context(), apply.Request{Desired: d, Persist: func(inv apply.Inventory) error {
		s.inventory = inv
		return errors.New("power cut")
	}})
	s.must(d)
	if _, err := s.executor.Remove(t.Context(), s.inventory, apply.Anything(), nil); err != nil {
		t.Fatal(err)
	}
	s.has("Namespace/shop")
}

func TestEmptyBundleHalts(t *testing.T) {
	p := apply.Decide(apply.Desired{Policy: bundle.Policy{Prune: true}}, apply.Inventory{Items: []apply.Item{{Ref: apply.Ref{ObjectID: bundle.ObjectID{Kind: "ConfigMap", Name: "a"}}}}}, apply.Facts{})
	if len(p.Halts) != 1 {
		t.Errorf("halts %v", p.Halts)
	}
}

func TestIgnoredFieldsStay(t *testing.T) {
	s := newSite(t)
	policy := bundle.Policy{Prune: true, Drift: bundle.DriftEnforce, Ignore: []bundle.IgnoreRule{{Target: bundle.PatchTarget{Kind: "ConfigMap"}, Paths: []string{"/data/k"}}}}
	s.must(desirePolicy(t, "shop", []bundle.Object{configMap("default", "a", "1")}, policy))
	edit(t, s.cluster, "default", "a", "autoscaler", "5")
	s.must(desirePolicy(t, "shop", []bundle.Object{configMap("default", "a", "2")}, policy))
	if v := s.cluster.Body(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "a"})["data"]; fmt.Sprint(v) != "map[k:5]" {
		t.Errorf("data %v", v)
	}
}

// TestT15_AllThatIsOutsideIsNamedAtOnce has a bundle with several objects outside refused before the cluster is asked for anything.
func TestT15_AllThatIsOutsideIsNamedAtOnce(t *testing.T) {
	scope := apply.Scope{Namespaces: []string{"shop"}, Protected: protected}
	_, err := apply.Prepare(verified(t, "shop", configMap("shop", "a", "1"), configMap("bank", "b", "1"), configMap("kube-system", "c", "1"), namespaceObject("shop")), render.Inputs{}, scope)
	f := failure(t, err, apply.AtScope)
	if len(f.Refusals) != 3 || !f.Permanent() {
		t.Errorf("%v", f)
	}
	for _, name := range []string{"ConfigMap/bank/b", "ConfigMap/kube-system/c", "Namespace/shop"} {
		if !strings.Contains(f.Error(), name) {
			t.Errorf("%s is not named in %v", name, f)
		}
	}
}

// TestT15_AnotherAccountShowsThatItMay has nothing taken for granted that somebody else applied.
func TestT15_AnotherAccountShowsThatItMay(t *testing.T) {
	s := newSite(t)
	objects := []bundle.Object{configMap("default", "a", "1"), configMap("default", "b", "1")}
	s.must(scoped(t, apply.Scope{Account: "default/one"}, "shop", objects...))
	if s.inventory.Account != "default/one" || s.persisted[0].Account != "default/one" {
		t.Errorf("inventory of %q, intent of %q", s.inventory.Account, s.persisted[0].Account)
	}
	s.cluster.Fail(func(call memcluster.Call) error {
		if call.Account == "default/two" {
			return &apply.ServerError{Class: apply.Permanent, Code: 403, Words: "two may not"}
		}
		return nil
	})
	two := scoped(t, apply.Scope{Account: "default/two"}, "shop", objects...)
	_, err := s.apply(two)
	if f := failure(t, err, apply.AtPreflight); len(f.Refusals) != 2 || s.inventory.Account != "default/one" {
		t.Errorf("%v, the inventory is %q's", f, s.inventory.Account)
	}
	var asked []bundle.Account
	s.cluster.Fail(func(call memcluster.Call) error {
		asked = append(asked, call.Account)
		return nil
	})
	if result := s.must(two); result.Kept != 0 || len(asked) != 4 || s.inventory.Account != "default/two" {
		t.Errorf("%+v, asked as %q, the inventory is %q's", result, asked, s.inventory.Account)
	}
	asked = nil
	if _, err := s.executor.Remove(t.Context(), s.inventory, apply.Scope{Account: s.inventory.Account}, nil); err != nil {
		t.Fatal(err)
	}
	s.has()
	for _, account := range asked {
		if account != "default/two" {
			t.Errorf("removed as %q", account)
		}
	}
}

// TestT15_ProtectedNamespacesAreNotEmptied keeps what a bundle made in a namespace before the site began to protect it.
func TestT15_ProtectedNamespacesAreNotEmptied(t *testing.T) {
	s := newSite(t)
	s.must(desire(t, "shop", []bundle.Object{configMap("kube-system", "a", "1"), configMap("default", "a", "1"), configMap("default", "b", "1")}))
	result := s.must(scoped(t, apply.Scope{Protected: protected}, "shop", configMap("default", "b", "1")))
	s.has("ConfigMap/kube-system/a", "ConfigMap/default/b")
	if len(s.inventory.Items) != 1 || !strings.Contains(fmt.Sprint(result.Outcomes), "namespace kube-system is protected at this site") {
		t.Errorf("%+v, %+v", s.inventory, result.Outcomes)
	}
	s.must(desire(t, "shop", []bundle.Object{configMap("kube-system", "a", "1"), configMap("default", "b", "1")}))
	if _, err := s.executor.Remove(t.Context(), s.inventory, apply.Scope{Protected: protected}, nil); err != nil {
		t.Fatal(err)
	}
	s.has("ConfigMap/kube-system/a")
}

// A suspicious plan asks the cluster to change nothing, until it is permitted; a namespace that holds objects of others is one, and stays even then.
func TestF22_SuspiciousPlanHalts(t *testing.T) {
	s := newSite(t)
	var objects []bundle.Object
	for i := range 6 {
		objects = append(objects, configMap("default", fmt.Sprint("m", i), "1"))
	}
	s.must(desire(t, "shop", append(objects, namespaceObject("team"))))
	if err := s.cluster.Create(configMap("team", "theirs", "1"), "kubectl"); err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string][]bundle.Object{"most is deleted": objects[:1], "an inhabited namespace": objects} {
		before := len(s.cluster.Objects())
		d := desire(t, "shop", next)
		_, err := s.apply(d)
		f := failure(t, err, apply.AtPlan)
		if len(f.Halts) == 0 || !f.Permanent() || len(s.cluster.Objects()) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := desire(t, "shop", objects[:1])
	result, err := s.executor.Apply(t.Context(), apply.Request{Desired: d, Inventory: s.inventory, AcceptLoss: true})
	if err != nil || len(result.Inventory.Items) != 1 {
		t.Fatalf("%v: %+v", err, result)
	}
	s.has("ConfigMap/default/m0", "ConfigMap/team/theirs", "Namespace/team")
}
