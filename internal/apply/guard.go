package apply

import "github.com/holdfast-fleet/holdfast/pkg/bundle"

// guard finds what no honest release does by accident. Each predicate is separate, so that a later policy can allow one of them.
func guard(desired Desired, inventory Inventory, p Plan) []Halt {
	var halts []Halt
	if len(desired.Objects) == 0 && len(inventory.Items) > 0 && desired.Policy.Prune {
		halts = append(halts, Halt{Reason: "the bundle is empty and would delete everything it owned", Objects: ids(inventory.Items)})
	}
	if lost := orphaned(p); len(lost) > 0 {
		halts = append(halts, Halt{Reason: "the bundle drops a namespace but still has objects in it", Objects: lost})
	}
	return halts
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
