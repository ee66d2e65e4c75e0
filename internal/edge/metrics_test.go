package edge

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/metricstest"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

type oneRun struct{ Workloads }

func (oneRun) Run(_ context.Context, _ fleetsync.Run, _ func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran)) {
	tell(fleetsync.Ran{Outcome: fleetsync.OutcomeRejected})
}

func TestT28_TheAgentsMetricsTellNoNames(t *testing.T) {
	m := NewMetrics(t.TempDir())
	at, stop, err := m.serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	read := func(path string) (int, string) {
		response, err := http.Get("http://" + at + path)
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
	if status, body := read("/metrics"); status != 200 || !strings.Contains(body, "holdfast_edge_link_up 0") || !strings.Contains(body, "holdfast_edge_store_free_bytes ") {
		t.Errorf("before the agent begins: %d %s", status, body)
	}
	m.link(true)
	m.told(fleetsync.EventDriftCorrected)
	m.measured(oneRun{}).Run(t.Context(), fleetsync.Run{}, nil, func(fleetsync.Ran) {})
	m.state = &fleetsync.State{
		Site: "secret-site", Store: "storageDegraded: secret", Cluster: fleetsync.ClusterStatus{Reachable: true, Message: "secret"}, Outbox: fleetsync.OutboxStatus{Next: 8, Acked: 3, Dropped: 2},
		Bundles: []fleetsync.BundleStatus{{Name: "secret-a", Phase: fleetsync.PhaseCurrent, Corrected: 4, Message: "secret"}, {Name: "secret-b", Phase: fleetsync.PhaseFailed, DriftCount: 3}},
	}
	_, body := read("/metrics")
	for _, want := range []string{
		"holdfast_edge_link_up 1", "holdfast_edge_cluster_reachable 1", "holdfast_edge_store_well 0", `holdfast_edge_bundles{phase="Current"} 1`, `holdfast_edge_bundles{phase="Failed"} 1`,
		`holdfast_edge_bundles{phase="Refused"} 0`, "holdfast_edge_drift_objects 3", "holdfast_edge_drift_corrected 4", "holdfast_edge_outbox_events 4", "holdfast_edge_outbox_dropped 2",
		`holdfast_edge_events_total{kind="DriftCorrected"} 1`, `holdfast_edge_run_seconds_count{outcome="` + string(fleetsync.OutcomeRejected) + `"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no line %q in\n%s", want, body)
		}
	}
	if strings.Contains(body, "secret") {
		t.Errorf("it tells a name:\n%s", body)
	}
	if status, _ := read("/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if status, _ := read("/"); status != 404 {
		t.Errorf("/: %d", status)
	}
	if _, _, err := m.serve(at); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("a port that is taken: %v", err)
	}
	var none *Metrics
	none.link(true)
	none.told(fleetsync.EventGap)
	none.see(nil, nil)
	if w := none.measured(oneRun{}); w != (oneRun{}) {
		t.Errorf("measured with nothing: %v", w)
	}
}

func TestMonitoringNamesWhatIsExported(t *testing.T) {
	metricstest.Monitoring(t, NewMetrics(t.TempDir()).registry, "holdfast_edge_", filepath.Join("..", ".."))
}
