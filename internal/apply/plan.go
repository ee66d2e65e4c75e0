package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Action is what a plan does with an object.
type Action string

// The actions.
const (
	Create Action = "create" // not in the inventory
	Change Action = "change" // in the inventory, applied differently or with unknown end
	Repair Action = "repair" // as recorded, but the cluster says otherwise or nothing is known
	Keep   Action = "keep"   // as recorded and undrifted: costs nothing
	Prune  Action = "prune"  // in the inventory, no longer desired
	Leave  Action = "leave"  // no longer desired, and the policy does not prune: forgotten
)

// Planned is one object that is to be applied.
type Planned struct {
	Action Action
	Object *Object
	// Was is the item of the inventory; the zero Item for Create.
	Was Item
}

// ours says that the object was made or taken over by this bundle before, so that its fields may be taken back.
func (p Planned) ours() bool { return p.Was.UID != "" }

// Plan is what an apply will do. Its lists are in the order they are carried out in.
type Plan struct {
	Apply []Planned
	Keep  []Item
	Prune []Item // last stage first
	Leave []Item
	// Halts are reasons to do nothing at all until a human has looked.
	Halts []Halt
}

// Halt is a suspicious plan.
type Halt struct {
	Reason  string
	Objects []bundle.ObjectID
	Never   bool // no order permits it
}

func (h Halt) String() string {
	if len(h.Objects) == 0 {
		return h.Reason
	}
	names := make([]string, 0, 4)
	for i, id := range h.Objects {
		if i == 3 {
			names = append(names, fmt.Sprintf("and %d more", len(h.Objects)-3))
			break
		}
		names = append(names, id.String())
	}
	return h.Reason + ": " + strings.Join(names, ", ")
}

// Decide plans how to get from the inventory to what is desired, given what the watches know. It is pure.
func Decide(desired Desired, inventory Inventory, facts Facts) Plan {
	var p Plan
	recorded := inventory.index()
	wanted := make(map[bundle.ObjectID]bool, len(desired.Objects))
	for i := range desired.Objects {
		o := &desired.Objects[i]
		wanted[o.ObjectID] = true
		at, ok := recorded[o.ObjectID]
		if !ok {
			p.Apply = append(p.Apply, Planned{Action: Create, Object: o})
			continue
		}
		was := inventory.Items[at]
		switch {
		case was.Hash != o.Hash || was.UID == "":
			p.Apply = append(p.Apply, Planned{Change, o, was})
		case inventory.Account != desired.Scope.Account || !undrifted(o, was, facts): // another account has to show that it may
			p.Apply = append(p.Apply, Planned{Repair, o, was})
		default:
			was.Stage = o.Stage
			p.Keep = append(p.Keep, was)
		}
	}
	for _, it := range slices.Backward(inventory.Items) {
		switch {
		case wanted[it.ObjectID]:
		case desired.Policy.Prune:
			p.Prune = append(p.Prune, it)
		default:
			p.Leave = append(p.Leave, it)
		}
	}
	slices.SortStableFunc(p.Apply, func(a, b Planned) int { return a.Object.Stage - b.Object.Stage })
	slices.SortStableFunc(p.Prune, func(a, b Item) int { return b.Stage - a.Stage })
	p.Halts = suspicions(desired, inventory, p)
	return p
}

func undrifted(o *Object, item Item, facts Facts) bool {
	if !facts.know(item.Ref) {
		return false
	}
	fact, ok := facts.Objects[item.ObjectID]
	return o.suspect(item, fact, ok) == Unsuspicious && !fact.Deleting
}

// pruneAll plans the removal of a whole bundle.
func pruneAll(inventory Inventory) []Item {
	items := slices.Clone(inventory.Items)
	slices.Reverse(items)
	slices.SortStableFunc(items, func(a, b Item) int { return b.Stage - a.Stage })
	return items
}

// union is what has to be recorded before the first change: everything that was owned and everything that may come to be. The end of
// what is about to be applied is unknown, so its hash is cleared: whatever is desired after a crash, the object is applied again.
//
// adopted are the objects that were there before the bundle came.
func union(inventory Inventory, name bundle.Name, account bundle.Account, p Plan, adopted map[bundle.ObjectID]bool) Inventory {
	begun := make(map[bundle.ObjectID]Planned, len(p.Apply))
	for _, a := range p.Apply {
		begun[a.Object.ObjectID] = a
	}
	out := Inventory{Bundle: name, Account: account, Items: make([]Item, 0, len(inventory.Items)+len(p.Apply))}
	for _, it := range inventory.Items {
		if a, ok := begun[it.ObjectID]; ok {
			it.Hash, it.Version, it.Stage = "", a.Object.Version, a.Object.Stage
			delete(begun, it.ObjectID)
		}
		out.Items = append(out.Items, it)
	}
	for _, a := range p.Apply {
		if _, ok := begun[a.Object.ObjectID]; ok {
			out.Items = append(out.Items, Item{Ref: a.Object.Ref, Stage: a.Object.Stage, Adopted: adopted[a.Object.ObjectID]})
		}
	}
	return out
}
