package apply

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Each plan that is suspicious has its reason, and those like it that are not have none.
func TestF22_SuspiciousPlans(t *testing.T) {
	id := func(name string) bundle.ObjectID {
		return bundle.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: name}
	}
	web := bundle.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}
	agent := bundle.ObjectID{Group: "apps", Kind: "DaemonSet", Namespace: "shop", Name: "agent"}
	owned := func(ids ...bundle.ObjectID) (inv Inventory) {
		for _, id := range ids {
			inv.Items = append(inv.Items, Item{Ref: Ref{id, "v1"}, UID: "u", Hash: "old"})
		}
		return inv
	}
	maps := func(n int) (out []bundle.ObjectID) {
		for i := range n {
			out = append(out, id(fmt.Sprint(i)))
		}
		return out
	}
	type wish struct {
		id   bundle.ObjectID
		hash string
		idle bool
	}
	keep := func(ids ...bundle.ObjectID) (out []wish) {
		for _, id := range ids {
			out = append(out, wish{id, "old", false})
		}
		return out
	}
	for name, c := range map[string]struct {
		wanted    []wish
		inventory Inventory
		policy    bundle.Policy
		reason    string
	}{
		"a first install":              {keep(maps(3)...), owned(), bundle.Policy{}, ""},
		"half goes":                    {keep(maps(3)...), owned(maps(6)...), bundle.Policy{}, ""},
		"more than half goes":          {keep(maps(2)...), owned(maps(6)...), bundle.Policy{}, "4 of 6 objects would be deleted, more than 50 percent"},
		"most of a few goes":           {keep(maps(1)...), owned(maps(5)...), bundle.Policy{}, ""},
		"the policy allows less":       {keep(maps(5)...), owned(maps(6)...), bundle.Policy{MaxDeletePercent: 10}, "more than 10 percent"},
		"the policy allows all":        {keep(id("new")), owned(maps(6)...), bundle.Policy{MaxDeletePercent: 100}, ""},
		"all is new":                   {keep(id("new")), owned(maps(6)...), bundle.Policy{}, "6 of 6 objects"},
		"nothing is left":              {nil, owned(id("a")), bundle.Policy{}, "is empty and would delete everything"},
		"all is scaled to zero":        {[]wish{{web, "new", true}}, owned(web), bundle.Policy{}, "every workload would be scaled to zero"},
		"it was at zero already":       {[]wish{{web, "old", true}, {id("a"), "new", false}}, owned(web, id("a")), bundle.Policy{}, ""},
		"one is scaled, another runs":  {[]wish{{web, "new", true}, {agent, "old", false}}, owned(web, agent), bundle.Policy{}, ""},
		"the only workload is dropped": {keep(id("a")), owned(web, id("a")), bundle.Policy{}, "no workload would be left"},
		"one workload for another":     {keep(agent), owned(web), bundle.Policy{}, ""},
		"a first install at zero":      {[]wish{{web, "new", true}}, owned(), bundle.Policy{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Desired{Policy: c.policy}
			d.Policy.Prune = true
			for _, w := range c.wanted {
				d.Objects = append(d.Objects, Object{Ref: Ref{w.id, "v1"}, Hash: w.hash, idle: w.idle})
			}
			p := Decide(d, c.inventory, Facts{})
			if got := fmt.Sprint(p.Halts); c.reason == "" && len(p.Halts) > 0 || !strings.Contains(got, c.reason) {
				t.Errorf("halts %s, want %q", got, c.reason)
			}
			d.Policy.Prune = false
			if p := Decide(d, c.inventory, Facts{}); len(p.Halts) > 0 && !strings.Contains(c.reason, "zero") {
				t.Errorf("without pruning: %v", p.Halts)
			}
		})
	}
}
