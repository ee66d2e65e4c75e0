package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// preflight dry-runs everything that can be: definitions and namespaces first, then all that does not wait for one of those. What can be
// dry-run only after they exist comes back as later, they themselves as now. All refusals are collected; with one nothing is changed (F22).
func (r *run) preflight(ctx context.Context, attempts []*attempt) (now, later []*attempt, err error) {
	var first, rest []*attempt
	for _, a := range attempts {
		if isContainer(a.Object.ObjectID) {
			first = append(first, a)
		} else {
			rest = append(rest, a)
		}
	}
	refusals := r.each(first, func(a *attempt) error { return r.dryRun(ctx, a) })
	ready := rest[:0:0]
	if len(first) > 0 {
		newNamespaces, kinds := pending(first)
		for _, a := range rest {
			o := a.Object
			if newNamespaces[o.Namespace] || kinds[Kind{Group: o.Group, Kind: o.Kind}] {
				later = append(later, a)
			} else {
				ready = append(ready, a)
			}
		}
	} else {
		ready = rest
	}
	refusals = append(refusals, r.each(ready, func(a *attempt) error { return r.dryRun(ctx, a) })...)
	if len(refusals) > 0 {
		return nil, nil, &Failure{At: AtPreflight, Refusals: refusals}
	}
	return first, later, nil
}

// pending finds the namespaces that do not exist yet and the kinds whose definition is new or changes.
func pending(first []*attempt) (namespaces map[string]bool, kinds map[Kind]bool) {
	namespaces, kinds = map[string]bool{}, map[Kind]bool{}
	for _, a := range first {
		switch {
		case isDefinition(a.Object.ObjectID):
			kinds[a.Object.defines] = true
		case a.fresh:
			namespaces[a.Object.Name] = true
		}
	}
	return namespaces, kinds
}

// dryRun asks the server whether it would take the object, and finds out on the way whether it exists and whose it is.
func (r *run) dryRun(ctx context.Context, a *attempt) error {
	patch, err := a.patch(r.name, true)
	if err != nil {
		return err
	}
	var seen Seen
	ask := func() (err error) {
		seen, err = r.cluster.Apply(ctx, patch)
		return err
	}
	err = r.try(ctx, ask)
	if err != nil && ClassOf(err) == Conflict && !patch.Force && r.carriesOurLabel(ctx, a.Object.Ref) {
		// The record of the object was lost, the label was not: it is ours and its fields may be taken back.
		a.force, patch.Force = true, true
		err = r.try(ctx, ask)
	}
	if err == nil {
		a.fresh = seen.ResourceVersion == ""
		if !a.fresh && a.Action == Create && !(isContainer(a.Object.ObjectID) && r.carriesOurLabel(ctx, a.Object.Ref)) {
			r.mu.Lock()
			r.adopted[a.Object.ObjectID] = true
			r.mu.Unlock()
		}
		return nil
	}
	if ClassOf(err) != Immutable {
		return err
	}
	if !a.Object.Replace {
		return permanently(err, fmt.Sprintf("%s; the object cannot be changed so: list %q in policy.replace to have it deleted and made anew",
			err, policyKind(a.Object.ObjectID)))
	}
	if !a.ours() {
		return permanently(err, fmt.Sprintf("%s; the object is not this bundle's, so it is not replaced", err))
	}
	a.replace = true
	return nil
}

func permanently(err error, words string) error {
	out := &ServerError{Class: Immutable, Words: words}
	var s *ServerError
	if errors.As(err, &s) {
		out.Code, out.Fields = s.Code, s.Fields
	}
	return out
}

func (r *run) carriesOurLabel(ctx context.Context, ref Ref) bool {
	var seen Seen
	err := r.try(ctx, func() (err error) {
		seen, err = r.cluster.Look(ctx, ref, ViewMetadata)
		return err
	})
	return err == nil && seen.Labels[Label] == string(r.name)
}

// definitionsFirst applies definitions and namespaces for real, because the rest cannot be dry-run without them, and removes those that
// this run made if the rest is refused.
func (r *run) definitionsFirst(ctx context.Context, now, later []*attempt) error {
	err := r.applyAll(ctx, now)
	if err == nil {
		err = r.served(ctx, now)
	}
	if err != nil {
		return r.undo(ctx, now, err)
	}
	if refusals := r.each(later, func(a *attempt) error { return r.dryRun(ctx, a) }); len(refusals) > 0 {
		return r.undo(ctx, now, &Failure{At: AtPreflight, Refusals: refusals})
	}
	return nil
}

// undo removes what this very run made, so that a refused bundle leaves nothing behind. What existed before stays.
func (r *run) undo(ctx context.Context, now []*attempt, cause error) error {
	var made []Item
	for _, a := range slices.Backward(now) {
		if a.done && a.fresh {
			r.mu.Lock()
			made = append(made, r.items[a.Object.ObjectID])
			r.mu.Unlock()
		}
	}
	if err := r.prune(ctx, made); err != nil {
		return errors.Join(cause, err)
	}
	r.undone = true
	return cause
}

// served waits until the definitions among the attempts are served, so that custom resources can follow. One after the other: by the time the
// first is served the others mostly are, and are asked about only once.
func (r *run) served(ctx context.Context, attempts []*attempt) error {
	for _, a := range attempts {
		if !a.done || a.awaited || !isDefinition(a.Object.ObjectID) {
			continue
		}
		a.awaited = true
		if err := r.awaitServed(ctx, a.Object.Ref); err != nil {
			return &Failure{At: AtApply, Refusals: []Refusal{refusalOf(a.Object.ObjectID, err)}}
		}
	}
	return nil
}

func (r *run) awaitServed(ctx context.Context, ref Ref) error {
	deadline := r.options.Now().Add(r.options.DefinitionTimeout)
	for pause := 50 * time.Millisecond; ; pause = min(pause*3/2, 500*time.Millisecond) {
		var seen Seen
		err := r.try(ctx, func() (err error) {
			seen, err = r.cluster.Look(ctx, ref, ViewStatus)
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case seen.Status == StatusCurrent:
			return nil
		case seen.Status == StatusFailed || r.options.Now().After(deadline):
			return &ServerError{Class: Passing, Words: "the definition is not served: " + seen.Message}
		}
		if err := r.options.wait(ctx, pause); err != nil {
			return err
		}
	}
}
