package sim

import (
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// learn gives the agent an input that teaches it a digest.
func (s *site) learn(m *memory, digest bundle.Digest, in fleetsync.Input) {
	life := s.life
	(*m)[digest] = true
	s.step(in)
	if s.life == life && !s.refusing {
		*m = memory{digest: true}
	}
}

// run changes the cluster a while later, whole or not at all, and may be cut off by a crash after the change, or reported as failed.
func (s *site) run(r fleetsync.Run) {
	name := r.Bundle.Name
	c := s.installed[name]
	if s.running {
		s.w.broken("%s: two applies at once", s.id)
	}
	s.running, c.held = true, true
	if !r.Remove && !s.truth.begun[name][r.Bundle.Digest] {
		s.w.broken("F03: %s applies %s@%s without a durable intent", s.id, name, r.Bundle.Version)
	}
	s.mayRun(r, c)
	if s.w.hub.engine != nil {
		s.w.hub.engine.applying(s, r)
	}
	s.after(20*time.Second, func() {
		s.running, c.held = false, false
		ran := fleetsync.Ran{Name: name, Spec: r.Spec, Remove: r.Remove, Outcome: fleetsync.OutcomeApplied, Objects: 3}
		if s.w.chance(s.w.cfg.Rejected) {
			ran.Outcome, ran.Reason, ran.Message = fleetsync.OutcomeRejected, "Rejected", "the API server says no"
			life := s.life
			s.step(ran)
			if s.life == life && c.watched != "" {
				s.tellHealth(fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: name, Digest: c.applied}, Spec: c.watched})
			}
			return
		}
		if !r.Remove && s.suspicious(c, r) {
			if s.truth.judged.kept[name].Phase == fleetsync.PhaseReverting {
				s.w.broken("halt: the way of %s back to %s@%s is halted", s.id, name, r.Bundle.Version)
			}
			ran.Outcome, ran.Reason, ran.Message = fleetsync.OutcomeHalted, "Empties", "it deletes most of what is there"
			life := s.life
			s.step(ran)
			if s.life == life && c.watched != "" {
				s.tellHealth(fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: name, Digest: c.applied}, Spec: c.watched})
			}
			return
		}
		if r.Remove {
			*c = installed{highest: c.highest, good: c.good, finished: c.finished}
			c.good[""] = true
		} else {
			s.apply(r, c, &ran)
		}
		if s.w.chance(s.w.cfg.Crash) {
			s.crash("after changing the cluster")
			return
		}
		if s.w.chance(s.w.cfg.Rejected / 2) {
			ran.Outcome, ran.Reason, ran.Message = fleetsync.OutcomeFailed, "Timeout", "changed, and reported as failed"
			c.watched = ""
			s.step(ran)
			return
		}
		life := s.life
		s.learn(&c.finished, c.applied, ran)
		if !r.Remove && s.life == life {
			s.tellHealth(r)
			s.noticeEdit(name)
		}
	})
}

// tellHealth tells the agent of this life how the objects do, some time later.
func (s *site) tellHealth(r fleetsync.Run) {
	name := r.Bundle.Name
	in := fleetsync.HealthSeen{Name: name, Spec: r.Spec}
	if s.w.hub.offers[r.Bundle.Digest].bad {
		in.Unhealthy = []fleetsync.ObjectStatus{{Object: "Deployment.apps/" + string(name) + "/web", Status: "InProgress"}}
	}
	c := s.installed[name]
	s.after(30*time.Second, func() {
		if c.watched != r.Spec || c.held {
			return
		}
		if len(in.Unhealthy) > 0 {
			s.step(in)
			return
		}
		if s.w.hub.offers[r.Bundle.Digest].confirm > 0 { // it may wait for the hub, and count as good later or never
			c.good[r.Bundle.Digest] = true
			s.step(in)
			return
		}
		s.learn(&c.good, r.Bundle.Digest, in)
	})
}

// orders are what a durable record says of a bundle.
type orders struct {
	Intent, Applied, Good *struct{ Bundle fleetsync.AssignedBundle }
	Quarantined           string
	Phase                 fleetsync.Phase
	Reason                string
	Confirm               *struct{}
}

// remembered notes what a durable record says, and checks that what is begun for the first time is what the site was ordered, and not withdrawn by
// the root it believes (F20).
func (s *site) remembered(name bundle.Name, o orders, ordered map[bundle.Digest]bool) {
	before := s.truth.begun[name]
	now := map[bundle.Digest]bool{}
	for _, x := range []*struct{ Bundle fleetsync.AssignedBundle }{o.Intent, o.Applied, o.Good} {
		if x != nil {
			now[x.Bundle.Digest] = true
		}
	}
	s.truth.begun[name] = now
	s.judgedRecord(name, o)
	if o.Intent == nil || before[o.Intent.Bundle.Digest] {
		return
	}
	b := o.Intent.Bundle
	s.mayBegin(b)
	if !ordered[b.Digest] {
		s.w.broken("F20: %s begins %s@%s, which its newest order does not name", s.id, b.Name, b.Version)
	}
	if counter := s.w.hub.offers[b.Digest].counter; counter < s.w.hub.chain[s.disk.root].Floors[b.Name] && s.edge.Marks()[b.Name].Digest != b.Digest {
		s.w.broken("F20: %s begins %s@%s, which the root it believes has withdrawn", s.id, b.Name, b.Version)
	}
}

func (s *site) apply(r fleetsync.Run, c *installed, ran *fleetsync.Ran) {
	digest := r.Bundle.Digest
	genuine, ok := s.w.hub.genuine[digest]
	if !ok {
		s.w.broken("P01: %s applies %s, which nobody signed", s.id, digest)
		return
	}
	if !s.disk.bundles[digest] {
		s.w.broken("P01: %s applies %s@%s, which it does not hold", s.id, genuine.name, genuine.version)
	}
	if genuine.counter < c.highest && digest != c.applied && !c.good[digest] && !c.finished[digest] {
		s.w.broken("P02: %s goes back from counter %d of %s to %d", s.id, c.highest, genuine.name, genuine.counter)
	}
	if mark := s.truth.marks[genuine.name]; mark.Counter < genuine.counter {
		s.w.broken("P02: %s applies counter %d of %s, and %d is what it has durable", s.id, genuine.counter, genuine.name, mark.Counter)
	}
	if c.applied != digest {
		ran.Changed = 3
		c.edited, c.at = false, s.w.now // what was edited is applied anew
	}
	c.applied, c.watched, c.forgotten = digest, r.Spec, false
	c.highest = max(c.highest, genuine.counter)
}

func (s *site) edit(name bundle.Name) {
	s.w.say("%s: somebody edits an object of %s", s.id, name)
	c := s.installed[name]
	c.edited, c.since = true, s.w.now
	s.noticeEdit(name)
}

// noticeEdit is the watch: it tells the agent of this life, if that one watches.
func (s *site) noticeEdit(name bundle.Name) {
	c := s.installed[name]
	if !c.edited || c.watched == "" {
		return
	}
	s.deliver(fleetsync.DriftSeen{Name: name, Drift: fleetsync.Drift{Object: "ConfigMap/" + string(name) + "/a", Kind: fleetsync.DriftChanged}}, time.Second)
}

func (s *site) correct(c fleetsync.Correct) {
	s.mayCorrect(c)
	s.after(time.Second, func() {
		s.installed[c.Name].edited = false
		s.step(fleetsync.Corrected{Name: c.Name, Drift: c.Drift})
	})
}
