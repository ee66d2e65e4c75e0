package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// subject is one object of a bundle as the Watcher sees it. Its fields are guarded by Watcher.mu; one worker at a time is busy with it.
type subject struct {
	object *Object
	item   Item

	queued, busy, again bool
	failures            int       // in a row, of requests
	wakeAt              time.Time // when a timer enqueues it

	drift         *Drift // told and not corrected
	recheck       bool   // to be compared, suspicious or not: fields were left to others
	compared      string // resource version that was last compared, or "gone"
	idle          int    // comparisons in a row that found nothing
	notBefore     time.Time
	correctWanted bool
	fight         Fight

	lookWanted bool
	lookedAt   string // resource version that the verdict is about
	verdict    Verdict
	pace       pacing
}

func (s *subject) suspicion(k *watch) Suspicion {
	fact, ok := k.seen[s.object.ObjectID]
	if !ok && !k.synced {
		return Unsuspicious
	}
	return s.object.suspect(s.item, fact, ok)
}

// The pauses between comparisons of one object that change nothing, and after failed requests.
const (
	idleFree     = 3
	idleFirst    = time.Second
	idleLongest  = time.Minute
	failFirst    = 250 * time.Millisecond
	failLongest  = time.Minute
	deniedLonger = 5 * time.Minute
)

func growing(n int, first, longest time.Duration) time.Duration {
	if n > 16 {
		return longest
	}
	return min(first<<max(n-1, 0), longest)
}

// enqueue wants a subject looked into. w.mu is held.
func (w *Watcher) enqueue(key subjectKey) {
	t := w.bundles[key.bundle]
	if t == nil || t.subjects[key.object] == nil {
		return
	}
	s := t.subjects[key.object]
	if s.busy {
		s.again = true
		return
	}
	if s.queued {
		return
	}
	s.queued = true
	w.queue = append(w.queue, key)
	poke(w.wake)
}

// later enqueues after a pause, unless the subject is woken before that anyway and can decide anew. w.mu is held.
func (w *Watcher) later(ctx context.Context, key subjectKey, s *subject, pause time.Duration) {
	now := w.executor.options.Now()
	if s.wakeAt.After(now) && !s.wakeAt.After(now.Add(pause)) {
		return
	}
	s.wakeAt = now.Add(pause)
	go func() {
		if w.executor.options.wait(ctx, pause) == nil {
			w.mu.Lock()
			w.enqueue(key)
			w.mu.Unlock()
		}
	}()
}

func (w *Watcher) work(ctx context.Context) {
	for {
		w.mu.Lock()
		var key subjectKey
		ok := len(w.queue) > 0
		if ok {
			key, w.queue = w.queue[0], w.queue[1:]
			if len(w.queue) > 0 {
				poke(w.wake)
			}
		}
		w.mu.Unlock()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		w.lookInto(ctx, key)
	}
}

// task is what to do about a subject now, decided under the lock and done without it.
type task int

const (
	nothing task = iota
	compare
	correct
	look
)

func (w *Watcher) lookInto(ctx context.Context, key subjectKey) {
	w.mu.Lock()
	t := w.bundles[key.bundle]
	if t == nil || t.subjects[key.object] == nil {
		w.mu.Unlock()
		return
	}
	s := t.subjects[key.object]
	s.queued, s.busy, s.again = false, true, false
	what, pause := w.next(t, s)
	item, drift, desired := s.item, s.drift, &t.desired
	w.mu.Unlock()

	var event Event
	switch what {
	case compare:
		event, pause = w.compare(ctx, key, s, desired)
	case correct:
		event, pause = w.correct(ctx, key, s, desired, item, *drift)
	case look:
		pause = w.look(ctx, s, desired)
	}

	w.mu.Lock()
	s.busy = false
	again := s.again || what != nothing && pause == 0
	if w.bundles[key.bundle] == t {
		if again {
			w.enqueue(key)
		}
		if pause > 0 {
			w.later(ctx, key, s, pause)
		}
		if event != nil {
			w.say(event)
		}
		w.tellHealth(key.bundle, t)
	}
	w.mu.Unlock()
}

// next decides what to do about a subject, or how long to wait. w.mu is held.
func (w *Watcher) next(t *tracked, s *subject) (task, time.Duration) {
	now := w.executor.options.Now()
	if t.held {
		return nothing, 0
	}
	k := w.watches[t.lookout(s.object)]
	if k == nil {
		return nothing, 0
	}
	fact, present := k.seen[s.object.ObjectID]
	state := fact.ResourceVersion
	if !present {
		state = "gone"
	}
	suspicious := k.synced && !fact.Deleting && (s.object.suspect(s.item, fact, present) != Unsuspicious || s.recheck && present)
	if wait := s.notBefore.Sub(now); wait > 0 && (suspicious || s.correctWanted) {
		return w.orLook(s, now, wait)
	}
	if k.synced && s.compared != state && (suspicious || s.drift != nil && !fact.Deleting) {
		s.compared = state
		return compare, 0
	}
	if s.correctWanted {
		if s.drift == nil {
			s.correctWanted = false
		} else {
			return correct, 0
		}
	}
	return w.orLook(s, now, 0)
}

// orLook looks at the status if that is wanted and due, otherwise it waits.
func (w *Watcher) orLook(s *subject, now time.Time, wait time.Duration) (task, time.Duration) {
	if !s.lookWanted {
		return nothing, wait
	}
	if due := s.pace.due(now); due > 0 {
		if wait == 0 || due < wait {
			wait = due
		}
		return nothing, wait
	}
	return look, wait
}

// compare finds out whether a suspicious object really differs.
func (w *Watcher) compare(ctx context.Context, key subjectKey, s *subject, desired *Desired) (Event, time.Duration) {
	now := w.executor.options.Now()
	diff, err := w.executor.diff(ctx, desired, s.object)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		s.compared = ""
		s.failures++
		longest := failLongest
		drift := Drift{Object: key.object, At: now, Message: "cannot be compared: " + err.Error()}
		if ClassOf(err) != Passing && ClassOf(err) != Stale {
			longest = deniedLonger
			if s.drift == nil || !s.drift.same(drift) {
				s.drift = &drift
				pause := growing(s.failures, failFirst, longest)
				s.notBefore = now.Add(pause)
				return DriftSeen{Bundle: key.bundle, Drift: drift}, pause
			}
		}
		pause := growing(s.failures, failFirst, longest)
		s.notBefore = now.Add(pause)
		return nil, pause
	}
	s.failures, s.recheck = 0, false
	if diff.None() {
		f := factOf(diff.Seen)
		s.item.UID, s.item.ResourceVersion, s.item.Generation, s.item.Print = f.UID, f.ResourceVersion, f.Generation, f.Print
		s.item.Left = false
		s.idle++
		if s.idle > idleFree {
			s.notBefore = now.Add(growing(s.idle-idleFree, idleFirst, idleLongest))
		}
		s.correctWanted = false
		if k := w.watches[lookoutOf(desired, s.object)]; k != nil {
			k.seed(s.item)
		}
		if s.drift == nil {
			return nil, 0
		}
		gone := *s.drift
		s.drift, s.idle = nil, 0
		return DriftSeen{Bundle: key.bundle, Drift: gone, Gone: true}, 0
	}
	s.idle = 0
	drift := Drift{Object: key.object, Deleted: diff.Missing, Paths: diff.Paths, Managers: diff.Managers, At: now}
	switch {
	case s.object.Drift == bundle.DriftReport:
		drift.Left, drift.Message = true, "reported only, by policy"
	case !diff.Missing && len(diff.Paths) == 0:
		drift.Paths, drift.Left, drift.Message = diff.Left, true, "left to whoever changed it, by policy"
	}
	if diff.Missing {
		s.verdict = Verdict{StatusNotFound, "deleted"}
	}
	if s.drift != nil && s.drift.same(drift) {
		return nil, 0
	}
	s.drift = &drift
	return DriftSeen{Bundle: key.bundle, Drift: drift}, 0
}

// correct puts an object back.
func (w *Watcher) correct(ctx context.Context, key subjectKey, s *subject, desired *Desired, item Item, drift Drift) (Event, time.Duration) {
	now := w.executor.options.Now()
	w.mu.Lock()
	if pause := s.fight.Pause(now); pause > 0 {
		s.notBefore = now.Add(pause)
		err := &ServerError{Class: Passing, Words: s.fight.Words(pause)}
		w.mu.Unlock()
		return Corrected{Bundle: key.bundle, Drift: drift, Err: err}, pause
	}
	w.mu.Unlock()
	left, err := w.executor.Correct(ctx, desired, s.object, item)
	w.mu.Lock()
	defer w.mu.Unlock()
	now = w.executor.options.Now()
	if err != nil {
		s.failures++
		longest := failLongest
		if r := refusalOf(key.object, err); r.Permanent {
			longest = deniedLonger
		}
		pause := growing(s.failures, failFirst, longest)
		s.notBefore = now.Add(pause)
		return Corrected{Bundle: key.bundle, Drift: drift, Err: err}, pause
	}
	s.failures, s.drift, s.correctWanted, s.compared = 0, nil, false, ""
	s.item, s.recheck = left, left.Left
	s.fight.Corrected(now, drift.Managers)
	s.lookWanted = !s.object.passive()
	if !s.lookWanted {
		s.verdict = Verdict{}
	}
	if k := w.watches[lookoutOf(desired, s.object)]; k != nil {
		delete(k.buried, key.object)
		k.seed(left)
	}
	if isDefinition(key.object) {
		w.restart(s.object.defines)
	}
	return Corrected{Bundle: key.bundle, Drift: drift, Item: left}, 0
}

// look fetches an object's status and keeps the verdict.
func (w *Watcher) look(ctx context.Context, s *subject, desired *Desired) time.Duration {
	w.mu.Lock()
	s.lookWanted = false
	w.mu.Unlock()
	seen, err := s.object.look(ctx, w.executor.as(desired.Scope.Account))
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.executor.options.Now()
	switch {
	case err == nil:
		s.verdict, s.lookedAt = seen.Verdict, seen.ResourceVersion
	case isAbsent(err) && s.object.leaves && s.item.UID != "":
		s.verdict = Verdict{StatusCurrent, "done and gone"}
	case isAbsent(err):
		s.verdict = Verdict{StatusNotFound, err.Error()}
	default:
		s.failures++
		s.lookWanted = true
		if s.verdict.Status == "" {
			s.verdict = Verdict{StatusUnknown, err.Error()}
		}
		return growing(s.failures, failFirst, failLongest)
	}
	s.failures = 0
	settled := s.verdict.Status == StatusCurrent
	s.pace.looked(now, settled)
	switch {
	case !settled:
		s.lookWanted = true
		return lookAgainAfter
	case len(s.object.Probes) > 0:
		s.lookWanted = true
		return probeEvery
	}
	return 0
}

// tellHealth tells a bundle's health if it is known and has changed. w.mu is held.
func (w *Watcher) tellHealth(name bundle.Name, t *tracked) {
	if t.held {
		return
	}
	var unhealthy []ObjectHealth
	for _, id := range t.order {
		s := t.subjects[id]
		verdict := s.verdict
		if k := w.watches[t.lookout(s.object)]; k != nil && k.denied != "" {
			verdict = Verdict{StatusUnknown, "cannot be watched: " + k.denied}
		}
		if verdict.Status == "" {
			switch {
			case !s.object.passive():
				return // not looked at yet
			case s.item.UID == "":
				verdict = Verdict{StatusUnknown, "not seen yet"}
			default:
				continue
			}
		}
		if verdict.Status != StatusCurrent {
			unhealthy = append(unhealthy, ObjectHealth{id, verdict})
		}
	}
	if t.told && slices.Equal(t.last, unhealthy) {
		return
	}
	t.told, t.last = true, unhealthy
	w.say(HealthSeen{Bundle: name, Rendered: t.desired.Rendered, Unhealthy: unhealthy})
}

// probing tells whether the API server answers: at the start, when a watch breaks, and, while nothing is watched, now and then.
func (w *Watcher) probing(ctx context.Context, prober Prober) {
	var last ClusterSeen
	for failures := 0; ; {
		version, err := prober.Version(ctx)
		if ctx.Err() != nil {
			return
		}
		now := ClusterSeen{Reachable: err == nil, Version: version}
		pause := time.Minute
		if err != nil {
			failures++
			now.Message = err.Error()
			pause = growing(failures, time.Second, time.Minute)
		} else {
			failures = 0
		}
		if now != last {
			last = now
			w.mu.Lock()
			w.say(now)
			w.mu.Unlock()
		}
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-w.alive:
			case <-w.executor.options.After(pause):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-w.probe:
		case <-w.executor.options.After(w.quiet()):
		}
	}
}

// quiet is how long nothing needs to be probed: watches tell of a broken connection by themselves.
func (w *Watcher) quiet() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watches) > 0 {
		return time.Hour
	}
	return time.Minute
}

// diff compares one object with what is desired.
func (e *Executor) diff(ctx context.Context, of *Desired, o *Object) (Difference, error) {
	patch, err := o.patch(of.Ref.Name, o.base)
	if err != nil {
		return Difference{}, err
	}
	return e.as(of.Scope.Account).Diff(ctx, patch)
}

// Correct puts one object back as it was applied, taking back fields that others took. It does not retry.
func (e *Executor) Correct(ctx context.Context, of *Desired, o *Object, was Item) (Item, error) {
	patch, err := o.patch(of.Ref.Name, o.base)
	if err != nil {
		return was, err
	}
	cluster := e.as(of.Scope.Account)
	seen, err := cluster.Apply(ctx, patch)
	if err != nil && ClassOf(err) == Immutable && o.Replace {
		r := &run{Executor: e, cluster: cluster, name: of.Ref.Name}
		if live, lookErr := cluster.Look(ctx, o.Ref, ViewMetadata); lookErr == nil {
			err = errors.Join(r.remove(ctx, o.Ref, live.UID))
		}
		if err == nil {
			seen, err = cluster.Apply(ctx, patch)
		}
	}
	if err != nil {
		return was, err
	}
	return itemOf(o, seen, was.Adopted), nil
}
