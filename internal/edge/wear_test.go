package edge

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/store"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// A quiet day in a moment: the core of an edge with a link, its questions answered by the hub, over a real store. What it makes durable in
// twenty-four hours is counted; each commit is taken to cost a 64 KiB page of flash more than its bytes, which is more than it does.
func TestF25_AQuietDayWritesLittle(t *testing.T) {
	const page, most = 64 << 10, 50 << 20
	disk, err := store.Open(store.Options{Dir: t.TempDir(), ReserveBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	public, key, _ := ed25519.GenerateKey(nil)
	core := fleetsync.NewEdge(fleetsync.EdgeConfig{
		Site: shop1, HubKeys: []ed25519.PublicKey{public}, NewEpoch: strings.Repeat("a", 32), Seed: "seed", AskEvery: askEvery, HeartBeat: 6 * time.Minute,
	})
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	commits, bytes, hellos, answers := 0, 0, 0, 0
	var step func(in fleetsync.Input)
	var wake time.Time
	step = func(in fleetsync.Input) {
		effects, err := core.Step(now, in)
		if err != nil {
			t.Fatal(err)
		}
		if len(effects.Persist) > 0 {
			if err := disk.Commit(effects.Persist...); err != nil {
				t.Fatal(err)
			}
			commits++
			for _, r := range effects.Persist {
				bytes += len(r.Key) + len(r.Value)
			}
		}
		wake = effects.Wake
		if effects.Look {
			step(fleetsync.Looked{})
		}
		for _, s := range effects.Send {
			fresh := fleetsync.Fresh{Site: shop1, Time: now}
			switch s.Type {
			case fleetsync.TypeState:
				step(fleetsync.Sent{Type: s.Type})
				continue
			case fleetsync.TypeEvents:
				step(fleetsync.Sent{Type: s.Type, Upto: s.To})
				fresh.Ack = &fleetsync.Ack{Site: shop1, Epoch: core.Epoch(), Upto: s.To}
			case fleetsync.TypeHello:
				if hellos++; s.Hello.Nonce == "" {
					continue
				}
				answers++
				fresh.Nonce = s.Hello.Nonce
			}
			sealed, err := fleetsync.Seal(fleetsync.TypeFresh, fresh, key)
			if err != nil {
				t.Fatal(err)
			}
			step(fleetsync.Poked{Statement: sealed})
		}
	}
	step(fleetsync.Restored{})
	step(fleetsync.ClusterSeen{Reachable: true, Version: "v1.37.1"})
	step(fleetsync.LinkChanged{Up: true})
	for end := now.Add(24 * time.Hour); now.Before(end); {
		if !wake.After(now) {
			t.Fatalf("nothing is waited for at %s", now)
		}
		now = wake
		step(fleetsync.Tick{})
	}
	if hellos < 230 || answers < 25 {
		t.Fatalf("no day of a connected site: %d hellos, %d answers", hellos, answers)
	}
	if worn := bytes + commits*page; worn > most {
		t.Errorf("%d commits of %d bytes in all: %d MiB of flash, at most %d", commits, bytes, worn>>20, most>>20)
	}
	if commits > 100 {
		t.Errorf("%d commits on a day on which nothing happens", commits)
	}
}

// Ten thousand events with the longest words go out in pieces that each fit a message, no more at once than the hub has taken, and all arrive.
func TestF27_TenThousandLongWordsArriveInPieces(t *testing.T) {
	d := newDesk(t)
	s := newSite(d).start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pieces, largest := make(chan int, 10_000), 0
	go func() {
		_ = d.bus.Follow(ctx, stream.Events, 0, func(m stream.Message) error { pieces <- len(m.Data); return nil })
	}()
	for n := range 10_000 {
		s.agent.mail.put(fleetsync.ClusterSeen{Reachable: n%2 == 1, Version: "v1.37.1", Message: fmt.Sprintf("%05d %s", n, strings.Repeat("<", 4000))})
	}
	eventually(t, "every event is there", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, upto := d.ingest.Window()
		return upto >= 10_000
	})
	cancel()
	count := len(pieces)
	for range count {
		largest = max(largest, <-pieces)
	}
	if largest > fleetsync.MaxMessage || count < 50 {
		t.Errorf("%d pieces, the largest of %d bytes", count, largest)
	}
	if state := d.seen(); state.Outbox.Dropped > 0 && len(d.told(fleetsync.EventGap)) == 0 {
		t.Errorf("%d events were dropped, and nothing says so", state.Outbox.Dropped)
	}
}
