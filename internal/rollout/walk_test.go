package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestP05_WalksOverLargeWorlds lets chance drive fleets of up to 300 sites through what the small world does not have: many regions, rates,
// budgets of all sizes, joins, rollbacks. What is stored is read back in between.
func TestP05_WalksOverLargeWorlds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(20, 300).Draw(rt, "sites")
		sites := shops(n)
		for i := range sites {
			sites[i].Connected = rapid.IntRange(0, 9).Draw(rt, "connected") > 0
		}
		spec := fmt.Sprintf(`{"maxUnavailablePerRegion":%d,"sitesPerHour":%d,"maxFailures":%d,"offline":{"darkAfter":"15m"},"waves":[{"name":"canary","sites":{"count":5},"soak":"10m","ratio":0.5},
			{"name":"early","sites":{"percent":20},"maxUnavailable":%d,"soak":"10m","ratio":0.5,"minSuccess":1},{"name":"rest","maxUnavailable":5,"ratio":0.5,"soak":"0s"}]}`,
			rapid.IntRange(1, 5).Draw(rt, "region"), rapid.IntRange(0, 40).Draw(rt, "rate"), rapid.IntRange(0, 3).Draw(rt, "failures"), rapid.IntRange(1, 5).Draw(rt, "unavailable"))
		s := &walk{rt: rt, world: start(t, spec, sites)}
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			s.step()
		}
	})
}

type walk struct {
	*world
	rt *rapid.T
}

func (s *walk) step() {
	r := s.r
	phase := r.Phase
	switch rapid.IntRange(0, 12).Draw(s.rt, "what") {
	case 0, 1, 2, 3, 4:
		s.talk(fleetsync.PhaseCurrent, 20)
	case 5:
		s.talk(fleetsync.PhaseApplying, 5)
	case 6:
		s.talk(fleetsync.PhaseReverted, 1)
	case 7:
		id := siteName(rapid.IntRange(0, len(s.fleet)-1).Draw(s.rt, "who"))
		s.mute[id] = !s.mute[id]
		s.observe(id, func(f *Facts) { f.Connected = !s.mute[id] })
	case 8:
		_ = r.Pause(s.now, Actor{Name: "olga"}, "")
	case 9:
		_ = r.Resume(s.now, Actor{Name: "olga"}, "on", rapid.Bool().Draw(s.rt, "again"))
	case 10:
		if rapid.IntRange(0, 4).Draw(s.rt, "abort") == 0 {
			_ = r.Abort(s.now, Actor{Name: "olga"}, "off")
		}
	case 11:
		s.restart()
	case 12:
		f := shops(len(s.fleet) + 1)[len(s.fleet)]
		if r.Join(s.now, f, nil) == nil {
			s.fleet[f.Site] = &f
		}
	}
	before := s.r.Clone()
	s.wait(time.Duration(rapid.IntRange(0, 20).Draw(s.rt, "minutes")) * time.Minute)
	s.properties(before, phase)
}

func (s *walk) talk(phase fleetsync.Phase, most int) {
	for i := range s.r.Sites {
		x := &s.r.Sites[i]
		if most > 0 && x.Placed > 0 && !s.mute[x.Site] && x.Outcome != NotOffered && x.Outcome != Reverted && rapid.Bool().Draw(s.rt, "speaks") {
			s.r.Fold(s.evidence(x.Site, phase))
			most--
		}
	}
}

func (s *walk) restart() {
	r, err := Decode(must(s.r.Encode()))
	if err != nil {
		s.rt.Fatal(err)
	}
	for _, f := range s.fleet {
		r.Observe(*f)
	}
	r.Restarted(s.now, 30*time.Second)
	s.r = r
}

func (s *walk) properties(before *Rollout, phase Phase) {
	r, x := s.r, s.r.indexed()
	fresh := newIndex(r, x.facts, nil)
	if !slices.Equal(fresh.tallies, x.tallies) {
		s.rt.Fatalf("counters\n%+v\n%+v", x.tallies, fresh.tallies)
	}
	offered := map[string]bool{}
	hour := 0
	for i := range r.Sites {
		now, was := &r.Sites[i], &before.Sites[i]
		if now.Offered.After(s.now.Add(-time.Hour)) {
			hour++
		}
		if now.Outcome != Offered || was.Outcome != NotOffered || was.Slot {
			continue
		}
		offered[now.Region] = true
		w := &r.Waves[now.Wave]
		if x.tallies[now.Wave].Unavailable > w.MaxUnavailable || w.PerRegion > 0 && x.regions[now.Region] > w.PerRegion {
			s.rt.Fatalf("%s is offered beyond a budget", now.Site)
		}
		if now.Wave > 0 && r.Waves[now.Wave-1].Passed.IsZero() {
			s.rt.Fatalf("%s is offered before its wave's turn", now.Site)
		}
		if f := x.facts.members[i]; !f.Connected {
			s.rt.Fatalf("%s is offered while it is away", now.Site)
		}
	}
	if limit := r.Plan.Spec.SitesPerHour; limit > 0 && len(offered) > 0 && hour > limit {
		s.rt.Fatalf("%d offers in an hour, %d allowed", hour, limit)
	}
	if before.Phase != Running && before.Phase != Completed && len(offered) > 0 {
		s.rt.Fatalf("offers while %s", before.Phase)
	}
	if len(s.last.Moves) == 0 && len(s.last.Holds) == 0 {
		s.rt.Fatalf("%s: nobody says why nothing moves (was %s)", r.Phase, phase)
	}
}
