package sync

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// adopt takes the assignment as what is wanted from now on.
func (e *Edge) adopt(now time.Time, a Assignment, out *Effects) {
	wanted := map[bundle.Name]bool{}
	for _, b := range a.Bundles {
		wanted[b.Name] = true
		want := &order{Bundle: b, Labels: a.Labels, Spec: specOf(b, a.Labels)}
		h := e.bundles[b.Name]
		if h == nil {
			h = newHeld()
			e.bundles[b.Name] = h
		}
		if h.Want != nil && h.Want.Spec == want.Spec {
			if !e.reordered(now, b, h, out) {
				continue
			}
		}
		h.attempts, h.retryAt, h.deadline, h.refused, h.Quarantined = 0, time.Time{}, time.Time{}, false, ""
		h.Confirm, h.heldUntil, h.Until = nil, time.Time{}, time.Time{}
		phase := PhaseFetching
		if h.loaded[b.Digest] && h.Accepted == b.Digest && h.Want != nil {
			phase = PhaseAccepted
		} else { // also what was loaded before is asked again whether it may be taken: counters have moved on
			delete(h.loaded, b.Digest)
		}
		h.Want, h.Since = want, e.clock.at(now)
		if h.inForce() && h.watched == want.Spec { // back before anything else began: it is there already
			h.deadline, phase = now.Add(h.HealthTimeout), PhaseSettling
			e.awaitHub(now, h)
		}
		e.enter(now, b.Name, h, phase, "", "", out)
		if phase == PhaseSettling && h.healthy && h.Confirm == nil {
			e.current(now, b.Name, h, out)
		}
	}
	for _, name := range e.names() {
		if h := e.bundles[name]; !wanted[name] && h.Want != nil {
			h.Want, h.deadline, h.attempts, h.retryAt = nil, time.Time{}, 0, time.Time{}
			e.enter(now, name, h, PhaseRemoving, "", "", out)
		}
	}
	e.snapshot.dirty = true
}

// specOf identifies everything that decides what a bundle comes to at a site: what it renders to, and as whom and where that may be.
func specOf(b AssignedBundle, labels map[string]string) string {
	raw, err := json.Marshal(struct {
		Digest bundle.Digest
		Values map[string]any
		Drift  bundle.DriftMode
		Labels map[string]string
		Scope  *Scope `json:",omitempty"` // left out where there is none, so that specs of before are still the same
	}{b.Digest, b.Values, b.Drift, labels, b.Scope})
	if err != nil {
		panic(fmt.Sprintf("an assigned bundle does not encode: %v", err))
	}
	return bundle.DigestOf(raw).Hex()[:32]
}

// enter moves a bundle to a phase and makes that durable.
func (e *Edge) enter(now time.Time, name bundle.Name, h *held, phase Phase, reason, message string, out *Effects) {
	if h.Phase != phase {
		h.Phase, h.Since = phase, e.clock.at(now)
	}
	h.Reason, h.Message = reason, clip(message)
	out.Persist = append(out.Persist, record(bundleKey(name), h))
	e.snapshot.dirty = true
}

// advance adds the next thing to do for one bundle, if it is due.
func (e *Edge) advance(now time.Time, name bundle.Name, h *held, out *Effects) {
	if h.Phase == PhaseSettling && !h.deadline.IsZero() && !h.deadline.After(now) {
		h.deadline = time.Time{}
		e.unhealthy(now, name, h, "HealthTimeout", out)
	}
	e.unconfirmed(now, name, h, out)
	if h.Want == nil {
		if e.running == "" && !h.retryAt.After(now) && !e.note.awaited && !e.ordersBehind() {
			e.run(name, Run{Bundle: AssignedBundle{Name: name}, Remove: true}, out)
		}
		return
	}
	due := !h.refused && h.Quarantined != h.Want.Spec && !h.retryAt.After(now)
	if due && !h.loaded[h.Want.Bundle.Digest] && (e.linked || h.Accepted == h.Want.Bundle.Digest || e.brought[h.Want.Bundle.Digest]) && !e.spare(now, name, h, out) {
		e.fetchWanted(now, name, h, out)
	}
	if e.note.awaited { // what was accepted here may be newer than the store knows
		return
	}
	if due && h.Phase != PhaseRefused && h.loaded[h.Want.Bundle.Digest] && h.watched != h.Want.Spec {
		e.start(now, name, h, out)
	}
	e.abandon(name, h, out)
	// What was in force before a restart is watched again until the new order can take over, and what is reverted to takes the place of what
	// failed: by itself, also without a link.
	if old := h.resumable(); old != nil && (h.watched == "" || h.Phase == PhaseReverting) && !h.resumeAt.After(now) && (old.Spec != h.Want.Spec || !h.retryAt.After(now)) {
		if !h.loaded[old.Bundle.Digest] {
			e.fetch(now, h, old, out)
		} else if e.running == "" {
			back := old.Bundle
			// What was in force here is no loss, whatever the version that failed had brought beside it.
			back.AcceptLoss = back.AcceptLoss || h.Intent == nil && !old.Begun || h.Phase == PhaseReverting
			e.run(name, Run{Bundle: back, Labels: old.Labels, Spec: old.Spec}, out)
		}
	}
}

// fetchWanted asks for what is wanted, unless it is new and who may have released it is not known well enough.
func (e *Edge) fetchWanted(now time.Time, name bundle.Name, h *held, out *Effects) {
	digest := h.Want.Bundle.Digest
	if !e.trustBehind() || h.before(digest) || e.marks[name].Digest == digest {
		e.fetch(now, h, h.Want, out)
		return
	}
	if e.trust.Root > 0 && h.Reason != ReasonTrustPutBack { // else it is told in a moment
		e.enter(now, name, h, h.Phase, ReasonTrustPutBack, e.trustText(e.note.last), out)
	}
}

func (e *Edge) fetch(now time.Time, h *held, o *order, out *Effects) {
	if digest := o.Bundle.Digest; !h.fetching[digest] {
		h.fetching[digest] = true
		out.Fetch = append(out.Fetch, Fetch{h.before(digest), o.Bundle, o.Labels, e.cluster.Version, e.clock.time(now)})
	}
}

func (e *Edge) run(name bundle.Name, r Run, out *Effects) {
	e.running = name
	out.Run = &r
}

// start records the intent and asks for the apply.
func (e *Edge) start(now time.Time, name bundle.Name, h *held, out *Effects) {
	if e.running != "" {
		return
	}
	begun := h.inForce() || h.Intent != nil && h.Intent.Spec == h.Want.Spec
	if !begun {
		if digest := h.Want.Bundle.Digest; digest != e.marks[name].Digest && !h.before(digest) {
			// It was the last good one when it was ordered, and a newer one has become healthy since: by now it would lower the counter.
			delete(h.loaded, digest)
			e.refuse(now, Fetched{Name: name, Refusal: &Refusal{string(verify.OlderCounter), "a newer release has become healthy here since it was ordered"}}, h, out)
			return
		}
		if e.ordersBehind() {
			e.holdBack(now, name, h, hold{reason: ReasonPutBack, message: fmt.Sprintf("this site had assignment %d and has %d: its store was put back", e.note.last.Assignment, e.sequence())}, out)
			return
		}
		if e.unseen || e.linked && e.note.alone { // the hub may have taken it back while the site was away (F20), or know of something newer here (T3)
			return
		}
		if e.fetchesImages(name, h, out) { // also before a window, so that the switch falls into it
			return
		}
		if why := e.hold(now, h); why.reason != "" {
			e.holdBack(now, name, h, why, out)
			return
		}
	}
	h.heldUntil, h.Until = time.Time{}, time.Time{}
	e.run(name, Run{Bundle: h.Want.Bundle, Labels: h.Want.Labels, Spec: h.Want.Spec}, out)
	if begun { // nothing new to record, so that it works with a full disk too
		return
	}
	h.drop()
	// Commit point: after this a crash finds the intent and repeats the apply, which changes only what is not yet so.
	h.Want.Confirm = h.ConfirmWithin
	h.Intent = h.Want
	if h.Phase == PhaseFailed { // a repeat tells nothing new; its end does
		out.Persist = append(out.Persist, record(bundleKey(name), h))
		return
	}
	e.enter(now, name, h, PhaseApplying, "", "", out)
	e.say(now, out, e.about(h, name, Event{Kind: EventApplying}))
}

// inForce says that Want is what was applied last.
func (h *held) inForce() bool {
	return h.Intent == nil && h.Applied != nil && h.Want != nil && h.Applied.Spec == h.Want.Spec
}

// before says that a manifest was begun, applied or good here already.
func (h *held) before(digest bundle.Digest) bool {
	for _, o := range []*order{h.Intent, h.Applied, h.Good} {
		if o != nil && o.Bundle.Digest == digest {
			return true
		}
	}
	return false
}

// unmet names the first requirement that is not current, or is empty.
func (e *Edge) unmet(h *held) string {
	for _, r := range h.Requires {
		other := e.bundles[r.Name]
		if other == nil || other.Phase != PhaseCurrent || (r.MinVersion != "" && bundle.CompareVersions(other.Current, r.MinVersion) < 0) {
			text := "waits for bundle " + string(r.Name)
			if r.MinVersion != "" {
				text += " " + string(r.MinVersion) + " or newer"
			}
			return text
		}
	}
	return ""
}

// about fills in which bundle the event is about: the one in force for what happens to objects, otherwise the wanted one.
func (e *Edge) about(h *held, name bundle.Name, ev Event) Event {
	ev.Bundle = name
	of := h.Want
	if ev.Kind == EventDriftFound || ev.Kind == EventDriftCorrected || ev.Kind == EventDriftGone {
		of = h.resumable()
	}
	if of != nil {
		ev.Version, ev.Digest, ev.Rollout = of.Bundle.Version, of.Bundle.Digest, of.Bundle.Rollout
	}
	return ev
}

func (e *Edge) fetched(now time.Time, in Fetched, out *Effects) {
	h := e.bundles[in.Name]
	if h == nil {
		return
	}
	delete(h.fetching, in.Digest)
	ok := in.Refusal == nil && in.Err == ""
	if ok {
		h.loaded[in.Digest] = true
	}
	if h.Want == nil || h.Want.Bundle.Digest != in.Digest { // for resuming, or overtaken by a newer assignment
		if !ok {
			h.setbacks++
			h.resumeAt = now.Add(pause(h.setbacks))
		}
		return
	}
	got, mark := verify.Mark{Counter: in.Counter, Digest: in.Digest, Epoch: in.Epoch}, e.marks[in.Name]
	if ok && got.Older(mark) && !h.before(in.Digest) {
		in.Refusal = &Refusal{"OlderCounter", fmt.Sprintf("release counter %d is older than %d, which was accepted before", in.Counter, mark.Counter)}
	}
	switch {
	case in.Refusal != nil:
		delete(h.loaded, in.Digest)
		e.refuse(now, in, h, out)
	case in.Err != "":
		h.attempts++
		h.retryAt = now.Add(pause(h.attempts))
		h.resumeAt = h.retryAt
		if h.Phase == PhaseFetching && h.Message != clip(in.Err) {
			h.Reason, h.Message = "FetchFailed", clip(in.Err)
			e.snapshot.dirty = true
		}
	default:
		e.accept(now, in, h, out)
	}
}

// refuse says once why Want is not taken. It is asked for again by the next life, which may believe other keys, and before that only where
// another try may end better.
func (e *Edge) refuse(now time.Time, in Fetched, h *held, out *Effects) {
	if h.refused = !in.Passing; in.Passing {
		h.attempts++
		h.retryAt = now.Add(pause(h.attempts))
	}
	if h.Phase == PhaseRefused && h.Reason == in.Refusal.Reason && h.Message == clip(in.Refusal.Message) {
		return
	}
	e.enter(now, in.Name, h, PhaseRefused, in.Refusal.Reason, in.Refusal.Message, out)
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventRefused, Reason: in.Refusal.Reason, Message: in.Refusal.Message}))
}

func (e *Edge) accept(now time.Time, in Fetched, h *held, out *Effects) {
	h.attempts, h.retryAt = 0, time.Time{}
	h.Expires, h.ConfirmWithin = in.Expires, in.ConfirmWithin
	h.HealthTimeout, h.Requires, h.Prefetch = in.HealthTimeout, in.Requires, in.Prefetch
	if h.HealthTimeout == 0 {
		h.HealthTimeout = defaultHealth
	}
	if h.Accepted == in.Digest && h.Phase != PhaseFetching { // verified again after a restart
		return
	}
	// Commit point: acceptance, its counter and its event are one transaction.
	h.Accepted, h.Objects = in.Digest, in.Objects
	if mark := (verify.Mark{Counter: in.Counter, Digest: in.Digest, Epoch: in.Epoch}); e.marks[in.Name].Older(mark) {
		e.marks[in.Name] = mark
		out.Persist = append(out.Persist, record(markKey(in.Name), mark))
	}
	phase, reason, message := PhaseAccepted, "", ""
	if h.inForce() && h.watched == h.Want.Spec { // gone back to before it was ordered anew: there is nothing to apply
		phase, reason, message = h.Phase, h.Reason, h.Message
	}
	e.enter(now, in.Name, h, phase, reason, message, out)
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventAccepted, Message: fmt.Sprintf("%d objects, counter %d", in.Objects, in.Counter)}))
}

func (e *Edge) ran(now time.Time, in Ran, out *Effects) {
	if e.running == in.Name {
		e.running = ""
	}
	h := e.bundles[in.Name]
	if h != nil && in.Lost {
		clear(h.loaded)
	}
	switch {
	case h == nil:
	case in.Remove:
		e.removed(now, in, h, out)
	case h.Want == nil || in.Spec != h.Want.Spec:
		e.resumed(now, in, h, out)
	case in.Outcome != OutcomeApplied:
		e.applyFailed(now, in, h, out)
	default:
		e.applied(now, in, h, out)
	}
}

// resumed is the end of a Run for an order that is not, or no longer, the wanted one.
func (e *Edge) resumed(now time.Time, in Ran, h *held, out *Effects) {
	if in.Outcome != OutcomeApplied {
		h.setbacks++
		h.resumeAt = now.Add(pause(h.setbacks))
		if h.Intent != nil && h.Intent.Spec == in.Spec { // it is finished later, also where a newer order came meanwhile that has to wait
			h.watched = ""
			switch in.Outcome {
			case OutcomeHalted: // and where it never may be, what was applied before it stays in force
				h.drop()
			case OutcomeFailed:
				h.Intent.Begun = true
			}
			out.Persist = append(out.Persist, record(bundleKey(in.Name), h))
		}
		return
	}
	h.watched, h.setbacks = in.Spec, 0
	if o := h.resumable(); o != nil && o.Spec == in.Spec {
		o.Begun = false
	}
	if h.Intent == nil && h.Applied != nil && h.Applied.Spec == in.Spec && h.Applied.Confirm > 0 { // put there again: what the hub answered before proves nothing
		h.confirmFrom, e.fresh.askAt, e.helloAt = now, now, now
	}
	if h.Intent == nil || h.Intent.Spec != in.Spec {
		return
	}
	h.Applied, h.Intent, h.confirmFrom = h.Intent, nil, now
	h.Rendered, h.Objects = in.Rendered, in.Objects
	e.overwritten(now, in.Name, h, out)
	if h.Phase == PhaseReverting {
		back := h.Applied.Bundle
		e.enter(now, in.Name, h, PhaseReverted, h.Reason, fmt.Sprintf("back at %s: %s", back.Version, h.Message), out)
		e.say(now, out, Event{Kind: EventReverted, Bundle: in.Name, Version: back.Version, Digest: back.Digest, Message: fmt.Sprintf("%s is quarantined until a new order", h.Want.Bundle.Version)})
		return
	}
	out.Persist = append(out.Persist, record(bundleKey(in.Name), h))
}

func (e *Edge) applyFailed(now time.Time, in Ran, h *held, out *Effects) {
	if in.Outcome == OutcomeHalted {
		e.halt(now, in, h, out)
		return
	}
	h.attempts++
	h.retryAt = now.Add(pause(h.attempts))
	switch {
	case in.Outcome == OutcomeRejected: // nothing was changed: what was applied before stays in force
		h.drop()
	case h.Intent != nil: // what is in the cluster is neither the one nor the other
		h.Intent.Begun, h.watched = true, ""
	}
	if h.Phase == PhaseFailed && h.Message == clip(in.Message) { // nothing new to tell; but a restart must not find an apply that was begun
		out.Persist = append(out.Persist, record(bundleKey(in.Name), h))
		return
	}
	e.enter(now, in.Name, h, PhaseFailed, in.Reason, in.Message, out)
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventApplyFailed, Object: in.Object, Reason: in.Reason, Message: in.Message}))
}

func (e *Edge) applied(now time.Time, in Ran, h *held, out *Effects) {
	again := h.inForce() && !h.Applied.Begun && h.Phase != PhaseFailed
	h.watched, h.attempts, h.retryAt, h.setbacks = in.Spec, 0, time.Time{}, 0
	h.Rendered, h.Objects = in.Rendered, in.Objects
	h.Applied, h.Intent = h.Want, nil
	h.Applied.Begun = false
	e.overwritten(now, in.Name, h, out)
	if again && in.Changed == 0 && in.Pruned == 0 { // a restart: nothing to tell
		switch h.Phase {
		case PhaseFetching, PhaseAccepted: // ordered again before anything else began
			e.enter(now, in.Name, h, PhaseSettling, "", "waiting for the objects to become healthy", out)
			fallthrough
		case PhaseSettling:
			h.deadline = now.Add(h.HealthTimeout)
		}
		return
	}
	h.deadline, h.healthy = now.Add(h.HealthTimeout), false
	if !again {
		h.Applied.Confirm = h.ConfirmWithin
		e.awaitHub(now, h)
	}
	e.enter(now, in.Name, h, PhaseSettling, "", "waiting for the objects to become healthy", out)
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventApplied, Message: fmt.Sprintf("%d of %d objects changed, %d deleted", in.Changed, in.Objects, in.Pruned)}))
}

func (e *Edge) removed(now time.Time, in Ran, h *held, out *Effects) {
	if in.Outcome != OutcomeApplied {
		h.attempts++
		h.retryAt = now.Add(pause(h.attempts))
		if h.Message != clip(in.Message) {
			e.enter(now, in.Name, h, h.Phase, in.Reason, in.Message, out)
			e.say(now, out, Event{Kind: EventApplyFailed, Bundle: in.Name, Object: in.Object, Reason: in.Reason, Message: "removing: " + in.Message})
		}
		return
	}
	e.say(now, out, Event{Kind: EventRemoved, Bundle: in.Name, Version: h.Current, Message: fmt.Sprintf("%d objects deleted", in.Pruned)})
	if h.Want != nil { // assigned again meanwhile: begin anew
		*h = held{
			Want: h.Want, Accepted: h.Accepted, Expires: h.Expires, ConfirmWithin: h.ConfirmWithin, HealthTimeout: h.HealthTimeout, Requires: h.Requires, Prefetch: h.Prefetch,
			loaded: h.loaded, fetching: h.fetching,
		}
		e.enter(now, in.Name, h, PhaseFetching, "", "", out)
		return
	}
	delete(e.bundles, in.Name)
	out.Persist = append(out.Persist, Record{Key: bundleKey(in.Name)})
	out.Retain = e.retained()
}

func (e *Edge) healthSeen(now time.Time, in HealthSeen, out *Effects) {
	h := e.bundles[in.Name]
	if h == nil || h.Want == nil || in.Spec != h.watched {
		return
	}
	if !slices.Equal(h.unhealthy, in.Unhealthy) {
		h.unhealthy = in.Unhealthy
		e.snapshot.dirty = true
	}
	healthy := len(in.Unhealthy) == 0
	h.healthy = healthy
	if healthy && h.Confirm == nil && h.Intent == nil && h.Applied != nil && h.Applied.Confirm == 0 && h.Applied.Spec == in.Spec && (h.Good == nil || h.Good.Spec != in.Spec) {
		// Also what is no longer wanted counts, once seen healthy: it is the newest to go back to.
		h.Good, h.Current, h.CurrentDigest = h.Applied, h.Applied.Bundle.Version, h.Applied.Bundle.Digest
		e.enter(now, in.Name, h, h.Phase, h.Reason, h.Message, out)
	}
	switch {
	case in.Spec != h.Want.Spec:
	case healthy && h.Confirm != nil:
		if h.deadline = (time.Time{}); h.Phase == PhaseSettling && h.Reason != reasonConfirming {
			e.enter(now, in.Name, h, PhaseSettling, reasonConfirming, fmt.Sprintf("healthy: the hub is to be reached again within %s", h.ConfirmWithin), out)
		}
	case healthy && h.Phase != PhaseCurrent:
		e.current(now, in.Name, h, out)
	case !healthy && h.Phase == PhaseCurrent:
		// A rolling restart is not yet a failure: it gets the time an apply gets.
		h.deadline = now.Add(h.HealthTimeout)
		e.enter(now, in.Name, h, PhaseSettling, "", "an object is no longer healthy", out)
	}
}

// current is the end of an apply that went well.
func (e *Edge) current(now time.Time, name bundle.Name, h *held, out *Effects) {
	h.deadline = time.Time{}
	if h.Applied != nil && (h.Good == nil || h.Good.Spec != h.Applied.Spec) {
		h.Good, h.Current, h.CurrentDigest = h.Applied, h.Applied.Bundle.Version, h.Applied.Bundle.Digest
	}
	e.enter(now, name, h, PhaseCurrent, "", "", out)
	e.say(now, out, e.about(h, name, Event{Kind: EventHealthy}))
	out.Retain = e.retained()
}

func (e *Edge) unhealthy(now time.Time, name bundle.Name, h *held, reason string, out *Effects) {
	ev := Event{Reason: reason, Message: fmt.Sprintf("not healthy after %s", h.HealthTimeout)}
	if len(h.unhealthy) > 0 {
		first := h.unhealthy[0]
		ev.Object = first.Object
		ev.Message += fmt.Sprintf(": %s is %s: %s", first.Object, first.Status, first.Message)
	}
	e.failed(now, name, h, ev, out)
}

// failed goes back to the last good order, if there is another one than the wanted.
func (e *Edge) failed(now time.Time, name bundle.Name, h *held, ev Event, out *Effects) {
	ev.Kind = EventUnhealthy
	e.enter(now, name, h, PhaseUnhealthy, ev.Reason, ev.Message, out)
	e.say(now, out, e.about(h, name, ev))
	if h.Good == nil || h.Good.Spec == h.Want.Spec {
		return
	}
	// Commit point: quarantine and the intent to go back are one transaction, so that a crash from here on finds the way back, not the failure.
	h.Quarantined, h.Intent, h.Confirm = h.Want.Spec, h.Good, nil
	e.enter(now, name, h, PhaseReverting, ev.Reason, ev.Message, out)
	e.say(now, out, e.about(h, name, Event{Kind: EventReverting, Reason: ev.Reason, Message: fmt.Sprintf("going back to %s", h.Good.Bundle.Version)}))
}

func (e *Edge) driftSeen(now time.Time, in DriftSeen, out *Effects) {
	h := e.bundles[in.Name]
	if h == nil {
		return
	}
	if in.Gone {
		if _, was := h.drifted[in.Drift.Object]; was {
			delete(h.drifted, in.Drift.Object)
			e.say(now, out, e.about(h, in.Name, Event{Kind: EventDriftGone, Object: in.Drift.Object}))
		}
		return
	}
	in.Drift.At = e.clock.at(now)
	if why, is := e.overridden(now, in.Drift); is && !in.Left {
		if h.overridden == nil {
			h.overridden = map[string]bool{}
		}
		h.overridden[in.Drift.Object] = true
		e.remember(now, in.Name, h, in.Drift, why, out)
		return
	}
	if !in.Left {
		// Nothing is to be durable first: a correction must work with a full or broken disk.
		out.Correct = append(out.Correct, Correct{in.Name, in.Drift})
		return
	}
	e.remember(now, in.Name, h, in.Drift, in.Drift.Message, out)
}

func (e *Edge) remember(now time.Time, name bundle.Name, h *held, d Drift, why string, out *Effects) {
	d.Message = clip(why)
	before, known := h.drifted[d.Object]
	if known && before.Kind == d.Kind && slices.Equal(before.Paths, d.Paths) && before.Message == d.Message {
		return
	}
	if h.drifted == nil {
		h.drifted = map[string]Drift{}
	}
	h.drifted[d.Object] = d
	e.say(now, out, e.about(h, name, Event{Kind: EventDriftFound, Object: d.Object, Reason: string(d.Kind), Paths: d.Paths, Message: why}))
}

func (e *Edge) corrected(now time.Time, in Corrected, out *Effects) {
	h := e.bundles[in.Name]
	if h == nil {
		return
	}
	if in.Err != "" {
		e.remember(now, in.Name, h, in.Drift, in.Err, out)
		return
	}
	delete(h.drifted, in.Drift.Object)
	h.Corrected++
	out.Persist = append(out.Persist, record(bundleKey(in.Name), h))
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventDriftCorrected, Object: in.Drift.Object, Reason: string(in.Drift.Kind), Paths: in.Drift.Paths}))
}

// retained lists the manifests that are wanted, accepted, begun, applied or current; what else was loaded is no longer.
func (e *Edge) retained() []bundle.Digest {
	keep := []bundle.Digest{}
	for _, name := range e.names() {
		h := e.bundles[name]
		for _, o := range []*order{h.Want, h.Intent, h.Applied, h.Good} {
			if o != nil {
				keep = append(keep, o.Bundle.Digest)
			}
		}
		for _, d := range []bundle.Digest{h.Accepted, h.CurrentDigest} {
			if d != "" {
				keep = append(keep, d)
			}
		}
	}
	slices.Sort(keep)
	for _, h := range e.bundles {
		maps.DeleteFunc(h.loaded, func(d bundle.Digest, _ bool) bool { return !slices.Contains(keep, d) })
	}
	return slices.Compact(keep)
}
