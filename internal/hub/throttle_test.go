package hub

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestT28_ASiteThatFloodsIsTheOnlyOneThatWaits has one site send all it can, heartbeats and then events, on a real bus. The other one's events are acknowledged
// meanwhile, and of the flood nothing is lost that was an event.
func TestT28_ASiteThatFloodsIsTheOnlyOneThatWaits(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	cfg.ListenNATS = freePort(t)
	cfg.Allowance = fleetsync.Allowance{Messages: 100, MessagesAtOnce: 60, Bytes: 1 << 20, BytesAtOnce: 16 << 20}
	h := startHub(t, cfg)
	client := clientOf(t, h)
	wild, calm := addSite(t, client, "wild", nil), addSite(t, client, "calm", nil)

	var was, is runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&was)
	hello, err := fleetsync.Seal(fleetsync.TypeHello, fleetsync.Hello{Site: wild.id, Epoch: "a", Nonce: strings.Repeat("n", fleetsync.NonceSize)}, wild.key)
	if err != nil {
		t.Fatal(err)
	}
	var seen *fleetsync.Throttle
	for sent := 0; sent < 100_000 || seen == nil; sent++ {
		if wild.link.Hello(t.Context(), fleetsync.HelloSubject(wild.id), hello) != nil {
			runtime.Gosched() // shut out: the link tries again by itself
		}
		if sent%1000 == 0 && seen == nil {
			shown := siteAsShown(t, client, wild.id)
			if seen = shown.Throttled; seen != nil && !slices.ContainsFunc(shown.Alarms, func(alarm string) bool { return strings.HasPrefix(alarm, "throttled since") }) {
				t.Errorf("alarms %q", shown.Alarms)
			}
		}
		if sent > 5_000_000 {
			t.Fatal("nobody throttles it")
		}
	}
	if !strings.HasPrefix(seen.Why, "more than 60 messages at once") || !seen.Until.After(seen.Since) {
		t.Errorf("%+v", seen)
	}
	runtime.GC()
	runtime.ReadMemStats(&is)
	if grown := int64(is.HeapAlloc) - int64(was.HeapAlloc); grown > 64<<20 {
		t.Errorf("a flood of heartbeats costs %d MiB", grown>>20)
	}

	const flood = 300
	var next atomic.Uint64
	var flooding sync.WaitGroup
	ended := make(chan struct{})
	for range 8 {
		flooding.Go(func() {
			for n := next.Add(1); n <= flood; n = next.Add(1) {
				for t.Context().Err() == nil && reported(t, wild, n) != nil {
					runtime.Gosched() // as an outbox does: what was not acknowledged is sent again
				}
			}
		})
	}
	go func() {
		flooding.Wait()
		close(ended)
	}()
	var waits []time.Duration
	for going := true; going; {
		select {
		case <-ended:
			going = false
		default:
		}
		begun, n := time.Now(), uint64(len(waits)+1)
		eventually(t, "the other site's event is stored", func() bool { return reported(t, calm, n) == nil })
		eventually(t, "the other site's event is acknowledged", func() bool { return calm.acked() >= n })
		waits = append(waits, time.Since(begun))
		if shown := siteAsShown(t, client, calm.id); shown.Throttled != nil {
			t.Fatalf("the other site is throttled: %+v", shown.Throttled)
		}
		// So slow that the other site stays within its own allowance.
		eventually(t, "a pause", func() bool { return time.Since(begun) > 40*time.Millisecond })
	}
	eventually(t, "all of the flood is acknowledged", func() bool { return wild.acked() == flood })
	eventually(t, "the site is like any other again", func() bool { return siteAsShown(t, client, wild.id).Throttled == nil })
	slices.Sort(waits)
	t.Logf("%d events of the other site meanwhile, acknowledged within %s (median %s)", len(waits), waits[len(waits)-1], waits[len(waits)/2])
}

// reported sends one event of a site, once.
func reported(t *testing.T, s *fakeSite, n uint64) error {
	sealed, err := fleetsync.Seal(fleetsync.TypeEvents, batch(s.id, "a", n, n), s.key)
	if err != nil {
		t.Error(err)
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.link.Report(ctx, fleetsync.EventSubject(s.id), sealed)
}
