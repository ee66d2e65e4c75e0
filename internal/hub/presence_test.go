package hub

import (
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestP08_ASiteWhoseConnectionEndsIsMissedBeforeItsHeartbeat asks the bus instead of waiting.
func TestP08_ASiteWhoseConnectionEndsIsMissedBeforeItsHeartbeat(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	cfg.HeartBeat = time.Hour
	h := startHub(t, cfg)
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), snapshot("shop-1", "a", 1))
	eventually(t, "the site is fresh", func() bool { return siteAsShown(t, client, "shop-1").Freshness == api.Fresh })
	h.notePresence()
	if shown := siteAsShown(t, client, "shop-1"); shown.Freshness != api.Fresh {
		t.Fatalf("a connected site is %s", shown.Freshness)
	}
	site.link.Close()
	eventually(t, "the site is stale", func() bool {
		h.notePresence()
		shown := siteAsShown(t, client, "shop-1")
		return shown.Freshness == api.Stale && !shown.Connected
	})
}

// TestP08_PresenceIsOfTheSiteItself is pure: that others are connected says nothing for a site, and nothing against one heard since.
func TestP08_PresenceIsOfTheSiteItself(t *testing.T) {
	site := &siteView{record: SiteRecord{Site: "shop-1", PublicKey: "UA"}, ingest: fleetsync.NewIngest("shop-1")}
	v := NewView(nil, time.Hour)
	v.sites["shop-1"] = site
	if err := site.ingest.Hello(fleetsync.Hello{Site: "shop-1", Epoch: "a"}, noon); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		connected map[bundle.SiteID]bool
		asOf      time.Time
		want      bool
	}{
		{map[bundle.SiteID]bool{"shop-1": true}, noon.Add(time.Minute), true},
		{map[bundle.SiteID]bool{"shop-2": true}, noon.Add(time.Minute), false},
		{nil, noon.Add(-time.Second), true}, // heard after the bus was asked
	} {
		v.Present(try.connected, try.asOf)
		if got := site.connected(noon.Add(2*time.Minute), time.Hour); got != try.want {
			t.Errorf("%v connected as of %s: %v", try.connected, try.asOf, got)
		}
	}
}
