package membus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestBus(t *testing.T) {
	bustest.Run(t, func(*testing.T) bustest.World {
		b := membus.New(nil)
		return bustest.World{Hub: b, Cut: b.Cut, Mend: b.Mend,
			Link: func(_ *testing.T, site bundle.SiteID) fleetsync.Link { return b.Link(site) }}
	})
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome membus.Outcome
		want    error
		stored  int
	}{
		{"pass", membus.Pass, nil, 1},
		{"lose", membus.Lose, context.DeadlineExceeded, 0},
		{"lose the answer", membus.LoseAnswer, context.DeadlineExceeded, 1},
		{"twice", membus.Twice, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := membus.New(nil)
			l := b.Link("shop-1")
			defer l.Close()
			b.Fault(func(call membus.Call) membus.Outcome {
				if call.Op != membus.OpReport || call.Site != "shop-1" {
					t.Errorf("call %+v", call)
				}
				return c.outcome
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := l.Report(ctx, fleetsync.EventSubject("shop-1"), []byte("x")); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			n := 0
			if err := b.Each(t.Context(), stream.Events, "", 0, func(stream.Message) error { n++; return nil }); err != nil || n != c.stored {
				t.Errorf("%d stored, %v, want %d", n, err, c.stored)
			}
		})
	}
}

func TestCutFailsWhatWaits(t *testing.T) {
	b := membus.New(nil)
	l := b.Link("shop-1")
	defer l.Close()
	asked := make(chan struct{})
	b.Fault(func(membus.Call) membus.Outcome { close(asked); return membus.LoseAnswer })
	done := make(chan error, 1)
	go func() { done <- l.Report(t.Context(), fleetsync.EventSubject("shop-1"), nil) }()
	<-asked
	b.Cut("shop-1")
	if err := <-done; !errors.Is(err, fleetsync.ErrNoLink) {
		t.Errorf("got %v, want %v", err, fleetsync.ErrNoLink)
	}
}
