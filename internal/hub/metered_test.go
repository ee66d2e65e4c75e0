package hub

import (
	"bytes"
	"compress/flate"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestP08_AMeteredSiteIsNotSilentTooEarly: a site that says in its snapshot that it says hello more rarely counts as heard for two of its own heartbeats, at most
// for two of MaxHeartBeat, and one that says a shorter time for two of the hub's.
func TestP08_AMeteredSiteIsNotSilentTooEarly(t *testing.T) {
	for _, c := range []struct {
		seconds int
		until   time.Duration
	}{{0, 2 * time.Minute}, {300, 10 * time.Minute}, {1, 2 * time.Minute}, {-5, 2 * time.Minute}, {1 << 50, 2 * fleetsync.MaxHeartBeat}} {
		view := viewOf(t)
		state := stateAt(1)
		state.Metered, state.HeartBeat = true, c.seconds
		if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyShop), noon)); err != nil {
			t.Fatal(err)
		}
		for at, want := range map[time.Duration]api.Freshness{c.until: api.Fresh, c.until + time.Second: api.Stale} {
			if site, _ := view.Site(noon.Add(at), "shop-1"); site.Freshness != want {
				t.Errorf("every %d s, after %s: %s, want %s", c.seconds, at, site.Freshness, want)
			}
		}
	}
}

// TestP08_TheLeaderLooksAtAMeteredSiteWhenItFallsSilent, and not again and again from the time at which another one would.
func TestP08_TheLeaderLooksAtAMeteredSiteWhenItFallsSilent(t *testing.T) {
	view := viewOf(t)
	state := stateAt(1)
	state.Metered, state.HeartBeat = true, 300
	if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyShop), noon)); err != nil {
		t.Fatal(err)
	}
	if f, _ := view.Facts(noon, "shop-1", "shop", nil); f.Patience != 8*time.Minute {
		t.Errorf("the engine is patient with it for %s, want 8m", f.Patience)
	}
	s := newRollouts(&Hub{cfg: Config{HeartBeat: view.heartBeat}, view: view})
	s.watch(noon, "shop-1")
	for _, c := range []struct {
		minutes, looked int
	}{{3, 0}, {9, 0}, {11, 1}} {
		now, dirty := minute(c.minutes), map[bundle.SiteID]bool{}
		s.expire(now, dirty)
		if len(dirty) != c.looked {
			t.Errorf("after %d minutes %d sites are looked at, want %d", c.minutes, len(dirty), c.looked)
		}
		if next := s.nextExpiry(); !next.IsZero() && !next.After(now) {
			t.Errorf("after %d minutes the next look is at %s already", c.minutes, next)
		}
	}
}

// TestT28_PackedReportsAreFoldedAndBombsCounted: the view takes a packed snapshot, and refuses one that unpacks to more than a message may have, with an alarm.
func TestT28_PackedReportsAreFoldedAndBombsCounted(t *testing.T) {
	view := viewOf(t)
	packed, err := fleetsync.SealPacked(fleetsync.TypeState, stateAt(1), keyShop)
	if err != nil || !bytes.Contains(packed, []byte(fleetsync.Packed)) {
		t.Fatalf("it is not packed: %s, %v", packed, err)
	}
	if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), packed, minute(1))); err != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	w, _ := flate.NewWriter(&bomb, flate.BestCompression)
	_, _ = w.Write(bytes.Repeat([]byte(" "), 16<<20))
	_ = w.Close()
	kind := fleetsync.TypeState + "+" + fleetsync.Packed
	envelope, err := json.Marshal(fleetsync.Envelope{Type: kind, Payload: bomb.Bytes(), Signature: ed25519.Sign(keyShop, append([]byte("holdfast.dev\n"+kind+"\n"), bomb.Bytes()...))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), envelope, minute(2))); !errors.Is(err, fleetsync.ErrTooLarge) {
		t.Errorf("a bomb: %v", err)
	}
	site, _ := view.Site(minute(2), "shop-1")
	if site.State.Sequence != 1 || !strings.Contains(strings.Join(site.Alarms, "\n"), "refused messages: 1") {
		t.Errorf("snapshot %d, alarms %v", site.State.Sequence, site.Alarms)
	}
}
