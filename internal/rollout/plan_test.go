package rollout

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// TestBadPlanIsRefused is "Bad input": each refusal says what is wrong.
func TestBadPlanIsRefused(t *testing.T) {
	cases := []struct{ spec, want string }{
		{`{"wave":[]}`, `unknown key "wave"`},
		{`{"Waves":[]}`, `it is written "waves"`},
		{`{"waves":[{"name":"a","soak":"30"}]}`, "duration"},
		{`{"waves":[{"name":"a","soak":"-5m"}]}`, "366 days"},
		{`{"waves":[{"name":"a","soak":"4000d"}]}`, "366 days"},
		{`{"waves":[{"name":"a","sites":{"percent":101}}]}`, "percent 101"},
		{`{"waves":[{"name":"a","sites":{"percent":-1}}]}`, "percent -1"},
		{`{"waves":[{"name":"a","maxUnavailable":"0%"}]}`, "amount"},
		{`{"waves":[{"name":"a","maxUnavailable":0}]}`, "amount"},
		{`{"waves":[{"name":"a","ratio":1.5}]}`, "ratio"},
		{`{"waves":[{"name":"a"},{"name":"a"}]}`, "twice"},
		{`{"waves":[{"name":"A"}]}`, "want a name"},
		{`{"waves":[{"name":"a","sites":{"all":true,"count":3}}]}`, "all goes with nothing"},
		{`{"waves":[{"name":"a","checks":[{"name":"c"}]}]}`, "either a url or a query"},
		{`{"onFailure":"hope"}`, "pause or rollback"},
		{`{"windows":[{"from":"02:00","to":"02:00"}]}`, "no length"},
		{`{"windows":[{"from":"2:00","to":"03:00"}]}`, "hours and minutes"},
		{`{"windows":[{"days":["fr"],"from":"02:00","to":"03:00"}]}`, "want one of mon"},
		{`{"blackouts":[{"from":"2026-11-28","to":"2026-11-27"}]}`, "end after the beginning"},
		{`{"maxFailures":null}`, "null"},
		{`{"waves":[{"name":"a","minSuccess":0}]}`, "minSuccess 0"},
		// held against the fleet
		{`{"waves":[{"name":"a","sites":{"names":["shop-00000","shop-00001","shop-00002"]}},{"name":"b","sites":{"labels":"tier=a"}}]}`, "overlaps wave a"},
		{`{"waves":[{"name":"a","sites":{"labels":"tier=z"}},{"name":"b"}]}`, "selects nobody"},
		{`{"waves":[{"name":"a","sites":{"count":3}},{"name":"b"},{"name":"c"}]}`, "selects nobody"},
		{`{"targets":{"labels":"tier=z"}}`, "selects nobody"},
		{`{"waves":[{"name":"a","sites":{"count":3}},{"name":"b","sites":{"count":18}}]}`, "exceeds the fleet"},
		{`{"waves":[{"name":"a","sites":{"percent":60}},{"name":"b","sites":{"percent":60}}]}`, "exceeds the fleet"},
		{`{"waves":[{"name":"a","sites":{"names":["shop-00099"]}},{"name":"b"}]}`, "exceeds the fleet"},
		{`{"waves":[{"name":"a","sites":{"count":3},"minSuccess":4},{"name":"b"}]}`, "exceeds the 3 sites"},
		{`{"waves":[{"name":"a","sites":{"all":true}}]}`, "everything at once"},
		{`{"waves":[{"name":"a","sites":{"all":true},"maxUnavailable":1}]}`, "everything at once"},
		{`{"waves":[{"name":"a","sites":{"count":3}},{"name":"b","maxUnavailable":"100%"}]}`, "at once"},
		{`{"waves":[{"name":"a","sites":{"group":"nope"}},{"name":"b"}]}`, "no group nope"},
		{`{"emergency":true,"waves":[{"name":"a","sites":{"count":3}}]}`, "the same waves"},
	}
	for _, c := range cases {
		p, err := DecodePlan([]byte(planText(c.spec)))
		if err == nil {
			_, err = Freeze(p, Fleet{Members: shops(20)})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n  error %v\n  want  %s", c.spec, err, c.want)
		}
	}
	if _, err := DecodePlan([]byte(planText(`{"maxFailures":1,"maxFailures":2}`))); err == nil {
		t.Error("a duplicate key was taken")
	}
	if _, err := DecodePlan([]byte(planText(`{"targets":{"labels":"` + strings.Repeat(" ", MaxPlanSize) + `"}}`))); err == nil {
		t.Error("an oversized plan was taken")
	}
}

// TestThePlanOfTheDesign freezes the example of ROLLOUTS.md over the fleet of the issue.
func TestThePlanOfTheDesign(t *testing.T) {
	p := plan(t, `{"waves":[
		{"name":"canary","sites":{"group":"canary"},"minSuccess":3,"soak":"30m","deadline":"4h"},
		{"name":"early","sites":{"percent":10},"maxUnavailable":2,"soak":"2h","deadline":"24h","approvals":1},
		{"name":"rest","sites":{"all":true},"maxUnavailable":"5%","ratio":0.98,"deadline":"14d"}],
		"maxFailures":0,"onFailure":"rollback","offline":{"before":"skip","catchUp":"newest-completed","darkAfter":"15m"}}`)
	sites := shops(2000)
	for i := range 10 {
		sites[i*7].Labels = map[string]string{"canary": "yes"}
	}
	fleet := Fleet{Members: sites, Groups: map[string]string{"canary": "canary=yes"}}
	layout, err := Freeze(p, fleet)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, w := range layout.Waves {
		sizes = append(sizes, len(w.Members))
	}
	if !slices.Equal(sizes, []int{10, 200, 1790}) || layout.BlastRadius() != 89 || layout.Waves[2].MaxUnavailable != 89 {
		t.Fatalf("waves %v, blast radius %d", sizes, layout.BlastRadius())
	}
	// A canary stays a canary: who is early does not depend on the order of the fleet or on who else is in it, but for the edge of the share.
	slices.Reverse(fleet.Members)
	again, err := Freeze(p, fleet)
	if err != nil || again.Waves[1].Sites != layout.Waves[1].Sites {
		t.Fatalf("the order of the fleet decides: %v", err)
	}
	fleet.Members = slices.DeleteFunc(fleet.Members, func(f Facts) bool { return f.Site == siteName(1999) })
	fewer, err := Freeze(p, fleet)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	early := map[bundle.SiteID]bool{}
	for _, m := range layout.Waves[1].Members {
		early[m.Site] = true
	}
	for _, m := range fewer.Waves[1].Members {
		if early[m.Site] {
			kept++
		}
	}
	if kept < 199 {
		t.Fatalf("%d of 200 stayed", kept)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte(planText(twoWaves)))
	f.Add([]byte(planText(`{"windows":[{"days":["fri"],"from":"22:00","to":"04:00"}],"blackouts":[{"from":"2026-11-27","to":"2026-11-28"}]}`)))
	f.Add([]byte(planText(`{"subject":"agent","waves":[{"name":"a","sites":{"percent":5},"maxUnavailable":"5%","checks":[{"name":"c","url":"http://x"}]},{"name":"b"}]}`)))
	fleet := Fleet{Members: shops(40)}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePlan(b)
		if err != nil {
			return
		}
		layout, err := Freeze(p, fleet)
		if err != nil {
			return
		}
		seen := map[bundle.SiteID]bool{}
		for _, w := range layout.Waves {
			if len(w.Members) == 0 || w.MaxUnavailable < 1 {
				t.Fatalf("wave %s: %+v", w.Name, w.Wave)
			}
			for _, m := range w.Members {
				if seen[m.Site] {
					t.Fatalf("%s is in two waves", m.Site)
				}
				seen[m.Site] = true
			}
		}
		r, _, err := Start(dawn, order(p), fleet)
		if err != nil {
			t.Fatal(err)
		}
		r.Decide(dawn)
		again, err := Decode(must(r.Encode()))
		if err != nil || !same(r, again) {
			t.Fatalf("does not survive its own encoding: %v", err)
		}
	})
}

func FuzzRollout(f *testing.F) {
	w := start(f, twoWaves, shops(6))
	f.Add(must(w.r.Encode()))
	w.decide()
	w.say("Current", w.members(0)...)
	w.decide()
	f.Add(must(w.r.Encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		for _, s := range shops(6) {
			r.Observe(s)
		}
		r.Decide(dawn)
		r.Explain(dawn)
	})
}
