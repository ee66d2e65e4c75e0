package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func batch(site bundle.SiteID, epoch string, from, to uint64) fleetsync.EventBatch {
	b := fleetsync.EventBatch{Site: site, Epoch: epoch}
	for s := from; s <= to; s++ {
		b.Events = append(b.Events, fleetsync.Event{Sequence: s, At: noon, Kind: fleetsync.EventHealthy, Bundle: "shop"})
	}
	return b
}

func snapshot(site bundle.SiteID, epoch string, sequence uint64) fleetsync.State {
	return fleetsync.State{Site: site, Epoch: epoch, Sequence: sequence, At: noon, Bundles: []fleetsync.BundleStatus{{Name: "shop", Phase: fleetsync.PhaseCurrent}}}
}

func siteAsShown(t *testing.T, client *api.Client, id bundle.SiteID) api.Site {
	t.Helper()
	site, err := client.Site(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return site
}

func TestP08_RestartedHubShowsTheSameView(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client, ctx := clientOf(t, h), context.Background()
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", map[string]string{"region": "eu"})
	addSite(t, client, "shop-2", nil) // never heard from
	assign(t, client, api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), snapshot("shop-1", "a", 1))
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 3))
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 6, 7)) // 4 and 5 are missing
	eventually(t, "both batches and the snapshot are folded", func() bool {
		shown := siteAsShown(t, client, "shop-1")
		return shown.State != nil && shown.Events.Upto == 3 && len(shown.Alarms) == 1
	})
	view := func(client *api.Client) string {
		sites, err := client.Sites(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		bundles, err := client.Bundles(ctx)
		if err != nil {
			t.Fatal(err)
		}
		events, err := client.Events(ctx, api.EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.MarshalIndent([]any{sites, bundles, events}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	before := view(client)
	h.Close()

	again := startHub(t, configOf(t, dir))
	if after := view(clientOf(t, again)); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestP04_EventsAreAcknowledgedOnceTheyAreSafe(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client, ctx := clientOf(t, h), context.Background()
	site := addSite(t, client, "shop-1", nil)
	subject := fleetsync.EventSubject("shop-1")
	site.report(fleetsync.TypeEvents, subject, batch("shop-1", "a", 1, 3))
	eventually(t, "3 is acknowledged", func() bool { return site.acked() == 3 })
	site.await(fleetsync.LinkPoke)
	site.report(fleetsync.TypeEvents, subject, batch("shop-1", "a", 6, 6))
	site.report(fleetsync.TypeEvents, subject, batch("shop-1", "a", 2, 4)) // 2 and 3 again
	eventually(t, "4 is acknowledged", func() bool { return site.acked() == 4 })
	site.report(fleetsync.TypeEvents, subject, batch("shop-1", "a", 5, 5))
	eventually(t, "6 is acknowledged, as the hole is filled", func() bool { return site.acked() == 6 })
	events, err := client.Events(ctx, api.EventQuery{Site: "shop-1"})
	if err != nil {
		t.Fatal(err)
	}
	var sequences []uint64
	for _, event := range events {
		sequences = append(sequences, event.Sequence)
		if event.Received.IsZero() || event.Epoch != "a" || event.Site != "shop-1" {
			t.Errorf("event %+v", event)
		}
	}
	if want := []uint64{1, 2, 3, 4, 5, 6}; !slices.Equal(sequences, want) {
		t.Errorf("events %v, want %v, each once and in order", sequences, want)
	}
	if events, err = client.Events(ctx, api.EventQuery{Limit: 2}); err != nil || len(events) != 2 || events[1].Sequence != 6 {
		t.Errorf("the newest two: %+v, %v", events, err)
	}
	if events, err = client.Events(ctx, api.EventQuery{Since: time.Now().Add(time.Hour)}); err != nil || len(events) != 0 {
		t.Errorf("of the future: %+v, %v", events, err)
	}
	// F9: the hub goes down before it could tell; after its start it tells.
	if err := h.pulse.Store.(interface {
		Delete(context.Context, string, string) error
	}).Delete(ctx, "ACKS", fleetsync.AckSubject("shop-1")); err != nil {
		t.Fatal(err)
	}
	h.Close()
	cfg := configOf(t, dir)
	cfg.ListenNATS = strings.TrimPrefix(h.Servers()[0], "tls://")
	startHub(t, cfg)
	eventually(t, "6 is acknowledged after the restart", func() bool { return site.acked() == 6 })
}

// Even the bus itself cannot make the hub believe a report: here the test writes with the hub's own rights.
func TestT18_ForgedAndReplayedReportsOnTheBus(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	site, other := addSite(t, client, "shop-1", nil), addSite(t, client, "shop-2", nil)
	stateSubject, eventSubject := fleetsync.StateSubject("shop-1"), fleetsync.EventSubject("shop-1")
	old := sealed(t, fleetsync.TypeState, snapshot("shop-1", "a", 4), site.key)
	site.report(fleetsync.TypeState, stateSubject, snapshot("shop-1", "a", 5))
	site.report(fleetsync.TypeEvents, eventSubject, batch("shop-1", "a", 1, 2))
	eventually(t, "the site's own reports are shown", func() bool {
		shown := siteAsShown(t, client, "shop-1")
		return shown.State != nil && shown.Events.Upto == 2
	})
	for i, forged := range []struct {
		subject string
		data    []byte
	}{
		{stateSubject, sealed(t, fleetsync.TypeState, snapshot("shop-1", "a", 9), other.key)},
		{stateSubject, sealed(t, fleetsync.TypeState, snapshot("shop-2", "a", 9), other.key)},
		{stateSubject, old},
		{eventSubject, sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", 3, 4), other.key)},
		{eventSubject, sealed(t, fleetsync.TypeEvents, batch("shop-2", "a", 3, 4), other.key)},
		{eventSubject, []byte("garbage")},
	} {
		if _, err := h.store.Put(ctx, forged.subject, forged.data); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the forgery is counted", func() bool {
			shown := siteAsShown(t, client, "shop-1")
			return len(shown.Alarms) == 1 && strings.HasPrefix(shown.Alarms[0], fmt.Sprintf("refused messages: %d,", i+1))
		})
	}
	shown := siteAsShown(t, client, "shop-1")
	if shown.State.Sequence != 5 || shown.Events.Upto != 2 {
		t.Errorf("the hub shows snapshot %d and events up to %d, want 5 and 2", shown.State.Sequence, shown.Events.Upto)
	}
	if events, err := client.Events(ctx, api.EventQuery{Site: "shop-1"}); err != nil || len(events) != 2 {
		t.Errorf("events %+v, %v; want the site's own two", events, err)
	}
	// A repeated report of the site itself is no forgery.
	site.report(fleetsync.TypeEvents, eventSubject, batch("shop-1", "a", 1, 3))
	eventually(t, "the site goes on", func() bool { return siteAsShown(t, client, "shop-1").Events.Upto == 3 })
}

func TestP08_HeartbeatsKeepASiteFresh(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	if shown := siteAsShown(t, client, "shop-1"); shown.Freshness != api.Unknown || shown.LastSeen != nil {
		t.Errorf("before a word: %s", shown.Freshness)
	}
	hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: noon}
	if err := site.link.Hello(context.Background(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, site.key)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the site is fresh", func() bool { return siteAsShown(t, client, "shop-1").Freshness == api.Fresh })
	h.mu.Lock()
	stale, _ := h.view.Site(time.Now().Add(3*time.Minute), "shop-1")
	h.mu.Unlock()
	if stale.Freshness != api.Stale || stale.Connected {
		t.Errorf("three minutes later: %s, connected %v", stale.Freshness, stale.Connected)
	}
}
