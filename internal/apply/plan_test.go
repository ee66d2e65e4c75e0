package apply

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestSuspect(t *testing.T) {
	left := Item{UID: "u", ResourceVersion: "10", Generation: 2, Print: "p"}
	plain := Item{UID: "u", ResourceVersion: "10", Print: "p"}
	for name, c := range map[string]struct {
		item Item
		fact Fact
		ok   bool
		want Suspicion
	}{
		"as it was left":                        {left, Fact{UID: "u", ResourceVersion: "10", Generation: 2, Print: "p"}, true, Unsuspicious},
		"only its status changed":               {left, Fact{UID: "u", ResourceVersion: "11", Generation: 2, Print: "p"}, true, Unsuspicious},
		"its spec changed":                      {left, Fact{UID: "u", ResourceVersion: "11", Generation: 3, Print: "p"}, true, Altered},
		"its labels changed":                    {left, Fact{UID: "u", ResourceVersion: "11", Generation: 2, Print: "q"}, true, Altered},
		"the watch is behind":                   {left, Fact{UID: "u", ResourceVersion: "9", Generation: 1, Print: "q"}, true, Unsuspicious},
		"versions are compared as numbers":      {left, Fact{UID: "u", ResourceVersion: "100", Generation: 3, Print: "p"}, true, Altered},
		"a kind without generation was written": {plain, Fact{UID: "u", ResourceVersion: "11", Print: "p"}, true, Altered},
		"another object of the name":            {left, Fact{UID: "v", ResourceVersion: "9", Generation: 2, Print: "p"}, true, Altered},
		"it is gone":                            {left, Fact{}, false, Gone},
	} {
		if got := Suspect(c.item, c.fact, c.ok); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestPlanAccountsForEverything: every desired object is applied or kept, every owned one is applied, kept, pruned or left; nothing that is
// kept differs; nothing foreign to both lists appears.
func TestPlanAccountsForEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.IntRange(0, 30), 0, 20, rapid.ID).Draw(t, "names")
		facts := Facts{Known: map[Place]bool{{Kind: Kind{Version: "v1", Kind: "ConfigMap"}}: rapid.Bool().Draw(t, "synced")}, Objects: map[bundle.ObjectID]Fact{}}
		var desired Desired
		desired.Policy.Prune = rapid.Bool().Draw(t, "prune")
		var inventory Inventory
		for _, n := range names {
			id := bundle.ObjectID{Kind: "ConfigMap", Namespace: "a", Name: fmt.Sprint(n)}
			ref := Ref{id, "v1"}
			if rapid.Bool().Draw(t, "desired") {
				desired.Objects = append(desired.Objects, Object{Ref: ref, Hash: rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "want"), Stage: rapid.IntRange(0, 3).Draw(t, "stage")})
			}
			if rapid.Bool().Draw(t, "owned") {
				inventory.Items = append(inventory.Items, Item{Ref: ref, UID: "u", ResourceVersion: "5", Hash: rapid.SampledFrom([]string{"h1", "h2", ""}).Draw(t, "have")})
			}
			if rapid.Bool().Draw(t, "live") {
				facts.Objects[id] = Fact{UID: "u", ResourceVersion: rapid.SampledFrom([]string{"5", "6"}).Draw(t, "version")}
			}
		}
		p := Decide(desired, inventory, facts)
		var got []bundle.ObjectID
		for _, a := range p.Apply {
			got = append(got, a.Object.ObjectID)
		}
		for _, k := range p.Keep {
			got = append(got, k.ObjectID)
			fact := facts.Objects[k.ObjectID]
			if !facts.know(k.Ref) || fact.ResourceVersion != "5" {
				t.Fatalf("kept %+v with %+v", k, fact)
			}
		}
		var want []bundle.ObjectID
		for _, o := range desired.Objects {
			want = append(want, o.ObjectID)
		}
		sameSet(t, "applied or kept", got, want)
		got = append(ids(p.Prune), ids(p.Leave)...)
		want = nil
		for _, it := range inventory.Items {
			if !slices.ContainsFunc(desired.Objects, func(o Object) bool { return o.ObjectID == it.ObjectID }) {
				want = append(want, it.ObjectID)
			}
		}
		sameSet(t, "pruned or left", got, want)
		if len(p.Prune) > 0 && !desired.Policy.Prune {
			t.Fatal("pruned against the policy")
		}
		if !slices.IsSortedFunc(p.Apply, func(a, b Planned) int { return a.Object.Stage - b.Object.Stage }) {
			t.Fatal("stages are out of order")
		}
		// What is recorded before the first change covers everything, and no hash of what is about to change survives.
		u := union(inventory, "shop", "", p, nil)
		for _, a := range p.Apply {
			if it, ok := u.Get(a.Object.ObjectID); !ok || it.Hash != "" {
				t.Fatalf("the intent records %+v for %s", it, a.Object.ObjectID)
			}
		}
		for _, it := range inventory.Items {
			if _, ok := u.Get(it.ObjectID); !ok {
				t.Fatalf("the intent forgets %s", it.ObjectID)
			}
		}
	})
}

func sameSet(t *rapid.T, what string, got, want []bundle.ObjectID) {
	slices.SortFunc(got, bundle.CompareIDs)
	slices.SortFunc(want, bundle.CompareIDs)
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func TestGuardHaltsOnADroppedNamespaceThatIsStillUsed(t *testing.T) {
	ns := Item{Ref: Ref{bundle.ObjectID{Kind: "Namespace", Name: "shop"}, "v1"}, UID: "1"}
	desired := Desired{Policy: bundle.Policy{Prune: true}, Objects: []Object{{Ref: Ref{bundle.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}, "v1"}}}}
	if p := Decide(desired, Inventory{Items: []Item{ns}}, Facts{}); len(p.Halts) != 1 {
		t.Errorf("halts: %v", p.Halts)
	}
}

// A Job with ttlSecondsAfterFinished is deleted by Kubernetes when it is done. It must not run again and again.
func TestJobThatLeavesByItselfIsNotMissed(t *testing.T) {
	job := func(ttl string) bundle.Object {
		return bundle.Object{ID: bundle.ObjectID{Group: "batch", Kind: "Job", Namespace: "shop", Name: "seed"}, Version: "v1",
			JSON: []byte(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"seed","namespace":"shop"},"spec":{` + ttl + `"template":{}}}`)}
	}
	for name, c := range map[string]struct {
		ttl  string
		want Suspicion
	}{
		"it leaves when it is done": {`"ttlSecondsAfterFinished":0,`, Unsuspicious},
		"it stays":                  {``, Gone},
		"no time is given":          {`"ttlSecondsAfterFinished":null,`, Gone},
	} {
		d, err := desire(bundle.Ref{Name: "shop", Version: "1.0.0"}, "", "", bundle.Policy{}, []bundle.Object{job(c.ttl)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := &d.Objects[0]
		left := Item{Ref: o.Ref, UID: "u", Hash: o.Hash}
		if got := o.suspect(left, Fact{}, false); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		facts := Facts{Known: map[Place]bool{{Kind: o.Type()}: true}}
		if p := Decide(d, Inventory{Items: []Item{left}}, facts); (len(p.Keep) == 1) != (c.want == Unsuspicious) {
			t.Errorf("%s: plan %+v", name, p)
		}
		if got := o.suspect(Item{Ref: o.Ref}, Fact{}, false); got != Gone {
			t.Errorf("%s: never made: %v", name, got)
		}
	}
}
