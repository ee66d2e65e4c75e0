package hub

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/metricstest"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// fetched is a GET with the token ("" for none): status and body.
func fetched(t *testing.T, h *Hub, path, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, h.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := rawClient(t, contextOf(t, h)).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// scraped is what Prometheus would have after a scrape: values by name and labels.
func scraped(t *testing.T, h *Hub) map[string]float64 {
	t.Helper()
	status, body := fetched(t, h, "/metrics", contextOf(t, h).Token)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.Metric {
			values[name+labelled(m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func labelled(m *dto.Metric) string {
	var words []string
	for _, pair := range m.Label {
		words = append(words, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
	}
	if len(words) == 0 {
		return ""
	}
	return "{" + strings.Join(words, ",") + "}"
}

func TestP08_MetricsSayWhatTheHubSees(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	if _, err := client.Push(t.Context(), releaseOf(t, "1.1.0", 2, foreign()).bytes(t)); err == nil {
		t.Error("a foreign key was believed")
	}
	site := addSite(t, client, "shop-1", nil)
	addSite(t, client, "shop-2", nil)
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	state := snapshot("shop-1", "a", 1)
	state.Cluster.Reachable, state.Bundles[0].Phase, state.Bundles[0].DriftCount = true, fleetsync.PhaseUnhealthy, 3
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 3))
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 2, 3))
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 7, 7))
	if err := site.link.Report(t.Context(), fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyEvil)); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		`holdfast_hub_sites{freshness="fresh",standing="failing"}`:               1,
		`holdfast_hub_sites{freshness="unknown",standing="unknown"}`:             1,
		`holdfast_hub_sites{freshness="fresh",standing="current"}`:               0,
		`holdfast_hub_site_bundles{freshness="fresh",phase="Unhealthy"}`:         1,
		`holdfast_hub_drift_objects{freshness="fresh"}`:                          3,
		`holdfast_hub_sites_missing_events`:                                      1,
		`holdfast_hub_catalog_bundles`:                                           1,
		`holdfast_hub_bundle_pushes_total{outcome="stored"}`:                     1,
		`holdfast_hub_bundle_pushes_total{outcome="duplicate"}`:                  1,
		`holdfast_hub_bundle_pushes_total{outcome="refused"}`:                    1,
		`holdfast_hub_events_total{outcome="new"}`:                               4,
		`holdfast_hub_events_total{outcome="duplicate"}`:                         2,
		`holdfast_hub_messages_refused_total{kind="STATE",reason="forged"}`:      1,
		`holdfast_hub_store_writes_total{outcome="done",stream="DESIRED"}`:       1,
		`holdfast_hub_api_requests_total{route="POST /v1/bundles",status="200"}`: 2,
		`holdfast_hub_api_requests_total{route="POST /v1/sites",status="200"}`:   2,
		`holdfast_hub_store_writable`:                                            1,
		`holdfast_hub_ready`:                                                     1,
		`holdfast_hub_rollouts{phase="Paused"}`:                                  0,
		`holdfast_hub_heartbeat_seconds`:                                         60,
	}
	eventually(t, "everything is counted", func() bool {
		got := scraped(t, h)
		return got[`holdfast_hub_messages_refused_total{kind="STATE",reason="forged"}`] == 1 && got[`holdfast_hub_events_total{outcome="new"}`] == 4
	})
	got := scraped(t, h) // anew: a gauge may have been read before what a counter of the same scrape counted
	for name, value := range want {
		if is, there := got[name]; !there || is != value {
			t.Errorf("%s: %v (there: %v), want %v", name, is, there, value)
		}
	}
	records, err := client.Audit(t.Context(), 100)
	if err != nil || int(got["holdfast_hub_audit_records"]) != len(records) {
		t.Errorf("audit: %v, want %d (%v)", got["holdfast_hub_audit_records"], len(records), err)
	}
	if got["holdfast_hub_bus_connections"] < 2 {
		t.Errorf("connections: %v, want the hub's and the sites'", got["holdfast_hub_bus_connections"])
	}
}

func TestT27_MetricsWantAToken(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	for _, token := range []string{"", "hfa_wrong"} {
		if status, body := fetched(t, h, "/metrics", token); status != http.StatusUnauthorized || strings.Contains(body, "holdfast_hub_sites") {
			t.Errorf("token %q: %d %s", token, status, body)
		}
	}
}

// A fleet of ten sites and one of two hundred, with hostile names of everything a site may say, have the very same series.
func TestT28_SitesMakeNoSeries(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	memory := membus.New(nil)
	cfg.Bus, cfg.Log = memory, nil
	h := startHub(t, cfg)
	scraped(t, h) // asking is counted itself
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			id := bundle.SiteID(fmt.Sprintf("shop-%d", i))
			h.fold(recordOf(t, id, keyOf(string(id))))
			state := snapshot(id, "a", 1)
			evil := fmt.Sprintf("evil-%d\n\"}", i)
			state.Cluster.Reachable, state.Agent, state.Store = true, evil, evil
			state.Bundles[0].Name, state.Bundles[0].Phase, state.Bundles[0].Reason, state.Bundles[0].DriftCount = bundle.Name(evil), fleetsync.Phase(evil), evil, -5
			h.fold(received(fleetsync.StateSubject(id), sealed(t, fleetsync.TypeState, state, keyOf(string(id))), noon))
			events := batch(id, "a", 1, 1)
			events.Events[0].Kind, events.Events[0].Reason = fleetsync.EventKind(evil), evil
			h.fold(received(fleetsync.EventSubject(id), sealed(t, fleetsync.TypeEvents, events, keyOf(string(id))), noon))
			h.fold(received(fleetsync.StateSubject(id), []byte(evil), noon))
			h.fold(received("hf.state."+evil, []byte(evil), noon))
			if status, _ := fetched(t, h, fmt.Sprintf("/v1/nothing-%d", i), contextOf(t, h).Token); status != http.StatusNotFound {
				t.Fatal(status)
			}
		}
	}
	fill(0, 10)
	few := scraped(t, h)
	fill(10, 200)
	many := scraped(t, h)
	for name := range many {
		if _, known := few[name]; !known && !strings.HasPrefix(name, "go_") {
			t.Errorf("a series came with the sites: %s", name)
		}
	}
	if many[`holdfast_hub_site_bundles{freshness="stale",phase="unknown"}`] != 200 {
		t.Errorf("phases that are none: %v, want 200", many[`holdfast_hub_site_bundles{freshness="stale",phase="unknown"}`])
	}
}

func TestF12_AStoreThatRefusesIsRed(t *testing.T) {
	b := &breaking{Bus: membus.New(nil)}
	cfg := configOf(t, t.TempDir())
	cfg.Bus = b
	h := startHub(t, cfg)
	look := func(status int, writable float64, said string) {
		t.Helper()
		if got, body := fetched(t, h, "/readyz", ""); got != status || !strings.Contains(body, said) || strings.Contains(body, errBroken.Error()) {
			t.Errorf("readyz: %d %q, want %d with %q and no more", got, body, status, said)
		}
		if got, _ := fetched(t, h, "/healthz", ""); got != http.StatusOK {
			t.Errorf("healthz: %d: a restart would not help", got)
		}
		if values := scraped(t, h); values["holdfast_hub_store_writable"] != writable || values["holdfast_hub_ready"] != writable {
			t.Errorf("writable %v, ready %v, want %v", values["holdfast_hub_store_writable"], values["holdfast_hub_ready"], writable)
		}
	}
	look(http.StatusOK, 1, "ok")
	b.arm(0, false)
	if _, err := h.CreateToken(t.Context(), api.TokenRequest{Rule: "fixed:shop-1", Uses: 1, Seconds: 60}, "me"); err == nil {
		t.Fatal("written on a broken bus")
	}
	look(http.StatusServiceUnavailable, 0, "not well: store")
	b.mend()
	if _, err := h.pulse.Put(t.Context(), pulseSubject, []byte("beat")); err != nil { // as the pulse does by itself
		t.Fatal(err)
	}
	look(http.StatusOK, 1, "ok")
}

// A write that lost a race, or whose caller went away, says nothing about the store.
func TestF12_WhatIsNotTheStoresFaultLeavesItGreen(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	if _, err := h.store.PutIf(t.Context(), pulseSubject, []byte("a"), 77); err == nil || outcomeOf(err) != "refused" {
		t.Errorf("a lost race: %v is %s", err, outcomeOf(err))
	}
	if _, err := h.store.Put(t.Context(), pulseSubject, make([]byte, stream.MaxMessage+1)); err == nil || outcomeOf(err) != "refused" {
		t.Errorf("too large: %v is %s", err, outcomeOf(err))
	}
	if err := h.pulse.trouble(); err != nil {
		t.Error(err)
	}
}

func TestMonitoringNamesWhatIsExported(t *testing.T) {
	metricstest.Monitoring(t, newMetrics(&Hub{}).registry, "holdfast_hub_", filepath.Join("..", ".."))
}
