package sync

import (
	"cmp"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Prefetch has the nodes of the site pull what a version runs, before it is applied.
type Prefetch struct {
	Run     Run // of the version; nothing of it is applied
	Timeout time.Duration
}

// Prefetched is the result of a Prefetch, or with Progress a word from it while it lasts.
type Prefetched struct {
	Name     bundle.Name
	Spec     string
	Progress string
	Err      string
}

func (Prefetched) input() {}

// fetchesImages holds back an apply until the images it needs are on the nodes, where the policy asks for that. It is asked again in every life: what is
// there costs nothing. What was begun or is in force is not held back.
func (e *Edge) fetchesImages(name bundle.Name, h *held, out *Effects) bool {
	policy, spec := h.Prefetch, h.Want.Spec
	if policy == nil || h.prefetched == spec || h.Intent != nil && h.Intent.Spec == spec || h.Applied != nil && h.Applied.Spec == spec {
		return false
	}
	if h.prefetching != spec {
		h.prefetching = spec
		seconds := cmp.Or(policy.TimeoutSeconds, bundle.DefaultPrefetchTimeout)
		out.Prefetch = append(out.Prefetch, Prefetch{Run{Bundle: h.Want.Bundle, Labels: h.Want.Labels, Spec: spec}, time.Duration(seconds) * time.Second})
	}
	return true
}

func (e *Edge) imagesFetched(now time.Time, in Prefetched, out *Effects) {
	h := e.bundles[in.Name]
	if h == nil || h.Want == nil || h.Want.Spec != in.Spec || h.prefetching != in.Spec {
		return
	}
	if in.Progress != "" {
		h.Reason, h.Message = "Prefetching", clip(in.Progress)
		e.snapshot.dirty = true
		return
	}
	h.prefetching = ""
	if in.Err == "" {
		h.prefetched, h.attempts = in.Spec, 0
		h.Reason, h.Message = "", ""
		e.say(now, out, e.about(h, in.Name, Event{Kind: EventPrefetched}))
		return
	}
	ev := Event{Kind: EventPrefetchFailed, Reason: "PrefetchFailed", Message: in.Err}
	if h.Prefetch != nil && h.Prefetch.OnFailure == bundle.PrefetchProceed {
		h.prefetched = in.Spec
		e.say(now, out, e.about(h, in.Name, ev))
		return
	}
	h.attempts++
	h.retryAt = now.Add(pause(h.attempts))
	if h.Reason == ev.Reason && h.Message == clip(in.Err) {
		return
	}
	e.enter(now, in.Name, h, PhaseAccepted, ev.Reason, in.Err, out)
	e.say(now, out, e.about(h, in.Name, ev))
}
