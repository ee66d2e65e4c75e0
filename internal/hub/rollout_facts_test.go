package hub

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestR11_AWithdrawalAlwaysWritesAndLeavesWhatIsNotItsOwn(t *testing.T) {
	older, newer := bundle.DigestOf([]byte("older")), bundle.DigestOf([]byte("newer"))
	site := SiteRecord{Site: "shop-1", Labels: map[string]string{"zone": "Europe.Berlin"}}
	values := fleetsync.Values{"tills": "4"}
	carries := func(id string, attempt int) fleetsync.AssignedBundle {
		return fleetsync.AssignedBundle{Name: "shop", Version: "1.1.0", Digest: newer, Values: values, Rollout: &fleetsync.RolloutRef{ID: id, Attempt: attempt}}
	}
	take := rollout.Offer{Site: "shop-1", Attempt: 1, Goal: rollout.Version{Version: "1.0.0", Digest: older}}
	for name, c := range map[string]struct {
		has  fleetsync.AssignedBundle
		want bundle.Digest
	}{
		"its own offer":             {carries("r1", 1), older},
		"a later attempt's":         {carries("r1", 2), newer},
		"another rollout's":         {carries("r2", 1), newer},
		"nothing of it, not placed": {fleetsync.AssignedBundle{Name: "shop", Version: "1.0.0", Digest: older, Values: values}, older},
	} {
		current := fleetsync.Assignment{Site: "shop-1", Sequence: 7, Bundles: []fleetsync.AssignedBundle{c.has}, Zone: "Europe/Berlin", Labels: site.Labels}
		next, changed, err := withdrawn(current, site, "shop", "r1", take, noon)
		if err != nil || !changed || next.Sequence != 8 || len(next.Bundles) != 1 || next.Zone != "Europe/Berlin" {
			t.Fatalf("%s: %+v, %v, %v", name, next, changed, err)
		}
		if got := next.Bundles[0]; got.Digest != c.want || got.Values["tills"] != "4" {
			t.Errorf("%s: then %+v", name, got)
		}
	}
	nothing := take
	nothing.Goal = rollout.Version{}
	current := fleetsync.Assignment{Site: "shop-1", Sequence: 7, Bundles: []fleetsync.AssignedBundle{carries("r1", 1)}}
	if next, _, err := withdrawn(current, site, "shop", "r1", nothing, noon); err != nil || len(next.Bundles) != 0 {
		t.Errorf("a site that had nothing of it: %+v, %v", next, err)
	}
}

func TestR17_TheZoneComesFromALabel(t *testing.T) {
	for label, want := range map[string]string{"Europe.Berlin": "Europe/Berlin", "America.New_York": "America/New_York", "UTC": "", "Local": "", "nowhere": "", "": ""} {
		if got := zoneName(map[string]string{"zone": label}); got != want {
			t.Errorf("zone=%s is %q, want %q", label, got, want)
		}
	}
	if got := zoneName(map[string]string{"zone": "Europe.Berlin", labelZone: "Asia.Tokyo"}); got != "Asia/Tokyo" {
		t.Errorf("the longer label loses: %q", got)
	}
}
