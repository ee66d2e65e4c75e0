package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time { at := noon.Add(-d); return &at }

// fleet is one site of each sort a person has to tell apart.
func fleet() []api.Site {
	want := func(version bundle.Version) []fleetsync.AssignedBundle {
		return []fleetsync.AssignedBundle{{Name: "shop", Version: version, Digest: bundle.DigestOf([]byte(version))}}
	}
	said := func(age time.Duration, b ...fleetsync.BundleStatus) *fleetsync.State {
		return &fleetsync.State{
			Epoch: "e", Sequence: 9, At: *before(age), Started: *before(30 * time.Hour), Agent: "0.1.0", Assignment: 4,
			Cluster: fleetsync.ClusterStatus{Reachable: true, Version: "v1.34.1", Since: *before(30 * time.Hour)},
			Bundles: b, Outbox: fleetsync.OutboxStatus{Next: 21, Acked: 18},
		}
	}
	shop := func(desired, current bundle.Version, phase fleetsync.Phase) fleetsync.BundleStatus {
		return fleetsync.BundleStatus{
			Name: "shop", Desired: desired, Digest: bundle.DigestOf([]byte(desired)), Current: current, CurrentDigest: bundle.DigestOf([]byte(current)),
			Phase: phase, Since: *before(2 * time.Hour), Objects: 19, Corrected: 3,
		}
	}
	sick := shop("1.1.0", "1.0.0", fleetsync.PhaseUnhealthy)
	sick.Reason, sick.Message = "HealthTimeout", "2 of 19 objects are not healthy after 300s"
	sick.Unhealthy = []fleetsync.ObjectStatus{{Object: "Deployment.apps/shop/web", Status: "InProgress", Message: "0 of 2 replicas\x1b[31m are ready"}}
	sick.DriftCount = 2
	sick.Drift = []fleetsync.Drift{{Object: "ConfigMap/shop/shop", Kind: fleetsync.DriftChanged, Paths: []string{"/data/A", "/data/B", "/data/C", "/data/D"}, Managers: []string{"kubectl-edit"}, At: *before(90 * time.Second)}}
	queue := shop("2.0.0", "2.0.0", fleetsync.PhaseCurrent)
	queue.Name = "queue"
	return []api.Site{
		{ID: "berlin", Labels: map[string]string{"tier": "flagship", "region": "eu"}, Added: *before(40 * 24 * time.Hour), Connected: true, LastSeen: before(3 * time.Second), Freshness: api.Fresh,
			Sequence: 4, Assigned: want("1.1.0"), State: said(5*time.Second, shop("1.1.0", "1.1.0", fleetsync.PhaseCurrent)), StateAt: before(4 * time.Second), Events: api.EventWindow{Epoch: "e", Upto: 20}},
		{ID: "hamburg", Added: *before(40 * 24 * time.Hour), Connected: true, LastSeen: before(7 * time.Second), Freshness: api.Fresh, Sequence: 5, Assigned: want("1.1.0"),
			State: said(8*time.Second, shop("1.0.0", "1.0.0", fleetsync.PhaseCurrent), queue), StateAt: before(8 * time.Second), Events: api.EventWindow{Epoch: "e", Upto: 20}},
		{ID: "munich", Added: *before(40 * 24 * time.Hour), Connected: true, LastSeen: before(61 * time.Second), Freshness: api.Fresh, Sequence: 4, Assigned: want("1.1.0"),
			State: said(61*time.Second, sick), StateAt: before(61 * time.Second), Events: api.EventWindow{Epoch: "e", Upto: 18}, Alarms: []string{"two epochs alive: e and f"}},
		{ID: "ms-hope", Labels: map[string]string{"region": "sea"}, Added: *before(40 * 24 * time.Hour), LastSeen: before(9 * 24 * time.Hour), Freshness: api.Stale, Sequence: 6, Assigned: want("1.1.0"),
			State: said(9*24*time.Hour, shop("1.1.0", "1.1.0", fleetsync.PhaseCurrent)), StateAt: before(9 * 24 * time.Hour)},
		{ID: "new", Added: *before(time.Minute), Freshness: api.Unknown, Sequence: 1, Assigned: want("1.1.0")},
	}
}

func shown(t *testing.T, d *desk, f format, value any, view func() page) string {
	t.Helper()
	var out, talk bytes.Buffer
	d.out, d.talk = &out, &talk
	if err := d.show(f, value, view); err != nil {
		t.Fatal(err)
	}
	return out.String() + talk.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestViews(t *testing.T) {
	sites := fleet()
	told := func(site bundle.SiteID, heard, at time.Duration, ev fleetsync.Event) api.SiteEvent {
		ev.At = *before(at)
		return api.SiteEvent{Site: site, Epoch: "e", Received: *before(heard), Event: ev}
	}
	story := api.NewStory(api.Site{ID: "ms-hope", Events: api.EventWindow{Flaws: []fleetsync.Flaw{{Epoch: "e", Range: fleetsync.Range{From: 11, To: 12}, Why: fleetsync.GapMissing}}}}).Tell(
		told("berlin", time.Minute, 61*time.Second, fleetsync.Event{Sequence: 19, Clock: fleetsync.TimeTrusted, Kind: fleetsync.EventHealthy, Bundle: "shop", Version: "1.1.0"}),
		told("ms-hope", time.Minute, 51*time.Hour, fleetsync.Event{Sequence: 2, Clock: fleetsync.TimeTrusted, Kind: fleetsync.EventLinkDown}),
		told("ms-hope", time.Minute, 49*time.Hour, fleetsync.Event{Sequence: 3, Clock: fleetsync.TimeTrusted, Kind: fleetsync.EventGap, From: 3, To: 8, Offline: true, Reason: "OutboxFull", Message: "the outbox was full",
			Lost: []fleetsync.Lost{{Kind: fleetsync.EventDriftFound, Why: fleetsync.LostDrift, Count: 6}}}),
		told("ms-hope", time.Minute, 48*time.Hour, fleetsync.Event{Sequence: 9, Clock: fleetsync.TimeTrusted, Kind: fleetsync.EventDriftCorrected, Bundle: "shop", Object: "ConfigMap/shop/shop", Paths: []string{"/data/A"}, Offline: true}),
		told("ms-hope", time.Minute, time.Hour, fleetsync.Event{Sequence: 10, Clock: fleetsync.TimeUntrusted, Kind: fleetsync.EventStarted, Offline: true}),
		told("ms-hope", time.Minute, 59*time.Minute, fleetsync.Event{Sequence: 13, Clock: fleetsync.TimeUntrusted, Kind: fleetsync.EventLinkUp}),
	)
	bundles := []api.Bundle{
		{Name: "shop", Version: "1.0.0", Counter: 1, Digest: bundle.DigestOf([]byte("a")), Objects: 19, Size: 14321, Wire: 2100, Pushed: *before(3 * time.Hour)},
		{Name: "shop", Version: "1.1.0", Counter: 2, Digest: bundle.DigestOf([]byte("b")), Objects: 19, Size: 14500, Wire: 2111, Deltas: []api.BundleDelta{{From: "1.0.0", Wire: 87}}, Pushed: *before(2 * time.Hour), Sites: 5, Current: 1},
	}
	drifts := siteDrift(sites[2])
	views := map[string]struct {
		value any
		page  func() page
	}{
		"sites":   {sites, func() page { return sitesPage(sites, noon) }},
		"site":    {sites[2], func() page { return sitePage(sites[2], noon) }},
		"silent":  {sites[3], func() page { return sitePage(sites[3], noon) }},
		"unheard": {sites[4], func() page { return sitePage(sites[4], noon) }},
		"status":  {summarise(sites), func() page { return statusPage(summarise(sites)) }},
		"drift":   {drifts, func() page { return page{tables: []table{driftTable(drifts, noon, true)}} }},
		"events":  {story, func() page { return page{tables: []table{storyTable(story)}} }},
		"bundles": {bundles, func() page { return bundlesPage(bundles, noon) }},
	}
	for name, view := range views {
		for _, f := range []format{formatTable, formatJSON, formatYAML} {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				d := &desk{now: func() time.Time { return noon }}
				golden(t, name+"."+string(f), shown(t, d, f, view.value, view.page))
			})
		}
	}
}

// A silent site's last words are what was, whatever they said, and it never counts as current.
func TestP08_SilenceIsNeverShownAsCurrent(t *testing.T) {
	for _, f := range []api.Freshness{api.Stale, api.Unknown, "something new"} {
		s := fleet()[0]
		s.Freshness = f
		if got := bundlesCell(s); got.style == good || !strings.Contains(got.text, "was Current") {
			t.Errorf("%s: %q in style %d", f, got.text, got.style)
		}
		if got := summarise([]api.Site{s}).Bundles[0]; got.Current != 0 || got.Silent != 1 {
			t.Errorf("%s: counted as %+v", f, got)
		}
		if got := heard(noon, f, s.LastSeen); got.style == good || !strings.Contains(got.text, "3s ago") {
			t.Errorf("%s: heard %q in style %d", f, got.text, got.style)
		}
	}
}

// A site that still runs the old version, and has not said it knows of the new one, is not current in the new one.
func TestP08_OldEvidenceIsNotAboutTheNewVersion(t *testing.T) {
	s := fleet()[1]
	if got := summarise([]api.Site{s}).Bundles[0]; got.Bundle != "shop@1.1.0" || got.Current != 0 || got.Working != 1 {
		t.Errorf("counted as %+v", got)
	}
}

func TestTablesFitTheTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		for _, colour := range []bool{false, true} {
			d := &desk{width: width, colour: colour, now: time.Now}
			out := shown(t, d, formatTable, nil, func() page { return sitesPage(fleet(), noon) })
			for _, l := range strings.Split(out, "\n") {
				for _, sequence := range append([]string{"\x1b[0m"}, values(sequences)...) {
					l = strings.ReplaceAll(l, sequence, "")
				}
				if n := len([]rune(l)); n > width {
					t.Errorf("width %d: %d columns: %q", width, n, l)
				}
			}
			if colour != strings.Contains(out, "\x1b[") {
				t.Errorf("colour %v: %q", colour, out)
			}
		}
	}
}

func values(m map[style]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// Words that a site, a cluster or a bundle chose cannot steer the operator's terminal.
func TestForeignTextCannotSteerTheTerminal(t *testing.T) {
	hostile := "a\x1b]0;owned\x07b\r\nc\u202ed\x9be"
	tab := table{head: []string{"A"}}
	tab.add(text(hostile))
	d := &desk{now: time.Now}
	out := shown(t, d, formatTable, nil, func() page {
		return page{facts: []fact{{"Message", text(hostile)}}, tables: []table{tab}}
	})
	for _, bad := range []string{"\x1b", "\x07", "\r", "\u202e", "\x9b"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q came through: %q", bad, out)
		}
	}
}

func TestParseSince(t *testing.T) {
	for in, want := range map[string]time.Time{
		"2h":                   noon.Add(-2 * time.Hour),
		"3d":                   noon.AddDate(0, 0, -3),
		"0s":                   noon,
		"2026-02-01T00:00:00Z": time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
		"-2h":                  {}, "": {}, "yesterday": {}, "3dx": {}, "-3d": {},
	} {
		got, err := parseSince(in, noon)
		if (err == nil) == want.IsZero() || err == nil && !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s ago", 59 * time.Second: "59s ago", 61 * time.Second: "1m ago", 47 * time.Hour: "47h ago", 49 * time.Hour: "2d ago",
		-500 * time.Millisecond: "0s ago", -3 * time.Minute: "3m ahead",
	} {
		if got := api.Age(noon, noon.Add(-d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTypedValues(t *testing.T) {
	declared := []bundle.Parameter{{Name: "n", Type: bundle.TypeInteger}, {Name: "s", Type: bundle.TypeString}, {Name: "b", Type: bundle.TypeBoolean}}
	got, err := typedValues([]string{"n=3", "s=007,a=b", "b=true"}, declared)
	if err != nil || got["n"] != int64(3) || got["s"] != "007,a=b" || got["b"] != true {
		t.Errorf("%#v, %v", got, err)
	}
	for _, wrong := range []string{"n=three", "n=1.5", "n=9223372036854775808", "b=yes", "other=1", "n", "=1"} {
		if got, err := typedValues([]string{wrong}, declared); err == nil {
			t.Errorf("%q was taken as %v", wrong, got)
		}
	}
	if _, err := typedValues([]string{"n=1", "n=2"}, declared); err == nil {
		t.Error("a value given twice was taken")
	}
}
