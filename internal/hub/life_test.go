package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// twin is a second live copy of a site: the same key and credential on a connection of its own.
func (s *fakeSite) twin() *fakeSite {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.grant.CA))
	seed, err := nkeys.EncodeSeed(nkeys.PrefixByteUser, s.key.Seed())
	if err != nil {
		s.t.Fatal(err)
	}
	copied := *s
	copied.link, err = link.Dial(link.Options{
		Site: s.id, Servers: s.grant.Servers, CA: roots, JWT: s.grant.JWT, Seed: string(seed), RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { copied.link.Close() })
	copied.await(fleetsync.LinkUp)
	return &copied
}

func statusIs(t *testing.T, client *api.Client, id bundle.SiteID, want string) api.Site {
	t.Helper()
	var site api.Site
	eventually(t, string(id)+" is "+want, func() bool {
		var err error
		site, err = client.Site(context.Background(), id)
		return err == nil && site.Status == want
	})
	return site
}

func TestT19_TwoLiveCopiesAreHeld(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", nil)
	order := api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}

	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "first", 1, 1))
	clone := site.twin()
	clone.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "second", 1, 1))
	statusIs(t, client, "shop-1", "") // a new store alone is no clone
	if result := assign(t, client, order); result.Error != nil {
		t.Fatalf("assign to a site with a new store: %+v", result.Error)
	}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "first", 2, 2))
	held := statusIs(t, client, "shop-1", "held")
	if !slices.ContainsFunc(held.Alarms, func(a string) bool { return strings.Contains(a, "held at") && strings.Contains(a, "two live copies") }) {
		t.Errorf("alarms %q", held.Alarms)
	}
	results, err := client.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{"shop-1"}, Name: "shop"})
	if err != nil || results[0].Error == nil || results[0].Error.Reason != string(enrol.SiteHeld) || results[0].Error.Hint == "" {
		t.Errorf("a held site is given something new: %+v, %v", results, err)
	}
	if got := site.assignment(); got.Sequence != 1 || !reflect.DeepEqual(clone.assignment(), got) {
		t.Errorf("the copies see %+v", got)
	}
	if n := audited(t, client, "site hold", done); n != 1 {
		t.Errorf("%d holds in the audit log", n)
	}
	// Somebody looked; only a new sign of life of the older copy holds it again, also after a restart of the hub.
	if released, err := client.ReleaseSite(ctx, "shop-1", "the old disk is destroyed"); err != nil || released.Status != "" {
		t.Fatalf("released: %+v, %v", released, err)
	}
	clone.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "second", 2, 2))
	eventually(t, "the clone's event is in", func() bool { return siteAsShown(t, client, "shop-1").Events.Upto == 2 })
	statusIs(t, client, "shop-1", "")
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "first", 3, 3))
	statusIs(t, client, "shop-1", "held")
}

// A whole disk that was copied brings its epoch along: what tells the copies apart is when each agent started.
func TestT19_TwoAgentsOfOneEpochAreTwoCopies(t *testing.T) {
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for name, c := range map[string]struct {
		heard []int // odd and even seconds are two agents
		after int
		want  bool
	}{
		"one agent":             {[]int{0, 20, 40}, 0, false},
		"a restart":             {[]int{0, 20, 21, 41, 61}, 0, false},
		"late from the old one": {[]int{0, 21, 22, 41}, 0, false},
		"both go on":            {[]int{0, 21, 41, 60}, 0, true},
		"settled since":         {[]int{0, 21, 41, 60}, 61, false},
		"alive again":           {[]int{0, 21, 41, 60, 80}, 61, true},
	} {
		var l lives
		for _, s := range c.heard {
			l.hear("e", at(s%2-1000), at(s))
		}
		if why, alive := l.twins(at(c.after)); alive != c.want {
			t.Errorf("%s: %t %s", name, alive, why)
		}
	}
}

func TestT23_ARevokedSiteIsGoneWithinFiveSeconds(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	bad, good := addSite(t, client, "shop-bad", nil), addSite(t, client, "shop-good", nil)
	bad.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-bad"), batch("shop-bad", "a", 1, 1))
	eventually(t, "the event is in", func() bool { return siteAsShown(t, client, "shop-bad").Events.Upto == 1 })

	begun := time.Now()
	if site, err := client.RevokeSite(ctx, "shop-bad", "stolen"); err != nil || site.Status != "revoked" {
		t.Fatalf("%+v, %v", site, err)
	}
	bad.await(fleetsync.LinkDown)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("cut after %s", took)
	}
	if err := bad.link.Report(ctx, fleetsync.EventSubject("shop-bad"), sealed(t, fleetsync.TypeEvents, batch("shop-bad", "a", 2, 2), bad.key)); err == nil {
		t.Error("a revoked site still reports")
	}
	order := api.AssignRequest{Sites: []bundle.SiteID{"shop-bad", "shop-good"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}
	results, err := client.Assign(ctx, order)
	if err != nil || results[0].Error == nil || results[0].Error.Reason != string(enrol.SiteRevoked) || !results[1].Changed {
		t.Errorf("assign: %+v, %v", results, err)
	}
	good.await(fleetsync.LinkPoke) // the others notice nothing
	if got := good.assignment(); got.Sequence != 1 {
		t.Errorf("the other site got %+v", got)
	}
	if _, err := client.AddSite(ctx, api.SiteRequest{ID: "shop-bad", PublicKey: publicName(t, bad.key)}); refusalOf(t, err).Reason != string(enrol.SiteRevoked) {
		t.Errorf("added again: %v", err)
	}
	h.Close()

	// The list of the revoked is made anew at start, and reports from their time still count.
	again := startHub(t, configOf(t, dir))
	if shown := siteAsShown(t, clientOf(t, again), "shop-bad"); shown.Events.Upto != 1 || shown.Status != "revoked" {
		t.Errorf("after a restart: %+v", shown)
	}
	late := &fakeSite{t: t, id: "shop-bad", grant: bad.grant, key: bad.key}
	late.grant.Servers = again.Servers()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(late.grant.CA))
	seed, err := nkeys.EncodeSeed(nkeys.PrefixByteUser, bad.key.Seed())
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 1)
	late.link, err = link.Dial(link.Options{Site: "shop-bad", Servers: late.grant.Servers, CA: roots, JWT: late.grant.JWT, Seed: string(seed), Refused: func() {
		select {
		case refused <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer late.link.Close()
	select {
	case <-refused:
	case notice := <-late.link.Notices():
		if notice.Kind == fleetsync.LinkUp {
			t.Error("a revoked site is let in after a restart of the hub")
		}
	case <-time.After(10 * time.Second):
		t.Error("neither refused nor let in")
	}
}

func publicName(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	name, err := nkeys.Encode(nkeys.PrefixByteUser, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return string(name)
}

func TestReplacedHardwareIsTheSameSite(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	old := addSite(t, client, "shop-1", map[string]string{"region": "eu"})
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	old.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "old", 1, 2))
	eventually(t, "events are in", func() bool { return siteAsShown(t, client, "shop-1").Events.Upto == 2 })

	grant, err := client.ReplaceSite(ctx, "shop-1", api.TokenRequest{Seconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	device := newApplicant(t, h, grant.File.Token, "whatever it says")
	device.mustAsk(enrol.Pending)
	if old.assignment().Sequence != 1 {
		t.Error("the old hardware is shut out before the new one is approved")
	}
	if _, err := client.DecideEnrolment(ctx, enrol.Fingerprint(device.public), api.Decision{Approve: true}); err != nil {
		t.Fatal(err)
	}
	old.await(fleetsync.LinkDown)
	reply := device.mustAsk(enrol.Approved)
	if reply.Site != "shop-1" {
		t.Fatalf("%+v", reply)
	}
	next := &fakeSite{t: t, id: "shop-1", key: device.private, hub: h.signing().public, grant: api.SiteGrant{Servers: reply.Grant.Servers, CA: reply.Grant.CA, JWT: reply.Grant.JWT}}
	next = next.twin()
	if got := next.assignment(); got.Sequence != 1 || len(got.Bundles) != 1 || got.Labels["region"] != "eu" {
		t.Errorf("the new hardware got %+v", got)
	}
	next.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "new", 1, 1))
	eventually(t, "the new epoch is heard", func() bool { return siteAsShown(t, client, "shop-1").Events.Epoch == "new" })
	h.Close()
	again := startHub(t, configOf(t, dir))
	shown := siteAsShown(t, clientOf(t, again), "shop-1")
	if shown.Events.Epoch != "new" || shown.Status != "" || len(shown.Alarms) != 0 {
		t.Errorf("after a restart: %+v", shown)
	}
	if events, err := clientOf(t, again).Events(ctx, api.EventQuery{Site: "shop-1"}); err != nil || len(events) != 3 {
		t.Errorf("%d events, %v; want those of both keys", len(events), err)
	}
}

func TestDecommissionedSitesLeaveWhenTheyAreEmpty(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site, other := addSite(t, client, "shop-1", nil), addSite(t, client, "shop-2", nil)
	order := api.AssignRequest{Sites: []bundle.SiteID{"shop-1", "shop-2"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}
	assign(t, client, order)
	state := fleetsync.State{Site: "shop-1", Epoch: "a", Sequence: 1, At: noon, Started: noon, Assignment: 1, Bundles: []fleetsync.BundleStatus{{Name: "shop", Phase: fleetsync.PhaseCurrent}}}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)

	if shown, err := client.DecommissionSite(ctx, "shop-1", api.Decommission{RemoveWorkloads: true, Why: "closed"}); err != nil || shown.Status != "leaving" {
		t.Fatalf("%+v, %v", shown, err)
	}
	if got := site.assignment(); got.Sequence != 2 || len(got.Bundles) != 0 {
		t.Errorf("the site got %+v", got)
	}
	state.Sequence, state.Assignment, state.Bundles[0].Phase = 2, 2, fleetsync.PhaseRemoving
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	if shown, err := client.DecommissionSite(ctx, "shop-1", api.Decommission{RemoveWorkloads: true}); err != nil || shown.Status != "leaving" {
		t.Errorf("asked again: %+v, %v", shown, err)
	}
	state.Sequence, state.Bundles = 3, []fleetsync.BundleStatus{}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	statusIs(t, client, "shop-1", "gone")
	site.await(fleetsync.LinkDown)

	if shown, err := client.DecommissionSite(ctx, "shop-2", api.Decommission{}); err != nil || shown.Status != "gone" {
		t.Fatalf("%+v, %v", shown, err)
	}
	other.await(fleetsync.LinkDown)
	if _, err := client.ReplaceSite(ctx, "shop-2", api.TokenRequest{Seconds: 60}); refusalOf(t, err).Reason != string(enrol.NotReplaceable) {
		t.Errorf("a gone site comes back: %v", err)
	}
	if _, err := client.RevokeSite(ctx, "shop-3", ""); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("a site nobody knows: %v", err)
	}
}

func TestLabelsChangeTheAssignment(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", map[string]string{"region": "eu", "pilot": "yes"})
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	shown, err := client.LabelSite(ctx, "shop-1", api.LabelChange{Set: map[string]string{"tier": "a"}, Remove: []string{"pilot"}})
	want := map[string]string{"region": "eu", "tier": "a"}
	if err != nil || !reflect.DeepEqual(shown.Labels, want) {
		t.Fatalf("%+v, %v", shown, err)
	}
	if got := site.assignment(); got.Sequence != 2 || !reflect.DeepEqual(got.Labels, want) || len(got.Bundles) != 1 {
		t.Errorf("the site got %+v", got)
	}
	if _, err := client.LabelSite(ctx, "shop-1", api.LabelChange{Set: map[string]string{"a b": "c"}}); refusalOf(t, err).Status != http.StatusBadRequest {
		t.Errorf("no label: %v", err)
	}
}

func TestT27_TheAuditLogIsAChain(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	addSite(t, client, "shop-1", nil)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	_, _ = client.Assign(ctx, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "9.0.0"}})
	records, err := client.Audit(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, strings.Join([]string{r.Who, r.What, r.Target, r.Outcome}, " "))
	}
	if want := []string{"admin site add shop-1 done", "admin bundle push shop@1.0.0 done", "admin assign shop-1:1 done", "admin assign  UnknownBundle"}; !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
	if verdict, err := client.VerifyAudit(ctx); err != nil || verdict.Broken != "" || verdict.Records != 4 || len(verdict.Head) != 64 {
		t.Errorf("%+v, %v", verdict, err)
	}
	// Somebody with the bus's keys adds a record that says what they like.
	if _, err := h.store.Put(ctx, auditSubject, []byte(`{"n":5,"time":"2026-06-01T12:00:00Z","who":"admin","what":"site add","outcome":"done","prev":"00"}`)); err != nil {
		t.Fatal(err)
	}
	if verdict, err := client.VerifyAudit(ctx); err != nil || !strings.Contains(verdict.Broken, "record 5") {
		t.Errorf("%+v, %v", verdict, err)
	}
}
