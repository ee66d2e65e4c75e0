package hub

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
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

func TestR15_AnAcceptedLossStandsInItsOfferAlone(t *testing.T) {
	site, o := SiteRecord{Site: "shop-1"}, rollout.Offer{Site: "shop-1", Attempt: 1, Goal: rollout.Version{Version: "1.1.0", Digest: bundle.DigestOf([]byte("newer"))}, AcceptLoss: true}
	took, _, err := offered(fleetsync.Assignment{Site: "shop-1", Sequence: 7}, site, "shop", "r1", o, noon)
	if err != nil || len(took.Bundles) != 1 || !took.Bundles[0].AcceptLoss {
		t.Fatalf("%+v, %v", took, err)
	}
	o.Goal, o.AcceptLoss = rollout.Version{Version: "1.0.1", Digest: bundle.DigestOf([]byte("older"))}, false
	if back, _, err := offered(took, site, "shop", "r1-back", o, noon); err != nil || back.Bundles[0].AcceptLoss {
		t.Errorf("the rollback: %+v, %v", back, err)
	}
	if gone, _, err := withdrawn(took, site, "shop", "r1", o, noon); err != nil || gone.Bundles[0].AcceptLoss {
		t.Errorf("the withdrawal: %+v, %v", gone, err)
	}
}

// An order by hand is the same one until it is to be tried again, or is of another version.
func TestR13_OnlyARetryMakesAnotherAttempt(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	addSite(t, client, "shop-1", nil)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	push(t, client, releaseOf(t, "1.1.0", 2, ours()))
	for n, c := range []struct {
		version  bundle.Version
		retry    bool
		attempt  int
		sequence uint64
	}{{"1.0.0", true, 0, 1}, {"1.0.0", true, 1, 2}, {"1.0.0", false, 1, 2}, {"1.0.0", true, 2, 3}, {"1.1.0", true, 0, 4}} {
		results, err := client.Assign(t.Context(), api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: c.version}, Retry: c.retry})
		if err != nil || len(results) != 1 {
			t.Fatalf("%d: %+v, %v", n, results, err)
		}
		now, _, err := h.assignment(t.Context(), "shop-1")
		if err != nil || now.Sequence != c.sequence || len(now.Bundles) != 1 || now.Bundles[0].Attempt != c.attempt {
			t.Errorf("%d: %+v, %v", n, now, err)
		}
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
