package apply

import (
	"context"
	"maps"
	"sync"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Watcher keeps an eye on what was applied: one metadata watch for each API type, small facts instead of objects, a request only when a fact
// looks wrong or a status may have changed. It reports drift and health and corrects drift when told to. All methods may be called
// concurrently.
type Watcher struct {
	executor *Executor
	notify   func(Event)

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	bundles map[bundle.Name]*tracked
	kinds   map[Kind]*kindWatch
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

// kindWatch is one API type's watch and what it knows.
type kindWatch struct {
	cancel context.CancelFunc
	synced bool
	broken bool
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
	return &Watcher{executor: executor, notify: notify, bundles: map[bundle.Name]*tracked{}, kinds: map[Kind]*kindWatch{},
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
		if k := w.kinds[s.object.Type()]; s.lookWanted || s.drift != nil || s.correctWanted || k.synced && s.suspicion(k) != Unsuspicious {
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
			s.fight = old.fight // drift is told anew: whoever was told may have forgotten it, or want something else done about it now
			if s.item == old.item { // what was applied anew has yet to become healthy
				s.verdict = old.verdict
			}
		}
		s.lookWanted = !passive(o.ObjectID)
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
		k := w.kinds[s.object.Type()]
		k.seed(s.item)
		if s.lookWanted || s.drift != nil || k.synced && s.suspicion(k) != Unsuspicious {
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

// Facts are what the watches know now, for planning.
func (w *Watcher) Facts() Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := Facts{Known: map[Kind]bool{}, Objects: map[bundle.ObjectID]Fact{}}
	for kind, k := range w.kinds {
		if k.synced && !k.broken {
			f.Known[kind] = true
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
	inv := Inventory{Bundle: name}
	for _, id := range t.order {
		inv.Items = append(inv.Items, t.subjects[id].item)
	}
	inv.Items = append(inv.Items, t.rest...)
	return inv, true
}

// startWatches starts the watches that are needed and ends those that are not. w.mu is held.
func (w *Watcher) startWatches() {
	if w.ctx == nil {
		for _, t := range w.bundles {
			for _, id := range t.order {
				w.kind(t.subjects[id].object.Type())
			}
		}
		return
	}
	needed := map[Kind]bool{}
	for _, t := range w.bundles {
		for _, id := range t.order {
			needed[t.subjects[id].object.Type()] = true
		}
	}
	for kind := range needed {
		if k := w.kind(kind); k.cancel == nil {
			w.startWatch(kind, k)
		}
	}
	for kind, k := range w.kinds {
		if !needed[kind] {
			if k.cancel != nil {
				k.cancel()
			}
			delete(w.kinds, kind)
		}
	}
}

func (w *Watcher) kind(kind Kind) *kindWatch {
	k := w.kinds[kind]
	if k == nil {
		k = &kindWatch{seen: map[bundle.ObjectID]Fact{}, buried: map[bundle.ObjectID]string{}}
		w.kinds[kind] = k
	}
	return k
}

func (w *Watcher) startWatch(kind Kind, k *kindWatch) {
	ctx, cancel := context.WithCancel(w.ctx)
	k.cancel = cancel
	go w.executor.cluster.Watch(ctx, kind, func(s Sighting) {
		if ctx.Err() == nil {
			w.sighted(kind, k, s)
		}
	})
}

// restart begins the watches of a kind anew at once, because its definition has come back.
func (w *Watcher) restart(defines Kind) {
	for kind, k := range w.kinds {
		if kind.Group == defines.Group && kind.Kind == defines.Kind && k.cancel != nil {
			k.cancel()
			k.synced = false
			w.startWatch(kind, k)
		}
	}
}

// seed notes how an object was left by us, unless something newer is known of it.
func (k *kindWatch) seed(item Item) {
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
func (w *Watcher) sighted(kind Kind, k *kindWatch, s Sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kinds[kind] != k {
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
		w.everyOf(kind, func(key subjectKey, s *subject) {
			if s.suspicion(k) != Unsuspicious || s.drift != nil || s.lookWanted {
				w.enqueue(key)
			}
		})
	case SightPresent:
		k.broken = false
		delete(k.buried, s.Object.ObjectID)
		k.seen[s.Object.ObjectID] = factOf(s.Object)
		w.touched(kind, k, s.Object)
	case SightGone:
		k.broken = false
		delete(k.seen, s.Object.ObjectID)
		k.buried[s.Object.ObjectID] = s.Object.ResourceVersion
		w.touched(kind, k, s.Object)
	case SightBroken:
		k.broken = true
		poke(w.probe)
	}
}

// touched enqueues the subjects of an object that changed.
func (w *Watcher) touched(kind Kind, k *kindWatch, seen Seen) {
	for name, t := range w.bundles {
		s := t.subjects[seen.ObjectID]
		if s == nil || s.object.Type() != kind {
			continue
		}
		if !passive(seen.ObjectID) {
			s.lookWanted = true
		}
		if s.lookWanted || s.drift != nil || s.suspicion(k) != Unsuspicious {
			w.enqueue(subjectKey{name, seen.ObjectID})
		}
	}
}

func (w *Watcher) everyOf(kind Kind, do func(subjectKey, *subject)) {
	for name, t := range w.bundles {
		for _, id := range t.order {
			if s := t.subjects[id]; s.object.Type() == kind {
				do(subjectKey{name, id}, s)
			}
		}
	}
}
