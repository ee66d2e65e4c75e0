package sync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Bounds of what a site may say about itself.
const (
	MaxBusy      = 24 * time.Hour
	MaxOverride  = 30 * 24 * time.Hour
	maxBusy      = 32  // signals
	maxOverrides = 64  // at one time
	maxSaid      = 500 // bytes of a reason or a name
)

// Busy says that the site is not to be moved now: first applies wait. For 0 takes it back.
type Busy struct {
	Who    string        `json:"who"` // each has one signal
	For    time.Duration `json:"for"` // at most MaxBusy
	Reason string        `json:"reason,omitempty"`
}

// Check finds what the site will not take.
func (b Busy) Check() error {
	switch {
	case b.Who == "" || len(b.Who) > maxSaid || len(b.Reason) > maxSaid:
		return fmt.Errorf("busy: want a name, and name and reason of at most %d bytes", maxSaid)
	case b.For < 0 || b.For > MaxBusy:
		return fmt.Errorf("busy: %s: want more than nothing and at most %s", b.For, MaxBusy)
	}
	return nil
}

// BusyStatus is one signal in force.
type BusyStatus struct {
	Who    string    `json:"who"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until"`
}

// busySignal is a signal as it is stored.
type busySignal struct {
	Who    string `json:"who"`
	Reason string `json:"reason,omitempty"`
	Span   span   `json:"span"`
	File   bool   `json:"file,omitempty"` // raised by a file
	Over   bool   `json:"over,omitempty"` // the file is still there, and its time is over
}

// BusySeen lists who says by a file that the site is busy, and why. It holds for as long as the file is seen, at most MaxBusy.
type BusySeen struct{ Files map[string]string }

func (e *Edge) busySeen(now time.Time, in BusySeen, out *Effects) {
	changed := false
	e.busy = slices.DeleteFunc(e.busy, func(s busySignal) bool {
		if _, seen := in.Files[s.Who]; seen || !s.File {
			return false
		}
		if changed = true; !s.Over {
			e.say(now, out, Event{Kind: EventBusyEnded, Message: s.Who})
		}
		return true
	})
	for _, who := range slices.Sorted(maps.Keys(in.Files)) {
		known := slices.ContainsFunc(e.busy, func(s busySignal) bool { return s.Who == who })
		if signal := (Busy{who, MaxBusy, in.Files[who]}); !known && signal.Check() == nil && len(e.busy) < maxBusy {
			changed = true
			e.busySet(now, signal, out)
			e.busy[len(e.busy)-1].File = true
		}
	}
	if changed {
		out.Persist = append(out.Persist, record(keyBusy, e.busy))
	}
}

func (e *Edge) busySet(now time.Time, in Busy, out *Effects) {
	if in.Check() != nil {
		return
	}
	at := slices.IndexFunc(e.busy, func(s busySignal) bool { return s.Who == in.Who })
	switch {
	case in.For == 0 && at < 0 || in.For > 0 && at < 0 && len(e.busy) >= maxBusy:
		return
	case in.For == 0:
		e.busy = slices.Delete(e.busy, at, at+1)
		e.say(now, out, Event{Kind: EventBusyEnded, Message: in.Who})
	default:
		signal := busySignal{Who: in.Who, Reason: in.Reason, Span: e.clock.span(now, in.For)}
		if at < 0 {
			e.busy = append(e.busy, signal)
		} else {
			e.busy[at] = signal
		}
		e.say(now, out, Event{Kind: EventBusy, Reason: in.Who, Message: strings.TrimPrefix(in.Reason+untilText(e.clock.end(now, signal.Span)), ", ")})
	}
	out.Persist = append(out.Persist, record(keyBusy, e.busy))
}

// busyOver ends what has lasted as long as it was to.
func (e *Edge) busyOver(now time.Time, out *Effects) {
	changed := false
	for i, s := range e.busy {
		if !s.Over && e.clock.left(now, s.Span) <= 0 {
			changed, e.busy[i].Over = true, true
			e.say(now, out, Event{Kind: EventBusyEnded, Message: s.Who})
		}
	}
	if changed { // a file's signal stays known, so that it does not begin anew before the file is gone
		e.busy = slices.DeleteFunc(e.busy, func(s busySignal) bool { return s.Over && !s.File })
		out.Persist = append(out.Persist, record(keyBusy, e.busy))
	}
}

func (e *Edge) busyHold(now time.Time) hold {
	var last busySignal
	for _, s := range e.busy {
		if !s.Over && (last.Who == "" || e.clock.left(now, s.Span) > e.clock.left(now, last.Span)) {
			last = s
		}
	}
	if last.Who == "" {
		return hold{}
	}
	message := last.Who + " says that the site is busy"
	if last.Reason != "" {
		message += ": " + last.Reason
	}
	return hold{ReasonBusy, message, e.clock.end(now, last.Span)}
}

func (e *Edge) busyStatus(now time.Time) (all []BusyStatus) {
	for _, s := range e.busy {
		if s.Over {
			continue
		}
		all = append(all, BusyStatus{s.Who, s.Reason, e.clock.end(now, s.Span)})
	}
	return all
}

// OverrideSet declares a local exception: what somebody changes at an object on purpose is reported and not put back, until it ends.
type OverrideSet struct {
	Object string        `json:"object"`          // bundle.ObjectID.String
	Paths  []string      `json:"paths,omitempty"` // JSON pointers; none: whatever differs. While one of them differs, the whole object is left as it is.
	For    time.Duration `json:"for"`
	Reason string        `json:"reason"`
	Who    string        `json:"who"`
}

// OverrideClear ends the exception for an object now.
type OverrideClear struct {
	Object string `json:"object"`
	Who    string `json:"who"`
}

// Check finds what the site will not take.
func (o OverrideSet) Check() error {
	if o.Object == "" || len(o.Object) > maxSaid || len(o.Paths) > maxPaths {
		return fmt.Errorf("override: want an object, and at most %d paths", maxPaths)
	}
	for _, p := range o.Paths {
		if len(p) > maxSaid || p == "" || p[0] != '/' {
			return fmt.Errorf("override: path %.80q: want a JSON pointer, for example /spec/replicas", p)
		}
	}
	if o.Reason == "" || o.Who == "" || len(o.Reason) > maxSaid || len(o.Who) > maxSaid {
		return errors.New("override: want a reason and who declares it, short enough to be shown")
	}
	if o.For <= 0 || o.For > MaxOverride {
		return fmt.Errorf("override: %s: want more than nothing and at most %s", o.For, MaxOverride)
	}
	return nil
}

// maxPaths is the most paths of an override.
const maxPaths = 20

// OverrideStatus is one exception in force.
type OverrideStatus struct {
	Object string    `json:"object"`
	Paths  []string  `json:"paths,omitempty"`
	Reason string    `json:"reason"`
	Who    string    `json:"who"`
	Until  time.Time `json:"until"`
}

// override is an exception as it is stored.
type override struct {
	Object string   `json:"object"`
	Paths  []string `json:"paths,omitempty"`
	Reason string   `json:"reason"`
	Who    string   `json:"who"`
	Span   span     `json:"span"`
}

func (e *Edge) overrideSet(now time.Time, in OverrideSet, out *Effects) {
	_, known := e.overrides[in.Object]
	if in.Check() != nil || !known && len(e.overrides) >= maxOverrides {
		return
	}
	o := override{in.Object, in.Paths, in.Reason, in.Who, e.clock.span(now, in.For)}
	if e.overrides == nil {
		e.overrides = map[string]override{}
	}
	e.overrides[in.Object] = o
	out.Persist = append(out.Persist, record(keyOverrides, e.overrides))
	e.say(now, out, Event{Kind: EventOverride, Object: in.Object, Paths: in.Paths, Reason: in.Who, Message: in.Reason + untilText(e.clock.end(now, o.Span))})
}

// overwritten says what an apply put back although an override let it stand. The override lasts: what is changed from here on is left again.
func (e *Edge) overwritten(now time.Time, name bundle.Name, h *held, out *Effects) {
	for _, object := range slices.Sorted(maps.Keys(h.overridden)) {
		o, lasts := e.overrides[object]
		if d, differed := h.drifted[object]; lasts && differed {
			e.say(now, out, e.about(h, name, Event{
				Kind: EventOverwritten, Object: object, Paths: d.Paths, Reason: o.Who, Message: "the apply put it back, and the override lasts: " + o.Reason + untilText(e.clock.end(now, o.Span)),
			}))
		}
	}
	h.unhealthy, h.drifted, h.overridden = nil, nil, nil
}

// overrideOver ends an exception, and what differs because of it is put right.
func (e *Edge) overrideOver(now time.Time, object, why string, out *Effects) {
	delete(e.overrides, object)
	out.Persist = append(out.Persist, record(keyOverrides, e.overrides))
	e.say(now, out, Event{Kind: EventOverrideEnded, Object: object, Message: why})
	for _, name := range e.names() {
		h := e.bundles[name]
		if d, differs := h.drifted[object]; differs && h.overridden[object] {
			delete(h.overridden, object)
			out.Correct = append(out.Correct, Correct{name, d})
		}
	}
}

func (e *Edge) overridesOver(now time.Time, out *Effects) {
	for _, object := range slices.Sorted(maps.Keys(e.overrides)) {
		if e.clock.left(now, e.overrides[object].Span) <= 0 {
			e.overrideOver(now, object, "its time is over", out)
		}
	}
}

// overridden says why drift is left as it is: somebody declared it.
func (e *Edge) overridden(now time.Time, d Drift) (why string, is bool) {
	o, is := e.overrides[d.Object]
	if !is || len(o.Paths) > 0 && d.Kind == DriftChanged && !slices.ContainsFunc(d.Paths, func(p string) bool {
		return slices.ContainsFunc(o.Paths, func(under string) bool { return below(p, under) })
	}) {
		return "", false
	}
	return fmt.Sprintf("overridden by %s until %s: %s", o.Who, stamp(e.clock.end(now, o.Span)), o.Reason), true
}

// below says that a JSON pointer is another one or below it.
func below(p, under string) bool {
	return p == under || len(p) > len(under) && p[:len(under)] == under && p[len(under)] == '/'
}

func (e *Edge) overrideStatus(now time.Time) (all []OverrideStatus) {
	for _, object := range slices.Sorted(maps.Keys(e.overrides)) {
		o := e.overrides[object]
		all = append(all, OverrideStatus{o.Object, o.Paths, o.Reason, o.Who, e.clock.end(now, o.Span)})
	}
	return all
}

// soonest is the next end of a signal or an exception; zero: there is none.
func (e *Edge) soonest(now time.Time) (wake time.Time) {
	sooner := func(s span) {
		if at := now.Add(max(e.clock.left(now, s), time.Millisecond)); wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	for _, s := range e.busy {
		if !s.Over {
			sooner(s.Span)
		}
	}
	for _, o := range e.overrides {
		sooner(o.Span)
	}
	return wake
}
