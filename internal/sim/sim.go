// Package sim is the whole fleet in one goroutine: the real decision cores of hub and edges, a virtual clock, and a world that loses messages,
// doubles them, kills agents and hubs at any effect, breaks disks, sets clocks wrong and edits clusters behind their back. Everything that
// happens follows from one seed.
//
// What is real: fleetsync.Edge and fleetsync.Ingest, the signatures of what the hub says, verify.Trust with its counters, floors and key
// rotations, and rollout.Rollout under compare-and-swap by two replicas. What is modelled: the mathematics of release signatures and the
// signatures of reports, which would take most of the time; the bus (a message arrives late, twice or not at all, and its answer may be
// lost; what arrived is durable); the store (a commit is lost with a crash, survives it, or is made and reported as failed; the disk may
// take no writes for a while, or be damaged and set aside) with the anchor beside it; the cluster (a version and an object of each bundle).
//
// Every effect of an agent is carried out, or not, or carried out and reported as failed, or carried out before a crash.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Config is one world. Chances are per occasion, from 0 to 1.
type Config struct {
	Seed      uint64
	Sites     int
	Length    time.Duration // of the troubled part; Fair follows
	Fair      time.Duration // without new trouble, after which everything must be right; 0 is an hour
	HeartBeat time.Duration // 0 is a minute
	Pending   int           // bound of the outbox; 0 is the default

	Loss     float64 // a request or its answer is lost
	Crash    float64 // an agent dies at an effect
	Cut      float64 // a link changes, each virtual minute
	Edit     float64 // somebody edits a cluster, each virtual minute
	Release  float64 // the hub assigns something, each virtual minute
	Evil     float64 // what the bus serves was tampered with, or the hub orders what nobody released
	Rejected float64 // an API server refuses or fails an apply
	Bad      float64 // a release never becomes healthy
	Disk     float64 // a disk begins or ends to take no writes, each virtual minute
	Damage   float64 // a store is damaged and set aside, each virtual minute
	Clock    float64 // a clock is wrong after a start
	HubCrash float64 // the hub dies, each virtual minute
	Restore  float64 // the hub is put back to an earlier state of its disk, each virtual minute
	Rotate   float64 // a release key is replaced, each virtual minute
	Withdraw float64 // a release is withdrawn, each virtual minute
	Late     float64 // a report arrives a second time, days late

	// What holds a site back, and what it judges by itself (judgement.go).
	Hold       float64 // an order has a lease, a window or a blackout
	Busy       float64 // somebody at a site says that it is busy, or takes it back, each virtual minute
	Override   float64 // somebody declares an override or ends it, each virtual minute
	Confirm    float64 // a release affects the line: the hub is to be reached after its apply
	Empties    float64 // a release's plan is suspicious
	Reboot     float64 // a start of the agent is one of the machine; 0: no machine knows its boots
	FirstApply fleetsync.FirstApply

	// Notes has the clusters keep the sites' notes. No disk is put back here, so none may say that it was.
	Notes bool

	// Rollouts moves the sites by rollouts instead of single orders. Skew is how far the clock of the second hub replica is ahead.
	Rollouts bool
	Skew     time.Duration
}

// World is a running simulation.
type World struct {
	cfg     Config
	rng     *rand.Rand
	begin   time.Time
	now     time.Time
	fair    bool // no more faults
	agenda  agenda
	order   int
	hub     *hub
	sites   []*site
	trace   []string
	traced  bool
	failure error
}

// New makes a world that has not begun.
func New(cfg Config) *World {
	if cfg.Fair == 0 {
		cfg.Fair = time.Hour
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &World{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), begin: begin, now: begin}
	w.hub = newHub(w)
	for i := range cfg.Sites {
		w.sites = append(w.sites, newSite(w, bundle.SiteID(fmt.Sprintf("site-%d", i))))
	}
	return w
}

// Traced makes the world write down what happens, which takes most of the time.
func (w *World) Traced() *World {
	w.traced = true
	return w
}

// Run plays the troubled part and the fair one after it, and returns the first broken invariant.
func (w *World) Run() error {
	w.start()
	w.play(w.begin.Add(w.cfg.Length))
	w.mend()
	w.play(w.now.Add(w.cfg.Fair))
	return w.settled()
}

func (w *World) start() {
	for _, s := range w.sites {
		if !w.cfg.Rollouts {
			w.hub.assign(s.id)
		}
		s.boot()
	}
	if w.cfg.Rollouts {
		w.hub.engine = newEngine(w.hub)
	}
	w.at(w.now, w.minute)
}

// mend ends all trouble.
func (w *World) mend() {
	w.fair = true
	for _, s := range w.sites {
		s.setLink(true)
		s.mendDisk()
	}
	if w.hub.engine != nil {
		w.hub.engine.replicas[1].skew = 0
	}
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

func (w *World) chance(p float64) bool { return p > 0 && !w.fair && w.rng.Float64() < p }

func (w *World) play(until time.Time) {
	for len(w.agenda) > 0 && w.failure == nil && !w.agenda[0].when.After(until) {
		next := heap.Pop(&w.agenda).(entry)
		w.now = next.when
		next.do()
	}
	w.now = until
}

func (w *World) say(format string, args ...any) {
	if w.traced && len(w.trace) < 200_000 {
		w.trace = append(w.trace, w.now.Format("01-02 15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (w *World) broken(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("seed %d at %s: %s", w.cfg.Seed, w.now.Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
		w.say("BROKEN %v", w.failure)
	}
}

// minute is what a minute brings.
func (w *World) minute() {
	w.at(w.now.Add(time.Minute), w.minute)
	if w.fair {
		w.hub.operate()
		return
	}
	for _, s := range w.sites {
		s.trouble()
		if !w.cfg.Rollouts && w.chance(w.cfg.Release) {
			w.hub.assign(s.id)
		}
	}
	w.hub.trouble()
}

// settled checks what must be true after the fair part.
func (w *World) settled() error {
	for _, s := range w.sites {
		if err := s.settled(); err != nil {
			w.broken("%s: %v", s.id, err)
		}
	}
	if w.hub.engine != nil {
		w.hub.engine.settled()
	}
	return w.failure
}

// Tail is the end of the trace, for a failing seed.
func (w *World) Tail(lines int) string {
	return strings.Join(w.trace[max(0, len(w.trace)-lines):], "\n")
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
