package bus

import (
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestF13_SitesWaitUntilTheHubIsReady: a fleet that comes back while the hub still starts is let in afterwards, without having to try again; the hub itself
// is in all the time.
func TestF13_SitesWaitUntilTheHubIsReady(t *testing.T) {
	b := newBench(t)
	o := b.options("127.0.0.1:0")
	o.Held = true
	s, err := StartServer(o)
	must(t, err)
	t.Cleanup(s.Close)
	b.server, b.url = s, s.URL()
	h := b.hub(t)
	var links []fleetsync.Link
	for _, site := range []bundle.SiteID{"shop-1", "shop-2", "shop-3"} {
		links = append(links, b.link(t, site, s.URL()))
	}
	eventually(t, "all wait", func() bool {
		v, err := s.nats.Varz(nil)
		return err == nil && v.TotalConnections >= uint64(1+len(links))
	})
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject("shop-1"), []byte("assignment")))
	for _, l := range links {
		select {
		case n := <-l.Notices():
			t.Fatalf("before the hub was ready: %+v", n)
		default:
		}
	}
	s.Admit()
	for _, l := range links {
		bustest.Await(t, l, fleetsync.LinkUp)
	}
}

// TestF13_ConnectionsGoThroughOneByOne: who comes at once is let in at a pace, and who would wait for longer than a handshake may take is turned away
// without taking a place.
func TestF13_ConnectionsGoThroughOneByOne(t *testing.T) {
	turns, now := newTurnstile(false), time.Unix(1e9, 0)
	most := int(turnPatience / turnPace)
	for i := range most + 1 {
		if wait := turns.turn(now); wait != time.Duration(i)*turnPace {
			t.Fatalf("connection %d waits %s", i, wait)
		}
	}
	for range 3 {
		if wait := turns.turn(now); wait <= turnPatience {
			t.Fatalf("one too many waits %s", wait)
		}
	}
	if wait := turns.turn(now.Add(10 * time.Second)); wait != turnPatience+turnPace-10*time.Second {
		t.Errorf("ten seconds later one waits %s", wait)
	}
	if wait := turns.turn(now.Add(time.Hour)); wait != 0 {
		t.Errorf("after a quiet hour one waits %s", wait)
	}
}

// TestF13_AHeldServerCloses: nobody waits for those who wait.
func TestF13_AHeldServerCloses(t *testing.T) {
	turns := newTurnstile(true)
	done := make(chan error, 1)
	go func() { done <- turns.pass() }()
	turns.end()
	if err := <-done; err == nil {
		t.Error("let in at the end")
	}
}
