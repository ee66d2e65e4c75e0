package hub

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/web"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// browser is what a person has: cookies, redirects, and no header of ours.
type browser struct {
	t      *testing.T
	client *http.Client
	at     string
}

func newBrowser(t *testing.T, h *Hub) *browser {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(contextOf(t, h).CA))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t, &http.Client{Transport: transport, Jar: jar}, h.URL()}
}

func (b *browser) do(r *http.Request) (*http.Response, string) {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response, string(body)
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.at+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

func (b *browser) post(path string, form url.Values, header ...string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.at+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return b.do(r)
}

func (b *browser) login(token string) {
	b.t.Helper()
	if response, body := b.post("/ui/login", url.Values{"token": {token}}); response.StatusCode != http.StatusOK || response.Request.URL.Path != "/ui/" {
		b.t.Fatalf("login: %d at %s: %s", response.StatusCode, response.Request.URL, body)
	}
}

// hostile is what an attacker writes wherever a site or an operator may write.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>' javascript:alert(3) {{.}} ]]><!--`

// hostileHub has a site that says hostile things everywhere it can, one that says nothing, and one that is well.
func hostileHub(t *testing.T) *Hub {
	t.Helper()
	cfg := configOf(t, t.TempDir())
	bus := membus.New(nil)
	cfg.Bus, cfg.Log = bus, nil
	h := startHub(t, cfg)
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	now := time.Now()
	for _, id := range []bundle.SiteID{"shop-1", "shop-2", "shop-3"} {
		record := recordOf(t, id, keyOf(string(id)))
		if _, err := bus.Put(t.Context(), record.Subject, record.Data); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the sites are known", func() bool { return len(allSites(t, client)) == 3 })
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1", "shop-2", "shop-3"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	say := func(id bundle.SiteID, kind, subject string, payload any) {
		if _, err := bus.Put(t.Context(), subject, sealed(t, kind, payload, keyOf(string(id)))); err != nil {
			t.Fatal(err)
		}
	}
	evil := snapshot("shop-1", "a", 1)
	evil.Agent, evil.Cluster = hostile, fleetsync.ClusterStatus{Reachable: false, Version: hostile, Message: hostile}
	evil.Bundles[0] = fleetsync.BundleStatus{
		Name: bundle.Name(hostile), Phase: fleetsync.Phase(hostile), Reason: hostile, Message: hostile, DriftCount: 1, Current: bundle.Version(hostile),
		Drift:     []fleetsync.Drift{{Object: hostile, Kind: fleetsync.DriftKind(hostile), Paths: []string{hostile}, Managers: []string{hostile}, Message: hostile}},
		Unhealthy: []fleetsync.ObjectStatus{{Object: hostile, Status: hostile, Message: hostile}},
	}
	say("shop-1", fleetsync.TypeState, fleetsync.StateSubject("shop-1"), evil)
	events := batch("shop-1", "a", 1, 6)
	at := now.Add(-time.Hour)
	for i := range events.Events {
		events.Events[i] = fleetsync.Event{Sequence: uint64(i + 1), At: at.Add(time.Duration(i) * time.Minute), Kind: fleetsync.EventKind(hostile), Object: hostile, Reason: hostile, Message: hostile, Paths: []string{hostile}, Bundle: bundle.Name(hostile), Version: bundle.Version(hostile)}
	}
	events.Events[1].Kind = fleetsync.EventLinkDown
	events.Events[2].Offline = true
	events.Events[3].Kind = fleetsync.EventLinkUp
	events.Events[4].Kind, events.Events[4].From, events.Events[4].To = fleetsync.EventGap, 5, 5
	events.Events[5].Sequence = 9 // 6 to 8 are missing
	say("shop-1", fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), events)
	well := snapshot("shop-2", "a", 1)
	well.Cluster.Reachable = true
	well.Bundles[0].Digest = siteAsShown(t, client, "shop-2").Assigned[0].Digest
	say("shop-2", fleetsync.TypeState, fleetsync.StateSubject("shop-2"), well)
	eventually(t, "everything is folded", func() bool {
		return siteAsShown(t, client, "shop-2").State != nil && siteAsShown(t, client, "shop-1").Events.Upto == 5
	})
	return h
}

func allSites(t *testing.T, client *api.Client) []api.Site {
	t.Helper()
	sites, err := client.Sites(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return sites
}

var uiPaths = []string{"/ui/", "/ui/?show=failing", "/ui/?labels=region%3Deu", "/ui/?labels=" + url.QueryEscape(hostile), "/ui/?page=99&show=" + url.QueryEscape(hostile),
	"/ui/sites/shop-1", "/ui/sites/shop-2", "/ui/sites/shop-3", "/ui/sites/" + url.PathEscape(hostile), "/ui/sites/nobody", "/ui/rollouts", "/ui/rollouts/" + url.PathEscape(hostile), "/ui/drift", "/ui/bundles"}

// What hostile sites and visitors write is text on every page: no element, no attribute and no address comes of it.
func TestT16_HostileWordsStayText(t *testing.T) {
	h := hostileHub(t)
	b := newBrowser(t, h)
	b.login(contextOf(t, h).Token)
	if _, body := b.get("/ui/rollouts"); !strings.Contains(body, "No rollout yet") {
		t.Errorf("no rollouts: %s", body)
	}
	seen := 0
	for _, path := range uiPaths {
		response, body := b.get(path)
		if response.Header.Get("Content-Security-Policy") != web.Policy || response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, response.Header)
		}
		root, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Count(body, "alert(1)")
		for node := range root.Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			switch node.Data {
			case "script":
				if src := attribute(node, "src"); !strings.HasPrefix(src, "/ui/static/app.js?") || node.FirstChild != nil {
					t.Errorf("%s: a script that is not ours: %q", path, src)
				}
			case "style", "iframe", "object", "embed", "base":
				t.Errorf("%s: an element %s", path, node.Data)
			}
			for _, a := range node.Attr {
				value := strings.ToLower(strings.TrimSpace(a.Val))
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(value, "/ui/") && !strings.HasPrefix(value, "#") {
					t.Errorf("%s: <%s %s=%q>", path, node.Data, a.Key, a.Val)
				}
				if a.Key == "class" && strings.Contains(value, "script") {
					t.Errorf("%s: class %q", path, a.Val)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("the hostile words are shown %d times: this test looks at nothing", seen)
	}
}

func attribute(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// Whoever has no session, one that ended, or one whose token was revoked sees a login and learns nothing of the fleet.
func TestT27_PagesWantASession(t *testing.T) {
	h := hostileHub(t)
	client := clientOf(t, h)
	grant, err := client.AddUser(t.Context(), api.UserRequest{Name: "anna", Role: "viewer", Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, h)
	out := func(when string) {
		t.Helper()
		for _, path := range uiPaths {
			response, body := b.get(path)
			if response.Request.URL.Path != "/ui/login" || strings.Contains(body, "shop-") || strings.Contains(body, "Bundles") {
				t.Errorf("%s: %s ends at %s: %s", when, path, response.Request.URL, body)
			}
		}
	}
	out("at first")
	if response, body := b.post("/ui/login", url.Values{"token": {"hfa_wrong"}}); response.StatusCode != http.StatusUnauthorized || strings.Contains(body, "hfa_wrong") {
		t.Errorf("a wrong token: %d %s", response.StatusCode, body)
	}
	out("after a wrong token")
	b.login(grant.Context.Token)
	if _, body := b.get("/ui/"); !strings.Contains(body, "anna") || !strings.Contains(body, "shop-2") || strings.Contains(body, grant.Context.Token) {
		t.Errorf("logged in: %s", body)
	}
	at, err := url.Parse(h.URL())
	if err != nil {
		t.Fatal(err)
	}
	if cookies := b.client.Jar.Cookies(at); len(cookies) != 1 || strings.Contains(cookies[0].Value, grant.Context.Token) {
		t.Errorf("cookies: %v", cookies)
	}
	if c := cookie("x"); !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie: %+v", c)
	}
	if _, err := client.RevokeUser(t.Context(), "anna", "gone"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "her session ends with her token", func() bool {
		response, _ := b.get("/ui/")
		return response.Request.URL.Path == "/ui/login"
	})
	out("after the revocation")
	b.login(contextOf(t, h).Token)
	b.post("/ui/logout", nil)
	out("after the logout")
}

// Another site's page can neither log a browser in nor out, and nothing below /ui/ changes anything else.
func TestT27_NobodyElsesPageMayPost(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	b := newBrowser(t, h)
	token := contextOf(t, h).Token
	foreign := []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}
	if response, _ := b.post("/ui/login", url.Values{"token": {token}}, foreign...); response.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign login: %d", response.StatusCode)
	}
	b.login(token)
	if response, _ := b.post("/ui/logout", nil, foreign...); response.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign logout: %d", response.StatusCode)
	}
	if response, body := b.get("/ui/"); response.Request.URL.Path != "/ui/" {
		t.Errorf("logged out: %s", body)
	}
	for _, path := range []string{"/ui/", "/ui/drift", "/ui/sites/shop-1"} {
		if response, _ := b.post(path, url.Values{"x": {"y"}}); response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, response.StatusCode)
		}
	}
	// A cookie is no token of the API.
	if response, _ := b.get("/v1/sites"); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API takes a cookie: %d", response.StatusCode)
	}
}

// A user who may see some sites sees no other on any page.
func TestT27_PagesKeepToAScope(t *testing.T) {
	h := hostileHub(t)
	client := clientOf(t, h)
	if _, err := client.LabelSite(t.Context(), "shop-2", api.LabelChange{Set: map[string]string{"region": "us"}}); err != nil {
		t.Fatal(err)
	}
	grant, err := client.AddUser(t.Context(), api.UserRequest{Name: "ben", Role: "viewer", Seconds: 3600, Scope: access.Scope{Labels: "region=us"}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, h)
	b.login(grant.Context.Token)
	for _, path := range []string{"/ui/", "/ui/drift", "/ui/bundles"} {
		if _, body := b.get(path); strings.Contains(body, "shop-1") || strings.Contains(body, "shop-3") {
			t.Errorf("%s shows a site outside the scope: %s", path, body)
		}
	}
	if _, body := b.get("/ui/"); !strings.Contains(body, "shop-2") {
		t.Errorf("the fleet lacks the site of the scope: %s", body)
	}
	if response, _ := b.get("/ui/sites/shop-1"); response.StatusCode != http.StatusNotFound {
		t.Errorf("a site outside the scope: %d", response.StatusCode)
	}
}

func TestSessionsAreBoundedAndEnd(t *testing.T) {
	s := newSessions()
	first := s.open(noon, "first", "first")
	for i := range 2 * maxSessions {
		s.open(noon.Add(time.Duration(i+1)*time.Millisecond), fmt.Sprint(i), fmt.Sprint(i))
	}
	if _, ok := s.token(noon.Add(time.Minute), first); ok || len(s.all) > maxSessions {
		t.Errorf("%d sessions, the oldest alive: %v", len(s.all), ok)
	}
	idle := s.open(noon, "idle", "idle")
	if _, ok := s.token(noon.Add(sessionIdle+time.Second), idle); ok {
		t.Error("an idle session goes on")
	}
	busy := s.open(noon, "busy", "busy")
	for at := time.Duration(0); at <= sessionLife; at += sessionIdle / 2 {
		if token, ok := s.token(noon.Add(at), busy); !ok || token != "busy" {
			t.Fatalf("a busy session ended after %s", at)
		}
	}
	if _, ok := s.token(noon.Add(sessionLife+time.Second), busy); ok {
		t.Error("a session has no end")
	}
}
