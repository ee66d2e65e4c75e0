package sim

import (
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// run plays a world to its end; a broken invariant shows the end of its trace.
func run(t *testing.T, cfg Config, edit ...func(*World)) *World {
	t.Helper()
	play := func(w *World) error {
		w.start()
		for _, e := range edit {
			e(w)
		}
		w.play(w.begin.Add(w.cfg.Length))
		w.mend()
		w.play(w.now.Add(w.cfg.Fair))
		return w.settled()
	}
	w := New(cfg)
	if err := play(w); err != nil {
		again := New(cfg).Traced()
		_ = play(again)
		t.Fatalf("%v\n%s", err, again.Tail(*tail))
	}
	return w
}

// TestF01_NinetyDaysAway: the hub is away for ninety days, in which the agent restarts every few hours and objects are edited every day. The edits
// are undone as they come, the outbox stays bounded, and an hour after the line is back the hub has the whole story.
func TestF01_NinetyDaysAway(t *testing.T) {
	cfg := Config{Seed: 1, Sites: 1, Length: 90 * 24 * time.Hour, Edit: 0.001, Crash: 0.002, Clock: 0.3, Pending: 2000}
	events, applied := 0, bundle.Digest("")
	w := run(t, cfg, func(w *World) {
		s := w.sites[0]
		w.at(w.now.Add(time.Hour), func() {
			applied = s.installed["shop"].applied
			s.setLink(false)
		})
		for day := 1; day < 90; day++ {
			w.at(w.now.Add(time.Duration(day)*24*time.Hour+30*time.Minute), func() {
				events = max(events, len(s.disk.records))
				for name, c := range s.installed {
					if c.edited && w.now.Sub(c.since) > 10*time.Minute {
						w.broken("P03: an edit of %s at %s is not undone", name, c.since)
					}
				}
				if s.installed["shop"].applied != applied {
					w.broken("P03: the site runs something else while the hub is away")
				}
			})
		}
	})
	t.Logf("%d records at most, %d events told, %d lives", events, len(w.hub.counted["site-0"]), w.sites[0].life)
	if events > cfg.Pending+100 || len(w.hub.counted["site-0"]) < 100 {
		t.Errorf("%d records were kept for an outbox of %d, %d events were told", events, cfg.Pending, len(w.hub.counted["site-0"]))
	}
}

// TestF02_FlappingLink: a link that comes and goes several times a minute, loses a third of everything and doubles the rest.
func TestF02_FlappingLink(t *testing.T) {
	for seed := range uint64(20) {
		run(t, Config{Seed: seed, Sites: 2, Length: 3 * time.Hour, Loss: 0.3, Release: 0.02, Edit: 0.02}, func(w *World) {
			var flap func()
			flap = func() {
				if w.fair {
					return
				}
				for _, s := range w.sites {
					s.setLink(!s.linked)
				}
				w.at(w.now.Add(5*time.Second), flap)
			}
			w.at(w.now, flap)
		})
	}
}

// TestF15_LateAndDoubledReports: reports come again hours and days later, in the middle of other rollouts. No outcome may come of them that a site did
// not tell about this very rollout.
func TestF15_LateAndDoubledReports(t *testing.T) {
	ended := 0
	for seed := range uint64(12) {
		w := run(t, Config{Seed: seed, Sites: 5, Length: 24 * time.Hour, Fair: 12 * time.Hour, HeartBeat: 5 * time.Minute, Rollouts: true, Loss: 0.1, Release: 0.02, Bad: 0.3, Late: 0.2, Cut: 0.002})
		ended += len(w.hub.disk.rollouts)
	}
	if ended < 24 {
		t.Errorf("only %d rollouts were played", ended)
	}
}

// TestF17_WrongClocks: after every start the clock may say 1970, twenty years ahead, or the day before yesterday, and it runs too fast or too slow.
// Everything is as with a right clock.
func TestF17_WrongClocks(t *testing.T) {
	for seed := range uint64(20) {
		run(t, Config{Seed: seed, Sites: 2, Length: 3 * time.Hour, Clock: 0.9, Crash: 0.02, Cut: 0.02, Release: 0.03, Edit: 0.02, Bad: 0.2, Withdraw: 0.005})
	}
}

// TestF20_WithdrawnWhileAway: what was withdrawn while the site was away is not begun, whether the site had fetched it or not, and what came after it
// is taken directly.
func TestF20_WithdrawnWhileAway(t *testing.T) {
	w := run(t, Config{Seed: 1, Sites: 1, Length: 40 * 24 * time.Hour, HeartBeat: 10 * time.Minute}, func(w *World) {
		s := w.sites[0]
		w.at(w.now.Add(time.Hour), func() { s.setLink(false) })
		for day := 2; day < 38; day += 5 {
			w.at(w.now.Add(time.Duration(day)*24*time.Hour), func() { w.hub.assign(s.id) })
			w.at(w.now.Add(time.Duration(day+1)*24*time.Hour), w.hub.withdraw)
		}
	})
	withdrawn := 0
	for _, r := range w.hub.genuine {
		if r.withdrawn {
			withdrawn++
		}
	}
	if withdrawn < 5 {
		t.Errorf("only %d releases were withdrawn", withdrawn)
	}
	taken := map[bundle.Version]bool{}
	for _, ev := range w.hub.counted["site-0"] {
		if ev.Kind == fleetsync.EventApplying {
			taken[ev.Version] = true
			if w.hub.genuine[ev.Digest].withdrawn && ev.At.After(w.begin.Add(2*time.Hour)) {
				t.Errorf("%s was begun at %s", ev.Version, ev.At)
			}
		}
	}
	if len(taken) > 4 {
		t.Errorf("the site went through %v instead of straight to the newest", taken)
	}
}

// TestF23_CanaryGoesDark: the canary is never heard again once it began to apply. The rollout stops, and no other site gets the version.
func TestF23_CanaryGoesDark(t *testing.T) {
	for seed := range uint64(8) {
		w := New(Config{Seed: seed, Sites: 6, Length: 12 * time.Hour, HeartBeat: 2 * time.Minute, Rollouts: true, Loss: 0.05})
		w.start()
		w.hub.engine.onApply = func(s *site, r fleetsync.Run) {
			if s.id == "site-0" && len(w.hub.disk.rollouts) > 0 {
				s.setLink(false)
			}
		}
		w.at(w.now.Add(30*time.Minute), w.hub.engine.start)
		w.at(w.now.Add(31*time.Minute), func() { w.cfg.Release = 0 })
		w.play(w.begin.Add(6 * time.Hour))
		r := w.hub.engine.read(w.hub.engine.newest())
		canary, _ := r.Site("site-0")
		if w.failure != nil || canary.Outcome != rollout.Failed && canary.Outcome != rollout.Unknown || len(w.hub.engine.placed[r.ID]) != 1 {
			t.Errorf("seed %d: %v; the canary is %s, the rollout %s, %d sites have the offer", seed, w.failure, canary.Outcome, r.Phase, len(w.hub.engine.placed[r.ID]))
		}
	}
}

// TestF24_ReplicasWithDifferentClocks: two replicas of the hub, the clock of one ahead by seconds to hours, both believing to lead now and then. Who wrote
// first has decided; every invariant of rollouts holds, and once the clocks are right they come to their end.
func TestF24_ReplicasWithDifferentClocks(t *testing.T) {
	for seed := range uint64(12) {
		skew := []time.Duration{-40 * time.Second, time.Minute, -3 * time.Hour, 5 * time.Hour}[seed%4]
		run(t, Config{Seed: seed, Sites: 5, Length: 12 * time.Hour, Fair: 12 * time.Hour, HeartBeat: 2 * time.Minute, Rollouts: true, Loss: 0.1, Release: 0.05, Bad: 0.2, HubCrash: 0.005, Skew: skew})
	}
}

// TestF09_HubKilledDuringRollouts: the hub dies between any two steps of its work.
func TestF09_HubKilledDuringRollouts(t *testing.T) {
	for seed := range uint64(12) {
		run(t, Config{Seed: seed, Sites: 5, Length: 12 * time.Hour, Fair: 12 * time.Hour, HeartBeat: 2 * time.Minute, Rollouts: true, Loss: 0.1, Release: 0.05, HubCrash: 0.03, Crash: 0.01})
	}
}

// TestP02_HubCannotLowerOrForge: a hub that orders older releases, forged ones and ones that were withdrawn. Nothing older and nothing that no release key
// signed is ever applied, also not by a site whose store was damaged.
func TestP02_HubCannotLowerOrForge(t *testing.T) {
	refused := 0
	for seed := range uint64(20) {
		w := run(t, Config{Seed: seed, Sites: 2, Length: 4 * time.Hour, Evil: 0.5, Release: 0.1, Crash: 0.02, Damage: 0.01, Withdraw: 0.01, Rotate: 0.005})
		for _, s := range w.sites {
			for _, ev := range w.hub.counted[s.id] {
				if ev.Kind == fleetsync.EventRefused {
					refused++
				}
			}
		}
	}
	if refused < 40 {
		t.Errorf("only %d refusals: the hub is not evil enough", refused)
	}
}

// TestP06_MonthsAway: half a year without a line, all release keys replaced meanwhile, the clock wrong at every start. The site comes back by itself and goes
// straight to the newest version.
func TestP06_MonthsAway(t *testing.T) {
	for seed := range uint64(4) {
		w := run(t, Config{Seed: seed, Sites: 1, Length: 180 * 24 * time.Hour, HeartBeat: 10 * time.Minute, Clock: 0.9, Crash: 0.01}, func(w *World) {
			s := w.sites[0]
			w.at(w.now.Add(time.Hour), func() { s.setLink(false) })
			for month := 1; month < generations; month++ {
				w.at(w.now.Add(time.Duration(month)*24*24*time.Hour), func() {
					w.hub.generation++
					w.hub.say("a new release key")
					w.hub.order(s.id, map[bundle.Name]bundle.Digest{"base": w.hub.release("base").digest, "shop": w.hub.release("shop").digest})
				})
			}
			w.at(w.now.Add(175*24*time.Hour), func() { w.edit(s) })
		})
		s := w.sites[0]
		if got := w.hub.genuine[s.installed["shop"].applied]; got.counter != w.hub.newest["shop"] || w.hub.generation != generations-1 {
			t.Errorf("the site runs %s", got.version)
		}
		begun := map[bundle.Version]bool{}
		for _, ev := range w.hub.counted[s.id] {
			if ev.Kind == fleetsync.EventApplying && ev.Bundle == "shop" {
				begun[ev.Version] = true
			}
		}
		if len(begun) != 2 {
			t.Errorf("the site went through %v", begun)
		}
	}
}

// edit spoils every object at a site.
func (w *World) edit(s *site) {
	for _, name := range names {
		if s.installed[name].applied != "" {
			s.edit(name)
		}
	}
}
