package hub

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// outcome waits until the site has the outcome in the rollout.
func (d *district) outcome(id string, site bundle.SiteID, want rollout.Outcome) {
	d.t.Helper()
	eventually(d.t, string(site)+" is "+want.String(), func() bool {
		e, err := d.client.ExplainRollout(d.t.Context(), id)
		return err == nil && slices.ContainsFunc(e.Sites, func(s rollout.SiteExplanation) bool { return s.Site == site && s.Outcome == want })
	})
}

func (d *district) away(i int) {
	d.t.Helper()
	s := d.shops[shopID(i)]
	s.mu.Lock()
	s.mute = true
	s.mu.Unlock()
	eventually(d.t, string(s.id)+" counts as away", func() bool {
		site, err := d.client.Site(d.t.Context(), s.id)
		return err == nil && !site.Connected
	})
}

// finish has a site that waited come to its end with the version.
func (d *district) finish(i int) {
	s := d.shops[shopID(i)]
	s.mu.Lock()
	defer s.mu.Unlock()
	for j := range s.bundles {
		b := &s.bundles[j]
		b.Phase, b.Current, b.CurrentDigest = fleetsync.PhaseCurrent, b.Desired, b.Digest
	}
	s.say(context.Background())
}

// An abort comes while a site has accepted and another one is away with the offer: both get the withdrawal under a higher sequence, and a success
// that was under way changes nothing.
func TestR07_AnAbortWinsAndTakesOffersBack(t *testing.T) {
	onBothBuses(t, 4, func(t *testing.T, d *district) {
		d.release("1.1.0", 2, map[int]rollout.Behaviour{1: "wait", 2: rollout.DoesSilent, 3: rollout.DoesSilent})
		r := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-1","shop-2","shop-3"]},"soak":"0s"},{"name":"rest"}]}`)
		d.outcome(r.ID, "shop-1", rollout.Accepted)
		eventually(t, "the others were offered it", func() bool { return len(d.shops["shop-2"].saw()) == 2 && len(d.shops["shop-3"].saw()) == 2 })
		before := d.shops["shop-1"].have.Sequence

		acted := d.act(r.ID, "abort", api.RolloutAct{Why: "wrong prices"})
		if acted.Before.Outstanding != 3 || acted.Before.MayApply != 3 || acted.After.Taken != 0 {
			t.Errorf("exposed before %+v, after %+v", acted.Before, acted.After)
		}
		eventually(t, "shop-1 is told to stay", func() bool {
			return slices.Equal(d.shops["shop-1"].saw(), []string{"1.0.0", "1.1.0 " + r.ID + "/1", "1.0.0"})
		})
		d.shops["shop-2"].told(func(s *shop) { s.mute = false })
		eventually(t, "shop-2 finds the withdrawal", func() bool { return strings.Join(d.shops["shop-2"].saw(), " ") == "1.0.0 1.1.0 "+r.ID+"/1 1.0.0" })
		if after := d.shops["shop-1"].have.Sequence; after <= before {
			t.Errorf("withdrawn under %d after %d", after, before)
		}
		// shop-3 applied it before it heard. It says so and does not look: the next state would take the place of this one.
		s := d.shops["shop-3"]
		s.mu.Lock()
		s.mute = false
		b := &s.bundles[0]
		b.Phase, b.Current, b.CurrentDigest = fleetsync.PhaseCurrent, b.Desired, b.Digest
		s.say(t.Context())
		s.mute = true
		s.mu.Unlock()
		eventually(t, "the late success is kept for a rollback", func() bool {
			e, err := d.client.ExplainRollout(t.Context(), r.ID)
			return err == nil && e.Exposure.Taken == 1
		})
		if e := d.reaches(r.ID, rollout.Aborted); e.Waves[0].Tally.Succeeded != 0 {
			t.Errorf("a late success counts: %+v", e.Waves[0].Tally)
		}
		if saw := d.shops["shop-4"].saw(); len(saw) != 1 {
			t.Errorf("shop-4 saw %q", saw)
		}
	})
}

func TestR09_ReturningAndNewSitesAreCaughtUp(t *testing.T) {
	onBothBuses(t, 4, func(t *testing.T, d *district) {
		d.release("1.1.0", 2, nil)
		d.away(4)
		r := d.start("1.1.0", quick)
		d.reaches(r.ID, rollout.Completed)
		d.allRun("1.1.0", 4)
		if saw := d.shops["shop-4"].saw(); len(saw) != 1 {
			t.Errorf("a site that is away was offered it: %q", saw)
		}
		d.shops["shop-4"].told(func(s *shop) { s.mute = false })
		d.open(5, nil)
		d.allRun("1.1.0")
	})
}

func TestR06_TwoBundlesMoveAtOnce(t *testing.T) {
	d := newDistrict(t, 4, true)
	d.release("1.1.0", 2, nil)
	till := func(m *bundle.Manifest) { m.Name = "till" }
	push(t, d.client, releaseOf(t, "2.0.0", 1, ours(), till))
	first := d.start("1.1.0", quick)
	second, err := d.client.StartRollout(t.Context(), api.RolloutRequest{Bundle: bundle.Ref{Name: "till", Version: "2.0.0"}, Plan: planOf(quick)})
	if err != nil {
		t.Fatal(err)
	}
	d.reaches(first.ID, rollout.Completed)
	d.reaches(second.Rollout.ID, rollout.Completed)
	d.allRun("1.1.0")
	for id, s := range d.shops {
		eventually(t, string(id)+" runs till", func() bool { return s.runs("till") == "2.0.0" })
	}
}

// A site that reports an assignment which this hub never signed is held until somebody decides about it; the others go on.
func TestR19_ASiteInConflictIsHeldUntilAHumanDecides(t *testing.T) {
	d := newDistrict(t, 4, true)
	d.release("1.1.0", 2, nil)
	s := d.shops["shop-3"]
	s.mu.Lock()
	s.lie = 40
	s.say(t.Context())
	s.mu.Unlock()
	r := d.start("1.1.0", quick)
	eventually(t, "the conflict is a hold with its site", func() bool {
		e, err := d.client.ExplainRollout(t.Context(), r.ID)
		return err == nil && slices.ContainsFunc(e.Holds, func(h rollout.Reason) bool {
			return h.Code == rollout.HoldConflict && slices.Contains(h.Sites, "shop-3")
		})
	})
	d.allRun("1.1.0", 3)
	if saw := s.saw(); len(saw) != 1 {
		t.Errorf("offered in conflict: %q", saw)
	}
	s.mu.Lock()
	s.lie = 0
	s.mu.Unlock()
	if result := assign(t, d.client, api.AssignRequest{Sites: []bundle.SiteID{"shop-3"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}, Drift: bundle.DriftReport}); result.Sequence != 42 {
		t.Errorf("%+v", result)
	}
	d.allRun("1.1.0")
	if drift := s.have.Bundles[0].Drift; drift != bundle.DriftReport {
		t.Errorf("the offer changed the drift mode to %q", drift)
	}
	d.reaches(r.ID, rollout.Completed)
}

func TestR20_SomebodyElseApproves(t *testing.T) {
	d := newDistrict(t, 4, true)
	d.release("1.1.0", 2, nil)
	r := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"0s"},{"name":"rest","soak":"0s","maxUnavailable":3,"approvals":1}]}`)
	eventually(t, "it waits for an approval", func() bool {
		e, err := d.client.ExplainRollout(t.Context(), r.ID)
		return err == nil && slices.ContainsFunc(e.Holds, func(h rollout.Reason) bool { return h.Code == rollout.HoldApproval })
	})
	as := func(name string, role access.Role) *api.Client {
		grant, err := d.client.AddUser(t.Context(), api.UserRequest{Name: name, Role: role, Seconds: 3600})
		if err != nil {
			t.Fatal(err)
		}
		client, err := api.NewClient(grant.Context)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	for who, c := range map[string]struct {
		client *api.Client
		reason string
	}{"who started": {d.client, "NotAllowed"}, "an operator": {as("olga", access.Operator), "Forbidden"}, "a viewer": {as("vera", access.Viewer), "Forbidden"}} {
		if _, err := c.client.ActOnRollout(t.Context(), r.ID, "approval", api.RolloutAct{Wave: "rest"}); refusalOf(t, err).Reason != c.reason {
			t.Errorf("%s approved: %v", who, err)
		}
	}
	approver := as("anna", access.Approver)
	if _, err := approver.ActOnRollout(t.Context(), r.ID, "approval", api.RolloutAct{Wave: "rest"}); err != nil {
		t.Fatal(err)
	}
	d.reaches(r.ID, rollout.Completed)
}

// A site that does not know the time is given nothing that has a window, and gets it as soon as it does.
func TestR17_ASiteWithoutTheTimeGetsNothingWithAWindow(t *testing.T) {
	d := newDistrict(t, 2, true)
	timeless := d.shops[shopID(1)]
	timeless.told(func(s *shop) { s.clock = fleetsync.TimeUntrusted; s.say(t.Context()) })
	d.release("1.1.0", 2, nil)
	r := d.start("1.1.0", `{"windows":[{"from":"00:00","to":"24:00"}],"waves":[{"name":"canary","sites":{"names":["shop-2"]},"soak":"0s"},{"name":"rest","soak":"0s"}]}`)
	eventually(t, "it is held for its clock", func() bool {
		e, err := d.client.ExplainRollout(t.Context(), r.ID)
		return err == nil && slices.ContainsFunc(e.Holds, func(h rollout.Reason) bool { return h.Code == rollout.HoldTimeless })
	})
	if timeless.runs("shop") == "1.1.0" {
		t.Fatal("it runs what has a window")
	}
	timeless.told(func(s *shop) { s.clock = fleetsync.TimeTrusted; s.say(t.Context()) })
	d.reaches(r.ID, rollout.Completed)
}

// An emergency begins with one site, after two approvers who are not the starter, and both are on record.
func TestR18_AnEmergencyHasOneCanaryAndTwoApprovers(t *testing.T) {
	d := newDistrict(t, 4, true)
	d.release("1.1.0", 2, nil)
	r := d.start("1.1.0", `{"emergency":true,"waves":[{"name":"canary"},{"name":"rest","maxUnavailable":3,"soak":"0s"}]}`)
	held := func() (have, want int) {
		e, err := d.client.ExplainRollout(t.Context(), r.ID)
		if i := slices.IndexFunc(e.Holds, func(h rollout.Reason) bool { return h.Code == rollout.HoldApproval }); err == nil && i >= 0 {
			return e.Holds[i].Have, e.Holds[i].Want
		}
		return -1, -1
	}
	for have, name := range []string{"anna", "otto"} {
		eventually(t, "it waits for an approval", func() bool { got, want := held(); return got == have && want == 2 })
		grant, err := d.client.AddUser(t.Context(), api.UserRequest{Name: name, Role: access.Approver, Seconds: 3600})
		if err != nil {
			t.Fatal(err)
		}
		approver, err := api.NewClient(grant.Context)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := approver.ActOnRollout(t.Context(), r.ID, "approval", api.RolloutAct{Wave: "canary"}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one site takes it", func() bool {
		n := 0
		for _, s := range d.shops {
			if s.runs("shop") == "1.1.0" {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("%d sites of a canary of one", n)
		}
		return n == 1
	})
	e, err := d.client.ExplainRollout(t.Context(), r.ID)
	var by []string
	for _, a := range e.Waves[0].Approved {
		by = append(by, a.By)
	}
	if err != nil || !slices.Equal(by, []string{"anna", "otto"}) {
		t.Fatalf("%+v, %v", e.Waves[0], err)
	}
}

func TestR20_OutsideVerdicts(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"/ok":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"/bad":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "slow", http.StatusConflict) },
		"/away":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) },
		"/hangs":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"/overload": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"/endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"/api/v1/query": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			sample := func(v string) string {
				return `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"` + v + `"]}]}}`
			}
			switch r.FormValue("query") {
			case "good":
				_, _ = io.WriteString(w, sample("1"))
			case "zero":
				_, _ = io.WriteString(w, sample("0"))
			case "nan":
				_, _ = io.WriteString(w, sample("NaN"))
			case "empty":
				_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
			default:
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"status":"error","errorType":"bad_data","error":"no such thing"}`)
			}
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) }))
	defer server.Close()
	said := make(chan verdict, 1)
	a := newAsker(server.URL, func(v verdict) { said <- v })
	defer a.close()
	for want, checks := range map[rollout.Verdict][]rollout.Check{
		rollout.Pass:         {{URL: server.URL + "/ok"}, {URL: server.URL + "/endless"}, {Query: "good"}},
		rollout.Fail:         {{URL: server.URL + "/bad"}, {Query: "zero"}, {Query: "nan"}},
		rollout.Inconclusive: {{URL: server.URL + "/away"}, {URL: server.URL + "/hangs"}, {URL: server.URL + "/overload"}, {URL: "http://127.0.0.1:1/"}, {Query: "empty"}, {Query: "("}},
	} {
		for _, check := range checks {
			now := time.Now()
			a.put("r1", rollout.Asked{Wave: "canary", Check: check, Until: now.Add(500 * time.Millisecond)}, now)
			if v := <-said; v.verdict != want || v.rollout != "r1" || v.wave != "canary" {
				t.Errorf("%s%s: %+v, want %s", check.URL, check.Query, v, want)
			}
		}
	}
}

// The hub is stopped between an offer and its end, and comes back: nobody is offered anything twice, nothing is decided in the grace, and the
// rollout goes on where it was.
func TestF09_ARolloutSurvivesItsHub(t *testing.T) {
	d := newDistrict(t, 4, true)
	d.release("1.1.0", 2, map[int]rollout.Behaviour{1: "wait"})
	r := d.start("1.1.0", quick)
	d.outcome(r.ID, "shop-1", rollout.Accepted)
	d.h.Close()
	d.h = startHub(t, d.cfg)
	d.client = clientOf(t, d.h)
	eventually(t, "the grace is a hold", func() bool {
		e, err := d.client.ExplainRollout(t.Context(), r.ID)
		return err == nil && slices.ContainsFunc(e.Holds, func(h rollout.Reason) bool { return h.Code == rollout.HoldGrace })
	})
	d.finish(1)
	d.reaches(r.ID, rollout.Completed)
	d.allRun("1.1.0")
	for id, s := range d.shops {
		if saw := s.saw(); strings.Join(saw, ", ") != "1.0.0, 1.1.0 "+r.ID+"/1" {
			t.Errorf("%s saw %q", id, saw)
		}
	}
}

// Two hubs share one bus. The one that leads loses its connection in the middle of a rollout: the other takes over after the lease, nothing is
// lost, and nothing is offered twice.
func TestF09_TwoHubsOneLeader(t *testing.T) {
	cfg := onSharedBus(t)
	d := &district{t: t, cfg: cfg, shops: map[bundle.SiteID]*shop{}, h: startHub(t, cfg)}
	d.client = clientOf(t, d.h)
	eventually(t, "the first leads", func() bool { _, ours := d.h.rollouts.lease.held(); return ours })
	push(t, d.client, releaseOf(t, "1.0.0", 1, ours()))
	var ids []bundle.SiteID
	for i := range 4 {
		d.open(i+1, nil)
		ids = append(ids, shopID(i+1))
	}
	if _, err := d.client.Assign(t.Context(), api.AssignRequest{Sites: ids, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}); err != nil {
		t.Fatal(err)
	}
	d.allRun("1.0.0")

	cfg.DataDir = t.TempDir()
	if err := os.CopyFS(cfg.DataDir, os.DirFS(d.cfg.DataDir)); err != nil {
		t.Fatal(err)
	}
	second := startHub(t, cfg)
	first := d.h
	d.client = clientOf(t, second)
	eventually(t, "the second hub hears the sites", func() bool {
		sites, err := d.client.Sites(t.Context(), "")
		return err == nil && len(sites) == 4 && !slices.ContainsFunc(sites, func(s api.Site) bool { return !s.Connected || s.State == nil })
	})
	d.release("1.1.0", 2, map[int]rollout.Behaviour{1: "wait"})
	r := d.start("1.1.0", quick) // through the hub that does not lead
	d.outcome(r.ID, "shop-1", rollout.Accepted)
	if _, ours := second.rollouts.lease.held(); ours {
		t.Fatal("both lead")
	}
	token, _ := first.rollouts.lease.held()
	first.signals.(*bus.Hub).Close()
	eventually(t, "the second leads", func() bool { _, ours := second.rollouts.lease.held(); return ours })
	if _, still := first.rollouts.lease.held(); still {
		t.Error("the first thinks that it leads")
	}
	if next, _ := second.rollouts.lease.held(); next <= token {
		t.Errorf("token %d after %d", next, token)
	}
	d.finish(1)
	d.reaches(r.ID, rollout.Completed)
	d.allRun("1.1.0")
	for id, s := range d.shops {
		if saw := s.saw(); strings.Join(saw, ", ") != "1.0.0, 1.1.0 "+r.ID+"/1" {
			t.Errorf("%s saw %q", id, saw)
		}
	}

}

// onSharedBus is a hub's configuration on a server that is not the hub's.
func onSharedBus(t *testing.T) Config {
	t.Helper()
	cfg := configOf(t, t.TempDir())
	ring, err := openKeyring(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.busKeys()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := openAuthority(ring, certificateNames(nil), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := bus.StartServer(bus.ServerOptions{DataDir: t.TempDir(), Listen: "127.0.0.1:0", TLS: authority.tls(), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	cfg.External = &External{URL: server.URL(), CA: authority.caPEM}
	cfg.HeartBeat, cfg.LeaseSpan = time.Second, time.Second
	return cfg
}

// What may no longer be believed is not rolled out, although it is in the catalog.
func TestRolloutOfWhatIsBelowTheFloorIsRefused(t *testing.T) {
	d := newDistrict(t, 1, true)
	d.release("1.1.0", 2, nil)
	root := rootOf(t, d.cfg.DataDir)
	root.Trust.Floors = map[bundle.Name]bundle.Counter{"shop": 3}
	root.Publish(false)
	if _, err := publish(d.client, root.Published); err != nil {
		t.Fatal(err)
	}
	before := len(stored(t, d.h, "ROLLOUTS"))
	if problem := d.refused("1.1.0", quick); problem.Reason != "BelowFloor" || problem.Status != http.StatusUnprocessableEntity {
		t.Errorf("%+v", problem)
	}
	if after := len(stored(t, d.h, "ROLLOUTS")); after != before {
		t.Errorf("a refusal stored something")
	}
	if audit := auditText(t, d.client); !strings.Contains(audit, "admin rollout start shop@1.1.0 BelowFloor") {
		t.Errorf("audit log:\n%s", audit)
	}
}
