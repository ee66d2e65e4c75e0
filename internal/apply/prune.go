package apply

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Remove deletes everything a bundle owns, last stage first, and waits until it is gone. What may not be deleted – a namespace or
// definition that holds other objects, an object that another bundle has taken over – stays, is forgotten and is named in the outcomes.
// It acts as the scope's account, which for most is the inventory's, and deletes nothing in protected namespaces; what else the scope allows
// is not asked: what a bundle was once allowed to make it may take away. persist, where it is not nil, is called before the first deletion
// with the inventory as it is.
func (e *Executor) Remove(ctx context.Context, inventory Inventory, scope Scope, persist func(Inventory) error) (Result, error) {
	r := &run{Executor: e, cluster: e.as(scope.Account), scope: scope, request: Request{Inventory: inventory}, name: inventory.Bundle, items: map[bundle.ObjectID]Item{}, pruned: map[bundle.ObjectID]bool{}}
	if len(inventory.Items) == 0 {
		return r.result(), nil
	}
	if persist != nil {
		if err := persist(inventory); err != nil {
			return r.result(), &Failure{At: AtPersist, Cause: fmt.Errorf("record the intent: %w", err)}
		}
	}
	err := r.prune(ctx, pruneAll(inventory))
	result := r.result()
	result.Changed = true
	return result, err
}

// prune deletes items stage by stage in the order given. Refusals are collected; a stage that is not gone stops the next.
func (r *run) prune(ctx context.Context, items []Item) error {
	for from := 0; from < len(items); {
		to := from
		for to < len(items) && items[to].Stage == items[from].Stage {
			to++
		}
		stage := items[from:to]
		errs := make([]error, len(stage))
		// All are asked to go before any is waited for: finalizers and grace periods then run side by side.
		waiting := make([]string, len(stage)) // UIDs
		r.parallel(len(stage), func(i int) { waiting[i], errs[i] = r.pruneOne(ctx, stage[i]) })
		r.parallel(len(stage), func(i int) {
			if errs[i] != nil || waiting[i] == "" {
				return
			}
			if errs[i] = r.awaitGone(ctx, stage[i].Ref, waiting[i]); errs[i] == nil {
				r.drop(stage[i], "")
			}
		})
		var refusals []Refusal
		for i, err := range errs {
			if err != nil {
				refusals = append(refusals, refusalOf(stage[i].ObjectID, err))
			}
		}
		if len(refusals) > 0 {
			return &Failure{At: AtPrune, Refusals: refusals}
		}
		from = to
	}
	return nil
}

// pruneOne deletes one object or decides to keep it. A UID means that it is not gone yet.
func (r *run) pruneOne(ctx context.Context, item Item) (uid string, err error) {
	if protected(item.ObjectID) {
		r.drop(item, "kept: this namespace is never deleted")
		return "", nil
	}
	if r.scope.protects(item.ObjectID) {
		r.drop(item, fmt.Sprintf("kept: namespace %s is protected at this site", home(item.ObjectID)))
		return "", nil
	}
	if item.Adopted && isContainer(item.ObjectID) {
		r.drop(item, "kept: it existed before the bundle")
		return "", nil
	}
	var seen Seen
	err = r.try(ctx, func() (err error) {
		seen, err = r.cluster.Look(ctx, item.Ref, ViewMetadata)
		return err
	})
	switch {
	case err == nil:
	case isAbsent(err):
		r.drop(item, "")
		return "", nil
	default:
		return "", err
	}
	if why := notOurs(item, seen, r.name); why != "" {
		r.drop(item, why)
		return "", nil
	}
	if isContainer(item.ObjectID) && !seen.Deleting {
		var foreign []string
		err := r.try(ctx, func() (err error) {
			foreign, err = r.cluster.Foreign(ctx, item.Ref, r.name)
			return err
		})
		if err != nil {
			return "", err
		}
		if len(foreign) > 0 {
			r.drop(item, "kept: it holds other objects: "+strings.Join(foreign, ", "))
			return "", nil
		}
	}
	gone, err := r.delete(ctx, item.Ref, seen.UID)
	if err != nil {
		return "", err
	}
	if !gone {
		return seen.UID, nil
	}
	r.drop(item, "")
	return "", nil
}

// notOurs says why a live object must not be deleted as this item, or "". An object of another UID is somebody else's unless it carries our
// label; an object of our UID is ours unless it carries another bundle's.
func notOurs(item Item, seen Seen, name bundle.Name) string {
	label, labelled := seen.Labels[Label]
	switch {
	case labelled && label != string(name):
		return "kept: it belongs to bundle " + label + " now"
	case !labelled && seen.UID != item.UID:
		return "kept: it was made anew by somebody else"
	}
	return ""
}

// drop takes an item out of the inventory.
func (r *run) drop(item Item, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pruned[item.ObjectID] = true
	action := Prune
	if detail != "" {
		action = Leave
	}
	r.outcomes = append(r.outcomes, Outcome{item.ObjectID, action, detail})
}

// remove deletes the object of a UID and waits until it is gone.
func (r *run) remove(ctx context.Context, ref Ref, uid string) error {
	gone, err := r.delete(ctx, ref, uid)
	if err != nil || gone {
		return err
	}
	return r.awaitGone(ctx, ref, uid)
}

func (r *run) delete(ctx context.Context, ref Ref, uid string) (gone bool, err error) {
	err = r.try(ctx, func() (err error) {
		gone, err = r.cluster.Delete(ctx, ref, uid)
		return err
	})
	return gone, err
}

func (r *run) awaitGone(ctx context.Context, ref Ref, uid string) error {
	deadline := r.options.Now().Add(r.options.GoneTimeout)
	for pause := 100 * time.Millisecond; ; pause = min(pause*3/2, time.Second) {
		if err := r.options.wait(ctx, pause); err != nil {
			return err
		}
		var seen Seen
		err := r.try(ctx, func() (err error) {
			seen, err = r.cluster.Look(ctx, ref, ViewMetadata)
			return err
		})
		switch {
		case err == nil && seen.UID != uid, isAbsent(err):
			return nil
		case err != nil:
			return err
		case r.options.Now().After(deadline):
			return &ServerError{Class: Passing, Words: "deleted, but still there: finalizers or a grace period hold it"}
		}
	}
}

// isAbsent says that an error means: there is no such object, whatever the reason.
func isAbsent(err error) bool {
	if err == nil {
		return false
	}
	class := ClassOf(err)
	return class == Missing || class == NoKind || class == NoNamespace
}
