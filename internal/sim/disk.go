package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// persist makes the records of a step durable, with those that wait. It says whether the rest of the step may be carried out; where it may not,
// its results say so, as in internal/edge/agent.go.
func (s *site) persist(out fleetsync.Effects) bool {
	if len(out.Persist) == 0 && (s.refusing || len(s.backlog) == 0) {
		return true
	}
	if s.w.chance(s.w.cfg.Crash / 2) {
		s.crash("before a commit")
		return false
	}
	s.backlog = append(s.backlog, out.Persist...)
	if s.refusing {
		s.refuse(out, "the disk takes no writes")
		return false
	}
	s.commit(s.backlog)
	if s.w.chance(s.w.cfg.Crash / 4) {
		s.refuse(out, "written, and reported as failed")
		return false
	}
	s.backlog = nil
	if s.w.chance(s.w.cfg.Crash / 2) {
		s.crash("between a commit and the anchor")
		return false
	}
	s.disk.marks = s.edge.Marks()
	s.truth.marks = verify.Merge(s.truth.marks, s.disk.marks)
	if s.w.chance(s.w.cfg.Crash / 2) {
		s.crash("after a commit")
		return false
	}
	if s.told {
		s.told = false
		s.mail(fleetsync.StoreSeen{})
	}
	return true
}

// refuse answers for what is not carried out because it had to be durable first.
func (s *site) refuse(out fleetsync.Effects, why string) {
	if !s.told {
		s.told = true
		s.mail(fleetsync.StoreSeen{Message: "storageDegraded: " + why})
	}
	if out.Look {
		s.mail(fleetsync.Looked{Err: why})
	}
	for _, f := range out.Fetch {
		s.mail(fleetsync.Fetched{Name: f.Bundle.Name, Digest: f.Bundle.Digest, Err: why})
	}
	if k := out.Keep; k != nil {
		s.mail(fleetsync.NoteKept{Number: k.Number, Err: why})
	}
	if r := out.Run; r != nil {
		s.mail(fleetsync.Ran{Name: r.Bundle.Name, Spec: r.Spec, Remove: r.Remove, Outcome: fleetsync.OutcomeRejected, Reason: "StorageDegraded", Message: why})
	}
	for _, m := range out.Send {
		s.mail(fleetsync.Sent{Type: m.Type, Err: why})
	}
	s.sleep(out.Wake)
	s.retry()
}

// retry tries the disk again after a pause.
func (s *site) retry() {
	s.after(time.Minute, func() {
		switch {
		case len(s.backlog) == 0:
		case s.refusing:
			s.retry()
		default:
			s.step(fleetsync.Tick{})
		}
	})
}

func (s *site) mendDisk() {
	if s.refusing {
		s.w.say("%s: the disk takes writes again", s.id)
		s.refusing, s.mended = false, s.w.now
	}
}

func (s *site) commit(records []fleetsync.Record) {
	epoch := s.edge.Epoch()
	s.truth.judged.before()
	if s.truth.recorded[epoch] == nil {
		s.truth.recorded[epoch] = map[uint64]fleetsync.Event{}
	}
	ordered, kept := maps.Clone(s.truth.ordered), map[bundle.Name]orders{}
	for _, r := range records {
		if name, is := strings.CutPrefix(r.Key, fleetsync.RecordPrefix+"bundle/"); is {
			var o orders
			if err := json.Unmarshal(r.Value, &o); err != nil && r.Value != nil {
				s.w.broken("%s: %s: %v", s.id, r.Key, err)
			}
			kept[bundle.Name(name)] = o
		}
		switch {
		case r.Value == nil:
			delete(s.disk.records, r.Key)
			continue
		case strings.HasPrefix(r.Key, fleetsync.EventPrefix):
			var ev fleetsync.Event
			if err := json.Unmarshal(r.Value, &ev); err != nil {
				s.w.broken("%s: event does not decode: %v", s.id, err)
			}
			if before, known := s.truth.recorded[epoch][ev.Sequence]; known && before.Kind != ev.Kind && ev.Kind != fleetsync.EventGap {
				s.w.broken("P04: %s: sequence %d was %s and became %s", s.id, ev.Sequence, before.Kind, ev.Kind)
			}
			s.truth.recorded[epoch][ev.Sequence] = ev
			s.noFalseAlarm(ev)
		case r.Key == fleetsync.RecordPrefix+"assignment":
			s.ordered(r.Value)
			maps.Copy(ordered, s.truth.ordered)
		case r.Key == fleetsync.RecordPrefix+"busy":
			s.busyRecord(r.Value)
		case r.Key == fleetsync.RecordPrefix+"overrides":
			s.overridesRecord(r.Value)
		}
		s.disk.records[r.Key] = r.Value
	}
	for _, name := range names {
		if o, has := kept[name]; has {
			s.remembered(name, o, ordered)
		}
	}
}

// ordered notes what the newest durable assignment orders.
func (s *site) ordered(sealed []byte) {
	var envelope fleetsync.Envelope
	var a fleetsync.Assignment
	if err := json.Unmarshal(sealed, &envelope); err != nil {
		s.w.broken("%s: assignment: %v", s.id, err)
	}
	if err := json.Unmarshal(envelope.Payload, &a); err != nil {
		s.w.broken("%s: assignment: %v", s.id, err)
	}
	clear(s.truth.ordered)
	for _, b := range a.Bundles {
		s.truth.ordered[b.Digest] = true
		s.truth.judged.accepted[b.Digest] = s.truth.judged.accepted[b.Digest] || b.AcceptLoss
	}
}

// damage sets the store aside, as internal/edge/memory.go does: a new one begins, counters come from the anchor, the cluster is left alone.
func (s *site) damage() {
	s.w.say("%s: the store is damaged", s.id)
	s.truth.forgone[s.edge.Epoch()] = 1
	fresh := newDisk()
	fresh.marks, fresh.root, fresh.stores = s.disk.marks, s.disk.root, s.disk.stores+1
	s.disk = fresh
	clear(s.truth.ordered)
	clear(s.truth.begun)
	s.truth.judged.forget()
	s.refusing = false
	for _, c := range s.installed { // nothing is remembered of what was applied and what was good
		c.forgotten, c.good[""], c.finished[""] = true, true, true
	}
	s.boot()
	if s.edge != nil {
		s.mail(fleetsync.Damage{Message: "set aside"})
	}
}

// settled checks a site after the fair part.
func (s *site) settled() error {
	for _, name := range names {
		c := s.installed[name]
		if c.edited && !c.forgotten {
			return fmt.Errorf("P03: drift of %s since %s was never corrected", name, c.since.Format(timeFormat))
		}
	}
	if err := s.delivered(); err != nil {
		return err
	}
	if s.w.cfg.Notes {
		if why := s.noted(); why != "" {
			return fmt.Errorf("T03: %s", why)
		}
	}
	for _, name := range names {
		if err := s.right(name); err != nil {
			return err
		}
	}
	return nil
}

const timeFormat = "01-02 15:04:05"

// right says whether the site runs what it should.
func (s *site) right(name bundle.Name) error {
	if s.w.hub.engine != nil { // moved by rollouts: the engine's own invariants
		return nil
	}
	c, want := s.installed[name], s.w.hub.wanted[s.id][name]
	r := s.w.hub.offers[want]
	right := c.applied == want
	if r.bad { // gone back from, if there was anything to go back to
		right = c.good[c.applied] || right && c.good[""]
	}
	switch {
	case want == "" && c.applied != "" && !c.forgotten:
		return fmt.Errorf("nothing is wanted of %s and %s is still applied", name, c.applied.Short())
	case want == "" || right || !s.w.hub.believable(r) && !s.truth.begun[name][want] || r.counter < s.edge.Marks()[name].Counter:
		return nil
	case s.excused(name, want):
		return nil
	case r.requires != "" && (s.installed[r.requires].applied == "" || s.installed[r.requires].forgotten || s.w.hub.offers[s.w.hub.wanted[s.id][r.requires]].bad || s.installed[r.requires].applied != s.w.hub.wanted[s.id][r.requires]):
		return nil // what it needs is not there, or not as it should be
	}
	return fmt.Errorf("P06: %s@%s (bad %v) is wanted and %q is applied", name, r.version, r.bad, c.applied.Short())
}

// delivered checks P4: the hub has every event that was ever durable, as it was, or a gap event that covers it. What was in a store that was
// damaged is gone with it, and what a restored hub had acknowledged before is told by its alarms.
func (s *site) delivered() error {
	h := s.w.hub
	alarms := h.of(s.id).Alarms()
	for _, epoch := range slices.Sorted(maps.Keys(s.truth.recorded)) {
		recorded, last := s.truth.recorded[epoch], uint64(0)
		for n := range recorded {
			last = max(last, n)
		}
		if s.truth.forgone[epoch] > 0 {
			continue
		}
		for n := uint64(1); n <= last; n++ {
			got, there := h.counted[s.id][eventID(epoch, n)]
			switch {
			case there && (got.Kind == recorded[n].Kind || recorded[n].Kind == fleetsync.EventGap || got.Kind == fleetsync.EventGap):
			case s.covered(epoch, n):
			case h.lost[s.id][eventID(epoch, n)] && len(alarms) > 0:
			case there:
				return fmt.Errorf("P04: event %d of %s was %s at the site and is %s at the hub", n, epoch, recorded[n].Kind, got.Kind)
			default:
				return fmt.Errorf("P04: event %d of %d of %s (%s) is lost; alarms %v", n, last, epoch, recorded[n].Kind, alarms)
			}
		}
	}
	return nil
}

func (s *site) covered(epoch string, n uint64) bool {
	return slices.ContainsFunc(s.w.hub.gaps[s.id], func(g gap) bool { return g.epoch == epoch && g.Covers(n) })
}
