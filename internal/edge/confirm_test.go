package edge

import (
	"crypto/ed25519"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// answering has the desk answer nonces as the hub does, while the switch is on.
func (d *desk) answering() *atomic.Bool {
	d.t.Helper()
	on := &atomic.Bool{}
	on.Store(true)
	stop, err := d.bus.OnHello(func(site bundle.SiteID, data []byte) {
		var hello fleetsync.Hello
		if err := fleetsync.Open(fleetsync.TypeHello, data, d.site.Public().(ed25519.PublicKey), &hello); err != nil || hello.Nonce == "" || !on.Load() {
			return
		}
		d.mu.Lock()
		f := fleetsync.Fresh{Site: site, Nonce: hello.Nonce, Time: time.Now(), Assignment: d.sequence}
		if d.echoes && hello.Note < fleetsync.NoteNumber(d.note) {
			f.Note = d.note
		}
		d.mu.Unlock()
		// Not from within the site's own call: the bus delivers a hello before it returns.
		go func() { _ = d.bus.Answer(site, d.seal(fleetsync.TypeFresh, f)) }()
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(stop)
	return on
}

// TestR14_WhatMayCutTheLinkIsConfirmedOrTakenBack runs the whole agent: a version whose apply leaves the hub reachable is current, one after which
// the hub is silent is taken back, once.
func TestR14_WhatMayCutTheLinkIsConfirmedOrTakenBack(t *testing.T) {
	d := newDesk(t)
	hub := d.answering()
	newSite(d).start()
	network := func(m *bundle.Manifest) { m.Policy.AffectsConnectivity, m.Policy.ConfirmWithinSeconds = true, 2 }
	d.assign(d.publish("1.0.0", 1, []bundle.Object{configMap("a", "1")}, network))
	d.current("1.0.0")
	if confirmed := d.told(fleetsync.EventConfirmed); len(confirmed) != 1 {
		t.Errorf("%d confirmations, want 1", len(confirmed))
	}
	eventually(t, "the time is trusted", func() bool { return d.seen().Clock.Quality == fleetsync.TimeTrusted })
	hub.Store(false)
	d.assign(d.publish("1.1.0", 2, []bundle.Object{configMap("a", "2")}, network))
	eventually(t, "1.1.0 is taken back", func() bool {
		b := d.status("shop")
		return b.Phase == fleetsync.PhaseReverted && b.Current == "1.0.0" && b.Reason == "NotConfirmed"
	})
	hub.Store(true)
	d.assign(d.publish("1.2.0", 3, []bundle.Object{configMap("a", "3")}, network))
	d.current("1.2.0")
	if reverted := d.told(fleetsync.EventReverting); len(reverted) != 1 {
		t.Errorf("%d reverts, want 1", len(reverted))
	}
}
