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
	if h.ConfirmWithin == 0 {
		return
	}
	confirm := e.clock.span(now, h.ConfirmWithin)
	h.Confirm, h.confirmFrom = &confirm, now
	e.fresh.askAt, e.helloAt = now, now
}

// reached confirms what waited for the hub. asked is when the question that was answered was put.
func (e *Edge) reached(now, asked time.Time, out *Effects) {
	for _, name := range e.names() {
		h := e.bundles[name]
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
