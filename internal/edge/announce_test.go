package edge

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Nothing waits for a cluster that does not take its Events, and a flood of them is cut.
func TestT28_AClusterIsToldOfAFewEventsAndNothingWaits(t *testing.T) {
	a := newAnnouncer()
	for range 10 * announceBurst {
		a.tell(fleetsync.Event{Kind: fleetsync.EventDriftCorrected}) // nobody takes them
	}
	a.tell(fleetsync.Event{Kind: fleetsync.EventLinkUp})
	if len(a.events) != announceBurst {
		t.Errorf("%d are kept, want %d", len(a.events), announceBurst)
	}
	(*announcer)(nil).tell(fleetsync.Event{Kind: fleetsync.EventApplied})

	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan kube.Event)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.run(ctx, "shop-1", kube.Event{Namespace: "n", Deployment: "d"}, func(_ context.Context, e kube.Event) error {
			written <- e
			return context.DeadlineExceeded // the next is written all the same
		}, zap.NewNop())
	}()
	for range announceBurst {
		if e := <-written; e.Namespace != "n" || e.Deployment != "d" || e.By != "shop-1" || e.Reason != "DriftCorrected" || e.Warning {
			t.Errorf("%+v", e)
		}
	}
	cancel()
	<-done
}

func TestEventsAsKubernetesHasThem(t *testing.T) {
	for want, ev := range map[string]fleetsync.Event{
		"shop@1.1.0: 17 of 17 objects changed":                  {Kind: fleetsync.EventApplied, Bundle: "shop", Version: "1.1.0", Message: "17 of 17 objects changed"},
		"shop: apps/v1/Deployment/shop/till: /spec/replicas":    {Kind: fleetsync.EventDriftFound, Bundle: "shop", Object: "apps/v1/Deployment/shop/till", Paths: []string{"/spec/replicas"}},
		"shop@1.1.0: Unhealthy: the till does not become ready": {Kind: fleetsync.EventReverting, Bundle: "shop", Version: "1.1.0", Reason: "Unhealthy", Message: "the till does not become ready"},
	} {
		if got := eventOf(ev, "shop-1", kube.Event{}); got.Note != want || got.Warning != (ev.Kind != fleetsync.EventApplied) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

// announces has the agent's own account write an Event that the API server believes.
func (x *installation) announces() {
	x.t.Helper()
	conn, err := kube.Connect(x.agent)
	if err != nil {
		x.t.Fatal(err)
	}
	e := eventOf(fleetsync.Event{Kind: fleetsync.EventReverted, Bundle: "shop", Version: "1.1.0", Message: strings.Repeat("é", 2000)}, "shop-1", kube.Event{Namespace: "holdfast-system", Deployment: "holdfast-edge"})
	if err := conn.CreateEvent(x.t.Context(), e); err != nil {
		x.t.Fatal(err)
	}
	list, err := x.hands.EventsV1().Events("holdfast-system").List(x.t.Context(), metav1.ListOptions{FieldSelector: "reason=Reverted"})
	if err != nil || len(list.Items) != 1 {
		x.t.Fatalf("%d events, %v", len(list.Items), err)
	}
	got := list.Items[0]
	if got.Type != "Warning" || got.Regarding.Name != "holdfast-edge" || got.Regarding.Kind != "Deployment" || !strings.HasPrefix(got.Note, "shop@1.1.0: é") || got.ReportingInstance != "shop-1" ||
		time.Since(got.EventTime.Time) > time.Hour {
		x.t.Errorf("the event is %+v", got)
	}
	e.Namespace = "shop"
	if err := conn.CreateEvent(x.t.Context(), e); err == nil {
		x.t.Error("the agent may write Events in another namespace")
	}
}
