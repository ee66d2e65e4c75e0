// Package sim is the whole fleet in one goroutine: the real decision cores of hub and edges, a virtual clock, and a world that loses messages,
// doubles them, kills agents at any effect and edits clusters behind their back. Everything that happens follows from one seed.
//
// What is real: fleetsync.Edge, fleetsync.Ingest, and the signatures of what the hub says. What is modelled: the signatures of reports, which
// would take half of the time, the bus (a message arrives late, twice or not at all, and its answer may be lost), the store (a commit is
// lost with a crash, or survives it), the cluster (one version and one object that somebody edits), and verification (a set of genuine
// manifests; everything else is refused).
package sim

import (
	"container/heap"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Config is one world. Chances are per occasion, from 0 to 1.
type Config struct {
	Seed     uint64
	Sites    int
	Length   time.Duration // of the troubled part; a fair hour follows
	Loss     float64       // a request or its answer is lost
	Crash    float64       // an agent dies at an effect
	Cut      float64       // a link changes, each virtual minute
	Edit     float64       // somebody edits a cluster, each virtual minute
	Release  float64       // the hub assigns something, each virtual minute
	Evil     float64       // what the bus serves was tampered with
	Rejected float64       // an API server refuses or fails an apply
	Bad      float64       // a release never becomes healthy
	Pending  int           // bound of the outbox; 0 is the default
}

// World is a running simulation.
type World struct {
	cfg     Config
	rng     *rand.Rand
	now     time.Time
	fair    bool // no more faults
	agenda  agenda
	order   int
	hub     *hub
	sites   []*site
	Trace   []string
	failure error
}

// New makes a world that has not begun.
func New(cfg Config) *World {
	w := &World{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.hub = newHub(w)
	for i := range cfg.Sites {
		w.sites = append(w.sites, newSite(w, bundle.SiteID(fmt.Sprintf("site-%d", i))))
	}
	return w
}

// Run plays the troubled part and a fair hour after it, and returns the first broken invariant.
func (w *World) Run() error {
	for _, s := range w.sites {
		w.hub.assign(s.id)
		s.boot()
	}
	end := w.now.Add(w.cfg.Length)
	for minute := w.now; minute.Before(end); minute = minute.Add(time.Minute) {
		w.at(minute, w.trouble)
	}
	w.play(end)
	w.fair = true
	for _, s := range w.sites {
		s.setLink(true)
	}
	w.play(end.Add(time.Hour))
	if w.failure == nil {
		w.failure = w.settled()
	}
	return w.failure
}

// at puts something on the agenda.
func (w *World) at(when time.Time, do func()) {
	w.order++
	heap.Push(&w.agenda, entry{when, w.order, do})
}

// soon is a delay as a link or a cluster has it.
func (w *World) soon(longest time.Duration) time.Time {
	return w.now.Add(time.Millisecond + time.Duration(w.rng.Int64N(int64(longest))))
}

func (w *World) chance(p float64) bool { return !w.fair && w.rng.Float64() < p }

func (w *World) play(until time.Time) {
	for len(w.agenda) > 0 && w.failure == nil && !w.agenda[0].when.After(until) {
		next := heap.Pop(&w.agenda).(entry)
		w.now = next.when
		next.do()
	}
	w.now = until
}

func (w *World) say(format string, args ...any) {
	if len(w.Trace) < 20_000 {
		w.Trace = append(w.Trace, w.now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (w *World) broken(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("seed %d at %s: %s", w.cfg.Seed, w.now.Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
		w.say("BROKEN %v", w.failure)
	}
}

// trouble is what a minute brings.
func (w *World) trouble() {
	for _, s := range w.sites {
		if w.chance(w.cfg.Cut) {
			s.setLink(!s.linked)
		}
		if w.chance(w.cfg.Edit) && s.cluster.applied != "" {
			s.edit()
		}
		if w.chance(w.cfg.Release) {
			w.hub.assign(s.id)
		}
	}
}

// settled checks what must be true after a fair hour.
func (w *World) settled() error {
	for _, s := range w.sites {
		if err := s.settled(); err != nil {
			return fmt.Errorf("seed %d: %s: %w", w.cfg.Seed, s.id, err)
		}
	}
	return nil
}

// release is one signed manifest.
type release struct {
	name    bundle.Name
	version bundle.Version
	counter bundle.Counter
	digest  bundle.Digest
	bad     bool // never becomes healthy
}

// hub is the hub's side: its signed assignments, its ingest, its acknowledgements.
type hub struct {
	w           *World
	key         ed25519.PrivateKey
	genuine     map[bundle.Digest]release
	newest      int
	assignments map[bundle.SiteID][]byte
	sequence    map[bundle.SiteID]uint64
	wanted      map[bundle.SiteID]bundle.Digest // of the newest assignment; empty: nothing
	ingest      map[bundle.SiteID]*fleetsync.Ingest
	acks        map[bundle.SiteID][]byte
	folded      map[bundle.SiteID]map[string]fleetsync.Event
}

func newHub(w *World) *hub {
	return &hub{
		w: w, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		genuine: map[bundle.Digest]release{}, assignments: map[bundle.SiteID][]byte{}, sequence: map[bundle.SiteID]uint64{}, wanted: map[bundle.SiteID]bundle.Digest{},
		ingest: map[bundle.SiteID]*fleetsync.Ingest{}, acks: map[bundle.SiteID][]byte{}, folded: map[bundle.SiteID]map[string]fleetsync.Event{},
	}
}

// assign gives a site a new release, an old one again, or nothing.
func (h *hub) assign(id bundle.SiteID) {
	a := fleetsync.Assignment{Site: id, Issued: h.w.now}
	h.sequence[id]++
	a.Sequence = h.sequence[id]
	h.wanted[id] = ""
	if h.w.fair || h.newest == 0 || h.w.rng.Float64() < 0.9 {
		r := h.release()
		if h.w.rng.Float64() < 0.15 { // an older one: the site must refuse it if it had a newer one
			r = h.some()
		}
		h.wanted[id] = r.digest
		a.Bundles = []fleetsync.AssignedBundle{{Name: r.name, Version: r.version, Digest: r.digest}}
	}
	sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, a, h.key)
	if err != nil {
		h.w.broken("seal: %v", err)
	}
	h.assignments[id] = sealed
	h.w.say("hub assigns %s sequence %d: %s", id, a.Sequence, h.wanted[id].Short())
	h.poke(id)
}

func (h *hub) release() release {
	h.newest++
	version := bundle.Version(fmt.Sprintf("1.%d.0", h.newest))
	r := release{"shop", version, bundle.Counter(h.newest), bundle.DigestOf([]byte(version)), h.w.chance(h.w.cfg.Bad)}
	h.genuine[r.digest] = r
	return r
}

func (h *hub) some() release {
	digests := slices.Sorted(maps.Keys(h.genuine))
	return h.genuine[digests[h.w.rng.IntN(len(digests))]]
}

func (h *hub) poke(id bundle.SiteID) {
	for _, s := range h.w.sites {
		if s.id == id {
			s.deliver(fleetsync.Poked{}, time.Second)
		}
	}
}

// receive folds what a site's report brought, as internal/hub does.
func (h *hub) receive(id bundle.SiteID, messageType string, report []byte) {
	if h.ingest[id] == nil {
		h.ingest[id] = fleetsync.NewIngest(id)
		h.folded[id] = map[string]fleetsync.Event{}
	}
	switch messageType {
	case fleetsync.TypeState:
		var state fleetsync.State
		if err := json.Unmarshal(report, &state); err != nil {
			h.w.broken("state of %s does not decode: %v", id, err)
			return
		}
		_, _ = h.ingest[id].State(state, h.w.now) // late and doubled ones are refused by design
	case fleetsync.TypeEvents:
		h.receiveEvents(id, report)
	}
}

func (h *hub) receiveEvents(id bundle.SiteID, report []byte) {
	var batch fleetsync.EventBatch
	if err := json.Unmarshal(report, &batch); err != nil {
		h.w.broken("events of %s do not decode: %v", id, err)
		return
	}
	folded, err := h.ingest[id].Events(batch, h.w.now)
	if err != nil {
		h.w.broken("events of %s refused: %v", id, err)
		return
	}
	for _, ev := range folded.New {
		key := fmt.Sprintf("%s/%d", batch.Epoch, ev.Sequence)
		if _, twice := h.folded[id][key]; twice {
			h.w.broken("P04: event %s of %s counted twice", key, id)
		}
		h.folded[id][key] = ev
	}
	ack, ok := h.ingest[id].Ack()
	if !ok {
		return
	}
	if h.acks[id], err = fleetsync.Seal(fleetsync.TypeAck, ack, h.key); err != nil {
		h.w.broken("seal: %v", err)
	}
	h.poke(id)
}

// entry is something on the agenda; ties keep the order in which they were put.
type entry struct {
	when  time.Time
	order int
	do    func()
}

type agenda []entry

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].when.Before(a[j].when) || (a[i].when.Equal(a[j].when) && a[i].order < a[j].order)
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(entry)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// Tail is the end of the trace, for a failing seed.
func (w *World) Tail(lines int) string {
	return strings.Join(w.Trace[max(0, len(w.Trace)-lines):], "\n")
}
