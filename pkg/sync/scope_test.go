package sync

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestT15_ScopesThatAreNone(t *testing.T) {
	var none *Scope
	if err := none.Check(); err != nil {
		t.Errorf("no scope: %v", err)
	}
	good := Scope{ServiceAccount: "team-a/deployer", Kinds: []bundle.KindPattern{"apps/*", "ConfigMap"}, Namespaces: []string{"shop"}}
	if err := good.Check(); err != nil {
		t.Errorf("%+v: %v", good, err)
	}
	for name, bad := range map[string]Scope{
		"nothing":            {},
		"a user":             {ServiceAccount: "system:admin"},
		"a group as kind":    {Kinds: []bundle.KindPattern{"apps/"}},
		"a namespace's path": {Namespaces: []string{"../kube-system"}},
		"an empty namespace": {Namespaces: []string{""}},
		"a glob":             {Namespaces: []string{"*"}},
		"too many":           {Namespaces: strings.Split(strings.Repeat("a,", maxScope)+"a", ",")},
	} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s: taken: %+v", name, bad)
		}
		a := AssignedBundle{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf(nil), Scope: &bad}
		if err := checkAssigned([]AssignedBundle{a}); err == nil {
			t.Errorf("%s: taken from an assignment", name)
		}
	}
}

// TestT15_AScopeIsPartOfWhatIsOrdered has a changed scope applied anew, and a site that was updated not apply anything anew without one.
func TestT15_AScopeIsPartOfWhatIsOrdered(t *testing.T) {
	b := AssignedBundle{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf([]byte("shop"))}
	without := specOf(b, nil)
	if want := "0b5ed7c51d6f3b3bf1c91a27770675f8"; without != want {
		t.Errorf("without a scope the spec is %s, in agents before there were scopes it was %s", without, want)
	}
	seen := map[string]bool{without: true}
	for _, s := range []Scope{{ServiceAccount: "a/b"}, {ServiceAccount: "a/c"}, {Namespaces: []string{"a"}}, {Kinds: []bundle.KindPattern{"ConfigMap"}}} {
		b.Scope = &s
		if spec := specOf(b, nil); seen[spec] {
			t.Errorf("%+v changes nothing", s)
		} else {
			seen[spec] = true
		}
	}
}
