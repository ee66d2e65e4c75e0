package sync

import (
	"testing"
	"time"
)

// TestF02_BatchesFitALineThatBreaks halves what is sent at once while the line breaks before it is through, and doubles it again.
func TestF02_BatchesFitALineThatBreaks(t *testing.T) {
	o := outbox{outboxRecord: outboxRecord{Next: 1}, limit: 5000, quota: 64 << 20}
	for range 2 * maxBatch {
		o.append(Event{Kind: EventDriftCorrected}, func(uint64) bool { return true })
	}
	now := time.Now()
	for _, want := range []uint64{500, 250, 125, 62, 31, 15, 7, 3, 1, 1} {
		if _, to, ok := o.next(now); !ok || to != want {
			t.Fatalf("the batch goes to %d, want %d", to, want)
		}
		o.connected() // it broke again
	}
	for _, want := range []uint64{1, 3, 7} {
		_, to, ok := o.next(now)
		if !ok || to != want {
			t.Fatalf("the batch goes to %d, want %d", to, want)
		}
		o.delivered(now, to, false)
	}
	if _, _, ok := o.next(now); !ok {
		t.Fatal("nothing more goes out")
	}
	o.delivered(now, 7, true)
	if _, to, _ := o.next(now.Add(firstRetry)); to != 11 { // eight would have been next
		t.Errorf("after a failed delivery the batch goes to %d, want 11", to)
	}
}
