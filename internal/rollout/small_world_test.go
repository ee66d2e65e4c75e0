package rollout

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// The small world: every order of everything that can happen to a few sites in two waves. One tick is longer than darkAfter and soak.
const (
	tick      = 16 * time.Minute
	smallPlan = `{"offline":{"darkAfter":"15m"},"waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"15m","deadline":"60m"},
		{"name":"rest","sites":{"all":true},"maxUnavailable":1,"ratio":0.5,"soak":"15m","deadline":"60m"}]}`
)

// small is one state of the search.
type small struct {
	r     *Rollout
	now   time.Time
	facts []Facts
	said  []Evidence // the last of each site, for duplicates
	old   []Evidence // one of an earlier attempt, if there was one
	well  []bool     // signed success for this digest, ever
	late  []bool     // and again at least soak later
	first []time.Time
	seq   uint64
	path  []string
}

func (s *small) clone() *small {
	c := *s
	c.r = s.r.Clone()
	c.facts = append([]Facts{}, s.facts...)
	c.said, c.old = append([]Evidence{}, s.said...), append([]Evidence{}, s.old...)
	c.well, c.late, c.first = append([]bool{}, s.well...), append([]bool{}, s.late...), append([]time.Time{}, s.first...)
	return &c
}

// key is the state without what no rule looks at: absolute times, sequences, the trail.
func (s *small) key() string {
	var b strings.Builder
	age := func(t time.Time, most int) int {
		if t.IsZero() {
			return -1
		}
		return max(-1, min(int(s.now.Sub(t)/tick), most)) + 1
	}
	r := s.r
	fmt.Fprint(&b, r.Phase, r.Attempt, r.Pulled, s.now.Before(r.Grace), age(r.Calm, 1), ";")
	for i := range r.Waves {
		w := &r.Waves[i]
		fmt.Fprint(&b, age(w.From, 5), age(w.Quorum, 4), w.Passed.IsZero(), w.Accepted, ";")
	}
	for i := range r.Sites {
		x := &r.Sites[i]
		fmt.Fprint(&b, x.Outcome, x.Was, x.Wave, x.Attempt, age(x.Offered, 1), x.Placed > 0, age(x.Applied, 1), x.Late, x.Why == DarkReason, x.Took, x.Slot,
			x.Withdraw, age(x.Heard, 1), age(s.facts[i].LastSeen, 1), s.facts[i].Connected, s.said[i].Seq > 0, s.old[i].Seq > 0, s.well[i], s.late[i], age(s.first[i], 1), ";")
	}
	return b.String()
}

// tell lets a site say something, if it has the offer. It is heard by that.
func (s *small) tell(i int, phase fleetsync.Phase) bool {
	x := &s.r.Sites[i]
	if x.Placed == 0 || !s.facts[i].Connected {
		return false
	}
	s.seq++
	id := s.facts[i].Site
	e := Evidence{
		Site: id, Signer: id, Rollout: s.r.ID, Attempt: x.Attempt, Digest: newer.Digest, Epoch: "e", Seq: s.seq, Received: s.now, Phase: phase,
	}
	if phase == fleetsync.PhaseCurrent {
		e.Runs = newer.Digest
	}
	if s.said[i].Seq > 0 && s.said[i].Attempt != e.Attempt {
		s.old[i] = s.said[i]
	}
	s.facts[i].LastSeen = s.now
	s.r.Observe(s.facts[i])
	if s.r.Fold(e) == Counted && phase == fleetsync.PhaseCurrent {
		if !s.well[i] {
			s.well[i], s.first[i] = true, s.now
		}
		s.late[i] = s.late[i] || s.now.Sub(s.first[i]) >= 15*time.Minute
	}
	s.said[i] = e
	return true
}

// pass lets time go by; who is in silent is not heard.
func (s *small) pass(span time.Duration, silent func(int) bool) bool {
	s.now = s.now.Add(span)
	for i := range s.facts {
		if s.facts[i].Connected && !silent(i) {
			s.facts[i].LastSeen = s.now
			s.r.Observe(s.facts[i])
		}
	}
	return true
}

// crash is a hub that dies and comes back: nothing is left but what was stored.
func (s *small) crash(t *testing.T) bool {
	r, err := Decode(must(s.r.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if !same(r, s.r) {
		t.Fatal("a restart changed the rollout")
	}
	for _, f := range s.facts {
		r.Observe(f)
	}
	r.Restarted(s.now, 30*time.Second)
	s.r = r
	return true
}

type action struct {
	name string
	do   func(*small) bool // false: cannot happen here
}

func actions(t *testing.T, sites int) []action {
	someone := Actor{Name: "olga"}
	nobody := func(int) bool { return false }
	all := []action{
		{"tick", func(s *small) bool { return s.pass(tick, nobody) }},
		{"silence of all", func(s *small) bool { return s.pass(tick, func(int) bool { return true }) }},
		{"lease expiry", func(s *small) bool { return s.pass(80*time.Hour, nobody) }},
		{"abort", func(s *small) bool { return s.r.Abort(s.now, someone, "stop") == nil }},
		{"resume", func(s *small) bool { return s.r.Attempt < 3 && s.r.Resume(s.now, someone, "go on", false) == nil }},
		{"resume again", func(s *small) bool { return s.r.Attempt < 3 && s.r.Resume(s.now, someone, "go on", true) == nil }},
		{"crash", func(s *small) bool { return s.crash(t) }},
		{"leave", func(s *small) bool {
			i := sites - 1
			s.facts[i].Connected = !s.facts[i].Connected
			s.r.Observe(s.facts[i])
			return true
		}},
	}
	for i := range sites {
		say := func(name string, phase fleetsync.Phase) {
			all = append(all, action{fmt.Sprintf("%s %d", name, i), func(s *small) bool { return s.tell(i, phase) }})
		}
		say("applying", fleetsync.PhaseApplying)
		say("ok", fleetsync.PhaseCurrent)
		say("fail", fleetsync.PhaseReverted)
		all = append(all,
			action{fmt.Sprintf("silence %d", i), func(s *small) bool { return s.pass(tick, func(j int) bool { return i == j }) }},
			action{fmt.Sprintf("duplicate %d", i), func(s *small) bool {
				return s.said[i].Seq > 0 && s.r.Fold(s.said[i]) != Counted
			}},
			action{fmt.Sprintf("late %d", i), func(s *small) bool { return s.old[i].Seq > 0 && s.r.Fold(s.old[i]) != Counted }},
		)
	}
	return all
}

// decide is the hub's half of a step: decide, store, do. lost: it dies between storing and doing.
func (s *small) decide(t *testing.T, lost bool) (offers int) {
	d := s.r.Decide(s.now)
	again := s.r.Decide(s.now)
	if again.Changed || len(again.Moves) > 0 || !reflect.DeepEqual(again.Offers, d.Offers) || !reflect.DeepEqual(again.Withdrawals, d.Withdrawals) {
		t.Fatalf("%v: deciding again changed something: %v, offers %v and %v", s.path, again.Moves, d.Offers, again.Offers)
	}
	if d.Phase != Running && d.Phase != Completed && len(d.Offers) > 0 {
		t.Fatalf("%s, and offers %v", d.Phase, d.Offers)
	}
	if len(d.Moves) == 0 && len(d.Holds) == 0 {
		t.Fatalf("%s: nothing moves and nobody says why", d.Phase)
	}
	if !lost {
		for _, o := range d.Offers {
			s.seq++
			_ = s.r.Placed(o.Site, o.Attempt, s.seq)
		}
		for _, o := range d.Withdrawals {
			_ = s.r.Withdrew(o.Site, o.Attempt)
		}
	}
	return len(d.Offers)
}

// holds are the properties of ROLLOUTS.md in one state, reached from another one.
func (s *small) holds(t *testing.T, before *small) {
	x := s.r.indexed()
	if fresh := newIndex(s.r, x.facts, nil); !reflect.DeepEqual(fresh.tallies, x.tallies) || fmt.Sprint(nonZero(fresh.regions)) != fmt.Sprint(nonZero(x.regions)) {
		t.Fatalf("the counters are not what counting anew gives: %v\n%+v %v\n%+v %v", s.path, x.tallies, x.regions, fresh.tallies, fresh.regions)
	}
	for i := range s.r.Sites {
		now, was := &s.r.Sites[i], &before.r.Sites[i]
		if now.Wave == 1 && (now.Outcome != NotOffered && now.Outcome != Skipped) && !(s.well[0] && s.late[0]) {
			t.Fatalf("%v: site %d was offered the second wave without signed evidence for the first", s.path, i)
		}
		// A site that was well and breaks is nobody's budget; what counts is that no offer is made beyond it.
		if offered := now.Outcome == Offered && was.Outcome != Offered && !was.Slot && was.Outcome == NotOffered; offered && x.tallies[now.Wave].Unavailable > s.r.Waves[now.Wave].MaxUnavailable {
			t.Fatalf("%v: wave %d: %d unavailable, %d allowed", s.path, now.Wave, x.tallies[now.Wave].Unavailable, s.r.Waves[now.Wave].MaxUnavailable)
		}
		if now.Outcome == Succeeded && !s.well[i] {
			t.Fatalf("%v: site %d counts as a success and never said so", s.path, i)
		}
		if before.r.Phase == Aborted && s.r.Phase == Aborted && now.Outcome != was.Outcome {
			t.Fatalf("%v: site %d: %s became %s after the abort", s.path, i, was.Outcome, now.Outcome)
		}
		if s.r.Pulled && !before.r.Pulled && now.Placed != was.Placed {
			t.Fatal("a pulled version was offered")
		}
	}
}

func nonZero(m map[string]int) map[string]int {
	out := map[string]int{}
	for k, n := range m {
		if n != 0 {
			out[k] = n
		}
	}
	return out
}

// ends plays on with a fair network: everybody answers, people resume. Every rollout that was not aborted completes.
func (s *small) ends(t *testing.T) {
	s = s.clone()
	for i := range s.facts {
		s.facts[i].Connected = true
		s.r.Observe(s.facts[i])
	}
	for range 60 {
		if s.r.Phase == Completed || s.r.Phase == Aborted {
			return
		}
		if s.r.Phase == Paused {
			if err := s.r.Resume(s.now, Actor{Name: "olga"}, "go on", true); err != nil {
				t.Fatal(err)
			}
		}
		s.decide(t, false)
		for i := range s.r.Sites {
			if o := s.r.Sites[i].Outcome; o != NotOffered && o != Skipped {
				s.tell(i, fleetsync.PhaseCurrent)
			}
		}
		s.decide(t, false)
		s.pass(tick, func(int) bool { return false })
	}
	t.Fatalf("%v: it does not end: %s %v %+v", s.path, s.r.Phase, s.r.Decide(s.now).Holds, s.r.Sites)
}

func begin(t *testing.T, n int) *small {
	sites := shops(n)
	for i := range sites {
		sites[i].Region = ""
	}
	r, _, err := Start(dawn, order(plan(t, smallPlan)), Fleet{Members: sites})
	if err != nil {
		t.Fatal(err)
	}
	return &small{
		r: r, now: dawn, facts: sites, said: make([]Evidence, n), old: make([]Evidence, n), well: make([]bool, n), late: make([]bool, n), first: make([]time.Time, n),
	}
}

// TestP05_SmallWorldExhaustively searches all states of a small world up to a depth, and prints how many there were.
// HOLDFAST_DEEP=1 goes a step deeper, which takes minutes.
func TestP05_SmallWorldExhaustively(t *testing.T) {
	for _, world := range []struct{ sites, depth int }{{3, 6}, {4, 4}} {
		if testing.Short() {
			world.depth -= 2
		}
		if os.Getenv("HOLDFAST_DEEP") != "" {
			world.depth++
		}
		t.Run(fmt.Sprintf("%d sites", world.sites), func(t *testing.T) {
			states, transitions, deepest := search(t, world.sites, world.depth)
			t.Logf("%d sites, 2 waves: %d states, %d transitions, depth %d", world.sites, states, transitions, deepest)
		})
	}
}

func search(t *testing.T, sites, depth int) (states, transitions, deepest int) {
	root := begin(t, sites)
	root.decide(t, false)
	seen := map[string]bool{root.key(): true}
	level := []*small{root}
	acts := actions(t, sites)
	for deepest = 0; deepest < depth && len(level) > 0; deepest++ {
		var next []*small
		for _, s := range level {
			for _, a := range acts {
				for _, lost := range []bool{false, true} {
					c := s.clone()
					if !a.do(c) {
						break
					}
					c.path = append(slices.Clone(s.path), a.name)
					offers := c.decide(t, lost)
					c.holds(t, s)
					transitions++
					if key := c.key(); !seen[key] {
						seen[key] = true
						next = append(next, c)
						if len(seen)%97 == 0 {
							c.ends(t)
						}
					}
					if offers == 0 {
						break
					}
				}
			}
		}
		level = next
	}
	return len(seen), transitions, deepest
}

// TestOrderAmongSitesDoesNotMatter folds the same words of different sites in every order.
func TestOrderAmongSitesDoesNotMatter(t *testing.T) {
	phases := []fleetsync.Phase{fleetsync.PhaseCurrent, fleetsync.PhaseApplying, fleetsync.PhaseReverted}
	var want *Rollout
	for _, p := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		w := start(t, twoWaves, shops(6))
		w.decide()
		words := make([]Evidence, 3)
		for i := range words {
			words[i] = w.evidence(bundle.SiteID(fmt.Sprintf("shop-0000%d", i)), phases[i])
		}
		for _, i := range p {
			if got := w.r.Fold(words[i]); got != Counted {
				t.Fatal(got)
			}
		}
		w.decide()
		if want == nil {
			want = w.r
		} else if !same(want, w.r) {
			t.Fatalf("order %v makes another rollout", p)
		}
	}
}
