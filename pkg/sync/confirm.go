package sync

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// reasonNotConfirmed says that the hub was not reached again after an apply that affects connectivity.
const reasonNotConfirmed = "NotConfirmed"

// reasonConfirming says that everything is healthy and the hub is still to be reached.
const reasonConfirming = "Confirming"

// confirmRetry is the pause between two questions while an apply waits to be confirmed.
const confirmRetry = 20 * time.Second

// awaitHub makes an apply wait until the hub is reached again, proven by the answer to a nonce that was made after it (R14).
func (e *Edge) awaitHub(now time.Time, h *held) {
	if h.Applied.Confirm == 0 {
		return
	}
	confirm := e.clock.span(now, h.Applied.Confirm)
	h.Confirm, h.confirmFrom = &confirm, now
	e.fresh.askAt, e.helloAt = now, now
}

// reached confirms what waited for the hub. asked is when the question that was answered was put.
func (e *Edge) reached(now, asked time.Time, out *Effects) {
	for _, name := range e.names() {
		h := e.bundles[name]
		e.proven(now, name, h, asked, out)
		if h.Confirm == nil || h.Want == nil || asked.Before(h.confirmFrom) || h.Phase != PhaseSettling && h.Phase != PhaseUnhealthy {
			continue
		}
		h.Confirm = nil
		e.say(now, out, e.about(h, name, Event{Kind: EventConfirmed}))
		if h.healthy && (h.Phase == PhaseSettling || h.Reason == reasonNotConfirmed) {
			e.current(now, name, h, out)
			continue
		}
		e.enter(now, name, h, h.Phase, h.Reason, h.Message, out)
	}
}

// proven lets what was applied count as good, also where another order is wanted by now. What this life has not put there yet may be half there.
func (e *Edge) proven(now time.Time, name bundle.Name, h *held, asked time.Time, out *Effects) {
	if h.Intent != nil || h.Applied == nil || h.Applied.Confirm == 0 || h.watched != h.Applied.Spec || asked.Before(h.confirmFrom) {
		return
	}
	h.Applied.Confirm = 0
	if h.Confirm == nil && h.healthy {
		h.Good, h.Current, h.CurrentDigest = h.Applied, h.Applied.Bundle.Version, h.Applied.Bundle.Digest
	}
	e.enter(now, name, h, h.Phase, h.Reason, h.Message, out)
}

// abandon gives up an apply that affects the line, was begun and is no longer wanted: what was applied before it is put back, because nobody would take it back
// where it cuts the line.
func (e *Edge) abandon(name bundle.Name, h *held, out *Effects) {
	if h.Intent == nil || h.Intent.Confirm == 0 || h.Intent.Spec == h.Want.Spec || h.Applied == nil || h.Applied.Begun || h.Phase == PhaseReverting || e.running == name {
		return
	}
	h.watched = ""
	h.drop()
	out.Persist = append(out.Persist, record(bundleKey(name), h))
}

// unconfirmed goes back where the hub was not reached in time, and asks again before that.
func (e *Edge) unconfirmed(now time.Time, name bundle.Name, h *held, out *Effects) {
	if h.Confirm == nil || h.Phase != PhaseSettling {
		return
	}
	if left := e.clock.left(now, *h.Confirm); left > 0 {
		h.confirmBy = now.Add(left)
		if e.linked && e.fresh.askAt.After(now.Add(confirmRetry)) {
			e.fresh.askAt = now.Add(confirmRetry)
		}
		return
	}
	h.deadline, h.confirmBy = time.Time{}, time.Time{}
	e.failed(now, name, h, Event{Reason: reasonNotConfirmed, Message: fmt.Sprintf("the hub was not reached within %s", h.ConfirmWithin)}, out)
}
