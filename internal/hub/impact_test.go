package hub

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// losses are the losses of a kind, a line each.
func losses(impact api.Impact, kind string) string {
	var lines []string
	for _, l := range impact.Losses {
		if l.Kind == kind {
			lines = append(lines, l.Name+" "+l.Loses)
		}
	}
	return strings.Join(lines, "\n")
}

// What an act would take away is said before it, with every bundle, rollout, group, plan and user that it touches, and nothing changes by the question.
func TestR11_TheBlastRadiusIsKnownBeforeTheAct(t *testing.T) {
	d := newDistrict(t, 3, true)
	ctx := t.Context()
	if _, err := d.client.SetGroup(ctx, "south", "region=south"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.client.SetPlan(ctx, "retail", planOf(`{"waves":[{"name":"canary","sites":{"group":"south"}},{"name":"rest"}]}`)); err != nil {
		t.Fatal(err)
	}
	userOf(t, d.client, "sue", access.Viewer, access.Scope{Group: "south"})
	d.release("1.1.0", 2, map[int]rollout.Behaviour{1: "wait"})
	r := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-1"],"group":""},"soak":"0s","applyBy":"1h"},{"name":"rest","soak":"0s","maxUnavailable":1}]}`)
	eventually(t, "the canary has its offer", func() bool {
		e, err := d.client.ExplainRollout(ctx, r.ID)
		return err == nil && e.Exposure.Outstanding == 1 && len(d.shops["shop-1"].saw()) == 2
	})
	look := d.client.Foresee()

	revoke, err := look.RevokeSite(ctx, "shop-1")
	if err != nil || !revoke.DryRun || !revoke.Changed || revoke.Sites != 1 {
		t.Fatalf("revoke: %+v, %v", revoke, err)
	}
	for kind, want := range map[string]string{"site": "its connection", "bundle": "shop@1.0.0 it stays at the site as it is", "rollout": r.ID + " a site of wave canary", "group": ""} {
		if got := losses(revoke, kind); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("revoke: %s loses %q, want %q", kind, got, want)
		}
	}
	cleared, err := look.DecommissionSite(ctx, "shop-1", api.Decommission{RemoveWorkloads: true})
	if err != nil || !strings.Contains(losses(cleared, "bundle"), "removed from the site") || !strings.Contains(losses(cleared, "group"), "south one site of 2") {
		t.Errorf("decommission: %+v, %v", cleared, err)
	}
	if _, err := look.RevokeSite(ctx, "nowhere"); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("a site that is not there: %v", err)
	}

	group, err := look.DeleteGroup(ctx, "south")
	if err != nil || group.Refused == nil || group.Changed || !strings.Contains(group.Refused.Detail, "plan retail, user sue") {
		t.Errorf("group: %+v, %v", group, err)
	}
	if _, err := d.client.DeleteGroup(ctx, "south"); refusalOf(t, err).Reason != "GroupInUse" {
		t.Errorf("a group in use is deleted: %v", err)
	}

	abort, err := look.ActOnRollout(ctx, r.ID, "abort", api.RolloutAct{Why: "wrong"})
	if err != nil || abort.Sites != 1 || !strings.Contains(losses(abort, "site"), "shop-1 its offer of shop@1.1.0; it may apply it all the same until ") {
		t.Errorf("abort: %+v, %v", abort, err)
	}
	if _, err := look.ActOnRollout(ctx, r.ID, "rollback", api.RolloutAct{}); refusalOf(t, err).Reason != "NotAllowed" {
		t.Errorf("a rollback without a reason is foreseen: %v", err)
	}
	back, err := look.ActOnRollout(ctx, r.ID, "rollback", api.RolloutAct{Why: "wrong"})
	if err != nil || back.Sites != 1 || losses(back, "site") != "shop-1 shop@1.1.0 for 1.0.0" {
		t.Errorf("rollback: %+v, %v", back, err)
	}

	if e, err := d.client.ExplainRollout(ctx, r.ID); err != nil || e.Phase != rollout.Running || e.Exposure.Outstanding != 1 {
		t.Errorf("asking changed the rollout: %+v, %v", e, err)
	}
	if site := siteAsShown(t, d.client, "shop-1"); site.Status != "" {
		t.Errorf("asking changed the site: %+v", site)
	}
	acted := d.act(r.ID, "abort", api.RolloutAct{Why: "wrong"})
	if len(acted.Losses) != len(abort.Losses) {
		t.Errorf("afterwards %+v, foreseen %+v", acted.Losses, abort.Losses)
	}
	records, err := d.client.Audit(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, record := range records {
		told[record.What+" "+record.Target+" "+record.Outcome]++
	}
	for _, want := range []string{"site revoke dry run of shop-1 done", "site revoke dry run of nowhere UnknownSite", "group delete dry run of south done", "group delete south GroupInUse",
		"rollout rollback dry run of " + r.ID + " NotAllowed", "rollout abort dry run of " + r.ID + " done"} {
		if told[want] != 1 {
			t.Errorf("the audit log has %q %d times", want, told[want])
		}
	}
}

func TestT27_WhatAnActWouldTakeIsNotToldOutsideTheScope(t *testing.T) {
	h := startHub(t, inMemory(t))
	admin := clientOf(t, h)
	h.fold(siteMessage(t, SiteRecord{Site: "shop-us", Labels: map[string]string{"region": "us"}, Key: make([]byte, 32), Added: noon}))
	near, _ := userOf(t, admin, "near", access.Operator, access.Scope{Labels: "region=eu"})
	for _, site := range []bundle.SiteID{"shop-us", "shop-xx"} {
		if _, err := near.Foresee().RevokeSite(t.Context(), site); refusalOf(t, err).Reason != "OutOfScope" {
			t.Errorf("%s: %v", site, err)
		}
	}
	if _, err := near.Foresee().RevokeUser(t.Context(), "near"); refusalOf(t, err).Status != http.StatusForbidden {
		t.Errorf("a user: %v", err)
	}
}
