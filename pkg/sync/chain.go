package sync

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// digest names an event as it was recorded, its Prev with it, and so the whole chain up to it: 96 bits, because the signature of the batch is
// what proves and this is what compares.
func (ev Event) digest() string {
	raw, err := json.Marshal(ev)
	if err != nil {
		panic(fmt.Sprintf("event %d does not encode: %v", ev.Sequence, err))
	}
	return digestOfEvent(raw)
}

func digestOfEvent(recorded []byte) string {
	sum := sha256.Sum256(recorded)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// NewBatch makes a batch of stored events, in order of sequence. A link of the chain that can be seen from the batch itself is left out; one that
// does not hold is left in, so that the hub says where the chain breaks.
func NewBatch(site bundle.SiteID, epoch string, stored []Event) EventBatch {
	batch := EventBatch{Site: site, Epoch: epoch, Events: make([]Event, len(stored))}
	for i, ev := range stored {
		if i > 0 && follows(stored[i-1], ev) && stored[i-1].digest() == ev.Prev {
			ev.Prev = ""
		}
		batch.Events[i] = ev
	}
	return batch
}

// Relinked gives the events of a batch as they were recorded.
func (b EventBatch) Relinked() []Event {
	events := make([]Event, len(b.Events))
	for i, ev := range b.Events {
		if i > 0 && ev.Prev == "" && follows(events[i-1], ev) && (events[i-1].Prev != "" || events[i-1].Sequence == 1) {
			ev.Prev = events[i-1].digest()
		}
		events[i] = ev
	}
	return events
}

// follows says whether the chain goes from one event to the other: a gap stands where another event was.
func follows(before, ev Event) bool {
	return before.Sequence+1 == ev.Sequence && before.Kind != EventGap && ev.Kind != EventGap
}
