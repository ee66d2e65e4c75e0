package apply

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// lossShare is what share of its objects a version may delete where the policy says nothing, in percent, and lossFrom how many objects a bundle needs
// before a share means anything.
const (
	lossShare = 50
	lossFrom  = 6
)

// suspicions finds what no honest release does by accident. Each predicate is separate and has its reason; an order may permit those that are not
// Never.
func suspicions(desired Desired, inventory Inventory, p Plan) []Halt {
	var halts []Halt
	for _, suspect := range []func(Desired, Inventory, Plan) (Halt, bool){emptied, mostlyDeleted, stilled, orphaning} {
		if h, is := suspect(desired, inventory, p); is {
			halts = append(halts, h)
		}
	}
	return halts
}

func emptied(desired Desired, inventory Inventory, _ Plan) (Halt, bool) {
	return Halt{Reason: "the bundle is empty and would delete everything it owned", Objects: ids(inventory.Items)},
		len(desired.Objects) == 0 && len(inventory.Items) > 0 && desired.Policy.Prune
}

// mostlyDeleted: a chart whose values went missing, a kustomization that lost a directory.
func mostlyDeleted(desired Desired, inventory Inventory, p Plan) (Halt, bool) {
	share := cmp.Or(desired.Policy.MaxDeletePercent, lossShare)
	return Halt{Reason: fmt.Sprintf("%d of %d objects would be deleted, more than %d percent", len(p.Prune), len(inventory.Items), share), Objects: ids(p.Prune)},
		len(desired.Objects) > 0 && len(inventory.Items) >= lossFrom && len(p.Prune)*100 > len(inventory.Items)*share
}

// stilled: everything that ran is scaled to zero or dropped.
func stilled(desired Desired, inventory Inventory, p Plan) (Halt, bool) {
	var had []bundle.ObjectID
	for _, it := range inventory.Items {
		if isWorkload(it.ObjectID) {
			had = append(had, it.ObjectID)
		}
	}
	wanted := 0
	for i := range desired.Objects {
		if o := &desired.Objects[i]; isWorkload(o.ObjectID) {
			if wanted++; !o.idle {
				return Halt{}, false
			}
		}
	}
	if len(had) == 0 || len(desired.Objects) == 0 {
		return Halt{}, false
	}
	if wanted == 0 {
		return Halt{Reason: "no workload would be left", Objects: had}, desired.Policy.Prune
	}
	changes := slices.ContainsFunc(p.Apply, func(a Planned) bool { return a.Action == Change && isWorkload(a.Object.ObjectID) })
	return Halt{Reason: "every workload would be scaled to zero", Objects: had}, changes
}

func orphaning(_ Desired, _ Inventory, p Plan) (Halt, bool) {
	lost := orphaned(p)
	return Halt{Reason: "the bundle drops a namespace but still has objects in it", Objects: lost, Never: true}, len(lost) > 0
}

// inhabited is the suspicion of deleting a namespace or definition that holds objects of others, which are named.
func inhabited(container bundle.ObjectID, others []string) Halt {
	return Halt{Reason: fmt.Sprintf("%s would be deleted, and it holds objects of others (%s)", container, strings.Join(others, ", "))}
}

// isWorkload says that the object runs pods for as long as it is there.
func isWorkload(id bundle.ObjectID) bool {
	switch policyKind(id) {
	case "apps/Deployment", "apps/StatefulSet", "apps/DaemonSet", "apps/ReplicaSet", "ReplicationController":
		return true
	}
	return false
}

// orphaned are namespaces that would be pruned although objects of the bundle stay in them: their deletion would take those along.
func orphaned(p Plan) []bundle.ObjectID {
	inhabited := map[string]bool{}
	for _, a := range p.Apply {
		inhabited[a.Object.Namespace] = true
	}
	for _, k := range p.Keep {
		inhabited[k.Namespace] = true
	}
	var out []bundle.ObjectID
	for _, it := range p.Prune {
		if isNamespace(it.ObjectID) && inhabited[it.Name] {
			out = append(out, it.ObjectID)
		}
	}
	return out
}

// protected are namespaces that are never deleted, whoever owns them.
func protected(id bundle.ObjectID) bool {
	if !isNamespace(id) {
		return false
	}
	switch id.Name {
	case "default", "kube-system", "kube-public", "kube-node-lease":
		return true
	}
	return false
}

func ids(items []Item) []bundle.ObjectID {
	out := make([]bundle.ObjectID, len(items))
	for i, it := range items {
		out[i] = it.ObjectID
	}
	return out
}
