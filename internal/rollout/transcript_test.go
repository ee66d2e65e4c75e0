package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestRolloutTranscripts plays the scripts of testdata/transcripts, one rollout each. Rewrite them with -rewrite after reading what changed.
func TestRolloutTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		s := &script{}
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	*world
	sites []Facts
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	if s.world != nil {
		s.t = t
	}
	var b strings.Builder
	switch d.Cmd {
	case "fleet": // fleet 12 dark=(3,4)
		n, _ := strconv.Atoi(d.CmdArgs[0].Key)
		s.sites = shops(n)
		for _, i := range numbers(d, "dark") {
			s.sites[i].Connected = false
		}
		return "ok"
	case "start": // a spec in JSON
		p, err := DecodePlan([]byte(planText(d.Input)))
		if err == nil {
			var layout *Layout
			if layout, err = Freeze(p, Fleet{Members: s.sites}); err == nil {
				for _, w := range layout.Waves {
					fmt.Fprintf(&b, "wave %s: %d sites, %d offline, at most %d at once, %d failures\n", w.Name, len(w.Members), w.Offline, w.MaxUnavailable, w.MaxFailures)
				}
				fmt.Fprintf(&b, "blast radius %d of %d\n", layout.BlastRadius(), layout.Fleet)
				s.world = start(t, d.Input, s.sites)
				return b.String() + s.tell(s.decide())
			}
		}
		return "refused: " + err.Error()
	case "wait":
		span, err := ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return s.tell(s.wait(time.Duration(span)))
	case "mute", "unmute":
		for _, i := range numbers(d, "sites") {
			s.mute[siteName(i)] = d.Cmd == "mute"
		}
		return "ok"
	case "return":
		for _, i := range numbers(d, "sites") {
			s.observe(siteName(i), func(f *Facts) { f.Connected, f.LastSeen = true, s.now })
		}
		return s.tell(s.decide())
	case "report": // report Current sites=(1,2)
		for _, i := range numbers(d, "sites") {
			f := s.fleet[siteName(i)]
			f.LastSeen = s.now
			s.r.Observe(*f)
			if refusal := s.r.Fold(s.evidence(f.Site, fleetsync.Phase(d.CmdArgs[0].Key))); refusal != Counted {
				fmt.Fprintf(&b, "%s does not count: %s\n", f.Site, refusal)
			}
		}
		return b.String() + s.tell(s.decide())
	case "act":
		return s.act(t, d)
	case "restart":
		r := must(Decode(must(s.r.Encode())))
		for _, f := range s.fleet {
			r.Observe(*f)
		}
		r.Restarted(s.now, 30*time.Second)
		s.r = r
		return s.tell(s.decide())
	case "explain":
		return s.explain()
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func (s *script) act(t *testing.T, d *datadriven.TestData) string {
	by := Actor{Name: "olga"}
	why := strings.TrimSpace(d.Input)
	var err error
	switch d.CmdArgs[0].Key {
	case "approve":
		err = s.r.Approve(s.now, Actor{d.CmdArgs[1].Key, true}, d.CmdArgs[2].Key)
	case "pause":
		err = s.r.Pause(s.now, by, why)
	case "resume":
		err = s.r.Resume(s.now, by, why, d.HasArg("again"))
	case "abort":
		err = s.r.Abort(s.now, by, why)
	case "rollback":
		var back *Rollout
		if back, err = s.r.Rollback(s.now, BackOrder{ID: "back", By: "olga", Why: why}, nil); err == nil {
			s.r.RolledBack(back.ID)
			for _, f := range s.fleet {
				back.Observe(*f)
			}
			s.r = back
		}
	default:
		d.Fatalf(t, "unknown act")
	}
	if err != nil {
		return err.Error()
	}
	return s.tell(s.decide())
}

// tell shows a decision as a person would read it.
func (s *script) tell(d Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", s.now.Format("Jan 2 15:04"), d.Phase)
	for _, m := range d.Moves {
		fmt.Fprintf(&b, "  move %s\n", m)
	}
	for _, o := range d.Offers {
		fmt.Fprintf(&b, "  offer %s %s by %s\n", o.Site, o.Goal.Version, o.ApplyBy.Format("Jan 2 15:04"))
	}
	for _, o := range d.Withdrawals {
		fmt.Fprintf(&b, "  withdraw %s to %s\n", o.Site, o.Goal.Version)
	}
	if d.RollBack != "" {
		fmt.Fprintf(&b, "  roll back %s\n", d.RollBack)
	}
	for _, h := range d.Holds {
		fmt.Fprintf(&b, "  hold %s\n", h)
	}
	if !d.Wake.IsZero() {
		fmt.Fprintf(&b, "  wake %s\n", d.Wake.Format("Jan 2 15:04"))
	}
	return b.String()
}

func (s *script) explain() string {
	var b strings.Builder
	e := s.r.Explain(s.now)
	for _, w := range e.Waves {
		fmt.Fprintf(&b, "%s %s: %d of %d eligible succeeded, %d wanted, %d late, %d failed of %d, %d in flight, %d unknown\n", w.Name, w.State, w.Tally.Succeeded, w.Eligible,
			w.Wanted, w.Tally.Late, w.Tally.Failed+w.Tally.Reverted, w.MaxFailures, w.Tally.InFlight, w.Tally.Unknown)
	}
	for _, x := range e.Sites {
		fmt.Fprintf(&b, "  %s %s %s%s%s\n", x.Site, x.Wave, x.Outcome, space(string(x.Held)), space(x.Why))
	}
	for _, h := range e.Holds {
		fmt.Fprintf(&b, "  hold %s\n", h)
	}
	fmt.Fprintf(&b, "exposed: %d took it, %d outstanding, %d may still apply\n", e.Exposure.Taken, e.Exposure.Outstanding, e.Exposure.MayApply)
	return b.String()
}

func space(text string) string {
	if text == "" {
		return ""
	}
	return " " + text
}

func numbers(d *datadriven.TestData, name string) []int {
	var out []int
	for _, a := range d.CmdArgs {
		if a.Key != name {
			continue
		}
		for _, v := range a.Vals {
			n, _ := strconv.Atoi(v)
			out = append(out, n)
		}
	}
	return out
}

// TestSimulateRunsTheSameReducer imagines the rollout: forty dark shops, and what becomes of it with a good and a bad version.
func TestSimulateRunsTheSameReducer(t *testing.T) {
	sites := shops(400)
	for i := 20; i < 30; i++ {
		sites[i].Connected = false
	}
	p := plan(t, `{"onFailure":"rollback","waves":[{"name":"canary","sites":{"count":5},"soak":"1h"},{"name":"early","sites":{"percent":10},"maxUnavailable":2,"soak":"2h","approvals":1},
		{"name":"rest","maxUnavailable":"5%","ratio":0.98}]}`)
	good, err := Simulate(dawn, order(p), Fleet{Members: sites}, nil, Imagined{Does: DoesWell})
	if err != nil {
		t.Fatal(err)
	}
	if good.Rollout.Phase != Completed || good.Widest > good.Layout.BlastRadius() {
		t.Fatalf("%s, widest %d of %d", good.Rollout.Phase, good.Widest, good.Layout.BlastRadius())
	}
	canary := good.Layout.Waves[0].Members[1].Site
	for does, want := range map[Behaviour]Phase{DoesFail: Aborted, DoesDie: Aborted, DoesDecay: Aborted} {
		bad, err := Simulate(dawn, order(p), Fleet{Members: sites}, map[bundle.SiteID]Imagined{canary: {Does: does}}, Imagined{})
		if err != nil {
			t.Fatal(err)
		}
		if bad.Rollout.Phase != want || !bad.Rollout.BackOrdered || !bad.Rollout.Waves[1].Opened.IsZero() {
			t.Errorf("%s: %s, second wave opened %v", does, bad.Rollout.Phase, bad.Rollout.Waves[1].Opened)
		}
	}
	quiet, err := Simulate(dawn, order(p), Fleet{Members: sites}, nil, Imagined{Does: DoesSilent})
	if err != nil || quiet.Rollout.Phase != Paused || quiet.Rollout.Cause.Code != MoveInconclusive {
		t.Fatalf("%v %s", err, quiet.Rollout.Phase)
	}
}

func TestExplainChangesNothing(t *testing.T) {
	w := start(t, twoWaves, shops(6))
	before := w.r.Clone()
	e := w.r.Explain(w.now)
	if !same(before, w.r) || len(e.Moves) == 0 {
		t.Fatalf("%+v", e)
	}
}
