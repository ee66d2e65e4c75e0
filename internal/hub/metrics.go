package hub

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// metrics is what Prometheus reads at /metrics, with the token of a viewer. Every label has a few values that are known beforehand: no site,
// bundle, object or message is one, so that neither a fleet's size nor a hostile site makes the set grow (T28).
type metrics struct {
	registry  *prometheus.Registry
	writes    *prometheus.CounterVec // stream, outcome
	writeTook prometheus.Histogram
	pushes    *prometheus.CounterVec // outcome
	events    *prometheus.CounterVec // outcome
	refused   *prometheus.CounterVec // kind, reason
	requests  *prometheus.CounterVec // route, status
	throttles prometheus.Counter
	took      *prometheus.HistogramVec
}

func newMetrics(h *Hub) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_hub_" + name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "holdfast_hub_" + name, Help: help, Buckets: buckets}
	}
	m.writes = counters("store_writes_total", "Writes to the hub's store by stream; DESIRED is assignments signed, AUDIT audit records.", "stream", "outcome")
	m.writeTook = prometheus.NewHistogram(seconds("store_write_seconds", "Time until a write was on the disk, or refused.", []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10}))
	m.pushes = counters("bundle_pushes_total", "Bundles pushed: stored, duplicate, refused or failed.", "outcome")
	m.events = counters("events_total", "Events received from sites since the hub started: new, or duplicate.", "outcome")
	m.refused = counters("messages_refused_total", "Messages of sites that were not believed.", "kind", "reason")
	m.requests = counters("api_requests_total", "Requests by route and HTTP status.", "route", "status")
	m.throttles = prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_hub_throttles_total", Help: "Times that a site was throttled because it sent too much."})
	m.took = prometheus.NewHistogramVec(seconds("api_request_seconds", "Time until a request was answered.", []float64{.003, .01, .03, .1, .3, 1, 3, 10, 30}), []string{"route"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_hub_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": buildinfo.Version()}})
	build.Set(1)
	for _, outcome := range []string{"stored", "duplicate", "refused", "failed"} {
		m.pushes.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"new", "duplicate"} {
		m.events.WithLabelValues(outcome)
	}
	m.registry.MustRegister(m.writes, m.writeTook, m.pushes, m.events, m.refused, m.requests, m.throttles, m.took, build, fleetMetrics{h},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
}

// pushed counts a push by what became of it.
func (m *metrics) pushed(b api.Bundle, err error) {
	outcome := "stored"
	switch {
	case err != nil && problemOf(err).Status >= http.StatusInternalServerError:
		outcome = "failed"
	case err != nil:
		outcome = "refused"
	case b.Duplicate:
		outcome = "duplicate"
	}
	m.pushes.WithLabelValues(outcome).Inc()
}

// folded counts what a message brought.
func (m *metrics) folded(message stream.Message, folded *fleetsync.Folded, err error) {
	if err != nil {
		m.refused.WithLabelValues(kindOf(message.Subject), reasonOf(err)).Inc()
	}
	if folded != nil {
		m.events.WithLabelValues("new").Add(float64(len(folded.New)))
		m.events.WithLabelValues("duplicate").Add(float64(folded.Duplicates))
	}
}

// kindOf is what a subject carries, by the stream that holds it; heartbeats are in none.
func kindOf(subject string) string {
	if rule, err := stream.Of(subject); err == nil {
		return rule.Name
	}
	if site, err := stream.SiteOf(subject); err == nil && subject == fleetsync.HelloSubject(site) {
		return "HELLO"
	}
	return "unknown"
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, fleetsync.ErrForged):
		return "forged"
	case errors.Is(err, fleetsync.ErrNotNewer):
		return "not newer"
	case errors.Is(err, errReplayed):
		return "replayed"
	case errors.Is(err, errUnknownSite):
		return "unknown site"
	}
	return "malformed"
}

// answered counts a request.
func (m *metrics) answered(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(took.Seconds())
}

type routeKey struct{}

// withRoute lets whoever answers a request say by which route it is counted.
func withRoute(r *http.Request) (*http.Request, *string) {
	route := new(string)
	return r.WithContext(context.WithValue(r.Context(), routeKey{}, route)), route
}

// counted says that a request is counted under the pattern. The first word stands: an outer handler knows less.
func counted(r *http.Request, pattern string) {
	if route, known := r.Context().Value(routeKey{}).(*string); known {
		*route = pattern
	}
}

// fleetMetrics is read off the view when Prometheus asks, so that it is never older than the question.
type fleetMetrics struct{ hub *Hub }

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_hub_"+name, help, labels, nil)
}

var (
	sitesGauge     = gauge("sites", "Sites by how they stand and how fresh that is.", "standing", "freshness")
	phasesGauge    = gauge("site_bundles", "Bundles at sites by phase, as last reported, and how fresh that is.", "phase", "freshness")
	driftGauge     = gauge("drift_objects", "Objects that differ from what was applied and are not corrected.", "freshness")
	alarmsGauge    = gauge("sites_alarmed", "Sites with an alarm.")
	throttledGauge = gauge("sites_throttled", "Sites that are shut out for a while because they sent too much.")
	holesGauge     = gauge("sites_missing_events", "Sites of whose newest events some have not arrived although later ones have.")
	droppedGauge   = gauge("events_dropped", "Events that sites had to drop, as their newest snapshots say.")
	trafficGauge   = gauge("site_line_bytes", "Bytes on the lines of sites since their agents started, as their newest snapshots say: in is from the hub.", "direction")
	catalogGauge   = gauge("catalog_bundles", "Bundles in the catalog.")
	rolloutsGauge  = gauge("rollouts", "Rollouts by phase.", "phase")
	busGauge       = gauge("bus_connections", "Connections to the embedded bus.")
	auditGauge     = gauge("audit_records", "Records in the audit log.")
	writableGauge  = gauge("store_writable", "1 while the store takes writes, 0 while it refuses.")
	readyGauge     = gauge("ready", "1 while /readyz is well.")
	warningsGauge  = gauge("warnings", "What an operator has to see to although the hub serves; holdfast doctor has the words.", "part")
	heartBeatGauge = gauge("heartbeat_seconds", "How often sites say that they are there; a site is stale after two.")
)

func (f fleetMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sitesGauge, phasesGauge, driftGauge, alarmsGauge, throttledGauge, holesGauge, droppedGauge, trafficGauge, catalogGauge, rolloutsGauge, busGauge, auditGauge, writableGauge, readyGauge, warningsGauge, heartBeatGauge} {
		ch <- d
	}
}

func (f fleetMetrics) Collect(ch chan<- prometheus.Metric) {
	h := f.hub
	send := func(d *prometheus.Desc, value int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	h.mu.Lock()
	sites, holes, catalog := h.view.Sites(h.cfg.Now(), nil), h.view.Holes(), len(h.view.catalog)
	h.mu.Unlock()
	c := censusOf(sites)
	for at, n := range c.sites {
		send(sitesGauge, n, string(at.standing), string(at.freshness))
	}
	for at, n := range c.phases {
		send(phasesGauge, n, string(at.phase), string(at.freshness))
	}
	for freshness, n := range c.drift {
		send(driftGauge, n, string(freshness))
	}
	send(alarmsGauge, c.alarmed)
	send(throttledGauge, c.throttled)
	send(holesGauge, holes)
	send(droppedGauge, int(min(c.dropped, fleetsync.MaxSequence)))
	send(trafficGauge, int(c.in), "in")
	send(trafficGauge, int(c.out), "out")
	send(catalogGauge, catalog)
	phases := map[rollout.Phase]int{rollout.Running: 0, rollout.Paused: 0, rollout.Aborted: 0, rollout.Completed: 0}
	for _, one := range h.rollouts.list() {
		phases[one.Phase]++
	}
	for phase, n := range phases {
		send(rolloutsGauge, n, string(phase))
	}
	warned := map[string]int{}
	for _, w := range h.concerns() {
		warned[w.part]++
	}
	for _, part := range warningParts {
		send(warningsGauge, warned[part], part)
	}
	if h.connections != nil {
		send(busGauge, h.connections())
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTime)
	defer cancel()
	if last, err := h.store.Get(ctx, auditSubject); err == nil {
		send(auditGauge, int(last.Sequence))
	}
	send(writableGauge, truth(h.pulse.trouble() == nil))
	send(readyGauge, truth(len(h.troubles(ctx)) == 0))
	send(heartBeatGauge, int(h.cfg.HeartBeat.Seconds()))
}

func truth(is bool) int {
	if is {
		return 1
	}
	return 0
}

// census counts a fleet. Every count that can be is there, also where it is zero, so that an alert on it never looks at nothing.
type census struct {
	sites     map[stand]int
	phases    map[phaseAt]int
	drift     map[api.Freshness]int
	alarmed   int
	throttled int
	dropped   uint64
	in, out   uint64
}

type stand struct {
	standing  api.Standing
	freshness api.Freshness
}

type phaseAt struct {
	phase     fleetsync.Phase
	freshness api.Freshness
}

var freshnesses = []api.Freshness{api.Fresh, api.Stale, api.Unknown}

func censusOf(sites []api.Site) census {
	c := census{map[stand]int{}, map[phaseAt]int{}, map[api.Freshness]int{api.Fresh: 0, api.Stale: 0}, 0, 0, 0, 0, 0}
	for _, standing := range api.Standings {
		for _, freshness := range freshnesses {
			c.sites[stand{standing, freshness}] = 0
		}
	}
	for _, phase := range fleetsync.Phases {
		c.phases[phaseAt{phase, api.Fresh}], c.phases[phaseAt{phase, api.Stale}] = 0, 0
	}
	for _, site := range sites {
		standing, _ := site.Standing()
		c.sites[stand{standing, site.Freshness}]++
		if site.Throttled != nil {
			c.throttled++
		}
		if len(site.Alarms) > 0 {
			c.alarmed++
		}
		if site.State == nil {
			continue
		}
		c.in += min(site.State.Traffic.In, fleetsync.MaxSequence)
		c.out += min(site.State.Traffic.Out, fleetsync.MaxSequence)
		c.dropped += min(site.State.Outbox.Dropped, fleetsync.MaxSequence)
		for _, b := range site.State.Bundles {
			at := phaseAt{b.Phase, site.Freshness}
			if _, known := c.phases[at]; !known {
				at.phase = "unknown" // a site says what it likes
			}
			c.phases[at]++
			c.drift[site.Freshness] += max(0, b.DriftCount)
		}
	}
	return c
}
