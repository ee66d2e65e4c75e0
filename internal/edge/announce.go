package edge

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// What a cluster is told at most: so many Events at once, then one in ten seconds. The outbox has them all.
const (
	announceBurst     = 20
	announcePerSecond = 0.1
)

// announcer tells the cluster what happens to it, as Kubernetes Events beside the agent's Deployment, for whoever looks there and not at the hub.
// It is a courtesy: nothing waits for it, and what is too much or cannot be written is left out.
type announcer struct {
	events chan fleetsync.Event
	rate   flowcontrol.PassiveRateLimiter
}

func newAnnouncer() *announcer {
	return &announcer{events: make(chan fleetsync.Event, announceBurst), rate: flowcontrol.NewTokenBucketPassiveRateLimiter(announcePerSecond, announceBurst)}
}

// announced are the kinds that matter to who keeps the cluster, and whether they are a warning.
var announced = map[fleetsync.EventKind]bool{
	fleetsync.EventAssignRefused: true, fleetsync.EventRefused: true, fleetsync.EventApplyFailed: true, fleetsync.EventUnhealthy: true,
	fleetsync.EventReverting: true, fleetsync.EventReverted: true, fleetsync.EventPrefetchFailed: true, fleetsync.EventHalted: true,
	fleetsync.EventDriftFound: true, fleetsync.EventStoreDamaged: true, fleetsync.EventStoreDegraded: true, fleetsync.EventTrustRefused: true, fleetsync.EventCopySeen: true,
	fleetsync.EventAccepted: false, fleetsync.EventApplied: false, fleetsync.EventHealthy: false, fleetsync.EventRemoved: false, fleetsync.EventHeld: false,
	fleetsync.EventDriftCorrected: false, fleetsync.EventConfirmed: false, fleetsync.EventBusy: false, fleetsync.EventBusyEnded: false,
	fleetsync.EventOverride: false, fleetsync.EventOverrideEnded: false, fleetsync.EventOverwritten: true, fleetsync.EventStoreRecovered: false,
}

// tell never blocks. A nil announcer tells nobody.
func (a *announcer) tell(ev fleetsync.Event) {
	if a == nil {
		return
	}
	if _, is := announced[ev.Kind]; !is || !a.rate.TryAccept() {
		return
	}
	select {
	case a.events <- ev:
	default:
	}
}

// run writes what is told until ctx ends.
func (a *announcer) run(ctx context.Context, site bundle.SiteID, deployment kube.Event, write func(context.Context, kube.Event) error, log *zap.Logger) {
	for {
		select {
		case ev := <-a.events:
			if err := write(ctx, eventOf(ev, site, deployment)); err != nil && ctx.Err() == nil {
				log.Debug("no Kubernetes Event was written", zap.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// eventOf is an event as Kubernetes has them.
func eventOf(ev fleetsync.Event, site bundle.SiteID, e kube.Event) kube.Event {
	var note []string
	if ev.Bundle != "" {
		note = append(note, strings.TrimSuffix(string(ev.Bundle)+"@"+string(ev.Version), "@"))
	}
	for _, part := range append([]string{ev.Object, ev.Reason, ev.Message}, ev.Paths...) {
		if part != "" {
			note = append(note, part)
		}
	}
	e.Reason, e.Note, e.Warning, e.At, e.By = string(ev.Kind), strings.Join(note, ": "), announced[ev.Kind], time.Now(), string(site)
	return e
}
