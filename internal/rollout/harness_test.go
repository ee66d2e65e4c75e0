package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var dawn = time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)

func release(version string, counter bundle.Counter) Version {
	return Version{Version: bundle.Version(version), Digest: bundle.DigestOf([]byte(version)), Counter: counter}
}

var (
	older  = release("1.4.1", 1)
	newer  = release("1.4.2", 2)
	newest = release("1.4.3", 3)
)

// plan reads a spec in JSON, as a plan document would have it.
func plan(t testing.TB, spec string) Plan {
	t.Helper()
	p, err := DecodePlan([]byte(planText(spec)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func planText(spec string) string {
	return `{"apiVersion":"holdfast.dev/v1","kind":"RolloutPlan","metadata":{"name":"retail"},"spec":` + spec + `}`
}

func siteName(i int) bundle.SiteID { return bundle.SiteID(fmt.Sprintf("shop-%05d", i)) }

// shops are n connected sites in four regions.
func shops(n int) []Facts {
	sites := make([]Facts, n)
	for i := range sites {
		sites[i] = Facts{
			Site: siteName(i), Labels: map[string]string{"tier": []string{"a", "b"}[i%2]}, Region: []string{"north", "east", "south", "west"}[i%4],
			Connected: true, LastSeen: dawn, Current: older,
		}
	}
	return sites
}

// world is a hub with one rollout, and sites that do what they are told to. Steps fail the test if deciding again changes anything.
type world struct {
	t     testing.TB
	now   time.Time
	r     *Rollout
	fleet map[bundle.SiteID]*Facts
	mute  map[bundle.SiteID]bool
	seq   uint64
	last  Decision
}

func order(p Plan) Order {
	return Order{ID: "r1", By: "olga", Plan: p, Bundle: Bundle{Name: "pos", Version: newer}}
}

func start(t testing.TB, spec string, sites []Facts, edit ...func(*Order)) *world {
	t.Helper()
	o := order(plan(t, spec))
	for _, e := range edit {
		e(&o)
	}
	r, _, err := Start(dawn, o, Fleet{Members: sites})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: dawn, r: r, fleet: map[bundle.SiteID]*Facts{}, mute: map[bundle.SiteID]bool{}}
	for _, f := range sites {
		w.fleet[f.Site] = &f
	}
	return w
}

// decide decides, carries out the offers and withdrawals, and holds the engine to its own fixpoint.
func (w *world) decide() Decision {
	w.t.Helper()
	d := w.r.Decide(w.now)
	if again := w.r.Clone().Decide(w.now); again.Changed || len(again.Moves) > 0 {
		w.t.Fatalf("deciding again changed something: %v", again.Moves)
	}
	for _, o := range d.Offers {
		w.seq++
		if err := w.r.Placed(o.Site, o.Attempt, w.seq); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, o := range d.Withdrawals {
		if err := w.r.Withdrew(o.Site, o.Attempt); err != nil {
			w.t.Fatal(err)
		}
	}
	w.last = d
	return d
}

// wait lets time pass, in which everybody who is not mute and connected is heard.
func (w *world) wait(span time.Duration) Decision {
	w.t.Helper()
	w.now = w.now.Add(span)
	for id, f := range w.fleet {
		if f.Connected && !w.mute[id] {
			f.LastSeen = w.now
			w.r.Observe(*f)
		}
	}
	return w.decide()
}

func (w *world) observe(id bundle.SiteID, edit func(*Facts)) {
	edit(w.fleet[id])
	w.r.Observe(*w.fleet[id])
}

// evidence is what the site would say now about the rollout's own version.
func (w *world) evidence(id bundle.SiteID, phase fleetsync.Phase) Evidence {
	s, _ := w.r.Site(id)
	w.seq++
	e := Evidence{
		Site: id, Signer: id, Rollout: w.r.ID, Attempt: s.Attempt, Digest: w.r.goal(&s).Digest, Epoch: "e1", Seq: w.seq, Received: w.now, Phase: phase,
	}
	if phase == fleetsync.PhaseCurrent {
		e.Runs = e.Digest
	}
	return e
}

func (w *world) say(phase fleetsync.Phase, ids ...bundle.SiteID) {
	w.t.Helper()
	for _, id := range ids {
		f := w.fleet[id]
		f.LastSeen = w.now
		w.r.Observe(*f)
		if refusal := w.r.Fold(w.evidence(id, phase)); refusal != Counted {
			w.t.Fatalf("%s %s: %s", id, phase, refusal)
		}
	}
}

func (w *world) members(wave int) []bundle.SiteID {
	var ids []bundle.SiteID
	for i := range w.r.Sites {
		if w.r.Sites[i].Wave == wave {
			ids = append(ids, w.r.Sites[i].Site)
		}
	}
	return ids
}

// with are the sites of a wave that have the outcome.
func (w *world) with(wave int, o Outcome) []bundle.SiteID {
	return slices.DeleteFunc(w.members(wave), func(id bundle.SiteID) bool {
		s, _ := w.r.Site(id)
		return s.Outcome != o
	})
}

// succeed makes every site of the wave succeed as it is offered, and report again after the soak.
func (w *world) succeed(wave int) {
	w.t.Helper()
	w.decide()
	for len(w.with(wave, Offered)) > 0 {
		w.say(fleetsync.PhaseCurrent, w.with(wave, Offered)...)
		w.wait(time.Minute)
	}
	w.wait(time.Duration(*w.r.Plan.Spec.Waves[wave].Soak))
	w.say(fleetsync.PhaseCurrent, w.with(wave, Succeeded)...)
	w.decide()
}

func (w *world) outcome(id bundle.SiteID) Outcome {
	s, _ := w.r.Site(id)
	return s.Outcome
}

func (w *world) wantPhase(p Phase) {
	w.t.Helper()
	if w.r.Phase != p {
		w.t.Fatalf("phase %s, want %s; cause %s; holds %v", w.r.Phase, p, w.r.cause(), w.last.Holds)
	}
}

func (w *world) wantHold(c Code) Reason {
	w.t.Helper()
	i := slices.IndexFunc(w.last.Holds, func(r Reason) bool { return r.Code == c })
	if i < 0 {
		w.t.Fatalf("no hold %s, but %v (moves %v)", c, w.last.Holds, w.last.Moves)
	}
	return w.last.Holds[i]
}

func (w *world) wantMove(c Code) Reason {
	w.t.Helper()
	i := slices.IndexFunc(w.last.Moves, func(r Reason) bool { return r.Code == c })
	if i < 0 {
		w.t.Fatalf("no move %s, but %v (holds %v)", c, w.last.Moves, w.last.Holds)
	}
	return w.last.Moves[i]
}

func (w *world) opened(wave int) bool { return !w.r.Waves[wave].Opened.IsZero() }

func wantRefused(t testing.TB, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("error %v, want one that says %q", err, part)
	}
}

// same compares two rollouts by what is stored.
func same(a, b *Rollout) bool {
	left, _ := json.Marshal(a)
	right, _ := json.Marshal(b)
	return string(left) == string(right)
}
