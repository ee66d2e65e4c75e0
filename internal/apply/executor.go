package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Options of an Executor and a Watcher. The zero value is useful.
type Options struct {
	// Workers is how many requests run at the same time; 0 is 8.
	Workers int
	// GoneTimeout bounds how long a deletion is waited for; 0 is two minutes.
	GoneTimeout time.Duration
	// DefinitionTimeout bounds how long a new definition may take to be served; 0 is one minute.
	DefinitionTimeout time.Duration
	// Now is the clock and After its timer; nil are those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = 8
	}
	if o.GoneTimeout <= 0 {
		o.GoneTimeout = 2 * time.Minute
	}
	if o.DefinitionTimeout <= 0 {
		o.DefinitionTimeout = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	return o
}

func (o Options) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-o.After(d):
		return nil
	}
}

// Executor carries plans out. It keeps nothing between calls and may be used concurrently for different bundles.
type Executor struct {
	cluster Cluster
	options Options
}

// as is the cluster as the account sees it; as the agent itself where there is none.
func (e *Executor) as(account bundle.Account) Cluster {
	if account == "" {
		return e.cluster
	}
	return e.cluster.As(account)
}

// NewExecutor makes an Executor.
func NewExecutor(cluster Cluster, options Options) *Executor {
	return &Executor{cluster, options.withDefaults()}
}

// Request is one apply.
type Request struct {
	Desired   Desired
	Inventory Inventory // as recorded; the zero value for a bundle that is new here
	Facts     Facts     // of a Watcher; the zero value looks at every object anew
	// AcceptLoss permits a suspicious plan, except for what is never permitted.
	AcceptLoss bool
	// Persist records the intent: it is called once, before the first change, with everything that is owned or may come to be, and the
	// apply goes on only if it returns nil. It is not called when there is nothing to do.
	Persist func(Inventory) error
}

// Outcome is what became of one object.
type Outcome struct {
	Object bundle.ObjectID
	Action Action
	// Detail says more where the action was not simply done ("kept: holds other objects: …").
	Detail string
}

// Result is what an apply or a removal did. It is truthful also beside an error.
type Result struct {
	// Inventory is what the bundle owns now. It is to be recorded.
	Inventory Inventory
	Outcomes  []Outcome // of all objects but those kept
	Kept      int       // objects that were known to be right and cost nothing
	// Changed says that the cluster was asked to change something.
	Changed bool
}

// FailedAt is the part of an apply that failed.
type FailedAt string

// The parts.
const (
	AtScope     FailedAt = "scope"     // objects are outside the bundle's scope; nothing was asked of the cluster
	AtPlan      FailedAt = "plan"      // halted by a guard
	AtPreflight FailedAt = "preflight" // dry runs were refused; nothing changed, or all that was made for the dry runs was removed again
	AtPersist   FailedAt = "persist"   // the intent could not be recorded; nothing changed
	AtApply     FailedAt = "apply"     // some objects may be changed: Result.Inventory says which
	AtPrune     FailedAt = "prune"     // everything was applied, something old is left
)

// Failure is why an apply or a removal did not finish.
type Failure struct {
	At       FailedAt
	Refusals []Refusal
	Halts    []Halt
	Cause    error // where no object is to blame
}

func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(string(f.At))
	for i, h := range f.Halts {
		b.WriteString(separator(i) + h.String())
	}
	for i, r := range f.Refusals {
		if i == 5 {
			fmt.Fprintf(&b, "; and %d more", len(f.Refusals)-i)
			break
		}
		b.WriteString(separator(i) + r.String())
	}
	if f.Cause != nil {
		b.WriteString(": " + f.Cause.Error())
	}
	return b.String()
}

func separator(i int) string {
	if i == 0 {
		return ": "
	}
	return "; "
}

func (f *Failure) Unwrap() error { return f.Cause }

// Permanent says that trying the same again cannot help.
func (f *Failure) Permanent() bool {
	if len(f.Halts) > 0 {
		return true
	}
	for _, r := range f.Refusals {
		if r.Permanent {
			return true
		}
	}
	return false
}

// Apply brings the cluster to what is desired: plan, dry-run everything that will change, record the intent, apply stage by stage,
// delete what is no longer desired. It waits for definitions to be served and for deletions, not for health.
func (e *Executor) Apply(ctx context.Context, r Request) (Result, error) {
	if !r.Desired.made {
		return Result{Inventory: r.Inventory}, errNothingDesired
	}
	plan := Decide(r.Desired, r.Inventory, r.Facts)
	run := &run{Executor: e, cluster: e.as(r.Desired.Scope.Account), request: r, plan: plan, name: r.Desired.Ref.Name, scope: r.Desired.Scope, items: map[bundle.ObjectID]Item{},
		adopted: map[bundle.ObjectID]bool{}, pruned: map[bundle.ObjectID]bool{}}
	for _, it := range plan.Keep {
		run.items[it.ObjectID] = it
	}
	if err := run.suspect(ctx); err != nil {
		return run.result(), err
	}
	if len(plan.Apply)+len(plan.Prune) == 0 {
		run.finished = true
		return run.result(), nil
	}
	if err := run.do(ctx); err != nil {
		return run.result(), err
	}
	return run.result(), nil
}

// suspect halts a suspicious plan.
func (r *run) suspect(ctx context.Context) error {
	halts := r.plan.Halts
	if r.request.AcceptLoss {
		halts = slices.DeleteFunc(slices.Clone(halts), func(h Halt) bool { return !h.Never })
	} else {
		for _, it := range r.plan.Prune {
			if !isContainer(it.ObjectID) || it.Adopted || protected(it.ObjectID) || r.scope.protects(it.ObjectID) {
				continue // no other is deleted with what it holds
			}
			var others []string
			err := r.try(ctx, func() (err error) {
				others, err = r.cluster.Foreign(ctx, it.Ref, r.name)
				return err
			})
			if err != nil && !isAbsent(err) {
				return &Failure{At: AtPreflight, Refusals: []Refusal{refusalOf(it.ObjectID, err)}}
			}
			if len(others) > 0 {
				halts = append(halts, inhabited(it.ObjectID, others))
			}
		}
	}
	if len(halts) > 0 {
		return &Failure{At: AtPlan, Halts: halts}
	}
	return nil
}

// run is one apply while it lasts.
type run struct {
	*Executor
	cluster Cluster // as the bundle's account
	request Request
	plan    Plan
	name    bundle.Name
	scope   Scope

	mu       sync.Mutex
	items    map[bundle.ObjectID]Item // what is known to be owned
	outcomes []Outcome
	adopted  map[bundle.ObjectID]bool // new to the bundle, not to the cluster
	pruned   map[bundle.ObjectID]bool
	// persisted: the intent is recorded, so the inventory is the union until all is done. undone: what was made has been removed again.
	// finished: everything was applied.
	persisted, undone, finished bool
}

func (r *run) do(ctx context.Context) error {
	attempts := make([]*attempt, len(r.plan.Apply))
	for i, p := range r.plan.Apply {
		attempts[i] = &attempt{Planned: p, force: p.ours()}
	}
	now, later, err := r.preflight(ctx, attempts)
	if err != nil {
		return err
	}
	if r.request.Persist != nil {
		if err := r.request.Persist(union(r.request.Inventory, r.name, r.scope.Account, r.plan, r.adopted)); err != nil {
			return &Failure{At: AtPersist, Cause: fmt.Errorf("record the intent: %w", err)}
		}
	}
	// From here on the record holds everything that may exist: a crash loses nothing.
	r.persisted = true
	if len(later) > 0 {
		if err := r.definitionsFirst(ctx, now, later); err != nil {
			return err
		}
	}
	if err := r.stages(ctx, attempts); err != nil {
		return err
	}
	r.finished = true
	return r.prune(ctx, r.plan.Prune)
}

// attempt is one object on its way.
type attempt struct {
	Planned
	force   bool // its fields are ours to take
	replace bool // delete and make anew
	fresh   bool // the dry run said that it does not exist
	done    bool
	awaited bool // its definition is known to be served
}

func (a *attempt) patch(name bundle.Name, dryRun bool) (Patch, error) {
	base := a.Was.Base
	if a.Action == Repair { // exactly this was applied, whether the record has its base or not
		base = a.Object.base
	}
	p, err := a.Object.patch(name, base)
	if err != nil {
		return Patch{}, &ServerError{Class: Permanent, Words: err.Error()}
	}
	p.DryRun, p.Force = dryRun, a.force
	if a.replace || !a.ours() { // nobody holds a field of what does not exist, and what is not ours is not forced
		p.Base, p.Yield = "", nil
	}
	return p, nil
}

// stages applies what is not done yet, stage by stage, and stops after the first stage with a refusal.
func (r *run) stages(ctx context.Context, attempts []*attempt) error {
	for from := 0; from < len(attempts); {
		to := from
		for to < len(attempts) && attempts[to].Object.Stage == attempts[from].Object.Stage {
			to++
		}
		if err := r.applyAll(ctx, attempts[from:to]); err != nil {
			return err
		}
		if err := r.served(ctx, attempts[from:to]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func (r *run) applyAll(ctx context.Context, attempts []*attempt) error {
	refusals := r.each(attempts, func(a *attempt) error {
		if a.done {
			return nil
		}
		return r.applyOne(ctx, a)
	})
	if len(refusals) > 0 {
		return &Failure{At: AtApply, Refusals: refusals}
	}
	return nil
}

func (r *run) applyOne(ctx context.Context, a *attempt) error {
	if a.replace {
		if err := r.remove(ctx, a.Object.Ref, a.Was.UID); err != nil {
			return err
		}
		a.force = true // nobody else holds a field of what does not exist
	}
	patch, err := a.patch(r.name, false)
	if err != nil {
		return err
	}
	var seen Seen
	err = r.try(ctx, func() (err error) {
		seen, err = r.cluster.Apply(ctx, patch)
		return err
	})
	if err != nil {
		return err
	}
	a.done = true
	r.record(a, itemOf(a.Object, seen, a.Was.Adopted || r.adopted[a.Object.ObjectID]))
	return nil
}

func itemOf(o *Object, seen Seen, adopted bool) Item {
	f := factOf(seen)
	return Item{Ref: o.Ref, Stage: o.Stage, UID: f.UID, ResourceVersion: f.ResourceVersion, Generation: f.Generation,
		Hash: o.Hash, Print: f.Print, Adopted: adopted, Base: o.base, Left: seen.Left}
}

func (r *run) record(a *attempt, item Item) {
	detail := ""
	if a.replace {
		detail = "replaced"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items[item.ObjectID] = item
	r.outcomes = append(r.outcomes, Outcome{item.ObjectID, a.Action, detail})
}

// result tells what is owned now: what is known, and where the run broke off also what was owned or may have come to be.
func (r *run) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	base := r.request.Inventory
	base.Bundle = r.name
	if r.persisted && !r.undone {
		base = union(r.request.Inventory, r.name, r.scope.Account, r.plan, r.adopted)
	}
	out := Result{Outcomes: r.outcomes, Kept: len(r.plan.Keep), Changed: r.persisted}
	out.Inventory.Bundle, out.Inventory.Account = r.name, base.Account
	if r.finished {
		out.Inventory.Account = r.scope.Account
		for i := range r.request.Desired.Objects {
			out.Inventory.Items = append(out.Inventory.Items, r.items[r.request.Desired.Objects[i].ObjectID])
		}
		for _, it := range r.plan.Prune {
			if !r.pruned[it.ObjectID] {
				out.Inventory.Items = append(out.Inventory.Items, it)
			}
		}
		for _, it := range r.plan.Leave {
			out.Outcomes = append(out.Outcomes, Outcome{it.ObjectID, Leave, "the policy does not prune"})
		}
		return out
	}
	for _, it := range base.Items {
		if known, ok := r.items[it.ObjectID]; ok {
			it = known
		}
		if r.pruned[it.ObjectID] {
			continue
		}
		out.Inventory.Items = append(out.Inventory.Items, it)
	}
	return out
}

// each runs do for every attempt with the workers and collects all refusals, in the order of the attempts.
func (e *Executor) each(attempts []*attempt, do func(*attempt) error) []Refusal {
	errs := make([]error, len(attempts))
	e.parallel(len(attempts), func(i int) { errs[i] = do(attempts[i]) })
	var refusals []Refusal
	for i, err := range errs {
		if err != nil {
			refusals = append(refusals, refusalOf(attempts[i].Object.ObjectID, err))
		}
	}
	return refusals
}

// parallel calls do for 0 … n-1 with the workers and returns when all have ended.
func (e *Executor) parallel(n int, do func(int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(e.options.Workers, n) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wait.Wait()
}
