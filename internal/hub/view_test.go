package hub

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var (
	noon    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	keyHub  = keyOf("hub")
	keyShop = keyOf("shop-1")
	keyEvil = keyOf("evil")
	digest1 = bundle.DigestOf([]byte("manifest 1"))
)

func keyOf(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(bundle.DigestOf([]byte(name)).Hex()[:ed25519.SeedSize]))
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func received(subject string, data []byte, at time.Time) stream.Message {
	return stream.Message{Subject: subject, Data: data, Time: at}
}

func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func sealed(t interface{ Fatal(...any) }, kind string, payload any, key ed25519.PrivateKey) []byte {
	data, err := fleetsync.Seal(kind, payload, key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func recordOf(t interface{ Fatal(...any) }, site bundle.SiteID, key ed25519.PrivateKey) stream.Message {
	data, err := json.Marshal(SiteRecord{Site: site, Labels: map[string]string{"region": "eu"}, Key: public(key), Added: noon})
	if err != nil {
		t.Fatal(err)
	}
	return received(SiteSubject(site), data, noon)
}

func stateAt(sequence uint64) fleetsync.State {
	return fleetsync.State{Site: "shop-1", Epoch: "a", Sequence: sequence, At: noon, Assignment: 1,
		Bundles: []fleetsync.BundleStatus{{Name: "shop", CurrentDigest: digest1, Phase: fleetsync.PhaseCurrent}}}
}

func eventsOf(sequences ...uint64) fleetsync.EventBatch {
	batch := fleetsync.EventBatch{Site: "shop-1", Epoch: "a"}
	for _, s := range sequences {
		batch.Events = append(batch.Events, fleetsync.Event{Sequence: s, Kind: fleetsync.EventHealthy})
	}
	return batch
}

func desiredAt(sequence uint64) fleetsync.Assignment {
	return fleetsync.Assignment{Site: "shop-1", Sequence: sequence, Bundles: []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: digest1}}}
}

// viewOf folds site shop-1 and what else is given.
func viewOf(t *testing.T, messages ...stream.Message) *View {
	t.Helper()
	view := NewView([]ed25519.PublicKey{public(keyHub)}, time.Minute)
	for _, m := range append([]stream.Message{recordOf(t, "shop-1", keyShop)}, messages...) {
		if _, err := view.Fold(m); err != nil {
			t.Fatal(err)
		}
	}
	return view
}

func TestP08_NothingStaysFreshByItself(t *testing.T) {
	view := viewOf(t)
	at := func(now time.Time) api.Site {
		site, known := view.Site(now, "shop-1")
		if !known {
			t.Fatal("the site is not known")
		}
		return site
	}
	if site := at(minute(0)); site.Freshness != api.Unknown || site.Connected || site.LastSeen != nil || site.State != nil {
		t.Errorf("a site that was never heard: %+v", site)
	}
	if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(1), keyShop), minute(1))); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		now  time.Time
		want api.Freshness
	}{{minute(1), api.Fresh}, {minute(3), api.Fresh}, {minute(3).Add(time.Second), api.Stale}, {minute(300000), api.Stale}} {
		site := at(step.now)
		if site.Freshness != step.want || site.Connected != (step.want == api.Fresh) || !site.LastSeen.Equal(minute(1)) || !site.StateAt.Equal(minute(1)) {
			t.Errorf("at %s: %s, connected %v, last seen %s; want %s", step.now, site.Freshness, site.Connected, site.LastSeen, step.want)
		}
	}
	hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: noon, State: 1}
	if _, err := view.Fold(received(fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, keyShop), minute(5))); err != nil {
		t.Fatal(err)
	}
	if site := at(minute(6)); site.Freshness != api.Fresh || !site.StateAt.Equal(minute(1)) {
		t.Errorf("after a hello: %s with state of %s", site.Freshness, site.StateAt)
	}
	hello.State, hello.At = 2, minute(1)
	if _, err := view.Fold(received(fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, keyShop), minute(6))); err != nil {
		t.Fatal(err)
	}
	if site := at(minute(6)); site.Freshness != api.Stale || !site.Connected {
		t.Errorf("the site sent a newer snapshot than is held: %s, connected %v; want stale and connected", site.Freshness, site.Connected)
	}
}

func TestP08_OnlyFreshSitesCountAsCurrent(t *testing.T) {
	entry, err := json.Marshal(CatalogEntry{Name: "shop", Version: "1.0.0", Counter: 1, Digest: digest1})
	if err != nil {
		t.Fatal(err)
	}
	view := viewOf(t,
		received(CatalogSubject(bundle.Ref{Name: "shop", Version: "1.0.0"}), entry, noon),
		received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, desiredAt(1), keyHub), noon))
	counts := func(now time.Time) string {
		b := view.Bundles(now, nil)[0]
		return fmt.Sprintf("%d of %d", b.Current, b.Sites)
	}
	if got := counts(minute(0)); got != "0 of 1" {
		t.Errorf("before any report %s", got)
	}
	if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(1), keyShop), minute(1))); err != nil {
		t.Fatal(err)
	}
	if got := counts(minute(1)); got != "1 of 1" {
		t.Errorf("after the report %s", got)
	}
	if got := counts(minute(10)); got != "0 of 1" {
		t.Errorf("after silence %s", got)
	}
}

func TestT18_ForgedAndReplayedMessagesChangeNothing(t *testing.T) {
	other := stateAt(9)
	other.Site = "shop-2"
	otherDesired := desiredAt(9)
	otherDesired.Site = "shop-2"
	good := []stream.Message{
		received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, desiredAt(1), keyHub), minute(1)),
		received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(5), keyShop), minute(1)),
		received(fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, eventsOf(1, 2), keyShop), minute(1)),
		received(fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, fleetsync.Hello{Site: "shop-1", Epoch: "a", At: minute(1), State: 5}, keyShop), minute(1)),
	}
	flipped := append([]byte{}, good[1].Data...)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string]stream.Message{
		"state by another key":           received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(9), keyEvil), minute(2)),
		"state by the hub":               received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(9), keyHub), minute(2)),
		"state of another site":          received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, other, keyShop), minute(2)),
		"older state":                    received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(4), keyShop), minute(2)),
		"edited state":                   received(fleetsync.StateSubject("shop-1"), flipped, minute(2)),
		"events as state":                received(fleetsync.StateSubject("shop-1"), good[2].Data, minute(2)),
		"hello as events":                received(fleetsync.EventSubject("shop-1"), good[3].Data, minute(2)),
		"events by another key":          received(fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, eventsOf(3), keyEvil), minute(2)),
		"replayed hello":                 received(fleetsync.HelloSubject("shop-1"), good[3].Data, minute(2)),
		"assignment by the site":         received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, desiredAt(9), keyShop), minute(2)),
		"assignment for another":         received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, otherDesired, keyHub), minute(2)),
		"acknowledgement by the site":    received(fleetsync.AckSubject("shop-1"), sealed(t, fleetsync.TypeAck, fleetsync.Ack{Site: "shop-1", Epoch: "a", Upto: 99}, keyShop), minute(2)),
		"acknowledgement of another one": received(fleetsync.AckSubject("shop-1"), sealed(t, fleetsync.TypeAck, fleetsync.Ack{Site: "shop-2", Epoch: "a", Upto: 99}, keyHub), minute(2)),
		"garbage":                        received(fleetsync.EventSubject("shop-1"), []byte("\xff{"), minute(2)),
		"nothing":                        received(fleetsync.StateSubject("shop-1"), nil, minute(2)),
	} {
		view := viewOf(t, good...)
		before, _ := view.Site(minute(2), "shop-1")
		if _, err := view.Fold(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
		after, _ := view.Site(minute(2), "shop-1")
		if len(after.Alarms) != 1 || !strings.Contains(after.Alarms[0], "refused messages: 1,") {
			t.Errorf("%s: alarms %q, want the refusal", name, after.Alarms)
		}
		if name == "older state" { // the site's own key: it was heard, though what it said is old
			after.LastSeen = before.LastSeen
		}
		after.Alarms = before.Alarms
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: changed the picture from\n%+v to\n%+v", name, before, after)
		}
	}
}

func TestT17_SubjectsThatProveNoSite(t *testing.T) {
	view := viewOf(t)
	state := sealed(t, fleetsync.TypeState, stateAt(1), keyShop)
	for _, subject := range []string{
		"", "hf", "hf.", "hf.state", "hf.state.", "hf.state.*", "hf.state.>", "hf.state.shop-1.x", "hf.state.SHOP-1", "hf.state.shop_1",
		"hf.state." + strings.Repeat("a", 64), "hf.state.shop-2", "hf.other.shop-1", "state.shop-1", "hf.site.shop-2", "hf.catalog.shop.1.0.0",
	} {
		if _, err := view.Fold(received(subject, state, noon)); err == nil {
			t.Errorf("subject %q: accepted", subject)
		}
	}
	if sites := view.Sites(noon, nil); len(sites) != 1 || sites[0].State != nil {
		t.Errorf("sites %+v", sites)
	}
}

func TestF11_AStoreThatWasPutBackIsSeen(t *testing.T) {
	state := stateAt(1)
	state.Assignment = 7
	view := viewOf(t,
		received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, desiredAt(3), keyHub), noon),
		received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyShop), noon))
	if site, _ := view.Site(noon, "shop-1"); len(site.Alarms) != 1 || !strings.Contains(site.Alarms[0], "assignment 7") {
		t.Errorf("alarms %q, want one about assignment 7", site.Alarms)
	}
}

// Whatever the order of subjects, and with everything folded twice, the picture is the same.
func TestP08_TheViewIsAProjection(t *testing.T) {
	first := recordOf(t, "shop-1", keyShop)
	messages := []stream.Message{
		received(fleetsync.DesiredSubject("shop-1"), sealed(t, fleetsync.TypeAssignment, desiredAt(2), keyHub), minute(1)),
		received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, stateAt(5), keyShop), minute(4)),
		received(fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, eventsOf(1, 2), keyShop), minute(1)),
		received(fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, eventsOf(3, 4), keyShop), minute(2)),
		received(fleetsync.EventSubject("shop-1"), sealed(t, fleetsync.TypeEvents, eventsOf(6), keyShop), minute(3)),
		received(fleetsync.AckSubject("shop-1"), sealed(t, fleetsync.TypeAck, fleetsync.Ack{Site: "shop-1", Epoch: "a", Upto: 4}, keyHub), minute(2)),
	}
	straight := viewOf(t, messages...)
	want := straight.Sites(minute(4), nil)
	rapid.Check(t, func(t *rapid.T) {
		view := NewView([]ed25519.PublicKey{public(keyHub)}, time.Minute)
		if _, err := view.Fold(first); err != nil {
			t.Fatal(err)
		}
		// Acknowledgements come after the reports they are of.
		order := append(rapid.Permutation(messages[:5]).Draw(t, "order"), messages[5])
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			for _, m := range order {
				if _, err := view.Fold(m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := view.Sites(minute(4), nil); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestDriftIsDated(t *testing.T) {
	state := stateAt(1)
	state.Bundles[0].DriftCount, state.Bundles[0].Drift = 1, []fleetsync.Drift{{Object: "ConfigMap/shop/a", Kind: fleetsync.DriftChanged}}
	view := viewOf(t, received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyShop), minute(1)))
	drift := view.Drift(minute(9), "", nil)
	if len(drift) != 1 || drift[0].Count != 1 || drift[0].Freshness != api.Stale || !drift[0].At.Equal(minute(1)) {
		t.Errorf("drift %+v", drift)
	}
	if other := view.Drift(minute(9), "shop-2", nil); len(other) != 0 {
		t.Errorf("drift of another site: %+v", other)
	}
}

func FuzzViewFold(f *testing.F) {
	for _, m := range []stream.Message{
		recordOf(f, "shop-1", keyShop),
		received(fleetsync.StateSubject("shop-1"), sealed(f, fleetsync.TypeState, stateAt(5), keyShop), noon),
		received(fleetsync.EventSubject("shop-1"), sealed(f, fleetsync.TypeEvents, eventsOf(1, 2), keyShop), noon),
		received(fleetsync.HelloSubject("shop-1"), sealed(f, fleetsync.TypeHello, fleetsync.Hello{Site: "shop-1", Epoch: "a"}, keyShop), noon),
		received("hf.catalog.shop.1.0.0", []byte(`{"name":"shop","version":"1.0.0"}`), noon),
	} {
		f.Add(m.Subject, m.Data)
	}
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		view := NewView([]ed25519.PublicKey{public(keyHub)}, time.Minute)
		if _, err := view.Fold(recordOf(t, "shop-1", keyShop)); err != nil {
			t.Fatal(err)
		}
		_, _ = view.Fold(received(subject, data, noon))
		_ = view.Sites(noon, nil)
		_ = view.Bundles(noon, nil)
	})
}
