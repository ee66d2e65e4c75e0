package hub

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

func TestAddSiteGivesWhatASiteNeedsOnce(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	site := addSite(t, client, "shop-1", map[string]string{"region": "eu"})
	if _, err := tuf.Decode(site.grant.Trust); err != nil || site.grant.HeartBeat != 60 || site.grant.Site != "shop-1" {
		t.Errorf("grant %+v: %v", site.grant, err)
	}
	_, name, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.AddSite(ctx, api.SiteRequest{ID: "shop-1", PublicKey: name})
	if problem := refusalOf(t, err); problem.Status != http.StatusConflict || problem.Hint == "" {
		t.Errorf("added twice: %+v", problem)
	}
	record, _ := h.view.Record("shop-1")
	_, err = client.AddSite(ctx, api.SiteRequest{ID: "shop-2", PublicKey: record.PublicKey})
	if problem := refusalOf(t, err); problem.Status != http.StatusConflict || problem.Reason != "KeyInUse" {
		t.Errorf("a key for two sites: %+v", problem)
	}
	addSite(t, client, "shop-2", map[string]string{"region": "us"})
	for selector, want := range map[string]int{"": 2, "region=eu": 1, "region in (eu,us)": 2, "region=asia": 0} {
		if sites, err := client.Sites(ctx, selector); err != nil || len(sites) != want {
			t.Errorf("%q selects %d sites, %v; want %d", selector, len(sites), err, want)
		}
	}
}

func TestT17_HostileSiteNames(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	_, key, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []bundle.SiteID{"", "*", ">", "a.b", "A1", "shop_1", "-a", "a-", "a", "shop 1", "shöp", "../x", bundle.SiteID(strings.Repeat("a", 64)), "shop-1\n"} {
		if _, err := client.AddSite(ctx, api.SiteRequest{ID: id, PublicKey: key}); refusalOf(t, err).Status != http.StatusBadRequest {
			t.Errorf("site %q: %v", id, err)
		}
		if _, err := client.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{id}, Name: "shop"}); refusalOf(t, err).Status != http.StatusBadRequest {
			t.Errorf("assignment of site %q: %v", id, err)
		}
		if id == "" || id == "../x" {
			continue // no such path, and every site
		}
		if _, err := client.Drift(ctx, id); refusalOf(t, err).Status != http.StatusBadRequest {
			t.Errorf("drift of site %q: %v", id, err)
		}
	}
	for name, request := range map[string]api.SiteRequest{
		"no key":       {ID: "shop-1"},
		"account key":  {ID: "shop-1", PublicKey: "A" + key[1:]},
		"bad label":    {ID: "shop-1", PublicKey: key, Labels: map[string]string{"a b": "c"}},
		"bad value":    {ID: "shop-1", PublicKey: key, Labels: map[string]string{"a": "c d"}},
		"hub's own":    {ID: "shop-1", PublicKey: h.signing().name},
		"long labels":  {ID: "shop-1", PublicKey: key, Labels: map[string]string{"a": strings.Repeat("x", 64)}},
		"not the name": {ID: "shop-1", PublicKey: strings.ToLower(key)},
	} {
		if _, err := client.AddSite(ctx, request); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if sites, err := client.Sites(ctx, ""); err != nil || len(sites) != 0 {
		t.Errorf("sites %+v, %v", sites, err)
	}
}

func assign(t *testing.T, client *api.Client, request api.AssignRequest) api.AssignResult {
	t.Helper()
	results, err := client.Assign(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func TestAssignmentsReachTheSiteSigned(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	one := push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	two := push(t, client, releaseOf(t, "1.1.0", 2, ours()))
	site := addSite(t, client, "shop-1", map[string]string{"region": "eu"})
	request := api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}

	if result := assign(t, client, request); !result.Changed || result.Sequence != 1 || result.Error != nil {
		t.Fatalf("first: %+v", result)
	}
	site.await(fleetsync.LinkPoke)
	got := site.assignment()
	want := []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: one.Digest}}
	if got.Site != "shop-1" || got.Sequence != 1 || !reflect.DeepEqual(got.Bundles, want) || got.Labels["region"] != "eu" {
		t.Errorf("the site got %+v", got)
	}
	if result := assign(t, client, request); result.Changed || result.Sequence != 1 {
		t.Errorf("the same again: %+v, want nothing changed", result)
	}
	request.Bundle.Version = "1.1.0"
	request.Drift = bundle.DriftReport
	if result := assign(t, client, request); !result.Changed || result.Sequence != 2 {
		t.Errorf("another version: %+v", result)
	}
	if got := site.assignment(); len(got.Bundles) != 1 || got.Bundles[0].Digest != two.Digest || got.Bundles[0].Drift != bundle.DriftReport {
		t.Errorf("the site got %+v", got)
	}
	results, err := client.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{"shop-1"}, Name: "shop"})
	if err != nil || !results[0].Changed || results[0].Sequence != 3 {
		t.Errorf("unassign: %+v, %v", results, err)
	}
	if got := site.assignment(); got.Sequence != 3 || len(got.Bundles) != 0 {
		t.Errorf("the site got %+v", got)
	}
	results, err = client.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{"shop-1"}, Name: "shop"})
	if err != nil || results[0].Changed || results[0].Sequence != 3 {
		t.Errorf("unassign again: %+v, %v", results, err)
	}
}

func TestT07_AssignRefuses(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours(), func(m *bundle.Manifest) {
		m.Target.Selector = "region=eu"
		m.Parameters = []bundle.Parameter{
			{Name: "name", Type: bundle.TypeString, Required: true, Pattern: "[a-z]+"},
			{Name: "replicas", Type: bundle.TypeInteger, Default: int64(1)},
		}
	}))
	addSite(t, client, "shop-eu", map[string]string{"region": "eu"})
	addSite(t, client, "shop-us", map[string]string{"region": "us"})
	ref := bundle.Ref{Name: "shop", Version: "1.0.0"}
	good := fleetsync.Values{"name": "abc", "replicas": int64(9007199254740993)}
	for name, c := range map[string]struct {
		site   bundle.SiteID
		values fleetsync.Values
		drift  bundle.DriftMode
		reason string
	}{
		"wrong target":      {"shop-us", good, "", "WrongTarget"},
		"unknown site":      {"shop-xx", good, "", "UnknownSite"},
		"value missing":     {"shop-eu", nil, "", "MissingValue"},
		"unknown parameter": {"shop-eu", fleetsync.Values{"name": "abc", "other": "x"}, "", "UnknownParameter"},
		"wrong type":        {"shop-eu", fleetsync.Values{"name": "abc", "replicas": "secret-canary"}, "", "BadValue"},
		"not the pattern":   {"shop-eu", fleetsync.Values{"name": "SECRET-CANARY"}, "", "BadValue"},
		"drift mode":        {"shop-eu", good, "sometimes", "BadDriftMode"},
	} {
		result := assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{c.site}, Bundle: ref, Values: c.values, Drift: c.drift})
		if result.Error == nil || result.Error.Reason != c.reason || result.Changed || result.Sequence != 0 {
			t.Errorf("%s: %+v %+v, want %s", name, result, result.Error, c.reason)
			continue
		}
		if text := result.Error.Title + result.Error.Detail + result.Error.Hint; strings.Contains(strings.ToLower(text), "canary") {
			t.Errorf("%s: T16: the refusal repeats the value: %s", name, text)
		}
	}
	_, err := client.Assign(context.Background(), api.AssignRequest{Sites: []bundle.SiteID{"shop-eu"}, Bundle: bundle.Ref{Name: "shop", Version: "9.0.0"}})
	if problem := refusalOf(t, err); problem.Status != http.StatusNotFound || problem.Reason != "UnknownBundle" {
		t.Errorf("unknown bundle: %+v", problem)
	}
	results, err := client.Assign(context.Background(), api.AssignRequest{Sites: []bundle.SiteID{"shop-us", "shop-eu"}, Bundle: ref, Values: good})
	if err != nil || results[0].Error == nil || !results[1].Changed {
		t.Errorf("one refusal stops the other site: %+v, %v", results, err)
	}
	site, err := client.Site(context.Background(), "shop-eu")
	if err != nil || !reflect.DeepEqual(site.Assigned[0].Values, good) {
		t.Errorf("assigned %+v, %v; want the values whole", site.Assigned, err)
	}
}

// TestT15_AScopeStaysUntilItIsSaidAnew has an update that says nothing of the scope not widen it.
func TestT15_AScopeStaysUntilItIsSaidAnew(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	push(t, client, releaseOf(t, "1.1.0", 2, ours()))
	site := addSite(t, client, "shop-1", nil)
	request := api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}
	for name, bad := range map[string]fleetsync.Scope{
		"a user":  {ServiceAccount: "system:admin"},
		"no kind": {Kinds: []bundle.KindPattern{"apps/"}},
		"a path":  {Namespaces: []string{"../kube-system"}},
	} {
		request.Scope = &bad
		if result := assign(t, client, request); result.Error == nil || result.Error.Reason != "BadScope" {
			t.Errorf("%s: %+v", name, result)
		}
	}
	shop := &fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop", Kinds: []bundle.KindPattern{"apps/*"}, Namespaces: []string{"shop"}}
	bank := &fleetsync.Scope{Namespaces: []string{"bank"}}
	for i, step := range []struct {
		version bundle.Version
		said    *fleetsync.Scope
		want    *fleetsync.Scope
	}{{"1.0.0", shop, shop}, {"1.1.0", nil, shop}, {"1.1.0", bank, bank}, {"1.0.0", &fleetsync.Scope{}, nil}, {"1.1.0", nil, nil}} {
		request.Bundle.Version, request.Scope = step.version, step.said
		if result := assign(t, client, request); !result.Changed || result.Error != nil {
			t.Fatalf("step %d: %+v", i, result)
		}
		if got := site.assignment().Bundles[0]; got.Version != step.version || !reflect.DeepEqual(got.Scope, step.want) {
			t.Errorf("step %d: the site got %+v, want the scope %+v", i, got, step.want)
		}
	}
}

// Five operators assign five bundles to one site at once: none is lost, and every change has its own sequence.
func TestP05_AssignmentsChangedAtOnceAreAllKept(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	const many = 5
	names := []bundle.Name{"a", "b", "c", "d", "e"}
	for _, name := range names {
		push(t, client, releaseOf(t, "1.0.0", 1, ours(), func(m *bundle.Manifest) { m.Name = name }))
	}
	site := addSite(t, client, "shop-1", nil)
	var wait sync.WaitGroup
	for _, name := range names {
		wait.Go(func() {
			results, err := client.Assign(context.Background(), api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: name, Version: "1.0.0"}})
			if err != nil || !results[0].Changed {
				t.Errorf("%s: %+v, %v", name, results, err)
			}
		})
	}
	wait.Wait()
	if got := site.assignment(); got.Sequence != many || len(got.Bundles) != many {
		t.Errorf("the site got %+v", got)
	}
}

func TestF11_WhatAForgetfulHubOrdersIsNewerThanWhatTheSiteHas(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", nil)
	state := fleetsync.State{Site: "shop-1", Epoch: "e1", Sequence: 1, Assignment: 41}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	eventually(t, "the hub has the report", func() bool {
		known, err := client.Site(context.Background(), "shop-1")
		return err == nil && known.State != nil
	})
	request := api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}
	if result := assign(t, client, request); !result.Changed || result.Sequence != 42 {
		t.Errorf("%+v, want sequence 42", result)
	}
}

// TestF24_AViewThatIsBehindDecidesNothing: another hub has ordered since, and this one has not heard of it. What it writes comes after that order, and it
// does not say that nothing is to be done because the order before was the same.
func TestF24_AViewThatIsBehindDecidesNothing(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	push(t, client, releaseOf(t, "1.1.0", 2, ours()))
	addSite(t, client, "shop-1", nil)
	order := func(version bundle.Version) api.AssignResult {
		return assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: version}})
	}
	order("1.0.0")
	h.mu.Lock()
	before := *h.view.sites["shop-1"]
	h.mu.Unlock()
	order("1.1.0")
	// Counted, it is all but folded again: hardly anything but this test changes the view from here on.
	eventually(t, "the hub hears of its own order", func() bool {
		h.ledger.mu.Lock()
		defer h.ledger.mu.Unlock()
		return h.ledger.tallies[stream.Desired].Last == 2
	})
	behind := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		site := h.view.sites["shop-1"]
		site.desired, site.revision, site.ordered = before.desired, before.revision, before.ordered
	}
	behind()
	if result := order("1.0.0"); !result.Changed || result.Sequence != 3 {
		t.Errorf("what the view says is ordered already: %+v, want a new order 3", result)
	}
	behind()
	if result := order("1.1.0"); !result.Changed || result.Sequence != 4 {
		t.Errorf("after an order that was not heard of: %+v, want 4", result)
	}
}
