package sim

import (
	"reflect"
	"slices"
	"testing"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestF14_HalfAYearAway holds the quota, what must never be dropped, and that every sequence is there or explained.
func TestF14_HalfAYearAway(t *testing.T) {
	const quota = 1 << 20
	got, err := Away{Days: 180, Events: 3000, Bytes: quota, EditsHour: 10}.Run()
	if err != nil {
		t.Fatal(err)
	}
	// A step records a few events before it makes room.
	if got.MostBytes > quota+8<<10 {
		t.Errorf("the events took %d bytes, the quota is %d", got.MostBytes, quota)
	}
	stored := map[uint64]fleetsync.Event{}
	lost, runs := uint64(0), uint64(0)
	for _, ev := range got.Stored {
		stored[ev.Sequence] = ev
		for _, l := range ev.Lost {
			lost += l.Count
		}
		for _, run := range ev.Gaps {
			runs += run.To - run.From + 1
		}
	}
	for _, must := range got.Must {
		if !reflect.DeepEqual(stored[must.Sequence], must) {
			t.Errorf("event %d %s must never be dropped, there is %+v", must.Sequence, must.Kind, stored[must.Sequence])
		}
	}
	if len(got.Must) < 25 {
		t.Fatalf("only %d events were never to be dropped", len(got.Must))
	}
	if stored[1].Kind != fleetsync.EventStarted {
		t.Errorf("the first event of the epoch is %+v", stored[1])
	}
	if lost != runs || lost == 0 {
		t.Errorf("gap events count %d dropped and name %d", lost, runs)
	}
	last := got.Stored[len(got.Stored)-1].Sequence
	for n := uint64(1); n <= last; n++ {
		covering := 0
		for _, ev := range got.Stored {
			if ev.Covers(n) {
				covering++
			}
		}
		if ev, there := stored[n]; covering > 1 || covering == 0 != (there && ev.Kind != fleetsync.EventGap) {
			t.Fatalf("event %d: stored %v, covered by %d gap events", n, there, covering)
		}
	}
	t.Logf("%d events made, %d kept, %d dropped, %d bytes at most", last, len(got.Stored), lost, got.MostBytes)

	// The hub takes it all in without a hole, in order or not.
	for name, order := range map[string]func([]fleetsync.EventBatch){"in order": func([]fleetsync.EventBatch) {}, "backwards": slices.Reverse[[]fleetsync.EventBatch]} {
		var batches []fleetsync.EventBatch
		for events := range slices.Chunk(got.Stored, fleetsync.MaxBatch) {
			batches = append(batches, fleetsync.NewBatch("shop-1", "epoch-1", events))
		}
		order(batches)
		in := fleetsync.NewIngest("shop-1")
		for _, batch := range batches {
			folded, err := in.Events(batch, time.Now())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if folded.Broken != 0 {
				t.Errorf("%s: the chain breaks at %d", name, folded.Broken)
			}
			if name == "in order" && folded.Missing.From != 0 {
				t.Errorf("%s: the hub misses %+v, which no gap event explained in time", name, folded.Missing)
			}
		}
		if ack, _ := in.Ack(); ack.Upto != last || len(ack.Missing) != 0 {
			t.Errorf("%s: acknowledged up to %d of %d, missing %v", name, ack.Upto, last, ack.Missing)
		}
	}
}
