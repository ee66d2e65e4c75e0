package sync

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// A site with ten thousand objects that are all unwell, in many bundles, with words as long as they may be and as costly to encode, still reports:
// its snapshot fits a message, and the counts are right.
func TestF27_AHugeStatusFitsAMessage(t *testing.T) {
	loud := strings.Repeat("\x01<&>", maxText/4)
	for _, bundles := range []int{1, 20, 200} {
		e := NewEdge(EdgeConfig{Site: "shop-1"})
		for i := range bundles {
			h := &held{}
			h.drifted, h.Message = map[string]Drift{}, loud
			for n := range 10_000 / bundles {
				object := fmt.Sprintf("ConfigMap/shop/%06d", n)
				h.drifted[object] = Drift{Object: object, Kind: DriftChanged, Paths: []string{loud, loud}, Message: loud}
				h.unhealthy = append(h.unhealthy, ObjectStatus{Object: object, Status: "Failed", Message: loud})
			}
			e.bundles[bundle.Name(fmt.Sprintf("bundle-%03d", i))] = h
		}
		state := e.state(time.Unix(1, 0))
		_, key, _ := ed25519.GenerateKey(nil)
		if _, err := Seal(TypeState, state, key); err != nil {
			t.Errorf("%d bundles: %v", bundles, err)
		}
		if got, want := state.Bundles[bundles-1].DriftCount, 10_000/bundles; got != want || len(state.Bundles) != bundles {
			t.Errorf("%d bundles: %d of %d objects drift", bundles, got, want)
		}
		if first := state.Bundles[0]; len(first.Unhealthy) == 0 || !strings.HasPrefix(loud, first.Message) {
			t.Errorf("%d bundles: nothing is told of the first one", bundles)
		}
	}
}

// F26: a reader passes over what newer versions add to a report, and refuses an order with something in it that it does not know how to follow.
func TestF26_ReportsMaySayMoreAndOrdersMayNot(t *testing.T) {
	public, key, _ := ed25519.GenerateKey(nil)
	more := map[string]any{"site": "shop-1", "from-a-newer-version": 7}
	for kind, into := range map[string]any{TypeState: &State{}, TypeEvents: &EventBatch{}, TypeHello: &Hello{}, TypeAck: &Ack{}, TypeFresh: &Fresh{}} {
		sealed, err := Seal(kind, more, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := Open(kind, sealed, public, into); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	sealed, err := Seal(TypeAssignment, more, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := Open(TypeAssignment, sealed, public, &Assignment{}); err == nil {
		t.Error("an assignment with an unknown field is taken")
	}
}
