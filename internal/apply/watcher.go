package apply

import (
	"context"
	"maps"
	"sync"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Watcher keeps an eye on what was applied: one metadata watch for each lookout, small facts instead of objects, a request only when a fact
// looks wrong or a status may have changed. It reports drift and health and corrects drift when told to. All methods may be called
// concurrently.
type Watcher struct {
	executor *Executor
	notify   func(Event)

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	bundles map[bundle.Name]*tracked
	watches map[lookout]*watch
	queue   []subjectKey
	events  []Event

	wake  chan struct{} // holds a word while the queue may hold work
	tell  chan struct{} // holds a word while events may hold one
	probe chan struct{} // holds a word when a watch broke
	alive chan struct{} // holds a word when a list succeeded
}

// tracked is one bundle that is watched.
type tracked struct {
	held     bool
	desired  Desired
	order    []bundle.ObjectID
	subjects map[bundle.ObjectID]*subject
	rest     []Item // of the inventory that is not desired: could not be deleted yet
	told     bool   // health was told since Track
	last     []ObjectHealth
}

// lookout is where a watch stands and what it sees. The agent itself watches a kind everywhere at once. An account mostly may not: as it, a
// kind is watched in each namespace that a bundle has objects in, so that nobody needs leave to read more than that.
type lookout struct {
	account bundle.Account
	place   Place
}

func lookoutOf(d *Desired, o *Object) lookout {
	at := lookout{d.Scope.Account, Place{Kind: o.Type()}}
	if at.account != "" {
		at.place.Namespace = o.Namespace
	}
	return at
}

func (t *tracked) lookout(o *Object) lookout { return lookoutOf(&t.desired, o) }

// watch is one lookout's watch and what it knows.
type watch struct {
	cancel context.CancelFunc
	synced bool
	broken bool
	denied string // why the server does not allow it; it is asked again
	seen   map[bundle.ObjectID]Fact
	// buried are deletions, by resource version, that may be newer than what a Track brings.
	buried map[bundle.ObjectID]string
}

type subjectKey struct {
	bundle bundle.Name
	object bundle.ObjectID
}

// watchWorkers is how many objects are looked into at the same time.
const watchWorkers = 4

// NewWatcher makes a Watcher. notify gets every Event, one at a time and in order, while Run runs; it may call the Watcher back.
func NewWatcher(executor *Executor, notify func(Event)) *Watcher {
	return &Watcher{executor: executor, notify: notify, bundles: map[bundle.Name]*tracked{}, watches: map[lookout]*watch{},
		wake: make(chan struct{}, 1), tell: make(chan struct{}, 1), probe: make(chan struct{}, 1), alive: make(chan struct{}, 1)}
}

// poke leaves a word in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// say queues an event. w.mu is held.
func (w *Watcher) say(e Event) {
	w.events = append(w.events, e)
	poke(w.tell)
}

func (w *Watcher) telling(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.tell:
		}
		w.mu.Lock()
		events := w.events
		w.events = nil
		w.mu.Unlock()
		for _, e := range events {
			w.notify(e)
		}
	}
}

// Run watches until ctx ends. It is called once.
func (w *Watcher) Run(ctx context.Context) {
	w.mu.Lock()
	w.ctx = ctx
	w.startWatches()
	w.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { w.telling(ctx) })
	for range watchWorkers {
		wait.Go(func() { w.work(ctx) })
	}
	if prober, ok := w.executor.cluster.(Prober); ok {
		wait.Go(func() { w.probing(ctx, prober) })
	}
	wait.Wait()
}

// Hold stops looking for drift in a bundle while it is being applied or removed – without it a removal is undone as drift. Its watches go
// on. Track or Drop ends it.
func (w *Watcher) Hold(name bundle.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.bundles[name]; t != nil {
		t.held = true
	}
}

// Release ends a Hold where nothing was changed: what was watched before goes on.
func (w *Watcher) Release(name bundle.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.bundles[name]
	if t == nil || !t.held {
		return
	}
	t.held = false
	for _, id := range t.order {
		s := t.subjects[id]
		if k := w.watches[t.lookout(s.object)]; s.lookWanted || s.drift != nil || s.correctWanted || k.synced && (s.recheck || s.suspicion(k) != Unsuspicious) {
			w.enqueue(subjectKey{name, id})
		}
	}
	w.tellHealth(name, t)
}

// Track watches a bundle as it was left: after an apply, and at every start with what the store holds. What changed while nobody watched is
// found by comparing the first list with the inventory. The Desired is packed; the caller may drop its own.
func (w *Watcher) Track(desired Desired, inventory Inventory) {
	packed := desired.Pack()
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &tracked{desired: packed, subjects: make(map[bundle.ObjectID]*subject, len(packed.Objects))}
	before := w.bundles[desired.Ref.Name]
	recorded := inventory.index()
	for i := range packed.Objects {
		o := &packed.Objects[i]
		s := &subject{object: o, item: Item{Ref: o.Ref, Stage: o.Stage}}
		if at, ok := recorded[o.ObjectID]; ok {
			s.item = inventory.Items[at]
		}
		if before != nil && before.subjects[o.ObjectID] != nil {
			old := before.subjects[o.ObjectID]
			s.fight = old.fight     // drift is told anew: whoever was told may have forgotten it, or want something else done about it now
			if s.item == old.item { // what was applied anew has yet to become healthy
				s.verdict = old.verdict
			}
		}
		s.recheck = s.item.Left
		s.lookWanted = !o.passive()
		t.subjects[o.ObjectID] = s
		t.order = append(t.order, o.ObjectID)
	}
	for _, it := range inventory.Items {
		if t.subjects[it.ObjectID] == nil {
			t.rest = append(t.rest, it)
		}
	}
	w.bundles[desired.Ref.Name] = t
	w.startWatches()
	for _, id := range t.order {
		s := t.subjects[id]
		k := w.watches[t.lookout(s.object)]
		k.seed(s.item)
		if s.lookWanted || s.drift != nil || k.synced && (s.recheck || s.suspicion(k) != Unsuspicious) {
			w.enqueue(subjectKey{desired.Ref.Name, id})
		}
	}
	w.tellHealth(desired.Ref.Name, t)
}

// Drop forgets a bundle.
func (w *Watcher) Drop(name bundle.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.bundles, name)
	w.startWatches()
}

// Correct asks for one object to be put back; the answer is a Corrected. Of an object that has not drifted there is no answer.
func (w *Watcher) Correct(name bundle.Name, object bundle.ObjectID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.bundles[name]
	if t == nil || t.subjects[object] == nil {
		return
	}
	t.subjects[object].correctWanted = true
	w.enqueue(subjectKey{name, object})
}

// Facts are what the watches know now as an account sees it, for planning.
func (w *Watcher) Facts(account bundle.Account) Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := Facts{Known: map[Place]bool{}, Objects: map[bundle.ObjectID]Fact{}}
	for at, k := range w.watches {
		if at.account == account && k.synced && !k.broken {
			f.Known[at.place] = true
			maps.Copy(f.Objects, k.seen)
		}
	}
	return f
}

// Inventory is what a bundle owns with what was learnt since Track (corrections, changes that were no drift).
func (w *Watcher) Inventory(name bundle.Name) (Inventory, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.bundles[name]
	if t == nil {
		return Inventory{}, false
	}
	inv := Inventory{Bundle: name, Account: t.desired.Scope.Account}
	for _, id := range t.order {
		inv.Items = append(inv.Items, t.subjects[id].item)
	}
	inv.Items = append(inv.Items, t.rest...)
	return inv, true
}

// startWatches starts the watches that are needed and ends those that are not. w.mu is held.
func (w *Watcher) startWatches() {
	needed := map[lookout]bool{}
	for _, t := range w.bundles {
		for _, id := range t.order {
			needed[t.lookout(t.subjects[id].object)] = true
		}
	}
	for at := range needed {
		if k := w.watch(at); k.cancel == nil && w.ctx != nil {
			w.startWatch(at, k)
		}
	}
	for at, k := range w.watches {
		if !needed[at] {
			if k.cancel != nil {
				k.cancel()
			}
			delete(w.watches, at)
		}
	}
}

func (w *Watcher) watch(at lookout) *watch {
	k := w.watches[at]
	if k == nil {
		k = &watch{seen: map[bundle.ObjectID]Fact{}, buried: map[bundle.ObjectID]string{}}
		w.watches[at] = k
	}
	return k
}

func (w *Watcher) startWatch(at lookout, k *watch) {
	ctx, cancel := context.WithCancel(w.ctx)
	k.cancel = cancel
	go w.executor.as(at.account).Watch(ctx, at.place, func(s Sighting) {
		if ctx.Err() == nil {
			w.sighted(at, k, s)
		}
	})
}

// restart begins the watches of a kind anew at once, because its definition has come back.
func (w *Watcher) restart(defines Kind) {
	for at, k := range w.watches {
		if at.place.Group == defines.Group && at.place.Kind.Kind == defines.Kind && k.cancel != nil {
			k.cancel()
			k.synced = false
			w.startWatch(at, k)
		}
	}
}

// seed notes how an object was left by us, unless something newer is known of it.
func (k *watch) seed(item Item) {
	if item.UID == "" {
		return
	}
	if at, ok := k.buried[item.ObjectID]; ok {
		delete(k.buried, item.ObjectID)
		if !older(at, item.ResourceVersion) {
			return
		}
	}
	if fact, ok := k.seen[item.ObjectID]; ok && !older(fact.ResourceVersion, item.ResourceVersion) {
		return
	}
	if k.synced {
		k.seen[item.ObjectID] = Fact{UID: item.UID, ResourceVersion: item.ResourceVersion, Generation: item.Generation, Print: item.Print}
	}
}

// sighted takes a word from a watch.
func (w *Watcher) sighted(at lookout, k *watch, s Sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches[at] != k {
		return
	}
	switch s.Kind {
	case SightListed:
		k.synced, k.broken = true, false
		poke(w.alive)
		clear(k.buried)
		now := make(map[bundle.ObjectID]Fact, len(s.All))
		for _, o := range s.All {
			now[o.ObjectID] = factOf(o)
		}
		k.seen = now
		w.everyAt(at, func(key subjectKey, s *subject) {
			// Before this list, or while the watch was broken, a status may have changed that nobody told of.
			if fact, there := now[key.object]; there && !s.object.passive() && fact.ResourceVersion != s.lookedAt {
				s.lookWanted = true
			}
			if s.suspicion(k) != Unsuspicious || s.recheck || s.drift != nil || s.lookWanted {
				w.enqueue(key)
			}
		})
		w.deny(at, k, "")
	case SightPresent:
		k.broken = false
		delete(k.buried, s.Object.ObjectID)
		k.seen[s.Object.ObjectID] = factOf(s.Object)
		w.touched(at, k, s.Object)
	case SightGone:
		k.broken = false
		delete(k.seen, s.Object.ObjectID)
		k.buried[s.Object.ObjectID] = s.Object.ResourceVersion
		w.touched(at, k, s.Object)
	case SightBroken:
		k.broken = true
		poke(w.probe)
		if s.Err != nil && ClassOf(s.Err) == Permanent {
			w.deny(at, k, s.Err.Error())
		}
	}
}

// deny notes whether the server allows a watch. What cannot be watched is not known to be well, and that is told. w.mu is held.
func (w *Watcher) deny(at lookout, k *watch, why string) {
	if k.denied == why {
		return
	}
	k.denied = why
	concerned := map[bundle.Name]bool{}
	w.everyAt(at, func(key subjectKey, _ *subject) { concerned[key.bundle] = true })
	for name := range concerned {
		w.tellHealth(name, w.bundles[name])
	}
}

// touched enqueues the subjects of an object that changed.
func (w *Watcher) touched(at lookout, k *watch, seen Seen) {
	for name, t := range w.bundles {
		s := t.subjects[seen.ObjectID]
		if s == nil || t.lookout(s.object) != at {
			continue
		}
		if !s.object.passive() {
			s.lookWanted = true
		}
		if s.lookWanted || s.drift != nil || s.suspicion(k) != Unsuspicious {
			w.enqueue(subjectKey{name, seen.ObjectID})
		}
	}
}

func (w *Watcher) everyAt(at lookout, do func(subjectKey, *subject)) {
	for name, t := range w.bundles {
		for _, id := range t.order {
			if s := t.subjects[id]; t.lookout(s.object) == at {
				do(subjectKey{name, id}, s)
			}
		}
	}
}
