package api

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestP08_NothingStandsWellOnOldWords(t *testing.T) {
	want := fleetsync.AssignedBundle{Name: "shop", Version: "1.0.0", Digest: "sha256:a"}
	well := func(edits ...func(*Site)) Site {
		s := Site{Freshness: Fresh, Assigned: []fleetsync.AssignedBundle{want}, State: &fleetsync.State{
			Cluster: fleetsync.ClusterStatus{Reachable: true},
			Bundles: []fleetsync.BundleStatus{{Name: "shop", Digest: want.Digest, Phase: fleetsync.PhaseCurrent}},
		}}
		for _, edit := range edits {
			edit(&s)
		}
		return s
	}
	phase := func(p fleetsync.Phase) func(*Site) { return func(s *Site) { s.State.Bundles[0].Phase = p } }
	for name, c := range map[string]struct {
		site Site
		want Standing
		why  string
	}{
		"well":              {well(), StandingCurrent, ""},
		"silent":            {well(func(s *Site) { s.Freshness = Stale }), StandingStale, "too old"},
		"silent, failing":   {well(func(s *Site) { s.Freshness = Stale }, phase(fleetsync.PhaseFailed)), StandingStale, "too old"},
		"never heard":       {Site{Freshness: Unknown}, StandingUnknown, "never"},
		"no report":         {Site{Freshness: Fresh}, StandingWorking, "not reported"},
		"held":              {well(func(s *Site) { s.Status, s.Alarms = "held", []string{"two"} }), StandingHeld, "two"},
		"revoked":           {well(func(s *Site) { s.Status = "revoked" }), StandingGone, "revoked"},
		"store":             {well(func(s *Site) { s.State.Store = "storageDegraded: full" }), StandingFailing, "full"},
		"cluster":           {well(func(s *Site) { s.State.Cluster.Reachable = false }), StandingFailing, "does not answer"},
		"refused":           {well(phase(fleetsync.PhaseRefused)), StandingFailing, "shop: Refused"},
		"failing and drift": {well(phase(fleetsync.PhaseReverted), func(s *Site) { s.State.Bundles[0].DriftCount = 2 }), StandingFailing, "Reverted"},
		"drift":             {well(func(s *Site) { s.State.Bundles[0].DriftCount = 2 }), StandingDrifted, "differ: 2"},
		"alarm":             {well(func(s *Site) { s.Alarms = []string{"events 2 to 3 are missing"} }), StandingAlarmed, "2 to 3"},
		"on its way":        {well(phase(fleetsync.PhaseSettling)), StandingWorking, "Settling"},
		"not told":          {well(func(s *Site) { s.State.Bundles[0].Digest = bundle.Digest("sha256:older") }), StandingWorking, "not yet told"},
	} {
		if got, why := c.site.Standing(); got != c.want || !strings.Contains(why, c.why) {
			t.Errorf("%s: %s %q, want %s with %q", name, got, why, c.want, c.why)
		}
	}
}
