package hub

import (
	"context"
	"crypto/ed25519"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// heeded is one hub's line to a bus, which can be cut. It counts what the hub says to sites.
type heeded struct {
	*membus.Bus
	keys                  []ed25519.PublicKey
	cut, mute             atomic.Bool
	acks, answers, orders atomic.Int64 // orders: of the answers those that are pokes for an assignment
}

func (b *heeded) Put(ctx context.Context, subject string, data []byte) (uint64, error) {
	if b.cut.Load() {
		return 0, fleetsync.ErrNoLink
	}
	if rule, err := stream.Of(subject); err == nil && rule.Name == stream.Acks {
		b.acks.Add(1)
	}
	return b.Bus.Put(ctx, subject, data)
}

func (b *heeded) PutIf(ctx context.Context, subject string, data []byte, last uint64) (uint64, error) {
	if b.cut.Load() {
		return 0, fleetsync.ErrNoLink
	}
	return b.Bus.PutIf(ctx, subject, data, last)
}

func (b *heeded) Get(ctx context.Context, subject string) (stream.Message, error) {
	if b.cut.Load() {
		return stream.Message{}, fleetsync.ErrNoLink
	}
	return b.Bus.Get(ctx, subject)
}

func (b *heeded) Answer(site bundle.SiteID, statement []byte) error {
	if b.cut.Load() || b.mute.Load() {
		return fleetsync.ErrNoLink
	}
	var f fleetsync.Fresh
	if err := fleetsync.OpenBy(fleetsync.TypeFresh, statement, b.keys, &f); err != nil {
		return err
	}
	if f.Assignment > 0 && f.Nonce == "" {
		b.orders.Add(1)
	}
	b.answers.Add(1)
	return b.Bus.Answer(site, statement)
}

// Of three hubs on a bus one acknowledges events and answers hellos. When it dies, what it left unsaid is said by the one that takes over, and nothing is said
// again that was said before.
func TestF09_OneHubSpeaksToASite(t *testing.T) {
	shared := membus.New(nil)
	var lines [3]*heeded
	var hubs [3]*Hub
	first := configOf(t, t.TempDir())
	for i := range hubs {
		lines[i] = &heeded{Bus: shared}
		cfg := first
		cfg.Bus, cfg.LeaseSpan, cfg.Log = lines[i], time.Second, nil
		if i > 0 {
			cfg.DataDir = t.TempDir()
		}
		for _, key := range cfg.Online {
			lines[i].keys = append(lines[i].keys, key.Public().(ed25519.PublicKey))
		}
		hubs[i] = startHub(t, cfg)
	}
	leads := func(i int) bool { return hubs[i].leads() }
	eventually(t, "the first leads", func() bool { return leads(0) })
	seed, name, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(t, hubs[0]).AddSite(t.Context(), api.SiteRequest{ID: "shop-1", PublicKey: name}); err != nil {
		t.Fatal(err)
	}
	_, raw, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(raw)
	site := shared.Link("shop-1")
	defer site.Close()
	report := func(from, to uint64) {
		t.Helper()
		if err := site.Report(t.Context(), fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, batch("shop-1", "a", from, to), key)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(nonce string) {
		t.Helper()
		hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: time.Now(), Nonce: strings.Repeat(nonce, fleetsync.NonceSize)}
		if err := site.Hello(t.Context(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, key)); err != nil {
			t.Fatal(err)
		}
	}
	folded := func(i int, upto uint64) bool {
		hubs[i].mu.Lock()
		defer hubs[i].mu.Unlock()
		ack, _ := hubs[i].view.Ack("shop-1")
		return ack.Upto == upto && hubs[i].view.Told("shop-1", ack)
	}
	for i := range hubs {
		eventually(t, "every hub knows the site", func() bool {
			hubs[i].mu.Lock()
			defer hubs[i].mu.Unlock()
			_, known := hubs[i].view.Record("shop-1")
			return known
		})
	}
	report(1, 3)
	ask("a")
	for i := range hubs {
		eventually(t, "every hub has folded the events, and what the site was told of them", func() bool { return folded(i, 3) })
	}
	eventually(t, "the poke and the answer are sent", func() bool { return lines[0].answers.Load() == 2 })
	for i, line := range lines[1:] {
		if line.acks.Load() > 0 || line.answers.Load() > 0 {
			t.Errorf("hub %d, which does not lead, wrote %d acknowledgements and answered %d times", i+1, line.acks.Load(), line.answers.Load())
		}
	}
	if n := lines[0].acks.Load(); n != 1 {
		t.Errorf("the leader wrote %d acknowledgements", n)
	}

	// The hub dies between an assignment and its poke.
	lines[0].mute.Store(true)
	if _, _, err := hubs[0].reassignSite(t.Context(), "shop-1", func(current fleetsync.Assignment, record SiteRecord) (fleetsync.Assignment, bool, error) {
		return successor(current, record, []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf(nil)}}, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	lines[0].cut.Store(true)
	report(4, 6)
	ask("b")
	eventually(t, "another one leads", func() bool { return leads(1) || leads(2) })
	if leads(0) {
		t.Error("the one that was cut off thinks that it leads")
	}
	for i := range hubs {
		eventually(t, "the events are acknowledged", func() bool { return folded(i, 6) })
	}
	said := func(of func(*heeded) int64) int64 { return of(lines[1]) + of(lines[2]) }
	eventually(t, "the site is poked and answered", func() bool { return said(func(l *heeded) int64 { return l.answers.Load() }) >= 2 })
	if n := said(func(l *heeded) int64 { return l.acks.Load() }); n != 1 {
		t.Errorf("whoever took over wrote %d acknowledgements", n)
	}
	eventually(t, "the site is poked for its assignment", func() bool { return said(func(l *heeded) int64 { return l.orders.Load() }) >= 1 })
	// That poke may be lost on the way, too: each heartbeat makes another one, until the site says that it has it.
	before := said(func(l *heeded) int64 { return l.orders.Load() })
	hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: time.Now().Add(time.Second)}
	if err := site.Hello(t.Context(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, key)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a heartbeat of a site that is behind is answered", func() bool { return said(func(l *heeded) int64 { return l.orders.Load() }) > before })
}
