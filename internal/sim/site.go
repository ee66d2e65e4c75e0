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

// site is one agent with its disk, its link and its cluster. Disk and cluster outlive the agent.
type site struct {
	w     *World
	id    bundle.SiteID
	edge  *fleetsync.Edge
	life  int // results of an earlier life's work are nobody's
	clock clock
	machine
	wake   time.Time
	linked bool
	disk   disk
	// backlog is what the disk does not take, as one commit; refusing says since when it takes none.
	backlog  []fleetsync.Record
	refusing bool
	told     bool // StoreSeen

	note      []byte // in the cluster
	installed map[bundle.Name]*installed
	running   bool // an apply is under way
	truth     truth
}

// disk is what is durable at a site: the records of the core, the bundles, and beside them the anchor and the root.
type disk struct {
	records map[string][]byte
	bundles map[bundle.Digest]bool
	marks   verify.Counters
	root    int // how far the site has come in the chain of roots
	stores  int // set aside so far
}

// truth is what the invariants remember.
type truth struct {
	recorded map[string]map[uint64]fleetsync.Event  // every event that became durable, by epoch
	forgone  map[string]uint64                      // epochs whose store was damaged: events above what was sent are gone with it
	ordered  map[bundle.Digest]bool                 // by the newest durable assignment
	begun    map[bundle.Name]map[bundle.Digest]bool // intended, applied or good by the durable record
	marks    verify.Counters                        // highest that were durable
	judged   judged
}

// installed is one bundle in the cluster.
type installed struct {
	applied bundle.Digest
	watched string // spec the agent of this life watches
	held    bool   // an apply of it is under way: nothing is told of health meanwhile
	edited  bool
	since   time.Time // edited
	at      time.Time // what is applied became so
	// confirming is when the hub began to be waited for.
	confirming time.Time
	// forgotten: what was applied stood in a store that was damaged, and nothing is applied since: it is left alone.
	forgotten bool
	highest   bundle.Counter
	good      memory // what the agent remembers as healthy
	finished  memory // what it remembers as the last apply that ended well
}

// memory is what an agent may remember: one digest ("" is none), or several where it died while learning of one.
type memory map[bundle.Digest]bool

func newSite(w *World, id bundle.SiteID) *site {
	s := &site{w: w, id: id, linked: true, disk: newDisk(), installed: map[bundle.Name]*installed{}}
	s.truth = truth{recorded: map[string]map[uint64]fleetsync.Event{}, forgone: map[string]uint64{}, ordered: map[bundle.Digest]bool{}, begun: map[bundle.Name]map[bundle.Digest]bool{}, marks: verify.Counters{}, judged: newJudged()}
	for _, name := range names {
		s.installed[name] = &installed{good: memory{"": true}, finished: memory{"": true}}
	}
	return s
}

func newDisk() disk {
	return disk{records: map[string][]byte{}, bundles: map[bundle.Digest]bool{}, marks: verify.Counters{}}
}

// boot begins a life from what is on the disk.
func (s *site) boot() {
	s.life++
	s.running, s.backlog, s.told = false, nil, false
	before := s.clock
	s.clock = s.w.newClock()
	s.wake = time.Time{}
	for _, c := range s.installed {
		c.watched, c.held = "", false
	}
	s.edge = fleetsync.NewEdge(fleetsync.EdgeConfig{
		Site: s.id, Agent: "sim", HubKeys: []ed25519.PublicKey{s.w.hub.key.Public().(ed25519.PublicKey)}, NewEpoch: fmt.Sprintf("%s-%d", s.id, s.disk.stores),
		Seed: fmt.Sprintf("%s-%d", s.id, s.life), HeartBeat: s.w.cfg.HeartBeat, MaxPending: s.w.cfg.Pending,
		FirstApply: s.w.cfg.FirstApply, Zone: zone,
		NoteKey: s.w.noteKey(), Notebook: s.w.cfg.Notes,
	})
	in := fleetsync.Restored{Marks: maps.Clone(s.disk.marks), Boot: s.start(before)}
	for _, key := range slices.Sorted(maps.Keys(s.disk.records)) {
		if strings.HasPrefix(key, fleetsync.RecordPrefix) {
			in.Records = append(in.Records, fleetsync.Record{Key: key, Value: s.disk.records[key]})
		}
		if strings.HasPrefix(key, fleetsync.EventPrefix) {
			line, err := fleetsync.StoredOf(fleetsync.Record{Key: key, Value: s.disk.records[key]})
			if err != nil {
				s.w.broken("%s: %v", s.id, err)
			}
			in.Outbox = append(in.Outbox, line)
		}
	}
	s.w.say("%s boots, life %d, %s by its clock", s.id, s.life, s.clock.at(s.w.now).Format(time.DateTime))
	life := s.life
	s.step(in)
	if s.life != life {
		return
	}
	if s.w.cfg.Notes {
		s.readNote()
	}
	if s.linked {
		s.mail(fleetsync.LinkChanged{Up: true})
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

// trouble is what a minute brings to a site.
func (s *site) trouble() {
	w := s.w
	if w.chance(w.cfg.Cut) && w.hub.up {
		s.setLink(!s.linked)
	}
	for _, name := range names {
		if w.chance(w.cfg.Edit) && s.installed[name].applied != "" {
			s.edit(name)
		}
	}
	if w.chance(w.cfg.Disk) {
		if s.refusing {
			s.mendDisk()
		} else {
			w.say("%s: the disk takes no writes", s.id)
			s.refusing = true
		}
	}
	if w.chance(w.cfg.Damage) && s.edge != nil {
		s.damage()
	}
	s.people()
	s.confirmed()
}

func (s *site) setLink(up bool) {
	if s.linked == up || up && !s.w.hub.up {
		return
	}
	s.linked = up
	s.mail(fleetsync.LinkChanged{Up: up})
}

// deliver gives the agent of this life an input a little later.
func (s *site) deliver(in fleetsync.Input, within time.Duration) {
	s.after(within, func() { s.step(in) })
}

// mail gives the agent of this life an input at once, in the order of all mail.
func (s *site) mail(in fleetsync.Input) { s.deliver(in, 1) }

// after does something a little later, if the agent still lives then.
func (s *site) after(within time.Duration, do func()) {
	life := s.life
	s.w.at(s.w.soon(within), func() {
		if s.life == life && s.edge != nil {
			do()
		}
	})
}

func (s *site) step(in fleetsync.Input) {
	life := s.life
	if s.w.traced {
		s.w.say("%s <- %T%s", s.id, in, brief(in))
	}
	out, err := s.edge.Step(s.clock.at(s.w.now), in)
	if err != nil {
		s.w.broken("%s: step: %v", s.id, err)
		return
	}
	for _, c := range out.Correct { // needs no disk
		s.correct(c)
	}
	if !s.persist(out) || s.life != life {
		return
	}
	s.carryOut(out)
	if s.life == life {
		s.sleep(out.Wake)
	}
}

// sleep asks for a Tick.
func (s *site) sleep(until time.Time) {
	if until.IsZero() || until.Equal(s.wake) {
		return
	}
	s.wake = until
	life := s.life
	s.w.at(s.clock.when(until), func() {
		if s.life == life && s.edge != nil && s.wake.Equal(until) {
			s.wake = time.Time{}
			s.step(fleetsync.Tick{})
		}
	})
}

func brief(in fleetsync.Input) string {
	switch in := in.(type) {
	case fleetsync.Fetched:
		text := fmt.Sprintf(" %s err=%q", in.Digest.Short(), in.Err)
		if in.Refusal != nil {
			text += " refused: " + in.Refusal.Reason
		}
		return text
	case fleetsync.Ran:
		return fmt.Sprintf(" %s %s %s remove=%v", in.Name, in.Spec, in.Outcome, in.Remove)
	case fleetsync.HealthSeen:
		return fmt.Sprintf(" %s %s unhealthy=%d", in.Name, in.Spec, len(in.Unhealthy))
	case fleetsync.LinkChanged:
		return fmt.Sprintf(" up=%v", in.Up)
	case fleetsync.Sent:
		return fmt.Sprintf(" %s upto=%d err=%q", in.Type, in.Upto, in.Err)
	case fleetsync.StoreSeen:
		return fmt.Sprintf(" %q", in.Message)
	}
	return ""
}

func (s *site) carryOut(out fleetsync.Effects) {
	life := s.life
	alive := func(where string) bool {
		if s.life == life && s.w.chance(s.w.cfg.Crash/4) {
			s.crash(where)
		}
		return s.life == life
	}
	if out.Look {
		s.look(out.Brief)
	}
	for _, f := range out.Fetch {
		s.after(5*time.Second, func() { s.step(s.fetch(f)) })
	}
	if out.Run != nil && alive("before an apply") {
		s.run(*out.Run)
	}
	if out.Keep != nil && alive("before a note") {
		s.keepNote(*out.Keep)
	}
	for _, m := range out.Send {
		if alive("before a message") {
			s.send(m)
		}
	}
	if out.Retain != nil && alive("before bundles are dropped") {
		maps.DeleteFunc(s.disk.bundles, func(d bundle.Digest, _ bool) bool { return !slices.Contains(out.Retain, d) })
	}
}

var errLost = errors.New("lost")

// reachable says whether a request and its answer get through.
func (s *site) reachable() error {
	if !s.linked || !s.w.hub.up || s.w.chance(s.w.cfg.Loss) {
		return errLost
	}
	return nil
}

func (s *site) look(brief bool) {
	s.after(2*time.Second, func() {
		in := fleetsync.Looked{}
		if err := s.reachable(); err != nil {
			in.Err = err.Error()
			s.step(in)
			return
		}
		if newest := len(s.w.hub.chain) - 1; !brief && s.disk.root < newest && !s.refusing {
			// The chain is walked before anything else is looked at. Who believes others begins anew.
			s.disk.root = newest
			s.w.say("%s believes root %d", s.id, newest)
			s.boot()
			return
		}
		if in.Assignment, in.Ack = s.w.hub.look(s.id); brief {
			in.Ack = nil
		}
		if in.Assignment != nil && s.w.chance(s.w.cfg.Evil) {
			in.Assignment = slices.Clone(in.Assignment)
			in.Assignment[s.w.rng.IntN(len(in.Assignment))] ^= 1
		}
		s.step(in)
	})
}

// fetch asks pkg/verify what internal/edge/fetch.go asks it.
func (s *site) fetch(f fleetsync.Fetch) fleetsync.Fetched {
	want := f.Bundle
	in := fleetsync.Fetched{Name: want.Name, Digest: want.Digest, Objects: 3, HealthTimeout: 5 * time.Minute}
	stored := s.disk.bundles[want.Digest]
	if !stored {
		if err := s.reachable(); err != nil {
			in.Err = err.Error()
			return in
		}
		if s.w.chance(s.w.cfg.Evil) { // a broken chunk, not a broken signature: it is worth another try
			in.Err = "content: it does not lead to the signed content"
			return in
		}
	}
	r := s.w.hub.offers[want.Digest]
	m, err := s.believe(f, r)
	if err != nil {
		in.Refusal = &fleetsync.Refusal{Reason: string(verify.ReasonOf(err)), Message: err.Error()}
		return in
	}
	if s.refusing || s.w.chance(s.w.cfg.Crash/4) {
		in.Err = "the store takes no writes"
		return in
	}
	s.disk.bundles[want.Digest] = true
	if s.w.chance(s.w.cfg.Loss / 4) {
		in.Err = "stored, and reported as failed"
		return in
	}
	in.Counter, in.Requires, in.ConfirmWithin = m.Counter, m.Requires, r.confirm
	return in
}

func (s *site) believe(f fleetsync.Fetch, r release) (*bundle.Manifest, error) {
	root, want := s.w.hub.chain[s.disk.root], f.Bundle
	var signed verify.Signed
	var err error
	marks := s.edge.Marks()
	if f.Again {
		signed, err = root.Accepted(signatures{}, r.manifest, [][]byte{r.signature}, verify.Mark{Counter: r.counter, Digest: want.Digest})
	} else {
		signed, err = root.Manifest(signatures{}, r.manifest, [][]byte{r.signature})
	}
	if err == nil {
		err = signed.Answers(verify.Asked{Name: want.Name, Version: want.Version, Digest: want.Digest})
	}
	if err == nil && !f.Again {
		err = signed.For(verify.Site{ID: s.id, Labels: f.Labels, Kubernetes: f.Kubernetes})
		if err == nil {
			err = marks.Check(signed)
		}
		if err == nil && marks[want.Name].Digest != want.Digest {
			err = signed.FirstApplyAt(s.clock.at(s.w.now))
		}
	}
	return signed.Manifest(), err
}

// send delivers a message: it may be lost before the hub has it, or only its answer, or come twice and late.
func (s *site) send(m fleetsync.Send) {
	r := report{site: s.id}
	sent := fleetsync.Sent{Type: m.Type, Upto: m.To}
	switch m.Type {
	case fleetsync.TypeState:
		r.state = m.State
		s.w.hub.says(m.State)
	case fleetsync.TypeEvents:
		batch := s.batch(m.From, m.To)
		if len(batch.Events) == 0 { // still in the backlog
			sent.Err = "not in the store"
			s.deliver(sent, time.Second)
			return
		}
		sent.Upto = batch.Events[len(batch.Events)-1].Sequence
		r.batch = &batch
	}
	asked := s.w.now
	s.after(10*time.Second, func() {
		if err := s.reachable(); err != nil {
			sent.Err = err.Error()
			s.step(sent)
			return
		}
		s.arrive(r, m.Hello, asked)
		if s.w.chance(s.w.cfg.Loss) {
			s.w.at(s.w.soon(time.Minute/2), func() { s.arrive(r, m.Hello, asked) })
		}
		if s.w.chance(s.w.cfg.Late) {
			s.w.at(s.w.soon(72*time.Hour), func() { s.arrive(r, nil, asked) })
		}
		if s.w.chance(s.w.cfg.Crash / 4) {
			s.crash("after a message arrived")
			return
		}
		if s.w.chance(s.w.cfg.Loss) { // delivered, but the answer was lost
			sent.Err = errLost.Error()
		}
		s.step(sent)
	})
}

// arrive gives the hub a message; asked is when it was sent.
func (s *site) arrive(r report, hello *fleetsync.Hello, asked time.Time) {
	switch h := s.w.hub; {
	case !h.up:
	case r.state != nil || r.batch != nil:
		h.arrive(r)
	case hello != nil:
		h.greet(s.id, *hello)
		if hello.Nonce != "" && s.reachable() == nil {
			answer := h.fresh(s.id, hello.Nonce)
			s.after(time.Second, func() {
				s.answered(asked)
				s.step(fleetsync.Poked{Statement: answer})
			})
		}
	}
}

// batch is made of the stored events, as many as fit; empty where none of them is stored.
func (s *site) batch(from, to uint64) fleetsync.EventBatch {
	var events []fleetsync.Event
	epoch := s.edge.Epoch()
	for n := from; n <= to && len(events) < fleetsync.MaxBatch; n++ {
		raw, stored := s.disk.records[fleetsync.EventKey(n)]
		if !stored {
			continue
		}
		ev, known := s.truth.recorded[epoch][n]
		if !known { // recorded in the epoch before
			if err := json.Unmarshal(raw, &ev); err != nil {
				s.w.broken("%s: event does not decode: %v", s.id, err)
			}
		}
		events = append(events, ev)
	}
	if len(events) == 0 && len(s.backlog) == 0 {
		s.w.broken("P04: %s: events %d to %d are to be sent and not on the disk", s.id, from, to)
	}
	return fleetsync.NewBatch(s.id, epoch, events)
}
