package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// twoWaves are three canaries by name of six shops, and the rest two at a time.
const twoWaves = `{"waves":[
	{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002"]},"minSuccess":3,"soak":"30m","deadline":"4h"},
	{"name":"rest","sites":{"all":true},"maxUnavailable":2,"soak":"10m"}]}`

func TestR01_SilenceIsUnknownAndNeverSuccess(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.mute["shop-00000"] = true
	w.wait(14 * time.Minute)
	if got := w.outcome("shop-00000"); got != Offered {
		t.Fatalf("after 14m: %s", got)
	}
	w.wait(2 * time.Minute)
	w.wantMove(MoveSilent)
	if got := w.outcome("shop-00000"); got != Unknown {
		t.Fatalf("after 16m: %s", got)
	}
	w.say(fleetsync.PhaseCurrent, "shop-00001", "shop-00002")
	w.wait(3 * time.Hour)
	if w.opened(1) {
		t.Fatal("the silent site counted as a success")
	}
	w.mute["shop-00000"] = false
	w.wait(time.Minute)
	if got := w.outcome("shop-00000"); got != Offered {
		t.Fatalf("heard again: %s, want what it was before", got)
	}
}

func TestR02_WavePassesOnAllThreeConditions(t *testing.T) {
	cases := []struct {
		name                    string
		well, bad, silent, away int
		want                    Phase
		passed                  bool
	}{
		{"everybody", 10, 0, 0, 0, Running, true},
		{"silent counts in the ratio", 8, 0, 2, 0, Running, false},
		{"silent within the ratio", 9, 0, 1, 0, Running, true},
		{"offline before the offer is left out", 5, 0, 0, 5, Running, true},
		{"too few successes though all eligible", 4, 0, 0, 6, Running, false},
		{"one failure within the bound", 9, 1, 0, 0, Running, true},
		{"two failures", 8, 2, 0, 0, Paused, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sites := shops(30)
			for i := range c.away {
				sites[i].Connected = false
			}
			w := start(t, `{"waves":[{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002","shop-00003","shop-00004","shop-00005","shop-00006","shop-00007","shop-00008","shop-00009"]},
				"minSuccess":5,"ratio":0.9,"maxFailures":1,"maxUnavailable":10,"soak":"0s"},{"name":"rest"}]}`, sites)
			w.decide()
			offered := w.with(0, Offered)
			if len(offered) != 10-c.away {
				t.Fatalf("offered %d", len(offered))
			}
			w.say(fleetsync.PhaseCurrent, offered[:c.well]...)
			w.say(fleetsync.PhaseUnhealthy, offered[c.well:c.well+c.bad]...)
			w.wait(time.Minute)
			w.wantPhase(c.want)
			if got := !w.r.Waves[0].Passed.IsZero(); got != c.passed {
				t.Fatalf("passed %v: %v", got, w.last.Holds)
			}
		})
	}
}

func TestR02_SiteThatWentDarkAfterAcceptingIsNotLeftOut(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseAccepted, "shop-00000")
	w.say(fleetsync.PhaseCurrent, "shop-00001", "shop-00002")
	w.mute["shop-00000"] = true
	w.observe("shop-00000", func(f *Facts) { f.Connected = false })
	w.wait(time.Hour)
	if got := w.r.Explain(w.now).Waves[0].Eligible; got != 3 {
		t.Fatalf("eligible %d, want 3", got)
	}
}

func TestR03_DarkWhileApplying(t *testing.T) {
	t.Run("failed where the control still reports", func(t *testing.T) {
		w := start(t, twoWaves, shops(6))
		w.decide()
		w.say(fleetsync.PhaseApplying, "shop-00000")
		w.mute["shop-00000"] = true
		w.wait(16 * time.Minute)
		if reason := w.wantMove(MoveDark); reason.Have == 0 || reason.Want < reason.Have {
			t.Fatalf("inputs %+v", reason)
		}
		w.wantPhase(Paused)
		if s, _ := w.r.Site("shop-00000"); s.Outcome != Failed || s.Why != DarkReason {
			t.Fatalf("%s %s", s.Outcome, s.Why)
		}
	})
	t.Run("a site that says hello more rarely is given its time", func(t *testing.T) {
		w := start(t, twoWaves, shops(6))
		w.fleet["shop-00000"].Patience = 48 * time.Minute
		w.decide()
		w.say(fleetsync.PhaseApplying, "shop-00000")
		w.mute["shop-00000"] = true
		w.wait(62 * time.Minute)
		if s, _ := w.r.Site("shop-00000"); s.Outcome != Applying {
			t.Fatalf("%s %s", s.Outcome, s.Why)
		}
		w.wait(2 * time.Minute)
		w.wantMove(MoveDark)
	})
	t.Run("inconclusive where everybody is dark", func(t *testing.T) {
		w := start(t, twoWaves, shops(6))
		w.decide()
		w.say(fleetsync.PhaseApplying, "shop-00000")
		for id := range w.fleet {
			w.mute[id] = true
		}
		w.wait(16 * time.Minute)
		w.wantMove(MoveInconclusive)
		w.wantPhase(Paused)
		if got := w.r.index.tallies[0].Failed; got != 0 {
			t.Fatalf("%d were blamed", got)
		}
		// A person resumes; the links are back, but the site's: now it is judged.
		for id := range w.fleet {
			w.mute[id] = id == "shop-00000"
		}
		if err := w.r.Resume(w.now, Actor{Name: "olga"}, "the provider is back", false); err != nil {
			t.Fatal(err)
		}
		w.wait(10 * time.Minute)
		w.wantPhase(Running)
		w.wait(6 * time.Minute)
		w.wantMove(MoveDark)
	})
}

func TestR04_DeadlineWithoutQuorumPauses(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseCurrent, "shop-00000", "shop-00001")
	w.wait(4*time.Hour - time.Second)
	w.wantPhase(Running)
	w.wait(time.Second)
	w.wantPhase(Paused)
	w.wantMove(MoveInconclusive)
	w.wait(400 * 24 * time.Hour)
	if w.opened(1) {
		t.Fatal("time alone opened the second wave")
	}
}

func TestR05_FirstWaveNeedsReports(t *testing.T) {
	w := start(t, `{"waves":[{"name":"canary","sites":{"count":10},"minSuccess":1,"ratio":0,"maxUnavailable":10,"soak":"0s"},{"name":"rest"}]}`, shops(100))
	w.decide()
	w.say(fleetsync.PhaseCurrent, w.members(0)[:4]...)
	w.wait(time.Minute)
	if reason := w.wantHold(HoldReports); reason.Have != 4 || reason.Want != 5 {
		t.Fatalf("%+v", reason)
	}
	w.say(fleetsync.PhaseCurrent, w.members(0)[4])
	w.wait(time.Minute)
	if !w.opened(1) {
		t.Fatalf("held: %v", w.last.Holds)
	}
	_, err := Freeze(plan(t, `{"waves":[{"name":"canary","sites":{"count":1}},{"name":"rest"}]}`), Fleet{Members: shops(100)})
	wantRefused(t, err, "asked for by name")
	one := start(t, `{"waves":[{"name":"canary","sites":{"names":["shop-00007"]},"soak":"0s"},{"name":"rest"}]}`, shops(100))
	one.succeed(0)
	if !one.opened(1) {
		t.Fatal("the named canary did not suffice")
	}
}

func TestR06_SoakWantsLateReportsWithThisDigest(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseCurrent, "shop-00000", "shop-00001")
	w.wait(20 * time.Minute)
	w.say(fleetsync.PhaseCurrent, "shop-00002")
	w.decide()
	w.wantMove(MoveQuorum)
	w.wait(29 * time.Minute) // from the quorum, not from the first success
	w.wantHold(HoldSoak)
	w.wait(2 * time.Minute)
	if reason := w.wantHold(HoldLateReports); reason.Have != 0 || reason.Want != 3 {
		t.Fatalf("%+v", reason)
	}
	other := w.evidence("shop-00000", fleetsync.PhaseCurrent)
	other.Digest, other.Runs = older.Digest, older.Digest
	if got := w.r.Fold(other); got != OtherDigest {
		t.Fatalf("a late report with the old digest: %q", got)
	}
	w.say(fleetsync.PhaseCurrent, "shop-00000", "shop-00001")
	w.decide()
	w.wantHold(HoldLateReports)
	beat := w.evidence("shop-00002", fleetsync.PhaseCurrent)
	s, _ := w.r.Site("shop-00002")
	beat.Seq, beat.Beat = s.Seq, w.now
	if got := w.r.Fold(beat); got != Counted {
		t.Fatalf("a heartbeat that confirms the snapshot: %q", got)
	}
	w.decide()
	if !w.opened(1) {
		t.Fatalf("held: %v", w.last.Holds)
	}
}

func TestR07_AbortWinsAndSticks(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	stored := w.r.Clone()
	racing := stored.Clone()
	racing.Decide(w.now) // opens the wave and offers, on the old revision
	if err := stored.Abort(w.now, Actor{Name: "amir"}, "wrong build"); err != nil {
		t.Fatal(err)
	}
	if racing.Revision == stored.Revision && same(racing, stored) {
		t.Fatal("the race cannot be told")
	}
	w.r = stored
	for range 3 {
		if d := w.wait(time.Hour); len(d.Offers) > 0 || w.r.Phase != Aborted {
			t.Fatalf("after the abort: %+v", d)
		}
	}
	w = start(t, twoWaves, shops(6))
	w.decide()
	if err := w.r.Abort(w.now, Actor{Name: "amir"}, "wrong build"); err != nil {
		t.Fatal(err)
	}
	before := w.r.index.tallies[0]
	if got := w.r.Fold(w.evidence("shop-00000", fleetsync.PhaseCurrent)); got != AfterAbort {
		t.Fatalf("late success: %q", got)
	}
	if w.r.index.tallies[0] != before || w.outcome("shop-00000") != Offered {
		t.Fatal("the late success changed an outcome")
	}
	wantRefused(t, w.r.Resume(w.now, Actor{Name: "amir"}, "", false), "say why")
	old := w.evidence("shop-00001", fleetsync.PhaseCurrent)
	if err := w.r.Resume(w.now, Actor{Name: "amir"}, "the build is right after all", false); err != nil {
		t.Fatal(err)
	}
	w.decide()
	if got := w.r.Fold(old); got != OtherAttempt {
		t.Fatalf("evidence of the aborted attempt: %q", got)
	}
	if last := w.r.Trail[len(w.r.Trail)-2]; last.Act != "resume" || last.Why == "" || w.r.Attempt != 2 {
		t.Fatalf("the trail says %+v", last)
	}
}

func TestR07_OlderLeaderIsFenced(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	if err := w.r.Lead(7); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, w.r.Lead(6), "another hub leads")
}

func TestR08_EvidenceIsBound(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	good := w.evidence("shop-00000", fleetsync.PhaseCurrent)
	cases := []struct {
		want Refusal
		edit func(*Evidence)
	}{
		{NotSigned, func(e *Evidence) { e.Signer = "" }},
		{NotSigned, func(e *Evidence) { e.Signer = "shop-00001" }},
		{NotInWave, func(e *Evidence) { e.Site, e.Signer = "shop-99999", "shop-99999" }},
		{NotOfferedYet, func(e *Evidence) { e.Site, e.Signer = "shop-00004", "shop-00004" }},
		{OtherRollout, func(e *Evidence) { e.Rollout = "r0" }},
		{OtherAttempt, func(e *Evidence) { e.Attempt = 2 }},
		{OtherDigest, func(e *Evidence) { e.Digest = older.Digest }},
	}
	before := w.r.Clone()
	for _, c := range cases {
		e := good
		c.edit(&e)
		if got := w.r.Fold(e); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if !same(before, w.r) {
		t.Fatal("refused evidence changed the rollout")
	}
	if got := w.r.Fold(good); got != Counted {
		t.Fatal(got)
	}
	if got := w.r.Fold(good); got != NotNew {
		t.Fatalf("replayed: %q", got)
	}
	next := w.evidence("shop-00000", fleetsync.PhaseCurrent)
	next.Epoch = "e2"
	if got := w.r.Fold(next); got != Counted {
		t.Fatal(got)
	}
	old := w.evidence("shop-00000", fleetsync.PhaseUnhealthy)
	if got := w.r.Fold(old); got != NotNew {
		t.Fatalf("from an ended epoch: %q", got)
	}
}

func TestR08_ReportIsBoundByItsAssignment(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	s, _ := w.r.Site("shop-00000")
	state := fleetsync.State{
		Site: "shop-00000", Epoch: "e1", Sequence: 5, Assignment: s.Placed - 1, Cluster: fleetsync.ClusterStatus{Reachable: true},
		Bundles: []fleetsync.BundleStatus{{Name: "pos", Digest: newer.Digest, CurrentDigest: newer.Digest, Phase: fleetsync.PhaseCurrent}},
	}
	if _, ok := w.r.Report(&state, w.now, "shop-00000"); ok {
		t.Fatal("a report on an earlier assignment was taken for one on the offer")
	}
	state.Assignment = s.Placed
	e, ok := w.r.Report(&state, w.now, "shop-00000")
	if !ok || w.r.Fold(e) != Counted || w.outcome("shop-00000") != Succeeded {
		t.Fatalf("%v %+v", ok, e)
	}
	hello := fleetsync.Hello{Site: "shop-00000", Epoch: "e1", State: 4, At: w.now}
	if _, ok := w.r.Beat(&hello, &state, w.now, "shop-00000"); ok {
		t.Fatal("a heartbeat confirmed a snapshot that it does not name")
	}
}

func TestR09_WavesAreFrozenAndReturnersJoinTheLast(t *testing.T) {
	sites := shops(8)
	sites[0].Connected = false
	w := start(t, `{"waves":[{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002","shop-00003"]},"soak":"0s"},{"name":"rest","sites":{"all":true},"maxUnavailable":4,"soak":"0s"}]}`, sites)
	w.succeed(0)
	if w.outcome("shop-00000") != Skipped {
		t.Fatalf("%s", w.outcome("shop-00000"))
	}
	w.observe("shop-00000", func(f *Facts) { f.Connected = true })
	if s, _ := w.r.Site("shop-00000"); s.Wave != 1 || s.Outcome == Skipped {
		t.Fatalf("the returner is in wave %d: %s", s.Wave, s.Outcome)
	}
	late := shops(9)[8]
	if err := w.r.Join(w.now, late, nil); err != nil {
		t.Fatal(err)
	}
	w.fleet[late.Site] = &late
	if s, _ := w.r.Site(late.Site); s.Wave != 1 || !s.Joined || w.r.Waves[1].Size != 4 {
		t.Fatalf("%+v", s)
	}
	w.observe("shop-00007", func(f *Facts) { f.Labels = map[string]string{"moved": "away"} })
	if s, _ := w.r.Site("shop-00007"); s.Wave != 1 {
		t.Fatal("membership followed a label")
	}
	w.succeed(1)
	w.wantPhase(Completed)
	busy := shops(12)
	busy[11].Rollout = "r0"
	_, _, err := Start(dawn, order(plan(t, twoWaves)), Fleet{Members: busy})
	wantRefused(t, err, "one active rollout per bundle")
}

func TestR09_ReturningSiteNeverGetsAPulledVersion(t *testing.T) {
	sites := shops(6)
	sites[5].Connected = false
	w := start(t, `{"waves":[{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002"]},"soak":"0s"},{"name":"rest","soak":"0s"}]}`, sites)
	w.succeed(0)
	w.succeed(1)
	w.wantPhase(Completed)
	pulled := w.r.Clone()
	if _, err := pulled.Rollback(w.now, BackOrder{ID: "b1", By: "olga", Why: "bad"}, nil); err != nil {
		t.Fatal(err)
	}
	if Newest([]*Rollout{pulled}) != nil || Newest([]*Rollout{pulled, w.r}) != w.r {
		t.Fatal("the pulled version is still the newest")
	}
	for _, r := range []*Rollout{pulled, w.r} {
		back := *w.fleet["shop-00005"]
		back.Connected, back.LastSeen = true, w.now
		r.Observe(back)
		d := r.Decide(w.now)
		if got, want := len(d.Offers), map[*Rollout]int{pulled: 0, w.r: 1}[r]; got != want {
			t.Fatalf("pulled %v: %d offers, want %d", r == pulled, got, want)
		}
	}
}

func TestR10_Budgets(t *testing.T) {
	t.Run("defaults", func(t *testing.T) {
		for fleet, want := range map[int]int{50: 3, 400: 4, 2000: 5} {
			layout, err := Freeze(plan(t, `{}`), Fleet{Members: shops(fleet)})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(layout.Waves[0].Members); got != want || layout.Waves[0].MaxFailures != 0 || layout.Waves[1].MaxUnavailable != (fleet-want)/10 {
				t.Errorf("%d sites: first wave %d, %+v", fleet, got, layout.Waves[1].Wave)
			}
		}
	})
	t.Run("wave and region, silence counted", func(t *testing.T) {
		w := start(t, `{"maxUnavailablePerRegion":1,"waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"0s"},{"name":"rest","sites":{"all":true},"maxUnavailable":3,"soak":"0s"}]}`, shops(20))
		w.succeed(0)
		if got := w.with(1, Offered); len(got) != 3 {
			t.Fatalf("offered %v", got)
		}
		w.wantHold(HoldBudget)
		silent := w.with(1, Offered)[0]
		w.mute[silent] = true
		w.say(fleetsync.PhaseCurrent, w.with(1, Offered)[1:]...)
		w.wait(20 * time.Minute)
		region, _ := w.r.Site(silent)
		for _, id := range w.with(1, Offered) {
			if s, _ := w.r.Site(id); s.Region == region.Region {
				t.Fatalf("%s is offered beside a silent neighbour", id)
			}
		}
		if got := len(w.with(1, Offered)); got != 2 {
			t.Fatalf("%d offered beside the silent one", got)
		}
	})
	t.Run("rate", func(t *testing.T) {
		w := start(t, `{"sitesPerHour":4,"waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"0s"},{"name":"rest","sites":{"all":true},"maxUnavailable":10,"soak":"0s"}]}`, shops(40))
		w.succeed(0)
		if got := len(w.with(1, Offered)); got != 3 {
			t.Fatalf("offered %d", got)
		}
		until := w.wantHold(HoldRate).Until
		r := must(Decode(must(w.r.Encode())))
		for _, f := range w.fleet {
			r.Observe(*f)
		}
		r.Decide(w.now)
		if r.indexed().tallies[1].InFlight != 3 {
			t.Fatal("a restart forgot the offers of the last hour")
		}
		w.wait(until.Sub(w.now))
		if got := len(w.with(1, Offered)); got != 4 {
			t.Fatalf("offered %d after the hour", got)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestR11_AbortTakesOffersBackAndSaysWhatItCannot(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseCurrent, "shop-00000")
	w.mute["shop-00001"] = true
	w.wait(20 * time.Minute)
	before := w.r.Exposure(w.now)
	if before.Taken != 1 || before.Outstanding != 2 || before.MayApply != 2 {
		t.Fatalf("%+v", before)
	}
	if err := w.r.Abort(w.now, Actor{Name: "amir"}, "stop"); err != nil {
		t.Fatal(err)
	}
	d := w.r.Decide(w.now)
	if len(d.Offers) != 0 || len(d.Withdrawals) != 2 || d.Withdrawals[0].Goal != older {
		t.Fatalf("%+v", d)
	}
	if again := w.r.Decide(w.now); len(again.Withdrawals) != 2 {
		t.Fatal("a withdrawal that was not signed was forgotten")
	}
	w.decide()
	if d := w.r.Decide(w.now); len(d.Withdrawals) != 0 {
		t.Fatal("signed withdrawals are ordered again")
	}
	if after := w.r.Exposure(w.now.Add(25 * time.Hour)); after.MayApply != 0 || after.Outstanding != 2 {
		t.Fatalf("after the leases: %+v", after)
	}
}

func TestR11_AbortTakesBackWhatStillTries(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseFailed, "shop-00000") // the site keeps trying
	w.say(fleetsync.PhaseReverted, "shop-00001")
	w.decide()
	if err := w.r.Abort(w.now, Actor{Name: "amir"}, "stop"); err != nil {
		t.Fatal(err)
	}
	var back []bundle.SiteID
	for _, o := range w.decide().Withdrawals {
		back = append(back, o.Site)
	}
	if !slices.Equal(back, []bundle.SiteID{"shop-00000", "shop-00002"}) {
		t.Fatalf("taken back: %v", back)
	}
}

func TestR12_Leases(t *testing.T) {
	w := start(t, `{"waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"0s"},{"name":"rest","soak":"0s"}]}`, shops(20))
	if got := w.decide().Offers[0].ApplyBy.Sub(w.now); got != 24*time.Hour {
		t.Fatalf("canary: %s", got)
	}
	w.say(fleetsync.PhaseCurrent, "shop-00000")
	if got := w.decide().Offers[0].ApplyBy.Sub(w.now); got != 72*time.Hour {
		t.Fatalf("later: %s", got)
	}
}

func TestR13_TheSitesOwnRevertIsAFailure(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseReverted, "shop-00000")
	w.decide()
	w.wantPhase(Paused)
	if reason := w.wantMove(MoveFailures); reason.Have != 1 || reason.Want != 0 || !slices.Equal(reason.Sites, []bundle.SiteID{"shop-00000"}) {
		t.Fatalf("%+v", reason)
	}
	if got := w.r.index.tallies[0].Unavailable; got != 2 {
		t.Fatalf("%d unavailable: a site that is back on its last good version serves again", got)
	}
}

func TestR14_ConfirmWithinComesBeforeTheVerdict(t *testing.T) {
	w := start(t, twoWaves, shops(6), func(o *Order) { o.Bundle.AffectsConnectivity, o.Bundle.ConfirmWithin = true, Duration(10*time.Minute) })
	if d := w.decide(); !d.Offers[0].AffectsConnectivity || d.Offers[0].ConfirmWithin != Duration(10*time.Minute) {
		t.Fatalf("the offer does not say so: %+v", d.Offers[0])
	}
	w.say(fleetsync.PhaseApplying, "shop-00000")
	w.mute["shop-00000"] = true
	w.wait(24 * time.Minute)
	w.wantPhase(Running)
	w.mute["shop-00000"] = false
	w.say(fleetsync.PhaseReverted, "shop-00000")
	w.decide()
	w.wantPhase(Paused)
	if w.outcome("shop-00000") != Reverted {
		t.Fatal(w.outcome("shop-00000"))
	}
}

func TestR15_Rollback(t *testing.T) {
	spec := `{"onFailure":"rollback","waves":[{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002"]},"soak":"0s"},{"name":"rest","sites":{"all":true},"maxUnavailable":2,"soak":"0s"}]}`
	w := start(t, spec, shops(8))
	w.succeed(0)
	two := w.with(1, Offered)
	w.say(fleetsync.PhaseUnhealthy, two[0])
	d := w.decide()
	w.wantPhase(Aborted)
	if d.RollBack != Backwards {
		t.Fatalf("%+v", d)
	}
	wantRefused(t, w.r.Resume(w.now, Actor{Name: "olga"}, "no", false), "rolled back")
	again := release("1.4.1", 3)
	back, err := w.r.Rollback(w.now, BackOrder{ID: "b1", By: engine, Why: "too many failures", Releases: map[bundle.Digest]Version{older.Digest: again}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.r.RolledBack("b1")
	if d := w.r.Decide(w.now); d.RollBack != "" {
		t.Fatal("the rollback is ordered twice")
	}
	b := &world{t: t, now: w.now, r: back, fleet: w.fleet, mute: w.mute, seq: w.seq}
	for _, f := range w.fleet {
		back.Observe(*f)
	}
	if len(back.Sites) != 5 || back.Waves[0].Name != "rest" {
		t.Fatalf("%d sites, first wave %s", len(back.Sites), back.Waves[0].Name)
	}
	d = b.decide()
	if len(d.Offers) != 2 || d.Offers[0].Goal != again {
		t.Fatalf("%+v", d.Offers)
	}
	b.succeed(0)
	b.succeed(1)
	b.wantPhase(Completed)
	if _, err := Decode(must(back.Encode())); err != nil {
		t.Fatal(err)
	}
	once, err := w.r.Clone().Rollback(w.now, BackOrder{ID: "b1", By: "olga", Why: "now", Mode: AtOnce}, shops(8))
	if err != nil || len(once.Waves) != 1 || len(once.Decide(w.now).Offers) != 5 {
		t.Fatalf("at once: %v", err)
	}
}

func TestR15_ALossIsAcceptedForTheRolloutAndNotForItsRollback(t *testing.T) {
	for _, accept := range []bool{true, false} {
		w := start(t, fmt.Sprintf(`{"acceptLoss":%v,"onFailure":"rollback","waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"0s"},{"name":"rest","sites":{"all":true}}]}`, accept), shops(4))
		d := w.decide()
		if len(d.Offers) != 1 || slices.ContainsFunc(d.Offers, func(o Offer) bool { return o.AcceptLoss != accept }) {
			t.Fatalf("accept %v: %+v", accept, d.Offers)
		}
		w.say(fleetsync.PhaseUnhealthy, d.Offers[0].Site)
		w.decide()
		back, err := w.r.Rollback(w.now, BackOrder{ID: "b1", By: engine, Why: "too many failures", Mode: AtOnce, Releases: map[bundle.Digest]Version{older.Digest: release("1.4.1", 3)}}, shops(4))
		if err != nil {
			t.Fatal(err)
		}
		if d := back.Decide(w.now); len(d.Offers) == 0 || slices.ContainsFunc(d.Offers, func(o Offer) bool { return o.AcceptLoss }) {
			t.Errorf("accept %v, back: %+v", accept, d.Offers)
		}
	}
}

func TestR15_RollbackReachesWhoTookItAfterTheAbort(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	if err := w.r.Abort(w.now, Actor{Name: "amir"}, "stop"); err != nil {
		t.Fatal(err)
	}
	w.r.Fold(w.evidence("shop-00002", fleetsync.PhaseCurrent))
	if s, _ := w.r.Site("shop-00002"); !s.Took {
		t.Fatal("the late success was not noted for the rollback")
	}
}

func TestR16_UnknownOutcomeOfAnEarlierVersionBars(t *testing.T) {
	for _, supersedes := range []bool{false, true} {
		sites := shops(6)
		sites[0].Unresolved = release("1.4.0", 1).Digest
		w := start(t, twoWaves, sites, func(o *Order) { o.Bundle.Supersedes = supersedes })
		w.decide()
		if got := w.outcome("shop-00000") == Offered; got != supersedes {
			t.Fatalf("supersedes %v: offered %v", supersedes, got)
		}
		if !supersedes {
			if reason := w.wantHold(HoldPriorUnknown); reason.Have != 1 {
				t.Fatalf("%+v", reason)
			}
			w.observe("shop-00000", func(f *Facts) { f.Unresolved = "" })
			if d := w.decide(); len(d.Offers) != 1 {
				t.Fatalf("resolved, and %d offers", len(d.Offers))
			}
		}
	}
}

func TestR17_WindowsAreInTheSitesZone(t *testing.T) {
	sites := shops(6)
	sites[0].Zone = time.FixedZone("there", 3*3600) // 09:00 there
	sites[1].ClockUntrusted = true
	w := start(t, `{"windows":[{"from":"08:00","to":"10:00"}],"blackouts":[{"from":"2026-11-27","to":"2026-11-28","why":"Black Friday"}],`+twoWaves[1:], sites)
	w.decide()
	if got := w.with(0, Offered); !slices.Equal(got, []bundle.SiteID{"shop-00000"}) {
		t.Fatalf("at 06:00 UTC offered %v", got)
	}
	w.wantHold(HoldTimeless)
	if until := w.wantHold(HoldWindow).Until; !until.Equal(dawn.Add(2 * time.Hour)) {
		t.Fatalf("opens %s", until)
	}
	if w.last.Offers[0].Schedule.Empty() {
		t.Fatal("the site is not told the window")
	}
	w.wait(2 * time.Hour)
	if got := len(w.with(0, Offered)); got != 2 {
		t.Fatalf("at 08:00 %d are offered", got)
	}
	w = start(t, `{"blackouts":[{"from":"2026-11-21","to":"2026-11-21T09:00","why":"Black Friday"}],`+twoWaves[1:], shops(6))
	w.decide()
	if reason := w.wantHold(HoldBlackout); reason.Detail != "Black Friday" || !reason.Until.Equal(dawn.Add(3*time.Hour)) {
		t.Fatalf("%+v", reason)
	}
}

func TestR18_Emergency(t *testing.T) {
	w := start(t, `{"emergency":true,`+twoWaves[1:], shops(6))
	if len(w.members(0)) != 1 || len(w.members(1)) != 5 {
		t.Fatalf("canary %v", w.members(0))
	}
	w.decide()
	w.wantHold(HoldApproval)
	for _, who := range []string{"amir", "bea"} {
		if w.opened(0) {
			t.Fatal("opened with one approver")
		}
		if err := w.r.Approve(w.now, Actor{who, true}, "canary"); err != nil {
			t.Fatal(err)
		}
		w.decide()
	}
	w.say(fleetsync.PhaseCurrent, w.members(0)...)
	w.decide()
	w.wait(5 * time.Minute)
	w.say(fleetsync.PhaseCurrent, w.members(0)...)
	w.decide()
	if !w.opened(1) {
		t.Fatalf("after a short soak: %v", w.last.Holds)
	}
	if got := w.r.Waves[0].Approved; len(got) != 2 {
		t.Fatalf("recorded: %v", got)
	}
}

func TestR19_GraceAfterAStartAndConflicts(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	w.decide()
	w.say(fleetsync.PhaseApplying, "shop-00000")
	w.mute["shop-00000"] = true
	w.wait(14 * time.Minute)
	r := must(Decode(must(w.r.Encode())))
	w.r = r
	w.now = w.now.Add(time.Hour) // the hub was away
	r.Restarted(w.now, 30*time.Second)
	w.wait(0)
	w.wantHold(HoldGrace)
	w.wantPhase(Running)
	w.wait(2 * time.Minute)
	w.wantPhase(Running) // silence counts from the end of the grace
	w.wait(15 * time.Minute)
	w.wantPhase(Paused)

	if Conflict(5, 4, "", true) == "" || Conflict(4, 4, newest.Digest, false) == "" || Conflict(4, 4, newer.Digest, true) != "" {
		t.Fatal("conflicts")
	}
	sites := shops(6)
	sites[1].Conflict = Conflict(5, 4, "", true)
	w = start(t, twoWaves, sites)
	w.decide()
	w.wantHold(HoldConflict)
	if w.outcome("shop-00001") != NotOffered {
		t.Fatal("offered in conflict")
	}
}

func TestR20_ApprovalsAndOutsideVerdicts(t *testing.T) {
	spec := `{"waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"0s","checks":[{"name":"errors","query":"up","timeout":"30s"}]},{"name":"rest","approvals":1,"soak":"0s"}]}`
	w := start(t, spec, shops(6))
	w.decide()
	w.say(fleetsync.PhaseCurrent, "shop-00000")
	d := w.decide()
	if len(d.Checks) != 1 {
		t.Fatalf("%+v", d)
	}
	late := w.r.Clone()
	if d := late.Decide(w.now.Add(30 * time.Second)); late.Phase != Paused || d.Moves[0].Code != MoveInconclusive {
		t.Fatalf("no answer: %s %v", late.Phase, d.Moves)
	}
	bad := w.r.Clone()
	if err := bad.Verdict(w.now, "canary", "errors", Fail, "5 % errors"); err != nil {
		t.Fatal(err)
	}
	if bad.Decide(w.now); bad.Phase != Paused {
		t.Fatal(bad.Phase)
	}
	if err := w.r.Verdict(w.now, "canary", "errors", Pass, ""); err != nil {
		t.Fatal(err)
	}
	w.decide()
	if reason := w.wantHold(HoldApproval); reason.Have != 0 || reason.Want != 1 {
		t.Fatalf("%+v", reason)
	}
	wantRefused(t, w.r.Approve(w.now, Actor{"olga", true}, "rest"), "started the rollout")
	wantRefused(t, w.r.Approve(w.now, Actor{"amir", false}, "rest"), "role approver")
	wantRefused(t, w.r.Verdict(w.now, "canary", "errors", Pass, ""), "not waited for")
	if err := w.r.Approve(w.now, Actor{"amir", true}, "rest"); err != nil {
		t.Fatal(err)
	}
	if w.decide(); !w.opened(1) {
		t.Fatal(w.last.Holds)
	}
}

func TestR21_AgentRing(t *testing.T) {
	_, err := DecodePlan([]byte(planText(`{"subject":"agent","waves":[{"name":"all","sites":{"all":true}}]}`)))
	wantRefused(t, err, "two waves")
	_, err = DecodePlan([]byte(planText(`{"subject":"agent","waves":[{"name":"a","soak":"0s"},{"name":"b"}]}`)))
	wantRefused(t, err, "soak")
	sites := shops(8)
	sites[7].Unresolved = newest.Digest // in trouble with its bundles: none of the agent's business
	w := start(t, `{"subject":"agent","waves":[{"name":"canary","sites":{"names":["shop-00000"]},"soak":"1h"},{"name":"rest","sites":{"all":true},"maxUnavailable":5,"soak":"0s"}]}`, sites)
	if d := w.decide(); d.Offers[0].ConfirmWithin != agentConfirmWithin {
		t.Fatal("no watchdog time")
	}
	s, _ := w.r.Site("shop-00000")
	state := fleetsync.State{
		Site: "shop-00000", Epoch: "e1", Sequence: 1, Assignment: s.Placed, Agent: "1.4.2",
		Bundles: []fleetsync.BundleStatus{{Name: "pos", Phase: fleetsync.PhaseFailed}},
	}
	if e, ok := w.r.Report(&state, w.now, "shop-00000"); !ok || w.r.Fold(e) != Counted || w.outcome("shop-00000") != Succeeded {
		t.Fatalf("a healthy agent over bundles in trouble: %s", w.outcome("shop-00000"))
	}
	w.seq = 100
	w.decide()
	w.wait(time.Hour)
	w.say(fleetsync.PhaseCurrent, "shop-00000")
	w.decide()
	rest := w.with(1, Offered)
	if len(rest) != 5 {
		t.Fatalf("offered %d", len(rest))
	}
	w.say(fleetsync.PhaseReverted, rest[0])
	w.decide()
	w.wantPhase(Running)
	// A watchdog at the site put the agent before back: that is a failure, though the old agent is well.
	s, _ = w.r.Site(rest[1])
	goal := w.r.goal(&s)
	state = fleetsync.State{
		Site: rest[1], Epoch: "e1", Sequence: 1, Assignment: s.Placed, Agent: "1.4.1",
		Bundles: []fleetsync.BundleStatus{{Name: w.r.Bundle.Name, Digest: goal.Digest, Phase: fleetsync.PhaseHalted, Reason: "AgentTakenBack"}},
	}
	if e, ok := w.r.Report(&state, w.now, rest[1]); !ok || w.r.Fold(e) != Counted || w.outcome(rest[1]) != Failed {
		t.Fatalf("an agent that was taken back: %s", w.outcome(rest[1]))
	}
}

func TestR10_OffersMadeAnewCountForTheRateAlsoAfterARestart(t *testing.T) {
	w := start(t, `{"sitesPerHour":4,"waves":[{"name":"canary","sites":{"names":["shop-00000","shop-00001","shop-00002"]}},{"name":"rest"}]}`, shops(6))
	w.decide()
	w.say(fleetsync.PhaseReverted, "shop-00000", "shop-00001", "shop-00002")
	w.wait(time.Minute)
	w.wantPhase(Paused)
	if err := w.r.Resume(w.now, Actor{Name: "olga"}, "the cause is gone", true); err != nil {
		t.Fatal(err)
	}
	w.wait(time.Minute)
	if got := len(w.with(0, Offered)); got != 1 {
		t.Fatalf("%d offers anew, want 1: the hour had three", got)
	}
	r, err := Decode(must(w.r.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	w.r = r
	for _, f := range w.fleet {
		r.Observe(*f)
	}
	w.wait(time.Minute)
	if got := len(w.with(0, Offered)); got != 1 {
		t.Fatalf("%d offers anew after a restart, want 1", got)
	}
}
