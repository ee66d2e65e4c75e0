package sim

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// site is one agent with its store, its link and its cluster. The store and the cluster outlive the agent.
type site struct {
	w        *World
	id       bundle.SiteID
	edge     *fleetsync.Edge
	life     int // results of an earlier life's work are nobody's
	wake     time.Time
	linked   bool
	disk     map[string][]byte
	bundles  map[bundle.Digest]bool // content that is stored
	cluster  cluster
	good     memory // what the agent remembers as healthy
	finished memory // what it remembers as the last apply that ended well
	// recorded is every event that became durable, for P4.
	recorded map[uint64]fleetsync.Event
}

// memory is what an agent may remember: one digest ("" is none), or several where it died while learning of one.
type memory map[bundle.Digest]bool

// learn gives the agent an input that teaches it a digest.
func (s *site) learn(m *memory, digest bundle.Digest, in fleetsync.Input) {
	life := s.life
	(*m)[digest] = true
	s.step(in)
	if s.life == life {
		*m = memory{digest: true}
	}
}

// cluster is what is there now.
type cluster struct {
	applied bundle.Digest
	watched string // spec the agent of this life watches
	held    bool   // an apply is under way: nothing is told of health meanwhile
	edited  bool
	since   time.Time // edited
	highest bundle.Counter
}

func newSite(w *World, id bundle.SiteID) *site {
	return &site{w: w, id: id, linked: true, disk: map[string][]byte{}, bundles: map[bundle.Digest]bool{}, recorded: map[uint64]fleetsync.Event{}, good: memory{"": true}, finished: memory{"": true}}
}

// boot begins a life from what is on the disk.
func (s *site) boot() {
	s.life++
	s.cluster.watched, s.cluster.held = "", false
	s.edge = fleetsync.NewEdge(fleetsync.EdgeConfig{Site: s.id, Agent: "sim", HubKey: s.w.hub.key.Public().(ed25519.PublicKey), NewEpoch: "epoch-1", MaxPending: s.w.cfg.Pending})
	in := fleetsync.Restored{}
	for _, key := range slices.Sorted(maps.Keys(s.disk)) {
		if strings.HasPrefix(key, fleetsync.RecordPrefix) {
			in.Records = append(in.Records, fleetsync.Record{Key: key, Value: s.disk[key]})
		}
		if strings.HasPrefix(key, fleetsync.EventPrefix) {
			line, err := fleetsync.StoredOf(fleetsync.Record{Key: key, Value: s.disk[key]})
			if err != nil {
				s.w.broken("%s: %v", s.id, err)
			}
			in.Outbox = append(in.Outbox, line)
		}
	}
	s.w.say("%s boots, life %d", s.id, s.life)
	s.step(in)
	if s.linked {
		s.deliver(fleetsync.LinkChanged{Up: true}, time.Second)
	}
	s.deliver(fleetsync.ClusterSeen{Reachable: true, Version: "1.37.1"}, time.Second)
}

// crash ends this life at once; the next begins a little later.
func (s *site) crash(where string) {
	s.w.say("%s dies %s", s.id, where)
	s.life++
	s.edge = nil
	s.w.at(s.w.soon(time.Minute), s.boot)
}

func (s *site) setLink(up bool) {
	if s.linked == up {
		return
	}
	s.linked = up
	s.deliver(fleetsync.LinkChanged{Up: up}, time.Second)
}

// deliver gives the agent of this life an input a little later.
func (s *site) deliver(in fleetsync.Input, within time.Duration) {
	life := s.life
	s.w.at(s.w.soon(within), func() {
		if s.life == life && s.edge != nil {
			s.step(in)
		}
	})
}

func (s *site) step(in fleetsync.Input) {
	s.w.say("%s <- %T%s", s.id, in, brief(in))
	out, err := s.edge.Step(s.w.now, in)
	if err != nil {
		s.w.broken("%s: step: %v", s.id, err)
		return
	}
	if len(out.Persist) > 0 {
		if s.w.chance(s.w.cfg.Crash / 2) {
			s.crash("before a commit")
			return
		}
		s.commit(out.Persist)
		if s.w.chance(s.w.cfg.Crash / 2) {
			s.crash("after a commit")
			return
		}
	}
	s.carryOut(out)
	if !out.Wake.IsZero() && out.Wake != s.wake {
		s.wake = out.Wake
		life := s.life
		s.w.at(out.Wake, func() {
			if s.life == life && s.edge != nil && s.wake == out.Wake {
				s.wake = time.Time{}
				s.step(fleetsync.Tick{})
			}
		})
	}
}

func brief(in fleetsync.Input) string {
	switch in := in.(type) {
	case fleetsync.Fetched:
		return fmt.Sprintf(" %s refusal=%v err=%q", in.Digest.Short(), in.Refusal, in.Err)
	case fleetsync.Ran:
		return fmt.Sprintf(" %s %s remove=%v", in.Spec, in.Outcome, in.Remove)
	case fleetsync.HealthSeen:
		return fmt.Sprintf(" %s unhealthy=%d", in.Spec, len(in.Unhealthy))
	case fleetsync.LinkChanged:
		return fmt.Sprintf(" up=%v", in.Up)
	case fleetsync.Sent:
		return fmt.Sprintf(" %s upto=%d err=%q", in.Type, in.Upto, in.Err)
	}
	return ""
}

func (s *site) commit(records []fleetsync.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(s.disk, r.Key)
			continue
		}
		s.disk[r.Key] = r.Value
		if strings.HasPrefix(r.Key, fleetsync.EventPrefix) {
			var ev fleetsync.Event
			if err := json.Unmarshal(r.Value, &ev); err != nil {
				s.w.broken("%s: event does not decode: %v", s.id, err)
			}
			if before, known := s.recorded[ev.Sequence]; known && before.Kind != ev.Kind && ev.Kind != fleetsync.EventGap {
				s.w.broken("P04: %s: sequence %d was %s and became %s", s.id, ev.Sequence, before.Kind, ev.Kind)
			}
			s.recorded[ev.Sequence] = ev
		}
	}
}

func (s *site) carryOut(out fleetsync.Effects) {
	if out.Look {
		s.look()
	}
	for _, f := range out.Fetch {
		s.deliver(s.fetch(f), 5*time.Second)
	}
	if out.Run != nil {
		s.run(*out.Run)
	}
	for _, c := range out.Correct {
		s.correct(c)
	}
	for _, m := range out.Send {
		s.send(m)
	}
	if out.Retain != nil {
		maps.DeleteFunc(s.bundles, func(d bundle.Digest, _ bool) bool { return !slices.Contains(out.Retain, d) })
	}
}

var errLost = errors.New("lost")

// reachable says whether a request and its answer get through.
func (s *site) reachable() error {
	if !s.linked || s.w.chance(s.w.cfg.Loss) {
		return errLost
	}
	return nil
}

func (s *site) look() {
	in := fleetsync.Looked{}
	if err := s.reachable(); err != nil {
		in.Err = err.Error()
	} else {
		in.Assignment, in.Ack = slices.Clone(s.w.hub.assignments[s.id]), slices.Clone(s.w.hub.acks[s.id])
		if in.Assignment != nil && s.w.chance(s.w.cfg.Evil) {
			in.Assignment[s.w.rng.IntN(len(in.Assignment))] ^= 1
		}
	}
	s.deliver(in, 2*time.Second)
}

// fetch is what verification says: the real rules are pkg/verify's; here a digest is genuine or it is not.
func (s *site) fetch(f fleetsync.Fetch) fleetsync.Fetched {
	in := fleetsync.Fetched{Name: f.Bundle.Name, Digest: f.Bundle.Digest, Objects: 3, HealthTimeout: 5 * time.Minute}
	if !s.bundles[f.Bundle.Digest] {
		if err := s.reachable(); err != nil {
			in.Err = err.Error()
			return in
		}
		if s.w.chance(s.w.cfg.Evil) { // a broken chunk, not a broken signature: it is worth another try
			in.Err = "content: it does not lead to the signed content"
			return in
		}
	}
	r, ok := s.w.hub.genuine[f.Bundle.Digest]
	if !ok {
		in.Refusal = &fleetsync.Refusal{Reason: string(verify.BadSignature)}
		return in
	}
	mark := s.edge.Marks()[f.Bundle.Name]
	if r.counter < mark.Counter && !f.Again {
		in.Refusal = &fleetsync.Refusal{Reason: string(verify.OlderCounter)}
		return in
	}
	s.bundles[r.digest] = true
	in.Counter = r.counter
	return in
}

// run changes the cluster a while later, whole or not at all, and may be cut off by a crash after the change.
func (s *site) run(r fleetsync.Run) {
	life := s.life
	s.cluster.held = true
	s.w.at(s.w.soon(20*time.Second), func() {
		if s.life != life || s.edge == nil {
			return
		}
		s.cluster.held = false
		ran := fleetsync.Ran{Name: r.Bundle.Name, Spec: r.Spec, Remove: r.Remove, Outcome: fleetsync.OutcomeApplied, Objects: 3}
		if s.w.chance(s.w.cfg.Rejected) {
			ran.Outcome, ran.Reason, ran.Message = fleetsync.OutcomeRejected, "Rejected", "the API server says no"
			s.step(ran)
			if s.life == life && s.cluster.watched != "" {
				s.tellHealth(fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: r.Bundle.Name, Digest: s.cluster.applied}, Spec: s.cluster.watched})
			}
			return
		}
		if r.Remove {
			s.cluster = cluster{highest: s.cluster.highest}
			s.good[""] = true
		} else {
			s.apply(r, &ran)
		}
		if s.w.chance(s.w.cfg.Crash) {
			s.crash("after changing the cluster")
			return
		}
		s.learn(&s.finished, s.cluster.applied, ran)
		if !r.Remove && s.life == life {
			s.tellHealth(r)
			s.noticeEdit()
		}
	})
}

// tellHealth tells the agent of this life how the objects do, some time later.
func (s *site) tellHealth(r fleetsync.Run) {
	in := fleetsync.HealthSeen{Name: r.Bundle.Name, Spec: r.Spec}
	if s.w.hub.genuine[r.Bundle.Digest].bad {
		in.Unhealthy = []fleetsync.ObjectStatus{{Object: "Deployment.apps/shop/web", Status: "InProgress"}}
	}
	life := s.life
	s.w.at(s.w.soon(30*time.Second), func() {
		if s.life != life || s.edge == nil || s.cluster.watched != r.Spec || s.cluster.held {
			return
		}
		if len(in.Unhealthy) > 0 {
			s.step(in)
			return
		}
		s.learn(&s.good, r.Bundle.Digest, in)
	})
}

func (s *site) apply(r fleetsync.Run, ran *fleetsync.Ran) {
	genuine, ok := s.w.hub.genuine[r.Bundle.Digest]
	if !ok {
		s.w.broken("P01: %s applies %s, which nobody signed", s.id, r.Bundle.Digest)
		return
	}
	if !s.bundles[r.Bundle.Digest] {
		s.w.broken("P01: %s applies %s, which it does not hold", s.id, r.Bundle.Digest)
	}
	if genuine.counter < s.cluster.highest && r.Bundle.Digest != s.cluster.applied && !s.good[r.Bundle.Digest] && !s.finished[r.Bundle.Digest] {
		s.w.broken("P02: %s goes back from counter %d to %d", s.id, s.cluster.highest, genuine.counter)
	}
	if s.cluster.applied != r.Bundle.Digest {
		ran.Changed = 3
		s.cluster.edited = false // what was edited is applied anew
	}
	s.cluster.applied, s.cluster.watched = r.Bundle.Digest, r.Spec
	s.cluster.highest = max(s.cluster.highest, genuine.counter)
}

func (s *site) edit() {
	s.w.say("%s: somebody edits an object", s.id)
	s.cluster.edited, s.cluster.since = true, s.w.now
	s.noticeEdit()
}

// noticeEdit is the watch: it tells the agent of this life, if that one watches.
func (s *site) noticeEdit() {
	if !s.cluster.edited || s.cluster.watched == "" {
		return
	}
	s.deliver(fleetsync.DriftSeen{Name: "shop", Drift: fleetsync.Drift{Object: "ConfigMap/shop/a", Kind: fleetsync.DriftChanged}}, time.Second)
}

func (s *site) correct(c fleetsync.Correct) {
	life := s.life
	s.w.at(s.w.soon(time.Second), func() {
		if s.life != life || s.edge == nil {
			return
		}
		s.cluster.edited = false
		s.step(fleetsync.Corrected{Name: c.Name, Drift: c.Drift})
	})
}

// send delivers a message: it may be lost before the hub has it, or only its answer, or come twice and late.
func (s *site) send(m fleetsync.Send) {
	sent := fleetsync.Sent{Type: m.Type, Upto: m.To}
	if err := s.reachable(); err != nil {
		sent.Err = err.Error()
		s.deliver(sent, 10*time.Second)
		return
	}
	var payload any = m.State
	switch m.Type {
	case fleetsync.TypeHello:
		s.deliver(sent, time.Second)
		return
	case fleetsync.TypeEvents:
		batch := s.batch(m.From, m.To)
		sent.Upto = batch.Events[len(batch.Events)-1].Sequence
		payload = batch
	}
	report, err := json.Marshal(payload)
	if err != nil {
		s.w.broken("%s: report: %v", s.id, err)
		return
	}
	copies := 1
	if s.w.chance(s.w.cfg.Loss) {
		copies = 2
	}
	for range copies {
		s.w.at(s.w.soon(time.Minute/2), func() { s.w.hub.receive(s.id, m.Type, report) })
	}
	if s.w.chance(s.w.cfg.Loss) { // delivered, but the answer was lost
		sent.Err = errLost.Error()
	}
	s.deliver(sent, 10*time.Second)
}

func (s *site) batch(from, to uint64) fleetsync.EventBatch {
	batch := fleetsync.EventBatch{Site: s.id, Epoch: s.edge.Epoch()}
	for n := from; n <= to && len(batch.Events) < fleetsync.MaxBatch; n++ {
		raw, ok := s.disk[fleetsync.EventKey(n)]
		if !ok {
			continue
		}
		var ev fleetsync.Event
		if err := json.Unmarshal(raw, &ev); err != nil {
			s.w.broken("%s: event: %v", s.id, err)
		}
		batch.Events = append(batch.Events, ev)
	}
	if len(batch.Events) == 0 {
		s.w.broken("P04: %s: events %d to %d are to be sent and not on the disk", s.id, from, to)
		batch.Events = []fleetsync.Event{{Sequence: to}}
	}
	return batch
}

// settled checks a site after a fair hour.
func (s *site) settled() error {
	if s.cluster.edited {
		return fmt.Errorf("P03: drift since %s was never corrected", s.cluster.since.Format(time.RFC3339))
	}
	if err := s.delivered(); err != nil {
		return err
	}
	want := s.w.hub.wanted[s.id]
	r := s.w.hub.genuine[want]
	right := s.cluster.applied == want
	if r.bad { // gone back from, if there was anything to go back to
		right = s.good[s.cluster.applied] || right && s.good[""]
	}
	switch {
	case want == "" && s.cluster.applied != "":
		return fmt.Errorf("nothing is wanted and %s is still applied", s.cluster.applied.Short())
	case want != "" && r.counter >= s.edge.Marks()[r.name].Counter && !right:
		return fmt.Errorf("P06: %s (counter %d, bad %v) is wanted and %q is applied", r.version, r.counter, r.bad, s.cluster.applied.Short())
	}
	return nil
}

// delivered checks P4: the hub has every event that was ever durable, as it was, or a gap event that covers it.
func (s *site) delivered() error {
	folded := s.w.hub.folded[s.id]
	var last uint64
	for n := range s.recorded {
		last = max(last, n)
	}
	ack, ok := s.w.hub.ingest[s.id].Ack()
	if !ok || ack.Upto != last {
		return fmt.Errorf("P04: %d events were recorded, the hub has them up to %d", last, ack.Upto)
	}
	covered := func(n uint64) bool {
		for _, ev := range folded {
			if ev.Covers(n) {
				return true
			}
		}
		return false
	}
	for n := uint64(1); n <= last; n++ {
		got, there := folded[fmt.Sprintf("%s/%d", ack.Epoch, n)]
		switch {
		case !there && !covered(n):
			return fmt.Errorf("P04: event %d (%s) is lost", n, s.recorded[n].Kind)
		case there && got.Kind != s.recorded[n].Kind && !covered(n):
			return fmt.Errorf("P04: event %d was %s at the site and is %s at the hub", n, s.recorded[n].Kind, got.Kind)
		}
	}
	return nil
}
