package hub

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func onBothBuses(t *testing.T, n int, test func(t *testing.T, d *district)) {
	t.Run("in memory", func(t *testing.T) { test(t, newDistrict(t, n, true)) })
	t.Run("over NATS", func(t *testing.T) { test(t, newDistrict(t, n, false)) })
}

func TestRolloutMovesAFleetInWaves(t *testing.T) {
	onBothBuses(t, 6, func(t *testing.T, d *district) {
		d.release("1.1.0", 2, nil)
		r := d.start("1.1.0", quick)
		if r.ID != "shop-1-1-0" || r.Sites != 6 || len(r.Waves) != 2 {
			t.Errorf("started %+v", r)
		}
		e := d.reaches(r.ID, rollout.Completed)
		d.allRun("1.1.0")
		for _, w := range e.Waves {
			if w.State != "passed" {
				t.Errorf("wave %s is %s", w.Name, w.State)
			}
		}
		for id, s := range d.shops {
			if saw := s.saw(); strings.Join(saw, ", ") != "1.0.0, 1.1.0 shop-1-1-0/1" {
				t.Errorf("%s saw %q", id, saw)
			}
		}
		list, err := d.client.Rollouts(t.Context())
		if err != nil || len(list) != 1 || list[0].Phase != rollout.Completed || list[0].Ended == nil {
			t.Errorf("listed %+v, %v", list, err)
		}
		eventually(t, "start and end are in the audit log", func() bool {
			audit := auditText(t, d.client)
			return strings.Contains(audit, "admin rollout start shop-1-1-0 shop@1.1.0 done") && strings.Contains(audit, "hub rollout completed shop-1-1-0 done")
		})
	})
}

// auditText is the audit log, a record a line.
func auditText(t *testing.T, client *api.Client) string {
	t.Helper()
	records, err := client.Audit(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range records {
		b.WriteString(strings.Join([]string{r.Who, r.What, r.Target, r.Outcome, r.Detail}, " ") + "\n")
	}
	return b.String()
}

// The canary fails and reverts by itself: the rollout pauses with its reason, nobody else was offered it, and a fixed version goes out although
// the old rollout still stands.
func TestR13_AFailingCanaryPausesTheRollout(t *testing.T) {
	onBothBuses(t, 5, func(t *testing.T, d *district) {
		d.release("1.1.0", 2, map[int]rollout.Behaviour{1: rollout.DoesFail})
		r := d.start("1.1.0", quick)
		e := d.reaches(r.ID, rollout.Paused)
		if e.Cause == nil || e.Cause.Code != rollout.MoveFailures || len(e.Cause.Sites) != 1 || e.Cause.Sites[0] != "shop-1" {
			t.Errorf("cause %+v", e.Cause)
		}
		if len(e.Sites) != 1 || e.Sites[0].Outcome != rollout.Reverted || e.Sites[0].Why != "Unhealthy" {
			t.Errorf("sites %+v", e.Sites)
		}
		eventually(t, "the pause is in the audit log", func() bool {
			return strings.Contains(auditText(t, d.client), "hub rollout paused shop-1-1-0 done wave canary: 1 site failed")
		})
		d.allRun("1.0.0")
		for i := 2; i <= 5; i++ {
			if saw := d.shops[shopID(i)].saw(); len(saw) != 1 {
				t.Errorf("%s saw %q", shopID(i), saw)
			}
		}

		d.release("1.1.1", 3, nil)
		if problem := d.refused("1.1.1", quick); problem.Reason != "BadPlan" || !strings.Contains(problem.Detail, "one active rollout per bundle") {
			t.Errorf("a second rollout over the same sites: %+v", problem)
		}
		acted := d.act(r.ID, "abort", api.RolloutAct{Why: "1.1.1 is better"})
		if acted.Rollout.Phase != rollout.Aborted || acted.Before.Taken != 1 || acted.After.Outstanding != 0 {
			t.Errorf("aborted %+v", acted)
		}
		d.reaches(d.start("1.1.1", quick).ID, rollout.Completed)
		d.allRun("1.1.1")
		eventually(t, "the old rollout is retired", func() bool {
			r, err := d.client.Rollout(t.Context(), r.ID)
			return err == nil && r.Retired
		})
	})
}

func TestR15_AFailingWaveRollsBack(t *testing.T) {
	onBothBuses(t, 6, func(t *testing.T, d *district) {
		d.release("1.1.0", 2, map[int]rollout.Behaviour{5: rollout.DoesFail})
		// The old content under a higher counter, ready to go back to.
		push(t, d.client, releaseWith(t, contentOf(t, "text of 1.0.0"), "1.0.1", 3, ours()))
		r := d.start("1.1.0", `{"onFailure":"rollback","waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"0s"},
			{"name":"rest","sites":{"all":true},"maxUnavailable":3,"soak":"0s"}]}`)
		d.reaches(r.ID, rollout.Aborted)
		d.reaches(r.ID+"-back", rollout.Completed)
		for id, s := range d.shops {
			saw := s.saw()
			took := strings.Contains(strings.Join(saw, ", "), "1.1.0 "+r.ID)
			if want := "1.0.1"; took && id != "shop-5" {
				eventually(t, string(id)+" went back", func() bool { return s.runs("shop") == bundle.Version(want) })
			}
			if !took && s.runs("shop") != "1.0.0" {
				t.Errorf("%s never took 1.1.0 and runs %s: %q", id, s.runs("shop"), saw)
			}
		}
		first, err := d.client.Rollout(t.Context(), r.ID)
		if err != nil || first.BackBy != r.ID+"-back" || !first.Pulled {
			t.Errorf("%+v, %v", first, err)
		}
		back, err := d.client.Rollout(t.Context(), first.BackBy)
		if err != nil || !back.Back || back.Parent != r.ID || back.By != "hub" {
			t.Errorf("%+v, %v", back, err)
		}
	})
}

// refused starts a rollout that must be refused, and gives the reason.
func (d *district) refused(version bundle.Version, spec string) api.Problem {
	d.t.Helper()
	_, err := d.client.StartRollout(d.t.Context(), api.RolloutRequest{Bundle: bundle.Ref{Name: "shop", Version: version}, Plan: planOf(spec)})
	return refusalOf(d.t, err)
}

// An agent is moved by the bundle that brings it, and judged by the version that speaks: where a watchdog put the old one back, its site has failed.
func TestR21_AnAgentMovesByRollout(t *testing.T) {
	onBothBuses(t, 4, func(t *testing.T, d *district) {
		for _, s := range d.shops {
			s.told(func(s *shop) { s.agent = true })
		}
		const plan = `{"subject":"agent","waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"1s"},{"name":"rest","sites":{"all":true},"maxUnavailable":3,"soak":"0s"}]}`
		d.release("1.1.0", 2, map[int]rollout.Behaviour{1: rollout.DoesFail})
		r := d.start("1.1.0", plan)
		if e := d.reaches(r.ID, rollout.Paused); e.Cause == nil || e.Cause.Code != rollout.MoveFailures {
			t.Errorf("cause %+v", e.Cause)
		}
		d.act(r.ID, "abort", api.RolloutAct{Why: "the agent was taken back"})
		d.release("1.1.1", 3, nil)
		d.reaches(d.start("1.1.1", plan).ID, rollout.Completed)
		d.allRun("1.1.1")
	})
}
