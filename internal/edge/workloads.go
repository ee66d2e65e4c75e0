package edge

import (
	"context"
	"errors"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// KubeWorkloads are Workloads in a Kubernetes cluster: package apply's executor and watcher, with the inventory in the edge's store.
type KubeWorkloads struct {
	executor *apply.Executor
	watcher  *apply.Watcher
	policy   Policy
	store    fleetsync.Store
	log      *zap.Logger
	open     apply.Opener // of sealed secrets; nil: they are refused
	// watchdog reads what the agent's watchdog remembers.
	watchdog func(context.Context) (watchdog.Memory, error)

	running sync.Mutex // through a Run and what it leaves watched
	mu      sync.Mutex
	sink    func(fleetsync.Input)
	specs   map[bundle.Digest]string     // by what was rendered
	pulling map[bundle.Name]*prefetching // the newest of each
}

// prefetching is one Prefetch while it lasts.
type prefetching struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// NewWorkloads keeps workloads in a cluster within the site's policy; inventories are kept in store.
func NewWorkloads(cluster apply.Cluster, policy Policy, store fleetsync.Store, log *zap.Logger) *KubeWorkloads {
	w := &KubeWorkloads{policy: policy, store: store, log: log, specs: map[bundle.Digest]string{}, pulling: map[bundle.Name]*prefetching{}}
	w.watchdog = func(ctx context.Context) (watchdog.Memory, error) {
		conn, own := cluster.(*kube.Conn)
		if !own {
			return watchdog.Memory{}, nil
		}
		memory, _, err := readMemory(ctx, conn, watchdogNote(policy.Agent.Namespace))
		return memory, err
	}
	w.executor = apply.NewExecutor(cluster, apply.Options{})
	w.watcher = apply.NewWatcher(w.executor, w.told)
	return w
}

// Opening has sealed secrets opened with open. It is called before anything else.
func (w *KubeWorkloads) Opening(open apply.Opener) *KubeWorkloads {
	w.open = open
	return w
}

// Watch watches until ctx ends.
func (w *KubeWorkloads) Watch(ctx context.Context, sink func(fleetsync.Input)) {
	w.mu.Lock()
	w.sink = sink
	w.mu.Unlock()
	w.watcher.Run(ctx)
}

// told passes on what the watcher saw.
func (w *KubeWorkloads) told(e apply.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := e.(type) {
	case apply.DriftSeen:
		w.sink(fleetsync.DriftSeen{Name: e.Bundle, Drift: driftOf(e.Drift), Left: e.Drift.Left, Gone: e.Gone})
	case apply.Corrected:
		c := fleetsync.Corrected{Name: e.Bundle, Drift: driftOf(e.Drift)}
		if e.Err != nil {
			c.Err = e.Err.Error()
		}
		w.sink(c)
	case apply.HealthSeen:
		in := fleetsync.HealthSeen{Name: e.Bundle, Spec: w.specs[e.Rendered]}
		for _, o := range e.Unhealthy {
			in.Unhealthy = append(in.Unhealthy, fleetsync.ObjectStatus{Object: o.Object.String(), Status: string(o.Status), Message: o.Message})
		}
		w.sink(in)
	case apply.ClusterSeen:
		w.sink(fleetsync.ClusterSeen{Reachable: e.Reachable, Version: e.Version, Message: e.Message})
	}
}

func driftOf(d apply.Drift) fleetsync.Drift {
	kind := fleetsync.DriftChanged
	if d.Deleted {
		kind = fleetsync.DriftDeleted
	}
	return fleetsync.Drift{Object: d.Object.String(), Kind: kind, Paths: d.Paths, Managers: d.Managers, At: d.At, Message: d.Message}
}

// Run applies and watches a bundle, or removes it. What is watched is healthy or not of an apply that must be known to have ended: so its end is
// told first.
func (w *KubeWorkloads) Run(ctx context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran)) {
	w.running.Lock()
	defer w.running.Unlock()
	w.watcher.Hold(run.Bundle.Name)
	ran := fleetsync.Ran{Name: run.Bundle.Name, Spec: run.Spec, Remove: run.Remove, Outcome: fleetsync.OutcomeApplied}
	watch := func() {}
	var err error
	if run.Remove {
		err = w.remove(ctx, run.Bundle.Name, &ran)
	} else {
		watch, err = w.apply(ctx, run, load, &ran)
	}
	if err != nil {
		blame(err, &ran)
	}
	tell(ran)
	watch()
}

// apply gives what is to be watched afterwards.
func (w *KubeWorkloads) apply(ctx context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error), ran *fleetsync.Ran) (watch func(), err error) {
	asBefore := func() { w.watcher.Release(run.Bundle.Name) }
	desired, inventory, err := w.prepare(run, load)
	if err != nil {
		return asBefore, err
	}
	w.mu.Lock()
	w.specs[desired.Rendered] = run.Spec
	w.mu.Unlock()
	ran.Rendered, ran.Objects = desired.Rendered, len(desired.Objects)
	if run.Bundle.Name == w.policy.Agent.Name {
		if err := w.begin(ctx, run); err != nil {
			return asBefore, err
		}
	}
	if asRecorded(desired, inventory) { // after a restart: the first list of the watches shows what is no longer so
		based, changed := apply.Rebase(desired, inventory)
		if changed {
			err = w.record(run.Bundle.Name, based)
		}
		return func() { w.watcher.Track(desired, based) }, err
	}
	result, err := w.executor.Apply(ctx, apply.Request{
		Desired: desired, Inventory: inventory, Facts: w.watcher.Facts(desired.Scope.Account), AcceptLoss: run.Bundle.AcceptLoss,
		Persist: func(union apply.Inventory) error {
			if covers(inventory, union) { // after a crash in an apply: it is known already what may be there
				return nil
			}
			return w.record(run.Bundle.Name, union)
		},
	})
	count(result, ran)
	if err != nil && untouched(err) { // what was applied before stays watched
		return asBefore, err
	}
	err = errors.Join(err, w.record(run.Bundle.Name, result.Inventory))
	return func() { w.watcher.Track(desired, result.Inventory) }, err
}

// Prefetch pulls a version's images. One that is under way for the same bundle is ended first: both would speak of the same DaemonSet. What cannot be
// rendered or is outside its scope is for Run to say.
func (w *KubeWorkloads) Prefetch(ctx context.Context, p fleetsync.Prefetch, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Prefetched)) fleetsync.Prefetched {
	out := fleetsync.Prefetched{Name: p.Run.Bundle.Name, Spec: p.Run.Spec}
	ctx, stop := context.WithCancel(ctx)
	own := &prefetching{stop, make(chan struct{})}
	defer close(own.ended)
	defer stop()
	w.mu.Lock()
	before := w.pulling[out.Name]
	w.pulling[out.Name] = own
	w.mu.Unlock()
	if before != nil {
		before.stop()
		<-before.ended
	}
	desired, _, err := w.prepare(p.Run, load)
	if err != nil {
		return out
	}
	err = w.executor.Prefetch(ctx, &desired, p.Timeout, func(progress string) { tell(fleetsync.Prefetched{Name: out.Name, Spec: out.Spec, Progress: progress}) })
	if err != nil {
		out.Err = err.Error()
	}
	return out
}

// covers says that an inventory names every object of another one.
func covers(recorded, union apply.Inventory) bool {
	named := make(map[bundle.ObjectID]bool, len(recorded.Items))
	for _, item := range recorded.Items {
		named[item.ObjectID] = true
	}
	for _, item := range union.Items {
		if !named[item.ObjectID] {
			return false
		}
	}
	return recorded.Account == union.Account
}

// prepare loads and renders a bundle and finds what it owns already.
func (w *KubeWorkloads) prepare(run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error)) (apply.Desired, apply.Inventory, error) {
	verified, err := load(run.Bundle.Digest)
	if err != nil {
		return apply.Desired{}, apply.Inventory{}, &lost{err}
	}
	scope, err := w.policy.scope(run.Bundle.Name, run.Bundle.Scope)
	if err != nil {
		return apply.Desired{}, apply.Inventory{}, err
	}
	desired, err := apply.PrepareOpening(verified, render.Inputs{Labels: run.Labels, Values: run.Bundle.Values}, scope, w.open)
	var beyond *apply.Failure
	var unopened *apply.Unopened
	switch {
	case errors.As(err, &beyond), errors.As(err, &unopened):
		return apply.Desired{}, apply.Inventory{}, err
	case err != nil:
		return apply.Desired{}, apply.Inventory{}, &unrenderable{err}
	}
	if run.Bundle.Drift != "" {
		desired = desired.WithDrift(run.Bundle.Drift)
	}
	inventory, err := w.inventory(run.Bundle.Name)
	return desired, inventory, err
}

// asRecorded says that everything desired, and nothing else, was applied as it is desired, by who is to.
func asRecorded(desired apply.Desired, inventory apply.Inventory) bool {
	if len(desired.Objects) != len(inventory.Items) || desired.Scope.Account != inventory.Account {
		return false
	}
	hashes := make(map[bundle.ObjectID]string, len(inventory.Items))
	for _, item := range inventory.Items {
		hashes[item.ObjectID] = item.Hash
	}
	for i := range desired.Objects {
		if o := &desired.Objects[i]; hashes[o.ObjectID] != o.Hash {
			return false
		}
	}
	return true
}

// untouched says that a failed apply changed nothing.
func untouched(err error) bool {
	var f *apply.Failure
	return errors.As(err, &f) && (f.At == apply.AtScope || f.At == apply.AtPlan || f.At == apply.AtPreflight || f.At == apply.AtPersist)
}

func count(result apply.Result, ran *fleetsync.Ran) {
	for _, o := range result.Outcomes {
		switch o.Action {
		case apply.Create, apply.Change, apply.Repair:
			ran.Changed++
		case apply.Prune:
			ran.Pruned++
		}
	}
}

func (w *KubeWorkloads) remove(ctx context.Context, name bundle.Name, ran *fleetsync.Ran) error {
	inventory, err := w.inventory(name)
	if err != nil {
		return err
	}
	if name == w.policy.Agent.Name { // an agent does not delete itself: it stays as it is
		w.watcher.Drop(name)
		return w.record(name, apply.Inventory{Bundle: name})
	}
	scope := apply.Scope{Account: inventory.Account, Protected: w.policy.Protected}
	if scope.Account == "" { // applied before the site chose an account
		scope.Account = w.policy.Account
	}
	result, err := w.executor.Remove(ctx, inventory, scope, nil)
	count(result, ran)
	if err != nil {
		return errors.Join(err, w.record(name, result.Inventory))
	}
	w.watcher.Drop(name)
	return w.record(name, apply.Inventory{Bundle: name})
}

// Correct asks the watcher to put an object back; its answer comes through the sink.
func (w *KubeWorkloads) Correct(c fleetsync.Correct) {
	id, err := bundle.ParseObjectID(c.Drift.Object)
	if err != nil {
		w.log.Error("correct", zap.Error(err))
		return
	}
	w.watcher.Correct(c.Name, id)
}

// lost is a stored bundle that was verified before and is no longer what it was.
type lost struct{ error }

func (l *lost) Error() string { return "stored bundle: " + l.error.Error() }
func (l *lost) Unwrap() error { return l.error }

// unrenderable is a bundle that cannot be rendered with the site's values.
type unrenderable struct{ error }

func (u *unrenderable) Unwrap() error { return u.error }

// reasonOutside says that a bundle would go beyond its assignment's scope or the site's policy; nothing was asked of the cluster.
const reasonOutside = "OutsideScope"

// reasonSealed says that a secret in a bundle is not sealed for this site's present key, or damaged; nothing was asked of the cluster.
const reasonSealed = "CannotOpenSecret"

// blame says in a Ran why it did not end well.
func blame(err error, ran *fleetsync.Ran) {
	ran.Outcome, ran.Reason, ran.Message = fleetsync.OutcomeFailed, "Failed", err.Error()
	var cannot *unrenderable
	var gone *lost
	var beyond *outside
	var back *takenBack
	var f *apply.Failure
	var unopened *apply.Unopened
	switch {
	case errors.As(err, &unopened):
		ran.Outcome, ran.Reason = fleetsync.OutcomeRejected, reasonSealed
	case errors.As(err, &back):
		ran.Outcome, ran.Reason = fleetsync.OutcomeHalted, "AgentTakenBack"
	case errors.As(err, &beyond):
		ran.Outcome, ran.Reason = fleetsync.OutcomeRejected, reasonOutside
	case errors.As(err, &gone):
		ran.Lost, ran.Reason = true, "StoredBundleLost"
	case errors.As(err, &cannot):
		ran.Outcome, ran.Reason = fleetsync.OutcomeRejected, "CannotRender"
	case errors.As(err, &f):
		if untouched(err) && f.At != apply.AtPersist {
			ran.Outcome = fleetsync.OutcomeRejected
		}
		ran.Reason = strings.ToUpper(string(f.At[:1])) + string(f.At[1:]) + "Failed"
		switch {
		case f.At == apply.AtScope:
			ran.Reason = reasonOutside
		case len(f.Halts) > 0:
			ran.Outcome, ran.Reason = fleetsync.OutcomeHalted, "Halted"
		}
		if len(f.Refusals) > 0 {
			ran.Object = f.Refusals[0].Object.String()
		}
	}
}
