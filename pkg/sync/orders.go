package sync

import (
	"reflect"
	"time"
)

// reordered takes an order for what is wanted already. It says whether the order begins from the start: the same version of another rollout, or
// of another attempt of the same one, or ordered once more by hand, or with a loss accepted, is a new order (R7, R13), so what failed here is tried again and what is right stays as it is.
func (e *Edge) reordered(now time.Time, b AssignedBundle, h *held, out *Effects) bool {
	was := h.Want.Bundle
	if reflect.DeepEqual(was, b) {
		return false
	}
	h.Want.Bundle = b
	if reflect.DeepEqual(was.Rollout, b.Rollout) && (was.AcceptLoss || !b.AcceptLoss) && b.Attempt <= was.Attempt { // only until when, and at what times
		e.enter(now, b.Name, h, h.Phase, h.Reason, h.Message, out)
		return false
	}
	switch h.Phase {
	case PhaseRefused, PhaseFailed, PhaseHalted, PhaseReverting, PhaseReverted:
		return true
	case PhaseUnhealthy: // it is in force, and gets the time once more
		h.deadline = now.Add(h.HealthTimeout)
		e.enter(now, b.Name, h, PhaseSettling, "", "ordered anew: waiting for the objects to become healthy", out)
	default:
		e.enter(now, b.Name, h, h.Phase, h.Reason, h.Message, out)
	}
	return false
}

// halt leaves in force what is, and does not try again before a new order.
func (e *Edge) halt(now time.Time, in Ran, h *held, out *Effects) {
	h.drop()
	h.Quarantined = h.Want.Spec
	e.enter(now, in.Name, h, PhaseHalted, in.Reason, in.Message, out)
	e.say(now, out, e.about(h, in.Name, Event{Kind: EventHalted, Object: in.Object, Reason: in.Reason, Message: in.Message}))
}
