package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Metrics is what the site's own Prometheus may read of the agent. No label is a name or a message (T28). A nil one counts nothing.
type Metrics struct {
	registry *prometheus.Registry
	dir      string
	events   *prometheus.CounterVec // kind
	applies  *prometheus.HistogramVec

	mu    sync.Mutex // guards what is below
	up    bool
	state *fleetsync.State // the newest; nil: the agent has not begun
}

var (
	linkGauge      = edgeGauge("link_up", "1 while the link to the hub is up.")
	clusterGauge   = edgeGauge("cluster_reachable", "1 while the site's API server answers.")
	storeGauge     = edgeGauge("store_well", "0 while something is wrong with the store.")
	freeGauge      = edgeGauge("store_free_bytes", "What may still be written to the disk of the store.")
	bundlesGauge   = edgeGauge("bundles", "Bundles by phase.", "phase")
	driftGauge     = edgeGauge("drift_objects", "Objects that differ from what was applied and are not corrected.")
	correctedGauge = edgeGauge("drift_corrected", "Corrections since the bundles came.")
	outboxGauge    = edgeGauge("outbox_events", "Events that the hub has not acknowledged.")
	lineGauge      = edgeGauge("line_bytes", "Bytes on the line to the hub since the agent started, TLS with them: in is from the hub.", "direction")
	droppedGauge   = edgeGauge("outbox_dropped", "Events of this epoch that were dropped, each covered by a gap event.")
)

func edgeGauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_edge_"+name, help, labels, nil)
}

// NewMetrics counts for the agent whose store is in dir.
func NewMetrics(dir string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), dir: dir}
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_edge_events_total", Help: "Events recorded since the agent started; DriftFound, DriftCorrected and Applied among them."}, []string{"kind"})
	m.applies = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "holdfast_edge_run_seconds", Help: "Time an apply or a removal took, by its outcome.", Buckets: []float64{.1, .3, 1, 3, 10, 30, 100, 300},
	}, []string{"outcome"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_edge_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": buildinfo.Version()}})
	build.Set(1)
	for _, kind := range []fleetsync.EventKind{fleetsync.EventDriftFound, fleetsync.EventDriftCorrected, fleetsync.EventApplied, fleetsync.EventApplyFailed} {
		m.events.WithLabelValues(string(kind))
	}
	m.registry.MustRegister(m.events, m.applies, build, m)
	return m
}

// Describe is of prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linkGauge, clusterGauge, storeGauge, freeGauge, bundlesGauge, driftGauge, correctedGauge, outboxGauge, droppedGauge, lineGauge} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if free, err := store.FreeBytes(m.dir); err == nil {
		send(freeGauge, float64(free))
	}
	m.mu.Lock()
	up, state := m.up, m.state
	m.mu.Unlock()
	send(linkGauge, truth(up))
	if state == nil {
		return
	}
	phases, drift, corrected := map[fleetsync.Phase]int{}, 0, uint64(0)
	for _, b := range state.Bundles {
		phases[b.Phase]++
		drift += b.DriftCount
		corrected += b.Corrected
	}
	for _, phase := range fleetsync.Phases {
		send(bundlesGauge, float64(phases[phase]), string(phase))
	}
	send(clusterGauge, truth(state.Cluster.Reachable))
	send(storeGauge, truth(state.Store == ""))
	send(driftGauge, float64(drift))
	send(correctedGauge, float64(corrected))
	send(outboxGauge, float64(state.Outbox.Next-1-min(state.Outbox.Next-1, state.Outbox.Acked)))
	send(droppedGauge, float64(state.Outbox.Dropped))
	send(lineGauge, float64(state.Traffic.In), "in")
	send(lineGauge, float64(state.Traffic.Out), "out")
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (m *Metrics) link(up bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up = up
}

// see takes what is true now; measure adds to it what the core does not know.
func (m *Metrics) see(core *fleetsync.Edge, measure func(*fleetsync.State)) {
	if m == nil {
		return
	}
	state := core.Snapshot(time.Now())
	measure(&state)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = &state
}

func (m *Metrics) told(kind fleetsync.EventKind) {
	if m != nil {
		m.events.WithLabelValues(string(kind)).Inc()
	}
}

// timed are workloads whose runs are measured.
type timed struct {
	Workloads
	metrics *Metrics
}

func (t timed) Run(ctx context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran)) {
	begun := time.Now()
	t.Workloads.Run(ctx, run, load, func(ran fleetsync.Ran) {
		t.metrics.applies.WithLabelValues(string(ran.Outcome)).Observe(time.Since(begun).Seconds())
		tell(ran)
	})
}

// measured are the workloads, measured where there is something to measure with.
func (m *Metrics) measured(w Workloads) Workloads {
	if m == nil {
		return w
	}
	return timed{w, m}
}

// serve answers at the address until stop is called: /metrics, and /healthz for a probe. It is plain HTTP, tells no names and takes nothing, and
// belongs on a loopback or pod address.
func (m *Metrics) serve(address string) (at string, stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, hinted{fmt.Errorf("metrics: listen %s: %w", address, err), "--metrics-listen wants host:port with a host of this machine, for example 127.0.0.1:9464"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			// The agent keeps the site without it; the scraper notices.
			listener.Close()
		}
	}()
	return listener.Addr().String(), func() {
		server.Close()
		<-ended
	}, nil
}
