package sim

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// names are the bundles of the fleet. Some releases of the second need the first.
var names = []bundle.Name{"base", "shop"}

// hub is the hub's side. What is in hubDisk outlives a crash; the rest is what the process, or people at their desks, know.
type hub struct {
	w      *World
	key    ed25519.PrivateKey
	up     bool
	disk   *hubDisk
	image  *hubDisk // an earlier state of the disk, as a backup has it
	engine *engine

	ingest  map[bundle.SiteID]*fleetsync.Ingest
	next    int // the first report that this process has not folded
	folding bool
	hello   map[bundle.SiteID]beat
	sealed  map[bundle.SiteID]sealed
	// Truth, for the invariants.
	counted map[bundle.SiteID]map[string]fleetsync.Event // by epoch and sequence
	gaps    map[bundle.SiteID][]gap
	heard   map[bundle.SiteID]time.Time       // something arrived
	lost    map[bundle.SiteID]map[string]bool // acknowledged, and gone with a restore
	refused map[bundle.SiteID]bool            // the site says that it refuses the order
	cloned  map[bundle.SiteID]bool            // two copies of one epoch were alive, so that it is not one chain

	// The desk: what was released, and whom the root believes.
	genuine    map[bundle.Digest]release
	offers     map[bundle.Digest]release // genuine or not
	newest     map[bundle.Name]bundle.Counter
	wanted     map[bundle.SiteID]map[bundle.Name]bundle.Digest // of the newest order
	generation int
	chain      []*verify.Trust
	restored   int
}

// hubDisk is what the hub's streams hold.
type hubDisk struct {
	assignments map[bundle.SiteID]fleetsync.Assignment
	reports     []report
	acks        map[bundle.SiteID]acked
	rollouts    []document
	token       uint64 // fencing token of the newest leader
}

type report struct {
	site  bundle.SiteID
	at    time.Time // of arrival, by the bus
	state *fleetsync.State
	batch *fleetsync.EventBatch
}

// gap is a gap event that arrived.
type gap struct {
	epoch string
	fleetsync.Event
}

type acked struct {
	fleetsync.Ack
	at time.Time
}

type beat struct {
	fleetsync.Hello
	at     time.Time
	behind int // hellos in a row that knew of another snapshot than is held
}

// sealed are the signed messages of a site, made when somebody asks for them.
type sealed struct{ assignment, ack []byte }

func newHub(w *World) *hub {
	h := &hub{
		w: w, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), up: true,
		disk:    &hubDisk{assignments: map[bundle.SiteID]fleetsync.Assignment{}, acks: map[bundle.SiteID]acked{}},
		genuine: map[bundle.Digest]release{}, offers: map[bundle.Digest]release{}, newest: map[bundle.Name]bundle.Counter{},
		wanted: map[bundle.SiteID]map[bundle.Name]bundle.Digest{}, lost: map[bundle.SiteID]map[string]bool{}, heard: map[bundle.SiteID]time.Time{}, refused: map[bundle.SiteID]bool{}, cloned: map[bundle.SiteID]bool{},
	}
	h.chain = []*verify.Trust{trust(0, nil)}
	h.begin()
	return h
}

func (d *hubDisk) clone() *hubDisk {
	c := *d
	c.assignments, c.acks = maps.Clone(d.assignments), maps.Clone(d.acks)
	c.reports, c.rollouts = slices.Clip(d.reports), slices.Clone(d.rollouts)
	return &c
}

// begin is a start of the process: it folds what the streams hold, as internal/hub does.
func (h *hub) begin() {
	h.up, h.next = true, 0
	h.ingest, h.hello, h.sealed = map[bundle.SiteID]*fleetsync.Ingest{}, map[bundle.SiteID]beat{}, map[bundle.SiteID]sealed{}
	h.counted, h.gaps = map[bundle.SiteID]map[string]fleetsync.Event{}, map[bundle.SiteID][]gap{}
	newest := map[bundle.SiteID]int{}
	for i, r := range h.disk.reports {
		if r.state != nil {
			newest[r.site] = i
		}
	}
	for i, r := range h.disk.reports {
		if r.state == nil || newest[r.site] == i { // of states the stream keeps the newest
			h.fold(r)
		}
	}
	h.next = len(h.disk.reports)
	for _, id := range slices.Sorted(maps.Keys(h.disk.acks)) {
		ack := h.disk.acks[id]
		if err := h.of(id).Acked(ack.Ack, ack.at); err != nil {
			h.w.broken("an own ack of %s is refused: %v", id, err)
		}
		if epoch, upto := h.of(id).Window(); epoch == ack.Epoch && upto < ack.Upto {
			h.w.broken("P04: %s: %d was acknowledged, the restarted hub has %d", id, ack.Upto, upto)
		}
	}
}

func (h *hub) of(id bundle.SiteID) *fleetsync.Ingest {
	if h.ingest[id] == nil {
		h.ingest[id], h.counted[id] = fleetsync.NewIngest(id), map[string]fleetsync.Event{}
	}
	return h.ingest[id]
}

// trouble is what a minute brings to the hub and to those who release.
func (h *hub) trouble() {
	w := h.w
	switch {
	case !h.up:
	case w.chance(w.cfg.HubCrash):
		h.crash("")
	case w.cfg.Restore > 0 && h.image == nil && w.chance(0.05):
		w.say("the hub is backed up")
		h.image = h.disk.clone()
	case h.image != nil && w.chance(w.cfg.Restore):
		h.restore()
	}
	if w.chance(w.cfg.Rotate) && h.generation < generations-1 {
		h.generation++
		h.say("a new release key")
	}
	if w.chance(w.cfg.Withdraw) {
		h.withdraw()
	}
	if h.engine != nil {
		h.engine.minute()
	}
}

// operate is what people do when nothing else goes wrong: they order anew where a site has a later order than the hub knows of, or
// refuses the one it has (F11).
func (h *hub) operate() {
	for _, s := range h.w.sites {
		state, _ := h.of(s.id).Snapshot()
		current := h.disk.assignments[s.id]
		switch {
		case !h.up || state == nil || state.Assignment <= current.Sequence && !h.refused[s.id]:
		case h.engine == nil:
			h.assign(s.id)
		default: // the next rollout brings what is new
			current.Site, current.Sequence = s.id, max(state.Assignment, current.Sequence)+1
			h.place(current)
		}
	}
	if h.engine != nil {
		h.engine.minute()
	}
}

func (h *hub) crash(where string) {
	h.w.say("the hub dies %s", where)
	h.up = false
	if h.engine != nil {
		h.engine.forget()
	}
	for _, s := range h.w.sites { // the bus is in the same process
		s.setLink(false)
	}
	h.w.at(h.w.soon(3*time.Minute), func() {
		h.w.say("the hub is back")
		h.begin()
		for _, s := range h.w.sites {
			s.setLink(true)
		}
	})
}

// restore puts the disk back to its earlier state.
func (h *hub) restore() {
	for _, id := range slices.Sorted(maps.Keys(h.counted)) {
		if h.lost[id] == nil {
			h.lost[id] = map[string]bool{}
		}
		for key := range h.counted[id] {
			h.lost[id][key] = true
		}
	}
	h.disk, h.image = h.image, nil
	h.restored++
	clear(h.wanted)
	for id, a := range h.disk.assignments {
		h.wanted[id] = map[bundle.Name]bundle.Digest{}
		for _, b := range a.Bundles {
			h.wanted[id][b.Name] = b.Digest
		}
	}
	h.crash("and is put back to an old backup")
}

// say publishes what the root says now.
func (h *hub) say(what string) {
	floors := map[bundle.Name]bundle.Counter{}
	for _, r := range h.genuine {
		if r.withdrawn {
			floors[r.name] = max(floors[r.name], r.counter+1)
		}
	}
	h.chain = append(h.chain, trust(h.generation, floors))
	h.w.say("root %d: %s", len(h.chain)-1, what)
	for _, s := range h.w.sites {
		h.poke(s.id)
	}
}

// withdraw takes the newest release of a bundle back and gives those who were to have it the next one (F20).
func (h *hub) withdraw() {
	name := names[h.w.rng.IntN(len(names))]
	if h.newest[name] == 0 {
		return
	}
	gone := h.latest(name)
	gone.withdrawn = true
	h.genuine[gone.digest] = gone
	h.say(fmt.Sprintf("%s@%s is withdrawn", gone.name, gone.version))
	next := h.release(name)
	for _, s := range h.w.sites {
		if h.engine == nil && h.wanted[s.id][name] == gone.digest {
			order := maps.Clone(h.wanted[s.id])
			order[name] = next.digest
			h.order(s.id, order)
		}
	}
}

func (h *hub) release(name bundle.Name) release {
	h.newest[name]++
	var requires bundle.Name
	if name == "shop" && h.newest[name]%4 == 0 && h.engine == nil {
		requires = "base"
	}
	r := newRelease(name, h.newest[name], requires, h.generation)
	r.bad = h.w.chance(h.w.cfg.Bad)
	h.w.character(&r)
	h.genuine[r.digest], h.offers[r.digest] = r, r
	return r
}

func (h *hub) latest(name bundle.Name) release {
	for _, r := range h.genuine {
		if r.name == name && r.counter == h.newest[name] {
			return r
		}
	}
	return release{}
}

// believable says that a site which knows the newest root takes it for the first time.
func (h *hub) believable(r release) bool {
	_, known := h.genuine[r.digest]
	return known && slices.Equal(r.signature, sign(releaseKeys()[h.generation], r.manifest)) && r.counter >= h.chain[len(h.chain)-1].Floors[r.name]
}

// some is an older release.
func (h *hub) some(name bundle.Name) release {
	all := slices.Sorted(maps.Keys(h.genuine))
	if r := h.genuine[all[h.w.rng.IntN(len(all))]]; r.name == name {
		return r
	}
	return h.latest(name)
}

// forged is what a compromised hub serves: a manifest that no release key signed.
func (h *hub) forged(name bundle.Name) release {
	r := newRelease(name, h.newest[name]+1000, "", h.generation)
	r.signature = append([]byte(nil), h.latest(name).signature...)
	h.offers[r.digest] = r
	return r
}

// assign gives a site new releases, old ones again, forged ones, or nothing.
func (h *hub) assign(id bundle.SiteID) {
	rng := h.w.rng
	order := map[bundle.Name]bundle.Digest{}
	for _, name := range names {
		before, had := h.wanted[id][name]
		p := rng.Float64()
		switch {
		case h.newest[name] == 0 || h.w.fair || p < 0.6:
			order[name] = h.release(name).digest
		case p < 0.7 && had:
			order[name] = before
		case p < 0.85: // the site must refuse it if it had a newer one
			order[name] = h.some(name).digest
		case h.w.chance(h.w.cfg.Evil):
			order[name] = h.forged(name).digest
		}
	}
	h.order(id, order)
}

// order signs an assignment, above what the site is known to have already.
func (h *hub) order(id bundle.SiteID, order map[bundle.Name]bundle.Digest) uint64 {
	a := fleetsync.Assignment{Site: id, Zone: siteZone, Issued: h.w.now, Sequence: h.disk.assignments[id].Sequence + 1}
	if state, _ := h.of(id).Snapshot(); state != nil {
		a.Sequence = max(a.Sequence, state.Assignment+1)
	}
	for _, name := range names {
		if d := order[name]; d != "" {
			b := fleetsync.AssignedBundle{Name: name, Version: h.offers[d].version, Digest: d}
			h.w.conditions(&b)
			a.Bundles = append(a.Bundles, b)
		}
	}
	h.wanted[id] = order
	h.place(a)
	return a.Sequence
}

func (h *hub) place(a fleetsync.Assignment) {
	h.disk.assignments[a.Site] = a
	delete(h.refused, a.Site)
	h.sealed[a.Site] = sealed{ack: h.sealed[a.Site].ack}
	h.w.say("hub assigns %s sequence %d: %s", a.Site, a.Sequence, describe(a))
	h.poke(a.Site)
}

func describe(a fleetsync.Assignment) (text string) {
	for _, b := range a.Bundles {
		text += fmt.Sprintf(" %s@%s", b.Name, b.Version)
		if !b.ApplyBy.IsZero() {
			text += " before " + b.ApplyBy.Format(timeFormat)
		}
		if b.Schedule != nil {
			raw, _ := json.Marshal(b.Schedule)
			text += " " + string(raw)
		}
	}
	return text
}

func (h *hub) poke(id bundle.SiteID) {
	for _, s := range h.w.sites {
		if s.id == id && s.linked {
			s.deliver(fleetsync.Poked{}, time.Second)
		}
	}
}

// greet notes a hello. A site that twice knows of another snapshot than is held is asked for a newer one, as internal/hub/view.go does.
func (h *hub) greet(id bundle.SiteID, hello fleetsync.Hello) {
	h.heard[id] = h.w.now
	behind := 0
	state, _ := h.of(id).Snapshot()
	if hello.State > 0 && (state == nil || state.Epoch != hello.Epoch || state.Sequence != hello.State) {
		behind = h.hello[id].behind + 1
	}
	h.hello[id] = beat{hello, h.w.now, behind}
	if err := h.of(id).Hello(hello, h.w.now); err != nil {
		h.w.broken("%s: hello: %v", id, err)
	}
	if ack, _ := h.of(id).Ack(); behind >= 2 && ack.Epoch == hello.Epoch {
		ack.Snapshot = hello.State
		if state != nil && state.Epoch == ack.Epoch {
			ack.Snapshot = max(ack.Snapshot, state.Sequence)
		}
		h.acknowledge(id, ack)
	}
}

// fresh answers a hello that asks what is newest.
func (h *hub) fresh(id bundle.SiteID, nonce string) []byte {
	f := fleetsync.Fresh{Site: id, Nonce: nonce, Time: h.w.now, Assignment: h.disk.assignments[id].Sequence}
	if ack, has := h.disk.acks[id]; has {
		f.Ack = &ack.Ack
	}
	return h.seal(fleetsync.TypeFresh, f)
}

func (h *hub) acknowledge(id bundle.SiteID, ack fleetsync.Ack) {
	if before := h.disk.acks[id]; ack.Epoch == before.Epoch && ack.Upto < before.Upto {
		h.w.broken("P04: the acknowledgement of %s falls from %d to %d", id, before.Upto, ack.Upto)
	}
	h.disk.acks[id] = acked{ack, h.w.now}
	h.sealed[id] = sealed{assignment: h.sealed[id].assignment}
	h.poke(id)
}

// look is what a site reads: the newest assignment and ack.
func (h *hub) look(id bundle.SiteID) (assignment, ack []byte) {
	s := h.sealed[id]
	if a, has := h.disk.assignments[id]; has && s.assignment == nil {
		s.assignment = h.seal(fleetsync.TypeAssignment, a)
	}
	if a, has := h.disk.acks[id]; has && s.ack == nil {
		s.ack = h.seal(fleetsync.TypeAck, a.Ack)
	}
	h.sealed[id] = s
	return s.assignment, s.ack
}

func (h *hub) seal(messageType string, payload any) []byte {
	sealed, err := fleetsync.Seal(messageType, payload, h.key)
	if err != nil {
		h.w.broken("seal: %v", err)
	}
	return sealed
}

// arrive makes a report durable, and folds it soon.
func (h *hub) arrive(r report) {
	r.at = h.w.now
	h.heard[r.site] = h.w.now
	h.disk.reports = append(h.disk.reports, r)
	if !h.folding {
		h.folding = true
		h.w.at(h.w.soon(2*time.Second), func() {
			h.folding = false
			if h.up {
				h.catchUp()
			}
		})
	}
}

// catchUp folds what arrived and acknowledges it.
func (h *hub) catchUp() {
	dirty := map[bundle.SiteID]bool{}
	for ; h.next < len(h.disk.reports); h.next++ {
		r := h.disk.reports[h.next]
		h.fold(r)
		dirty[r.site] = true
	}
	if h.w.chance(h.w.cfg.HubCrash) {
		h.crash("before an acknowledgement")
		return
	}
	for _, s := range h.w.sites {
		if ack, ok := h.of(s.id).Ack(); ok && dirty[s.id] && !reflect.DeepEqual(ack, h.disk.acks[s.id].Ack) {
			h.acknowledge(s.id, ack)
		}
	}
}

func (h *hub) fold(r report) {
	in := h.of(r.site)
	if r.state != nil {
		before, _ := in.Snapshot()
		_, _ = in.State(*r.state, r.at) // late and doubled ones are refused by design
		after, at := in.Snapshot()
		if before != nil && before.Epoch == after.Epoch && after.Sequence < before.Sequence {
			h.w.broken("P08: the picture of %s goes back from snapshot %d to %d", r.site, before.Sequence, after.Sequence)
		}
		if at.After(h.heard[r.site]) || in.Heard().After(h.heard[r.site]) {
			h.w.broken("P08: %s counts as heard at %s, after anything arrived", r.site, in.Heard())
		}
		return
	}
	folded, err := in.Events(*r.batch, r.at)
	if err != nil {
		h.w.broken("events of %s refused: %v", r.site, err)
		return
	}
	if folded.Broken != 0 && !h.cloned[r.site] {
		h.w.broken("P04: the chain of %s breaks at event %d of %s", r.site, folded.Broken, r.batch.Epoch)
	}
	for _, ev := range r.batch.Events { // also one in the place of an event that had arrived before: the hub's alarms tell it
		if ev.Kind == fleetsync.EventGap {
			h.gaps[r.site] = append(h.gaps[r.site], gap{r.batch.Epoch, ev})
		}
	}
	for _, ev := range folded.New {
		key := eventID(r.batch.Epoch, ev.Sequence)
		if _, twice := h.counted[r.site][key]; twice {
			h.w.broken("P04: event %s of %s counted twice", key, r.site)
		}
		h.counted[r.site][key] = ev
		h.refused[r.site] = h.refused[r.site] || ev.Kind == fleetsync.EventAssignRefused
	}
}

func eventID(epoch string, sequence uint64) string { return fmt.Sprintf("%s/%d", epoch, sequence) }
