package sim

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestP03_SitesJudgeByThemselves plays sites whose every order has a lease or times, whose people say that they are busy and declare exceptions, and whose releases
// affect the line or would empty them. It also holds that each of those holds was met, so that the invariants had something to say.
func TestP03_SitesJudgeByThemselves(t *testing.T) {
	met := map[string]int{}
	for seed := range uint64(30) {
		w := run(t, Config{
			Seed: seed, Sites: 2, Length: 75 * time.Minute, Fair: 30 * time.Minute, Hold: 0.6, Busy: 0.08, Override: 0.1, Confirm: 0.6, Empties: 0.3, Reboot: 0.5,
			Release: 0.06, Bad: 0.2, Edit: 0.1, Cut: 0.25, Crash: 0.01, Clock: 0.5, Rejected: 0.05,
			FirstApply: []fleetsync.FirstApply{"", fleetsync.FirstApplyUntilProvenExpired, fleetsync.FirstApplyDeny}[seed%3],
		})
		for _, s := range w.sites {
			for _, ev := range w.hub.counted[s.id] {
				switch ev.Kind {
				case fleetsync.EventHeld, fleetsync.EventUnhealthy:
					met[ev.Reason]++
				case fleetsync.EventHalted, fleetsync.EventConfirmed, fleetsync.EventOverride, fleetsync.EventOverrideEnded, fleetsync.EventReverted:
					met[string(ev.Kind)]++
				}
			}
		}
	}
	for _, want := range []string{
		fleetsync.ReasonLeaseLapsed, fleetsync.ReasonOutsideWindow, fleetsync.ReasonBlackout, fleetsync.ReasonBusy, fleetsync.ReasonTimeUntrusted, fleetsync.ReasonOffline,
		"NotConfirmed", string(fleetsync.EventHalted), string(fleetsync.EventConfirmed), string(fleetsync.EventOverride), string(fleetsync.EventOverrideEnded), string(fleetsync.EventReverted),
	} {
		if met[want] < 5 {
			t.Errorf("%s was met %d times", want, met[want])
		}
	}
	t.Log(met)
}

// TestT19_ClonedSiteIsTold: a site's disk is copied and the copy runs on a second machine, with the same key. The hub says so within the hour, whether the copy was
// ahead or behind, and of no site that was not copied.
func TestT19_ClonedSiteIsTold(t *testing.T) {
	for seed := range uint64(12) {
		w := New(Config{Seed: seed, Sites: 2, Length: 3 * time.Hour, Edit: 0.05, Loss: 0.1, Crash: 0.005, Release: 0.02})
		w.start()
		w.at(w.now.Add(time.Hour), func() { w.clone(w.sites[0], time.Duration(seed)*time.Minute) })
		w.play(w.begin.Add(2*time.Hour + time.Duration(seed)*time.Minute))
		if _, _, _, alive := w.hub.of("site-0").LiveCopies(time.Time{}); !alive || w.failure != nil {
			t.Errorf("seed %d: the hub does not say that site-0 was copied; %v", seed, w.failure)
		}
		if older, newer, _, alive := w.hub.of("site-1").LiveCopies(time.Time{}); alive {
			t.Errorf("seed %d: site-1 was not copied, and the hub says that %s and %s are alive", seed, older, newer)
		}
	}
}

// clone copies a site's disk now; the copy is started some time later, in a cluster of its own.
func (w *World) clone(of *site, later time.Duration) {
	w.hub.cloned[of.id] = true
	s := newSite(w, of.id)
	s.disk = disk{records: maps.Clone(of.disk.records), bundles: maps.Clone(of.disk.bundles), marks: maps.Clone(of.disk.marks), root: of.disk.root, stores: of.disk.stores}
	for epoch, events := range of.truth.recorded {
		s.truth.recorded[epoch] = maps.Clone(events)
	}
	s.truth.marks, s.truth.ordered = maps.Clone(of.truth.marks), maps.Clone(of.truth.ordered)
	for name, begun := range of.truth.begun {
		s.truth.begun[name] = maps.Clone(begun)
	}
	s.life = 1000 // its nonces are its own
	for name, c := range of.installed {
		copied := *c
		copied.good, copied.finished = maps.Clone(c.good), maps.Clone(c.finished)
		s.installed[name] = &copied
	}
	w.at(w.now.Add(later+time.Second), func() {
		w.sites = append(w.sites, s)
		s.boot()
	})
}

// TestF17_LeaseOverAPowerCut: a site holds an order back for a blackout, loses its line and then its power, and its clock is wrong from then on. Nothing begins when the
// blackout is over, because nobody has told it the time, and nothing when the line is back after the lease has ended. What ran is kept.
func TestF17_LeaseOverAPowerCut(t *testing.T) {
	w := run(t, Config{Seed: 3, Sites: 1, Length: 14 * time.Hour, Fair: time.Hour, Edit: 0.01, Reboot: 1, Clock: 1}, func(w *World) {
		s := w.sites[0]
		w.at(w.now.Add(time.Hour), func() {
			order := map[bundle.Name]bundle.Digest{"shop": w.hub.release("shop").digest}
			w.hub.order(s.id, order)
			a := w.hub.disk.assignments[s.id]
			a.Bundles = slices.Clone(a.Bundles)
			a.Bundles[0].ApplyBy = w.begin.Add(12 * time.Hour)
			a.Bundles[0].Schedule = &fleetsync.Schedule{Blackouts: []fleetsync.Blackout{{From: w.moment(0), To: w.moment(12 * 60)}}} // 10 hours from now by UTC
			w.hub.place(a)
		})
		w.at(w.now.Add(2*time.Hour), func() { s.setLink(false) })
		w.at(w.now.Add(5*time.Hour), func() { s.crash("of a power cut") })
		w.at(w.now.Add(13*time.Hour), func() { s.setLink(true) })
	})
	want, held := w.hub.wanted["site-0"]["shop"], false
	for _, ev := range w.hub.counted["site-0"] {
		if ev.Kind == fleetsync.EventApplying && ev.Digest == want {
			t.Errorf("%s was begun at %s", ev.Version, ev.At)
		}
		held = held || ev.Kind == fleetsync.EventHeld && ev.Digest == want && strings.Contains(ev.Message, "nobody has told the time")
	}
	if !held {
		t.Error("it was not held back for want of the time")
	}
	if w.sites[0].installed["shop"].applied == "" {
		t.Error("what ran is gone")
	}
}
