package web

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fleetOf is a fleet of which every tenth site is silent, every tenth failing and every tenth never heard from.
func fleetOf(n int) []api.Site {
	sites := make([]api.Site, n)
	for i := range sites {
		seen := noon.Add(-time.Duration(i%60) * time.Second)
		s := api.Site{
			ID: bundle.SiteID(fmt.Sprintf("shop-%05d", i)), Freshness: api.Fresh, LastSeen: &seen, StateAt: &seen,
			Assigned: []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: "sha256:a"}},
			State:    &fleetsync.State{Cluster: fleetsync.ClusterStatus{Reachable: true}, Bundles: []fleetsync.BundleStatus{{Name: "shop", Digest: "sha256:a", Phase: fleetsync.PhaseCurrent}}},
		}
		switch i % 10 {
		case 1:
			old := noon.Add(-time.Hour)
			s.Freshness, s.LastSeen = api.Stale, &old
		case 2:
			s.State.Bundles[0].Phase = fleetsync.PhaseFailed
		case 3:
			s.Freshness, s.LastSeen, s.State = api.Unknown, nil, nil
		}
		sites[i] = s
	}
	return sites
}

func rendered(t testing.TB, name string, page any) *html.Node {
	t.Helper()
	raw, err := Render(name, Frame{Title: name, User: "anna", Now: noon, Page: page})
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func attr(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(node *html.Node) string {
	var b strings.Builder
	for n := range node.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// cells are the links of the grid.
func cells(root *html.Node) (all []*html.Node) {
	for node := range root.Descendants() {
		if node.Type == html.ElementNode && node.Data == "a" && attr(node, "data-left") != "" {
			all = append(all, node)
		}
	}
	return all
}

func TestP08_EveryCellSaysHowLongItIsBelieved(t *testing.T) {
	for _, n := range []int{40, 400} {
		root := rendered(t, "fleet", NewFleet(noon, time.Minute, fleetOf(n), "", 1))
		all := cells(root)
		if len(all) != n {
			t.Fatalf("%d cells, want %d", len(all), n)
		}
		for _, cell := range all {
			class, left := attr(cell, "class"), attr(cell, "data-left")
			believed := class == "s-current" || class == "s-failing"
			if believed == (left == "0") {
				t.Errorf("%s has class %s and is believed for %s s", attr(cell, "href"), class, left)
			}
			if says := attr(cell, "title"); !strings.Contains(says, strings.TrimPrefix(class, "s-")) || !(strings.Contains(says, "ago") || strings.Contains(says, "never")) {
				t.Errorf("a cell says %q, want its state and its age in words", says)
			}
			if sign := glyph(api.Standing(strings.TrimPrefix(class, "s-"))); !strings.HasPrefix(text(cell), sign) {
				t.Errorf("a cell of class %s shows %q, want the sign %q: colour alone says nothing", class, text(cell), sign)
			}
		}
	}
}

func TestFleetOfTenThousandIsPagedAndCountedWhole(t *testing.T) {
	sites := fleetOf(10000)
	raw, err := Render("fleet", Frame{User: "anna", Now: noon, Page: NewFleet(noon, time.Minute, sites, "", 1)})
	if err != nil || len(raw) > 400<<10 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	seen := map[string]bool{}
	for number := 1; number <= 10; number++ {
		page := NewFleet(noon, time.Minute, sites, "", number)
		if page.Number != number || page.Pages != 10 || !page.Compact || page.Total != 10000 {
			t.Errorf("page %d: number %d of %d", number, page.Number, page.Pages)
		}
		for _, cell := range page.Cells {
			seen[cell.Site] = true
		}
	}
	if len(seen) != 10000 {
		t.Errorf("%d sites on ten pages", len(seen))
	}
	failing := NewFleet(noon, time.Minute, sites, api.StandingFailing, 1)
	if failing.Shown() != 1000 || failing.Pages != 1 || len(failing.Cells) != 1000 || failing.More != 990 || len(failing.Urgent) != maxUrgent {
		t.Errorf("failing: %d shown on %d pages, %d cells, %d urgent and %d more", failing.Shown(), failing.Pages, len(failing.Cells), len(failing.Urgent), failing.More)
	}
	for _, number := range []int{-5, 0, 11, 1 << 40} {
		if page := NewFleet(noon, time.Minute, sites, "", number); page.Number < 1 || page.Number > 10 || len(page.Cells) != 1000 {
			t.Errorf("page %d is %d with %d cells", number, page.Number, len(page.Cells))
		}
	}
	if page := NewFleet(noon, time.Minute, nil, "", 3); page.Number != 1 || len(page.Cells) != 0 {
		t.Errorf("no sites: %+v", page)
	}
}

func TestP04_TheTimelineMarksWhatIsNotThere(t *testing.T) {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	event := func(epoch string, sequence uint64, minutes, heard int, kind fleetsync.EventKind) api.SiteEvent {
		return api.SiteEvent{Site: "shop-1", Epoch: epoch, Received: at(heard), Event: fleetsync.Event{Sequence: sequence, At: at(minutes), Kind: kind}}
	}
	lost := event("a", 9, 70, 70, fleetsync.EventGap)
	lost.From, lost.To = 7, 9
	offline := event("a", 3, 30, 61, fleetsync.EventDriftCorrected)
	offline.Offline = true
	site := api.Site{ID: "shop-1", Freshness: api.Stale, LastSeen: new(at(80))}
	site.Events.Flaws = []fleetsync.Flaw{{Epoch: "a", Range: fleetsync.Range{From: 5, To: 5}, Why: fleetsync.GapMissing}}
	page := NewSite(at(90), time.Minute, site, nil, []api.SiteEvent{
		event("a", 1, 0, 0, fleetsync.EventStarted), event("a", 2, 1, 1, fleetsync.EventLinkDown), offline, event("a", 4, 61, 61, fleetsync.EventLinkUp),
		event("a", 6, 65, 65, fleetsync.EventHealthy), lost, event("b", 1, 80, 80, fleetsync.EventStarted),
	}, 300)
	var marks []api.MarkKind
	for _, m := range page.Timeline {
		if m.Mark != nil {
			marks = append(marks, m.Mark.Kind)
		} else if m.Sequence == 3 && m.Late() != 31*time.Minute {
			t.Errorf("heard %s later", m.Late())
		}
	}
	if want := []api.MarkKind{api.MarkOffline, api.MarkLife, api.MarkGap, api.MarkGap, api.MarkOffline}; !slices.Equal(marks, want) || len(page.Timeline) != 12 {
		t.Errorf("marks %v of %d lines, want %v", marks, len(page.Timeline), want)
	}
	said := text(rendered(t, "site", page))
	for _, want := range []string{"the store began anew", "events 7 to 9 (3) dropped", "event 5 not here yet", "1h0m0s; meanwhile: 1 DriftCorrected", "not heard from since", "while offline", "heard 31m later", "stale"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page does not say %q: %s", want, said)
		}
	}
}

// What a silent site said last is in the past tense.
func TestP08_ASilentSiteIsInThePastTense(t *testing.T) {
	site := fleetOf(2)[1]
	said := text(rendered(t, "site", NewSite(noon, time.Minute, site, nil, nil, 300)))
	for _, want := range []string{"was Current", "was reachable", "0; the site had 0", "Clockunknown", "as it last said", "heard 1h ago"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page does not say %q: %s", want, said)
		}
	}
}

func TestR01_ARolloutShowsUnknownBesideSuccess(t *testing.T) {
	bars := BarOf(rollout.Tally{Size: 7, Succeeded: 3, Failed: 1, Unknown: 2})
	if len(bars) != 3 || bars[0].Tone != "current" || bars[2].Tone != "stale" || bars[2].From+bars[2].Width != 857 {
		t.Errorf("%+v", bars)
	}
	if bars := BarOf(rollout.Tally{Size: 1, Succeeded: 5, Failed: -1}); len(bars) != 1 || bars[0].Width != 1000 {
		t.Errorf("a tally that does not add up: %+v", bars)
	}
	reason := rollout.Reason{Code: rollout.HoldQuorum, Wave: "canary", Have: 1, Want: 3}
	page := RolloutPage{Rollout: api.Rollout{ID: "r1", By: "anna"}, Explanation: rollout.Explanation{
		ID: "r1", Phase: rollout.Paused, Holds: []rollout.Reason{reason}, Exposure: rollout.Exposure{MayApply: 4},
		Waves: []rollout.WaveExplanation{{Name: "canary", State: "open", Tally: rollout.Tally{Size: 7, Succeeded: 3, Unknown: 2}, Wanted: 3}},
	}}
	said := text(rendered(t, "rollout", page))
	for _, want := range []string{"wave canary: waits for sites to be healthy: 1 of 3 are", "2 unknown", "4 sites that are away may still apply it", "Paused"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page does not say %q: %s", want, said)
		}
	}
	rendered(t, "rollouts", []api.Rollout{{ID: "r1", Phase: rollout.Completed, Waves: []rollout.WaveProgress{{Name: "canary"}}}})
}

func TestStaticFilesAreServedAndNothingElse(t *testing.T) {
	for path, want := range map[string]int{"/ui/static/app.css": 200, "/ui/static/app.js": 200, "/ui/static/mark.svg": 200, "/ui/static/frame.html": 404, "/ui/static/..": 404, "/ui/static/": 404} {
		w := httptest.NewRecorder()
		Static().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want || want == 200 && w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}

func BenchmarkFleetOfTenThousand(b *testing.B) {
	sites := fleetOf(10000)
	for b.Loop() {
		if _, err := Render("fleet", Frame{User: "anna", Now: noon, Page: NewFleet(noon, time.Minute, sites, "", 1)}); err != nil {
			b.Fatal(err)
		}
	}
}
