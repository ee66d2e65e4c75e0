package hub

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// inMemory is a hub whose bus is in memory: what is tested is the API.
func inMemory(t *testing.T) Config {
	t.Helper()
	cfg := configOf(t, t.TempDir())
	cfg.Bus = membus.New(nil)
	return cfg
}

// userOf makes a user and gives its client.
func userOf(t *testing.T, admin *api.Client, name string, role access.Role, scope access.Scope) (*api.Client, api.ContextFile) {
	t.Helper()
	grant, err := admin.AddUser(context.Background(), api.UserRequest{Name: name, Role: role, Scope: scope, Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(grant.Context)
	if err != nil {
		t.Fatal(err)
	}
	return client, grant.Context
}

// asked is a raw request's answer.
func asked(t *testing.T, client *http.Client, target api.ContextFile, method, path, body string) (status int, problem api.Problem) {
	t.Helper()
	request, err := http.NewRequest(method, target.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+target.Token)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if response.StatusCode >= 400 {
		if err := json.Unmarshal(raw, &problem); err != nil || problem.Status != response.StatusCode || problem.Title == "" || response.Header.Get("Content-Type") != api.ProblemType {
			t.Errorf("%s %s: %d %s is no problem document", method, path, response.StatusCode, raw)
		}
	}
	return response.StatusCode, problem
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// TestT27_EachRoleAtEachEndpoint is made of the table of routes: who may is let through, also where the request is nonsense, and who may not is
// refused before anything is read, and written down.
func TestT27_EachRoleAtEachEndpoint(t *testing.T) {
	h := startHub(t, inMemory(t))
	admin, ctx := clientOf(t, h), context.Background()
	client := rawClient(t, contextOf(t, h))
	users := map[string]access.User{
		"vera": {Role: access.Viewer}, "olga": {Role: access.Operator}, "amir": {Role: access.Approver}, "anna": {Role: access.Admin},
		"near": {Role: access.Approver, Scope: access.Scope{Labels: "region=eu"}},
	}
	contexts := map[string]api.ContextFile{}
	for name, user := range users {
		_, contexts[name] = userOf(t, admin, name, user.Role, user.Scope)
	}
	refused := map[string]int{}
	for _, rt := range h.table() {
		if rt.least == "" || rt.about == "" || (rt.what == "") != strings.HasPrefix(rt.pattern, "GET ") {
			t.Errorf("%s: least %q, about %q, what %q", rt.pattern, rt.least, rt.about, rt.what)
		}
		method, path, _ := strings.Cut(placeholder.ReplaceAllString(rt.pattern, "nobody"), " ")
		if rt.kind == "text/event-stream" {
			path += "?kinds=nonsense" // it would never end
		}
		for name, user := range users {
			status, problem := asked(t, client, contexts[name], method, path, "nonsense")
			want := ""
			switch {
			case !user.Role.Covers(rt.least):
				want = "Forbidden"
			case rt.reach == fleetWide && !user.Scope.Empty():
				want = "OutOfScope"
			}
			got := ""
			if status == http.StatusForbidden {
				got = problem.Reason
			}
			// In scope, a write about a site outside is refused by the handler.
			if status == http.StatusUnauthorized || got != want && !(rt.reach == inScope && got == "OutOfScope" && name == "near") {
				t.Errorf("%s by %s: %d %s, want %q", rt.pattern, name, status, problem.Reason, want)
			}
			if want != "" {
				refused[name]++
			}
		}
	}
	records, err := admin.Audit(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int{}
	for _, r := range records {
		if r.Outcome == "Forbidden" || r.Outcome == "OutOfScope" {
			written[r.Who]++
		}
	}
	if !maps.Equal(written, refused) || refused["vera"] == 0 || refused["anna"] != 0 {
		t.Errorf("the audit log has refusals %v, want %v", written, refused)
	}
}

func TestT27_TokensThatOpenNothing(t *testing.T) {
	var offset atomic.Int64
	cfg := inMemory(t)
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	h := startHub(t, cfg)
	admin, ctx := clientOf(t, h), context.Background()

	olga, first := userOf(t, admin, "olga", access.Operator, access.Scope{})
	if me, err := olga.WhoAmI(ctx); err != nil || me.Name != "olga" || me.Role != access.Operator || me.LastUsed == nil {
		t.Errorf("who am I: %+v, %v", me, err)
	}
	if _, err := admin.AddUser(ctx, api.UserRequest{Name: "olga", Role: access.Viewer, Seconds: 60}); refusalOf(t, err).Reason != "UserExists" {
		t.Errorf("a second olga: %v", err)
	}
	// A stolen token is renewed: the thief's opens nothing from that moment.
	grant, err := admin.RenewUser(ctx, "olga", api.UserRenewal{Seconds: 3600})
	if err != nil || grant.Context.Token == first.Token {
		t.Fatalf("renewed: %v", err)
	}
	if _, err := olga.Sites(ctx, ""); refusalOf(t, err).Status != http.StatusUnauthorized {
		t.Errorf("the token before: %v", err)
	}
	olga, err = api.NewClient(grant.Context)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := olga.Sites(ctx, ""); err != nil {
		t.Errorf("the new token: %v", err)
	}
	if gone, err := admin.RevokeUser(ctx, "olga", "left"); err != nil || gone.Revoked == nil || gone.Why != "left" {
		t.Errorf("revoked: %+v, %v", gone, err)
	}
	if _, err := olga.Sites(ctx, ""); refusalOf(t, err).Status != http.StatusUnauthorized || !strings.Contains(err.Error(), "the token of olga is revoked") {
		t.Errorf("a revoked token: %v", err)
	}
	amir, _ := userOf(t, admin, "amir", access.Approver, access.Scope{})
	offset.Store(int64(2 * time.Hour))
	if _, err := amir.Sites(ctx, ""); refusalOf(t, err).Status != http.StatusUnauthorized || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("an expired token: %v", err)
	}
	for _, name := range []string{"admin", "nobody", "a.b", "*"} {
		if _, err := admin.RevokeUser(ctx, name, ""); refusalOf(t, err).Reason != "UnknownUser" {
			t.Errorf("revoke %q: %v", name, err)
		}
	}
	for outcome, who := range map[string]string{"log in": "olga", "user revoke": "admin", "user add": "admin", "user renew": "admin"} {
		records, err := admin.Audit(ctx, 100)
		if err != nil || !slices.ContainsFunc(records, func(r api.AuditRecord) bool { return r.What == outcome && r.Who == who }) {
			t.Errorf("the audit log has no %q by %s: %v", outcome, who, err)
		}
	}

	// The bus holds hashes, and another hub on it shuts out whom this one revoked.
	h.Close()
	for _, token := range []string{first.Token, grant.Context.Token} {
		for _, user := range h.users.all() {
			if raw, _ := json.Marshal(user); strings.Contains(string(raw), token) {
				t.Errorf("the record of %s has a token", user.Name)
			}
		}
	}
	again := startHub(t, cfg)
	there, err := clientOf(t, again).Users(ctx)
	if err != nil || len(there) != 2 || there[1].Name != "olga" || there[1].Revoked == nil || there[1].LastUsed == nil {
		t.Errorf("after a restart: %+v, %v", there, err)
	}
	if _, err := api.NewClient(grant.Context); err != nil {
		t.Fatal(err)
	}
	target := contextOf(t, again)
	target.Token = grant.Context.Token
	if status, _ := asked(t, rawClient(t, target), target, "GET", "/v1/sites", ""); status != http.StatusUnauthorized {
		t.Errorf("after a restart a revoked token gets %d", status)
	}
}

func TestT27_AScopeHoldsForReadsAndWrites(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	admin, ctx := clientOf(t, h), context.Background()
	push(t, admin, releaseOf(t, "1.0.0", 1, ours()))
	ref := bundle.Ref{Name: "shop", Version: "1.0.0"}
	addSite(t, admin, "shop-eu", map[string]string{"region": "eu", "tier": "a"})
	addSite(t, admin, "shop-us", map[string]string{"region": "us"})
	if _, err := admin.SetGroup(ctx, "europe", "region=eu"); err != nil {
		t.Fatal(err)
	}
	near, _ := userOf(t, admin, "near", access.Operator, access.Scope{Group: "europe"})
	both := []bundle.SiteID{"shop-eu", "shop-us"}

	if sites, err := near.Sites(ctx, ""); err != nil || len(sites) != 1 || sites[0].ID != "shop-eu" {
		t.Errorf("sites %+v, %v", sites, err)
	}
	if _, err := near.Site(ctx, "shop-us"); refusalOf(t, err).Reason != "UnknownSite" {
		t.Errorf("a site outside: %v", err)
	}
	if _, err := near.Events(ctx, api.EventQuery{Site: "shop-us"}); refusalOf(t, err).Reason != "UnknownSite" {
		t.Errorf("events of a site outside: %v", err)
	}
	denied := func(what string, err error) {
		t.Helper()
		if refusalOf(t, err).Reason != "OutOfScope" || refusalOf(t, err).Status != http.StatusForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := near.Assign(ctx, api.AssignRequest{Sites: both, Bundle: ref})
	denied("assign", err)
	_, err = near.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{"shop-us"}, Name: "shop"})
	denied("unassign", err)
	_, err = near.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{"shop-xx"}, Name: "shop"})
	denied("unassign of a site that is not there", err)
	_, err = near.RevokeSite(ctx, "shop-us", "")
	denied("revoke", err)
	_, err = near.ReplaceSite(ctx, "shop-us", api.TokenRequest{Seconds: 60})
	denied("replace", err)
	_, err = near.LabelSite(ctx, "shop-us", api.LabelChange{Set: map[string]string{"region": "eu"}})
	denied("label a site into the scope", err)
	_, err = near.LabelSite(ctx, "shop-eu", api.LabelChange{Remove: []string{"region"}})
	denied("label a site out of the scope", err)
	_, public, keyErr := bus.NewSiteKey()
	if keyErr != nil {
		t.Fatal(keyErr)
	}
	_, err = near.AddSite(ctx, api.SiteRequest{ID: "shop-new", Labels: map[string]string{"region": "us"}, PublicKey: public})
	denied("add a site outside", err)
	if result := assign(t, near, api.AssignRequest{Sites: both[:1], Bundle: ref}); result.Error != nil {
		t.Errorf("assign inside: %+v", result.Error)
	}
	assign(t, admin, api.AssignRequest{Sites: both[1:], Bundle: ref})
	for who, want := range map[*api.Client]int{near: 1, admin: 2} {
		if bundles, err := who.Bundles(ctx); err != nil || bundles[0].Sites != want {
			t.Errorf("bundles %+v, %v; want %d sites", bundles, err, want)
		}
	}
	if site, err := near.LabelSite(ctx, "shop-eu", api.LabelChange{Set: map[string]string{"tier": "b"}}); err != nil || site.Labels["tier"] != "b" {
		t.Errorf("label inside: %+v, %v", site, err)
	}
	if site := siteAsShown(t, admin, "shop-us"); site.Labels["region"] != "us" || site.Status != "" || site.Sequence != 1 {
		t.Errorf("the site outside was changed: %+v", site)
	}
	// A scope keeps its group; one whose group is gone all the same leaves nothing.
	if _, err := admin.DeleteGroup(ctx, "europe"); refusalOf(t, err).Reason != "GroupInUse" {
		t.Errorf("the group of a scope: %v", err)
	}
	if err := h.changeGroup(ctx, "europe", func(record *groupRecord) error { record.Selector, record.Deleted = "", true; return nil }); err != nil {
		t.Fatal(err)
	}
	if sites, err := near.Sites(ctx, ""); err != nil || len(sites) != 0 {
		t.Errorf("without the group: %+v, %v", sites, err)
	}
}
