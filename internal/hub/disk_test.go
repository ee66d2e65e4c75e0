package hub

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/disktest"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestF10_WhatWasAcknowledgedOutlastsAPowerCut cuts the power under a hub that takes events. Everything a site was told is on the disk, is.
func TestF10_WhatWasAcknowledgedOutlastsAPowerCut(t *testing.T) {
	d := disktest.New(t, 200)
	cfg := configOf(t, filepath.Join(d.Dir, "hub"))
	cfg.ListenNATS = freePort(t)
	h := startHub(t, cfg)
	site := addSite(t, clientOf(t, h), "shop-1", nil)
	acknowledged, told := uint64(0), uint64(0)
	for round := range 3 {
		for n := range uint64(20 + 7*round) {
			next := acknowledged + 1
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := site.link.Report(ctx, fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", next, next), site.key))
			cancel()
			if err != nil {
				t.Logf("round %d: event %d is not taken: %v", round, next, err)
				break
			}
			acknowledged = next
			if n == uint64(15+5*round) {
				told = max(told, site.acked())
				d.CutPower(t)
			}
		}
		h.Close()
		d.Remount(t)
		h = startHub(t, cfg)
		site.await(fleetsync.LinkUp)
		h.mu.Lock()
		ack, _ := h.view.Ack("shop-1")
		h.mu.Unlock()
		if ack.Upto < acknowledged || ack.Upto < told {
			t.Fatalf("round %d: the site was told that event %d is stored and %d is safe, the hub has them up to %d", round, acknowledged, told, ack.Upto)
		}
		acknowledged = ack.Upto
		if red := h.troubles(t.Context()); len(red) > 0 {
			t.Errorf("round %d: the hub says %q", round, red)
		}
	}
}

// TestF12_AFullDiskIsRedAndPasses fills the disk of a hub.
func TestF12_AFullDiskIsRedAndPasses(t *testing.T) {
	d := disktest.New(t, 64)
	cfg := configOf(t, filepath.Join(d.Dir, "hub"))
	cfg.ListenNATS = freePort(t)
	h := startHub(t, cfg)
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	report := func(n uint64) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return site.link.Report(ctx, fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", n, n), site.key))
	}
	if err := report(1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an event is acknowledged", func() bool { return site.acked() == 1 })
	filler := d.Fill(t)
	next := uint64(2)
	for ; next < 2000; next++ { // what was allocated before may take some more
		if err := report(next); err != nil {
			t.Logf("event %d is refused: %v", next, err)
			break
		}
	}
	if next == 2000 {
		t.Fatal("a full disk takes everything")
	}
	if acked := site.acked(); acked >= next {
		t.Errorf("event %d was refused and %d is acknowledged", next, acked)
	}
	eventually(t, "the hub is red", func() bool { return len(h.troubles(t.Context())) > 0 })
	t.Logf("red: %q", h.troubles(t.Context()))
	if _, err := h.Push(t.Context(), releaseOf(t, "1.0.0", 1, ours()).bytes(t)); err == nil {
		t.Error("a push is taken with a full disk")
	} else {
		t.Logf("push: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the site's next event is taken", func() bool { return report(next) == nil })
	eventually(t, "all is acknowledged", func() bool { return site.acked() == next })
	eventually(t, "the hub is well", func() bool { return len(h.troubles(t.Context())) == 0 })
}
