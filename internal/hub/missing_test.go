package hub

import (
	"context"
	"reflect"
	"testing"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestF11_F16_AHubAsksForWhatItMisses is about a hub that was put back to before it heard of the site's epoch.
func TestF11_F16_AHubAsksForWhatItMisses(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	state := snapshot("shop-1", "a", 7)
	state.Outbox = fleetsync.OutboxStatus{Next: 11, Acked: 10}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	asked := func(want ...fleetsync.Range) func() bool {
		return func() bool { return reflect.DeepEqual(site.ack().Missing, want) }
	}
	eventually(t, "all that the site was told is safe is asked for", asked(fleetsync.Range{From: 1, To: 10}))
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 5, 10))
	eventually(t, "the rest is asked for", asked(fleetsync.Range{From: 1, To: 4}))
	gap := fleetsync.EventBatch{Site: "shop-1", Epoch: "a", Events: []fleetsync.Event{{Sequence: 11, Kind: fleetsync.EventGap, From: 1, To: 4, Reason: fleetsync.LostTail, Message: "no longer kept"}}}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), gap)
	eventually(t, "nothing is asked for", func() bool { ack := site.ack(); return ack.Upto == 11 && len(ack.Missing) == 0 })
}

// TestF11_AHubAsksForTheSnapshotItMisses is about a site that has no reason to send another one.
func TestF11_AHubAsksForTheSnapshotItMisses(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	for n := range behindLong {
		hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: noon.AddDate(0, 0, n), State: 7}
		if err := site.link.Hello(context.Background(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, site.key)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the snapshot is asked for", func() bool { return site.ack().Snapshot == 7 })
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), snapshot("shop-1", "a", 8))
	hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: noon.AddDate(0, 1, 0), State: 8}
	eventually(t, "the snapshot is there", func() bool { return siteAsShown(t, client, "shop-1").State != nil })
	if err := site.link.Hello(context.Background(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, site.key)); err != nil {
		t.Fatal(err)
	}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 1))
	eventually(t, "it is no longer asked for", func() bool { ack := site.ack(); return ack.Upto == 1 && ack.Snapshot == 0 })
}
