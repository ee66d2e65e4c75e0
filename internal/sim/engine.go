package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// moved is the bundle that rollouts move.
const moved = bundle.Name("shop")

// engine moves the fleet by rollouts, with two replicas of the hub that both may believe to lead. The documents are stored under
// compare-and-swap; nothing else decides between them.
type engine struct {
	h        *hub
	replicas [2]replica
	leader   int
	started  int
	// Truth, for the invariants: what sites said of a rollout's version, by rollout and site.
	brings  map[bundle.Digest]string
	said    map[string]map[bundle.SiteID]bool // it is healthy
	ended   map[string]map[bundle.SiteID]bool // it is healthy, or gone back from
	placed  map[string]map[bundle.SiteID]bool
	aborted map[string]bool
	opened  map[string]map[int]time.Time
	onApply func(s *site, r fleetsync.Run) // of a scenario
}

// replica is one process that may lead.
type replica struct {
	skew  time.Duration
	token uint64
	r     *rollout.Rollout // its copy; nil: to be read
	read  uint64           // the revision it was read or written at
}

// document is a stored rollout.
type document struct {
	raw      []byte
	revision uint64
	value    *rollout.Rollout // the same, for those who only read
}

// wavesOf is the plan of every rollout: a canary, a few, the rest.
const wavesOf = `{"apiVersion":"holdfast.dev/v1","kind":"RolloutPlan","metadata":{"name":"sim"},"spec":{"offline":{"darkAfter":"15m"},"maxFailures":0,"waves":[
	{"name":"canary","sites":{"names":["site-0"]},"soak":"10m","deadline":"3h"},
	{"name":"few","sites":{"names":["site-1","site-2"]},"maxUnavailable":1,"ratio":0.5,"soak":"5m","deadline":"3h"},
	{"name":"rest","sites":{"all":true},"maxUnavailable":2,"ratio":0.5,"soak":"5m","deadline":"3h"}]}}`

func newEngine(h *hub) *engine {
	e := &engine{
		h: h, brings: map[bundle.Digest]string{}, said: map[string]map[bundle.SiteID]bool{}, ended: map[string]map[bundle.SiteID]bool{}, placed: map[string]map[bundle.SiteID]bool{},
		aborted: map[string]bool{}, opened: map[string]map[int]time.Time{},
	}
	e.replicas[1].skew = h.w.cfg.Skew
	return e
}

// forget is a crash: nothing is left but what is stored.
func (e *engine) forget() {
	for i := range e.replicas {
		e.replicas[i].r, e.replicas[i].token = nil, 0
	}
}

// newest is the place of the newest rollout, or -1.
func (e *engine) newest() int { return len(e.h.disk.rollouts) - 1 }

// minute lets people and replicas act.
func (e *engine) minute() {
	w := e.h.w
	if !e.h.up {
		return
	}
	if w.chance(0.01) || e.replicas[e.leader].token == 0 { // the lease changes hands; the one before does not know yet
		e.leader = w.rng.IntN(len(e.replicas))
		e.h.disk.token++
		e.replicas[e.leader].token = e.h.disk.token
		e.replicas[e.leader].r = nil
		w.say("replica %d leads with token %d", e.leader, e.h.disk.token)
	}
	for i := range e.replicas {
		if i == e.leader || e.replicas[i].token > 0 && w.chance(0.5) {
			e.act(&e.replicas[i])
		}
	}
	e.people()
}

// people start rollouts, resume paused ones, and abort those of bad versions.
func (e *engine) people() {
	w, at := e.h.w, e.newest()
	idle := at < 0
	if !idle {
		r := e.read(at)
		release := e.h.genuine[r.Bundle.Digest]
		olga := rollout.Actor{Name: "olga"}
		switch {
		case !r.Active():
			idle = true
		case (release.bad || !e.h.believable(release) || release.counter < e.h.newest[moved]) && r.Phase == rollout.Paused && (w.fair || w.rng.Float64() < 0.05):
			e.acted(at, func(r *rollout.Rollout) error { return r.Abort(w.now, olga, "it is no good") })
		case r.Phase == rollout.Paused && w.rng.Float64() < 0.1:
			e.acted(at, func(r *rollout.Rollout) error { return r.Resume(w.now, olga, "go on", true) })
		case r.Phase == rollout.Running && w.chance(0.002):
			e.acted(at, func(r *rollout.Rollout) error { return r.Abort(w.now, olga, "second thoughts") })
		case release.withdrawn && r.Active():
			e.acted(at, func(r *rollout.Rollout) error { return r.Abort(w.now, olga, "it is withdrawn") })
		}
	}
	if idle && (w.chance(w.cfg.Release) || w.fair && (at < 0 || e.wantsAnother(at))) {
		e.start()
	}
}

// wantsAnother says that the last rollout did not bring the fleet to what it should be.
func (e *engine) wantsAnother(at int) bool {
	r := e.read(at)
	return r.Phase == rollout.Aborted || !e.h.believable(e.h.genuine[r.Bundle.Digest]) || r.Bundle.Counter < e.h.newest[moved]
}

func (e *engine) start() {
	w := e.h.w
	plan, err := rollout.DecodePlan([]byte(wavesOf))
	if err != nil {
		w.broken("plan: %v", err)
		return
	}
	rel := e.h.release(moved)
	fleet := rollout.Fleet{}
	for _, s := range w.sites {
		fleet.Members = append(fleet.Members, e.facts(s.id, w.now))
	}
	for i := range e.h.disk.rollouts {
		if !e.read(i).Retired {
			e.acted(i, func(r *rollout.Rollout) error { return r.Retire(w.now, fmt.Sprintf("r%d", e.started+1)) })
		}
	}
	e.started++
	id := fmt.Sprintf("r%d", e.started)
	r, _, err := rollout.Start(w.now, rollout.Order{
		ID: id, By: "olga", Plan: plan,
		Bundle: rollout.Bundle{Name: moved, Version: versionOf(rel), Supersedes: true},
	}, fleet)
	if err != nil {
		w.broken("start %s: %v", id, err)
		return
	}
	w.say("rollout %s of %s begins (bad %v)", id, rel.version, rel.bad)
	for _, truth := range []map[string]map[bundle.SiteID]bool{e.said, e.ended, e.placed} {
		truth[id] = map[bundle.SiteID]bool{}
	}
	e.opened[id] = map[int]time.Time{}
	e.brings[rel.digest] = id
	e.h.disk.rollouts = append(e.h.disk.rollouts, document{})
	e.write(e.newest(), r)
	e.forget()
	e.replicas[e.leader].token = e.h.disk.token
}

func versionOf(r release) rollout.Version {
	return rollout.Version{Version: r.version, Digest: r.digest, Counter: r.counter}
}

// read is a stored rollout that is not changed.
func (e *engine) read(at int) *rollout.Rollout { return e.h.disk.rollouts[at].value }

func (e *engine) decode(at int) *rollout.Rollout {
	r, err := rollout.Decode(e.h.disk.rollouts[at].raw)
	if err != nil {
		e.h.w.broken("stored rollout: %v", err)
		return &rollout.Rollout{}
	}
	return r
}

// acted stores what a person did.
func (e *engine) acted(at int, act func(*rollout.Rollout) error) {
	r := e.decode(at)
	if err := act(r); err != nil {
		e.h.w.broken("rollout %s: a person's act: %v", r.ID, err)
		return
	}
	e.h.w.say("rollout %s is %s now", r.ID, r.Phase)
	e.write(at, r)
}

func (e *engine) write(at int, r *rollout.Rollout) {
	raw, err := r.Encode()
	if err != nil {
		e.h.w.broken("%v", err)
		return
	}
	e.h.disk.rollouts[at] = document{raw, e.h.disk.rollouts[at].revision + 1, r.Clone()}
	e.aborted[r.ID] = r.Phase == rollout.Aborted
	e.check(r)
}

// facts are what the hub knows of a site by the clock of a replica.
func (e *engine) facts(id bundle.SiteID, now time.Time) rollout.Facts {
	f := rollout.Facts{Site: id, Region: string(id[len(id)-1:])}
	in := e.h.of(id)
	f.LastSeen = in.Heard()
	heartBeat := e.h.w.cfg.HeartBeat
	if heartBeat == 0 {
		heartBeat = time.Minute
	}
	f.Connected = !f.LastSeen.IsZero() && now.Sub(f.LastSeen) < 2*heartBeat+time.Minute
	state, _ := in.Snapshot()
	if state == nil {
		return f
	}
	for _, b := range state.Bundles {
		if b.Name != moved {
			continue
		}
		rel, known := e.h.genuine[b.CurrentDigest]
		if known {
			f.Current = versionOf(rel)
		}
		f.Conflict = rollout.Conflict(state.Assignment, e.h.disk.assignments[id].Sequence, b.CurrentDigest, known)
	}
	return f
}

// act is one turn of a replica: read, observe, fold, decide, store, do, store.
func (e *engine) act(x *replica) {
	at := e.newest()
	if at < 0 {
		return
	}
	w, now := e.h.w, e.h.w.now.Add(x.skew)
	if x.r == nil {
		x.r, x.read = e.decode(at), e.h.disk.rollouts[at].revision
		if err := x.r.Lead(x.token); err != nil { // another one leads
			x.r, x.token = nil, 0
			return
		}
		e.observe(x, now)
		x.r.Restarted(now, time.Minute)
	} else {
		e.observe(x, now)
	}
	d := x.r.Decide(now)
	if again := x.r.Clone().Decide(now); again.Changed || len(again.Moves) > 0 {
		w.broken("rollout %s: deciding again changed something: %v", x.r.ID, again.Moves)
	}
	if !e.store(x, at) {
		return
	}
	for _, o := range d.Offers {
		if w.chance(w.cfg.HubCrash) {
			e.h.crash("between two offers")
			return
		}
		e.offer(x, o)
	}
	for _, o := range d.Withdrawals {
		e.back(x, o)
	}
	e.store(x, at)
}

// store writes the copy if nobody else wrote since it was read; otherwise the copy and all it decided are thrown away.
func (e *engine) store(x *replica, at int) bool {
	stored := e.h.disk.rollouts[at]
	if stored.revision != x.read {
		e.h.w.say("a replica lost the compare-and-swap")
		x.r = nil
		return false
	}
	if x.r.Revision != stored.value.Revision {
		e.write(at, x.r)
		x.read++
	}
	return true
}

func (e *engine) observe(x *replica, now time.Time) {
	for _, s := range e.h.w.sites {
		x.r.Observe(e.facts(s.id, now))
		state, at := e.h.of(s.id).Snapshot()
		if state == nil {
			continue
		}
		if evidence, ok := x.r.Report(state, at, s.id); ok {
			x.r.Fold(evidence)
		}
		if hello, has := e.h.hello[s.id]; has {
			if evidence, ok := x.r.Beat(&hello.Hello, state, hello.at, s.id); ok {
				x.r.Fold(evidence)
			}
		}
	}
}

// offer puts an offer into the site's assignment, if that does not carry it already.
func (e *engine) offer(x *replica, o rollout.Offer) {
	id := x.r.ID
	if e.aborted[id] {
		e.h.w.broken("R07: rollout %s offers after it was aborted", id)
	}
	current := e.h.disk.assignments[o.Site]
	sequence := current.Sequence
	ref := fleetsync.RolloutRef{ID: id, Attempt: o.Attempt}
	if len(current.Bundles) == 0 || current.Bundles[0].Digest != o.Goal.Digest || current.Bundles[0].Rollout == nil || *current.Bundles[0].Rollout != ref {
		sequence = e.put(o, &ref)
		again := e.placed[id][o.Site]
		e.placed[id][o.Site], e.ended[id][o.Site] = true, false
		if !again { // a site that failed keeps its place in the budget, and one that broke after it was well is nobody's
			e.budget(x.r)
		}
	}
	if err := x.r.Placed(o.Site, o.Attempt, sequence); err != nil {
		e.h.w.broken("rollout %s: %v", id, err)
	}
}

func (e *engine) put(o rollout.Offer, ref *fleetsync.RolloutRef) uint64 {
	a := fleetsync.Assignment{Site: o.Site, Issued: e.h.w.now, Sequence: e.h.disk.assignments[o.Site].Sequence + 1}
	if o.Goal.Digest != "" {
		a.Bundles = []fleetsync.AssignedBundle{{Name: moved, Version: o.Goal.Version, Digest: o.Goal.Digest, Rollout: ref, ApplyBy: o.ApplyBy}}
	}
	e.h.wanted[o.Site] = map[bundle.Name]bundle.Digest{moved: o.Goal.Digest}
	e.h.place(a)
	return a.Sequence
}

// back takes an offer back where the assignment still carries it.
func (e *engine) back(x *replica, o rollout.Offer) {
	current := e.h.disk.assignments[o.Site]
	if len(current.Bundles) > 0 && current.Bundles[0].Rollout != nil && current.Bundles[0].Rollout.ID == x.r.ID {
		e.put(o, nil)
	}
	if err := x.r.Withdrew(o.Site, o.Attempt); err != nil {
		e.h.w.broken("rollout %s: %v", x.r.ID, err)
	}
}

// budget is P5, counted from what sites truly said: an offered site that did not say how it ended is away.
func (e *engine) budget(r *rollout.Rollout) {
	for i, wave := range r.Waves {
		away := 0
		for _, s := range r.Sites {
			if s.Wave == i && e.placed[r.ID][s.Site] && !e.ended[r.ID][s.Site] {
				away++
			}
		}
		if away > wave.MaxUnavailable && e.h.restored == 0 {
			e.h.w.broken("P05: rollout %s, wave %s: %d sites are away, %d may be", r.ID, wave.Name, away, wave.MaxUnavailable)
		}
	}
}

// check holds a stored rollout against the truth.
func (e *engine) check(r *rollout.Rollout) {
	for _, s := range r.Sites {
		if s.Outcome == rollout.Succeeded && !e.said[r.ID][s.Site] {
			e.h.w.broken("R01: rollout %s counts %s as a success, and it never said so", r.ID, s.Site)
		}
		if s.Wave > 0 && e.placed[r.ID][s.Site] && e.h.restored == 0 {
			if _, known := e.opened[r.ID][s.Wave]; !known {
				e.opened[r.ID][s.Wave] = e.h.w.now
				well := 0
				for _, before := range r.Sites {
					if before.Wave == s.Wave-1 && e.said[r.ID][before.Site] {
						well++
					}
				}
				if well == 0 && r.Waves[s.Wave-1].Size > 0 {
					e.h.w.broken("P05: rollout %s: wave %s began and nobody of the one before was well", r.ID, r.Waves[s.Wave].Name)
				}
			}
		}
	}
}

// says notes what a site truly says of the versions that rollouts bring.
func (h *hub) says(state *fleetsync.State) {
	if h.engine == nil {
		return
	}
	for _, b := range state.Bundles {
		id, known := h.engine.brings[b.Digest]
		if !known {
			continue
		}
		well := b.Phase == fleetsync.PhaseCurrent && b.CurrentDigest == b.Digest
		if well {
			h.engine.said[id][state.Site] = true
		}
		if well || b.Phase == fleetsync.PhaseReverted {
			h.engine.ended[id][state.Site] = true
		}
	}
}

// applying lets a scenario act when a site begins an apply.
func (e *engine) applying(s *site, r fleetsync.Run) {
	if e.onApply != nil {
		e.onApply(s, r)
	}
}

// settled checks what rollouts must have come to after the fair part.
func (e *engine) settled() {
	at := e.newest()
	if at < 0 || e.h.w.failure != nil {
		return
	}
	r := e.decode(at)
	rel := e.h.genuine[r.Bundle.Digest]
	if r.Phase != rollout.Completed {
		d := r.Clone().Decide(e.h.w.now)
		e.h.w.broken("P06: rollout %s (bad %v) is %s after a fair time: %v", r.ID, rel.bad, r.Phase, d.Holds)
		return
	}
	for _, s := range e.h.w.sites {
		if got := s.installed[moved].applied; got != rel.digest {
			record, _ := r.Site(s.id)
			e.h.w.broken("P06: rollout %s of %s is complete, and %s (%s) runs %s", r.ID, rel.version, s.id, record.Outcome, e.h.genuine[got].version)
		}
	}
}
