package rollout

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Imagined is how a site would answer an offer.
type Imagined struct {
	Does Behaviour
	// After is how long its verdict takes from the offer; zero is five minutes.
	After Duration
}

// Behaviour is what an imagined site does.
type Behaviour string

// The behaviours.
const (
	DoesWell   Behaviour = "ok"     // succeeds and stays healthy
	DoesFail   Behaviour = "fail"   // fails, and reverts
	DoesSilent Behaviour = "silent" // says nothing from the offer on
	DoesDie    Behaviour = "die"    // says that it is applying, and nothing more
	DoesDecay  Behaviour = "decay"  // succeeds, and is unhealthy before its late report
)

// Simulation is what would happen: the same reducer, an imagined fleet, a virtual clock. Approvals and outside verdicts are given at once.
type Simulation struct {
	Layout  *Layout
	Steps   []SimulatedStep // decisions that moved something
	Rollout *Rollout        // as it ends
	Ended   time.Time
	Widest  int // most sites out of service at one time
}

// SimulatedStep is a decision that moved something.
type SimulatedStep struct {
	At     time.Time       `json:"at"`
	Moves  []Reason        `json:"moves,omitempty"`
	Offers []bundle.SiteID `json:"offers,omitempty"`
}

// maxSimulated bounds a simulation: decisions, and virtual time.
const (
	maxSimulated     = 200_000
	maxSimulatedTime = Duration(366 * 24 * time.Hour)
)

// Simulate plays the order against the fleet. Sites that are not in imagined do what otherwise says.
func Simulate(now time.Time, o Order, fleet Fleet, imagined map[bundle.SiteID]Imagined, otherwise Imagined) (*Simulation, error) {
	r, layout, err := Start(now, o, fleet)
	if err != nil {
		return nil, err
	}
	s := &simulator{Simulation: Simulation{Layout: layout, Rollout: r}, now: now, imagined: imagined, otherwise: otherwise, facts: map[bundle.SiteID]Facts{}}
	for _, f := range fleet.Members {
		if f.Connected {
			s.facts[f.Site] = f
		}
	}
	for range maxSimulated {
		if s.now.After(maxSimulatedTime.after(now)) || !s.step() {
			s.Ended = s.now
			return &s.Simulation, nil
		}
	}
	return nil, fmt.Errorf("simulation of %s: no end after %d decisions", o.ID, maxSimulated)
}

type simulator struct {
	Simulation
	now       time.Time
	imagined  map[bundle.SiteID]Imagined
	otherwise Imagined
	facts     map[bundle.SiteID]Facts // of sites that speak
	words     words
	seq       uint64
}

// step decides once, lets the imagined sites answer, and goes to when something happens next.
func (s *simulator) step() (more bool) {
	r := s.Rollout
	d := r.Decide(s.now)
	step := SimulatedStep{At: s.now, Moves: d.Moves}
	for _, o := range d.Offers {
		step.Offers = append(step.Offers, o.Site)
		s.seq++
		_ = r.Placed(o.Site, o.Attempt, s.seq) // the decision names only sites that have the offer
		s.answer(o)
	}
	out := 0
	for _, t := range r.index.tallies {
		out += t.Unavailable
	}
	s.Widest = max(s.Widest, out)
	for _, c := range d.Checks {
		_ = r.Verdict(s.now, c.Wave, c.Check.Name, Pass, "imagined") // asked for just now
	}
	if len(step.Moves) > 0 || len(step.Offers) > 0 {
		s.Steps = append(s.Steps, step)
	}
	if s.approve() || len(d.Checks) > 0 {
		return true
	}
	if r.Phase != Running {
		return false
	}
	return s.advance(d.Wake)
}

func (s *simulator) approve() (any bool) {
	r := s.Rollout
	for w := range r.Waves {
		if !r.Waves[w].Passed.IsZero() || !r.Waves[w].Opened.IsZero() {
			continue
		}
		for n := len(r.Waves[w].Approved); n < r.Plan.Spec.Waves[w].Approvals; n++ {
			if r.Approve(s.now, Actor{fmt.Sprintf("imagined approver %d", n+1), true}, r.Waves[w].Name) == nil {
				any = true
			}
		}
		break
	}
	return any
}

func (s *simulator) advance(wake time.Time) bool {
	next := wake
	if len(s.words) > 0 && (next.IsZero() || s.words[0].Received.Before(next)) {
		next = s.words[0].Received
	}
	if next.IsZero() {
		return false
	}
	s.now = latest(next, s.now)
	for id, f := range s.facts {
		f.LastSeen = s.now
		s.facts[id] = f
		s.Rollout.Observe(f)
	}
	for len(s.words) > 0 && !s.words[0].Received.After(s.now) {
		e := heap.Pop(&s.words).(Evidence)
		s.Rollout.Fold(e)
	}
	return true
}

// answer lines up what the site will say.
func (s *simulator) answer(o Offer) {
	does, has := s.imagined[o.Site]
	if !has {
		does = s.otherwise
	}
	after := or(does.After, Duration(5*time.Minute))
	soak := s.Rollout.soak(&s.Rollout.Sites[first(s.Rollout.find(o.Site))])
	say := func(in Duration, phase fleetsync.Phase) {
		s.seq++
		e := Evidence{
			Site: o.Site, Signer: o.Site, Rollout: s.Rollout.ID, Attempt: o.Attempt, Digest: o.Goal.Digest, Epoch: "imagined", Seq: s.seq,
			Received: in.after(s.now), Phase: phase, Reason: "Imagined",
		}
		if phase == fleetsync.PhaseCurrent {
			e.Runs = o.Goal.Digest
		}
		heap.Push(&s.words, e)
	}
	if does.Does == DoesSilent || does.Does == DoesDie {
		delete(s.facts, o.Site)
	}
	if does.Does == DoesSilent {
		return
	}
	say(after/4, fleetsync.PhaseAccepted)
	say(after/2, fleetsync.PhaseApplying)
	switch does.Does {
	case DoesWell, "":
		say(after, fleetsync.PhaseCurrent)
		say(after+soak, fleetsync.PhaseCurrent)
	case DoesDecay:
		say(after, fleetsync.PhaseCurrent)
		say(after+soak/2, fleetsync.PhaseUnhealthy)
	case DoesFail:
		say(after, fleetsync.PhaseReverting)
		say(after+after/2, fleetsync.PhaseReverted)
	}
}

func first[A, B any](a A, _ B) A { return a }

// words are what imagined sites will say, by time.
type words []Evidence

func (w words) Len() int { return len(w) }
func (w words) Less(a, b int) bool {
	if c := w[a].Received.Compare(w[b].Received); c != 0 {
		return c < 0
	}
	return w[a].Seq < w[b].Seq
}
func (w words) Swap(a, b int) { w[a], w[b] = w[b], w[a] }
func (w *words) Push(v any)   { *w = append(*w, v.(Evidence)) }
func (w *words) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}
