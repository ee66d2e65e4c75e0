package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
)

// A user who logs in ever again ends own sessions: the others stay logged in.
func TestT27_OneUsersLoginsEndNobodyElsesSession(t *testing.T) {
	s := newSessions()
	calm := s.open(noon, "calm", "calm's token")
	for i := range 2 * maxSessions {
		s.open(noon.Add(time.Duration(i+1)*time.Millisecond), "wild", "wild's token")
	}
	if token, ok := s.token(noon.Add(time.Minute), calm); !ok || token != "calm's token" {
		t.Error("somebody else's logins ended a session")
	}
	if len(s.all) != maxOfUser+1 {
		t.Errorf("%d sessions, want %d", len(s.all), maxOfUser+1)
	}
}

// A site that left a user's scope after the request was let in is not changed by it.
func TestT27_AScopeHoldsWhereTheChangeIsMade(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	addSite(t, client, "shop-us", map[string]string{"region": "us"})
	scope := access.Scope{Labels: "region=eu"}
	ctx := withActor(context.Background(), actor{name: "anna", role: access.Operator, scope: scope, sites: scope.Sites(nil)})
	for what, act := range map[string]func() error{
		"revoke": func() error { return h.RevokeSite(ctx, "shop-us", "anna", "") },
		"cordon": func() error { return h.CordonSite(ctx, "shop-us", api.Because{Why: "x"}, "anna") },
		"label": func() error {
			return h.LabelSite(ctx, "shop-us", api.LabelChange{Set: map[string]string{"region": "eu"}})
		},
		"decommission": func() error { return h.DecommissionSite(ctx, "shop-us", api.Decommission{}, "anna") },
	} {
		var refused *api.Error
		if err := act(); !errors.As(err, &refused) || refused.Reason != "OutOfScope" {
			t.Errorf("%s: %v", what, err)
		}
	}
	site, err := client.Site(context.Background(), "shop-us")
	if err != nil || site.Status != "" || site.Cordoned != nil || site.Labels["region"] != "us" {
		t.Errorf("%+v, %v", site, err)
	}
}

// Whoever may do nothing cannot fill the audit log by trying: after some refusals their number is written down.
func TestT27_RefusalsDoNotFillTheAuditLog(t *testing.T) {
	cfg := inMemory(t)
	now := time.Now()
	cfg.Now = func() time.Time { return now } // nothing fills again
	h := startHub(t, cfg)
	admin := clientOf(t, h)
	viewer, _ := userOf(t, admin, "anna", access.Viewer, access.Scope{})
	for range 3 * refusalsAtOnce {
		if _, err := viewer.Push(context.Background(), []byte("x")); refusalOf(t, err).Reason != "Forbidden" {
			t.Fatal(err)
		}
	}
	now = now.Add(hasteEvery + time.Second)
	if _, err := viewer.WhoAmI(context.Background()); err != nil {
		t.Fatal(err)
	}
	records, err := admin.Audit(context.Background(), maxAudit)
	if err != nil {
		t.Fatal(err)
	}
	single, counted := 0, 0
	for _, r := range records {
		var n int
		switch {
		case r.Who != "anna":
		case r.What == "bundle push":
			single++
		case r.Outcome == "TooMany":
			if _, err := fmt.Sscanf(r.Detail, "asked too often: %d refused", &n); err != nil {
				t.Errorf("%+v", r)
			}
			counted += n
		}
	}
	if single != refusalsAtOnce || single+counted != 3*refusalsAtOnce {
		t.Errorf("%d refusals one by one, %d counted, want %d and all %d", single, counted, refusalsAtOnce, 3*refusalsAtOnce)
	}
}

// Why something was done is in the audit log, as the desk promises, and bounded.
func TestT27_TheReasonIsInTheAuditLog(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	addSite(t, client, "shop-1", nil)
	if _, err := client.RevokeSite(context.Background(), "shop-1", strings.Repeat("x", maxWhy+1)); refusalOf(t, err).Reason != "Malformed" {
		t.Errorf("a reason that is too long: %v", err)
	}
	if site, err := client.Site(context.Background(), "shop-1"); err != nil || site.Status != "" {
		t.Fatalf("%+v, %v", site, err)
	}
	if _, err := client.RevokeSite(context.Background(), "shop-1", "stolen, ticket 4711"); err != nil {
		t.Fatal(err)
	}
	userOf(t, client, "anna", access.Viewer, access.Scope{})
	if _, err := client.RevokeUser(context.Background(), "anna", "left the company"); err != nil {
		t.Fatal(err)
	}
	records, err := client.Audit(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, r := range records {
		told[r.What+" "+r.Outcome] = r.Detail
	}
	if told["site revoke done"] != "stolen, ticket 4711" || told["user revoke done"] != "left the company" {
		t.Errorf("%v", told)
	}
}
