package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func batchOf(epoch string, sequences ...uint64) EventBatch {
	batch := EventBatch{Site: "shop-1", Epoch: epoch}
	for _, sequence := range sequences {
		batch.Events = append(batch.Events, Event{Sequence: sequence, At: noon, Kind: EventHealthy})
	}
	return batch
}

func gapOf(epoch string, sequence, from, to uint64) EventBatch {
	return EventBatch{Site: "shop-1", Epoch: epoch, Events: []Event{{Sequence: sequence, Kind: EventGap, From: from, To: to, Message: "outbox full"}}}
}

func fold(t *testing.T, in *Ingest, batch EventBatch, minute int) Folded {
	t.Helper()
	folded, err := in.Events(batch, noon.Add(time.Duration(minute)*time.Minute))
	if err != nil {
		t.Fatalf("fold %+v: %v", batch, err)
	}
	return folded
}

func TestIngestCountsAnEventOnce(t *testing.T) {
	in := NewIngest("shop-1")
	if _, ok := in.Ack(); ok {
		t.Fatal("acknowledges before anything came")
	}
	first := fold(t, in, batchOf("a", 1, 2, 3), 0)
	if len(first.New) != 3 || !first.NewEpoch || first.Duplicates != 0 {
		t.Fatalf("first fold: %+v", first)
	}
	// Months later is still the same event: no window of time is involved.
	again := fold(t, in, batchOf("a", 2, 3, 4), 200000)
	if len(again.New) != 1 || again.New[0].Sequence != 4 || again.Duplicates != 2 || again.NewEpoch {
		t.Fatalf("second fold: %+v", again)
	}
	ack, ok := in.Ack()
	if want := (Ack{Site: "shop-1", Epoch: "a", Upto: 4}); !ok || !reflect.DeepEqual(ack, want) {
		t.Fatalf("ack %+v, want %+v", ack, want)
	}
}

func TestF16_AHoleIsNoticedAndAskedForAgain(t *testing.T) {
	in := NewIngest("shop-1")
	fold(t, in, batchOf("a", 1, 2), 0)
	folded := fold(t, in, batchOf("a", 5, 6), 1)
	if folded.Missing != (Range{3, 4}) {
		t.Fatalf("missing %+v, want 3 to 4", folded.Missing)
	}
	if ack, _ := in.Ack(); ack.Upto != 2 {
		t.Fatalf("acknowledged up to %d over a hole at 3", ack.Upto)
	}
	if alarms := in.Alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "3 to 4") {
		t.Fatalf("alarms %q, want one about events 3 to 4", alarms)
	}
	folded = fold(t, in, batchOf("a", 3, 4, 5, 6, 7), 2)
	if len(folded.New) != 3 || folded.Missing != (Range{}) {
		t.Fatalf("after the tail came again: %+v", folded)
	}
	if ack, _ := in.Ack(); ack.Upto != 7 || len(in.Alarms()) != 0 {
		t.Fatalf("ack %+v alarms %q after the hole was filled", ack, in.Alarms())
	}
}

func TestP04_AGapEventCoversWhatWillNeverCome(t *testing.T) {
	for name, batches := range map[string][]EventBatch{
		"after":   {batchOf("a", 1, 2), gapOf("a", 9, 3, 8)},
		"before":  {gapOf("a", 9, 3, 8), batchOf("a", 1, 2)},
		"in it":   {batchOf("a", 1, 2), gapOf("a", 3, 3, 9)},
		"in two":  {batchOf("a", 1, 2), gapOf("a", 9, 3, 5), gapOf("a", 8, 6, 7)},
		"at once": {batchOf("a", 1, 2, 8), gapOf("a", 9, 3, 7)},
		"overlap": {batchOf("a", 1, 2, 3), gapOf("a", 9, 3, 8)},
	} {
		in := NewIngest("shop-1")
		for i := range 2 { // again changes nothing
			for _, batch := range batches {
				fold(t, in, batch, i)
			}
			if ack, _ := in.Ack(); ack.Upto != 9 {
				t.Errorf("%s: acknowledged up to %d, want 9", name, ack.Upto)
			}
		}
		if alarms := in.Alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "outbox full") {
			t.Errorf("%s: alarms %q, want the gap and why", name, alarms)
		}
	}
}

func TestT18_BatchesThatCannotBeTheSites(t *testing.T) {
	foreign := batchOf("a", 1)
	foreign.Site = "shop-2"
	long := batchOf(strings.Repeat("x", MaxEpochID+1), 1)
	many := EventBatch{Site: "shop-1", Epoch: "a"}
	for i := range MaxBatch + 1 {
		many.Events = append(many.Events, Event{Sequence: uint64(i + 1)})
	}
	for name, batch := range map[string]EventBatch{
		"foreign site":   foreign,
		"no epoch":       batchOf("", 1),
		"long epoch":     long,
		"empty":          batchOf("a"),
		"too many":       many,
		"sequence 0":     batchOf("a", 0),
		"falling":        batchOf("a", 2, 1),
		"twice":          batchOf("a", 1, 1),
		"huge sequence":  batchOf("a", MaxSequence+1),
		"gap reversed":   gapOf("a", 9, 5, 4),
		"gap from 0":     gapOf("a", 9, 0, 4),
		"gap of future":  gapOf("a", 9, 10, 12),
		"gap to the end": gapOf("a", 9, 1, 1<<63),
	} {
		in := NewIngest("shop-1")
		if _, err := in.Events(batch, noon); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, ok := in.Ack(); ok || !in.Heard().IsZero() {
			t.Errorf("%s: refused, but it changed something", name)
		}
	}
}

func stateOf(epoch string, sequence uint64) State {
	return State{Site: "shop-1", Epoch: epoch, Sequence: sequence, At: noon}
}

func TestT18_ReplayedStateChangesNothing(t *testing.T) {
	in := NewIngest("shop-1")
	for _, step := range []struct {
		epoch    string
		sequence uint64
		minute   time.Duration
		news     bool
		err      error
	}{
		{"a", 5, 0, true, nil},
		{"a", 5, 1, false, nil},            // the same one again, its confirmation was lost
		{"a", 4, 2, false, ErrNotNewer},    // replayed
		{"b", 1, 3, true, nil},             // a new life of the store
		{"a", 6, 4, false, ErrNotNewer},    // the old life goes on
		{"a", 1000, 5, false, ErrNotNewer}, // whatever it says
		{"b", 2, 6, true, nil},
	} {
		news, err := in.State(stateOf(step.epoch, step.sequence), noon.Add(step.minute*time.Minute))
		if news != step.news || !errors.Is(err, step.err) {
			t.Errorf("%s/%d: news %v error %v, want %v %v", step.epoch, step.sequence, news, err, step.news, step.err)
		}
	}
	if state, at := in.Snapshot(); state.Epoch != "b" || state.Sequence != 2 || !at.Equal(noon.Add(6*time.Minute)) {
		t.Errorf("holds %s/%d of %s", state.Epoch, state.Sequence, at)
	}
	if _, err := in.State(stateOf("b", 0), noon); err == nil {
		t.Error("accepted sequence 0")
	}
}

func TestT19_TwoLiveEpochsRaiseAnAlarm(t *testing.T) {
	in := NewIngest("shop-1")
	fold(t, in, batchOf("a", 1, 2), 0)
	fold(t, in, batchOf("b", 1), 5)
	if alarms := in.Alarms(); len(alarms) != 0 {
		t.Fatalf("a new store is no clone: %q", alarms)
	}
	if epoch, upto := in.Window(); epoch != "b" || upto != 1 {
		t.Fatalf("window %s/%d, want b/1", epoch, upto)
	}
	// The event stream may be folded later than it was received: what counts is when the bus had it.
	fold(t, in, batchOf("a", 3), 1)
	if alarms := in.Alarms(); len(alarms) != 0 {
		t.Fatalf("a late fold is no clone: %q", alarms)
	}
	fold(t, in, batchOf("a", 4), 6)
	if alarms := in.Alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "two live copies") {
		t.Fatalf("alarms %q, want two live copies", alarms)
	}
	if ack, _ := in.Ack(); ack.Epoch != "b" {
		t.Fatalf("acknowledges epoch %s, want the newest, b", ack.Epoch)
	}
}

func TestF11_AHubThatForgotSaysSo(t *testing.T) {
	in := NewIngest("shop-1")
	fold(t, in, batchOf("a", 1, 2, 3), 0)
	state := stateOf("a", 9)
	state.Outbox = OutboxStatus{Next: 13, Acked: 10}
	if _, err := in.State(state, noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if alarms := in.Alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "up to 10") {
		t.Fatalf("alarms %q", alarms)
	}
	fold(t, in, batchOf("a", 4, 5, 6, 7, 8, 9, 10), 2)
	if alarms := in.Alarms(); len(alarms) != 0 {
		t.Fatalf("alarms %q after the tail came again", alarms)
	}
}

func TestP04_AcknowledgedEventsThatAgedAwayAreNoHole(t *testing.T) {
	in := NewIngest("shop-1")
	fold(t, in, batchOf("a", 501, 502), 0)
	if err := in.Acked(Ack{Site: "shop-1", Epoch: "a", Upto: 501}, noon); err != nil {
		t.Fatal(err)
	}
	if ack, _ := in.Ack(); ack.Upto != 502 || len(in.Alarms()) != 0 {
		t.Fatalf("ack %+v alarms %q", ack, in.Alarms())
	}
	if err := in.Acked(Ack{Site: "shop-2", Epoch: "a", Upto: 900}, noon); err == nil {
		t.Fatal("took another site's acknowledgement")
	}
}

func TestIngestRemembersBoundedMuch(t *testing.T) {
	in := NewIngest("shop-1")
	for i := range uint64(3 * maxRanges) {
		fold(t, in, batchOf("a", 2*i+2), 0) // a hole before each
	}
	for i := range 4 * maxEpochs {
		fold(t, in, batchOf(fmt.Sprintf("e%03d", i), 1), i+1)
	}
	if len(in.epochs) > maxEpochs {
		t.Errorf("%d epochs remembered", len(in.epochs))
	}
	if folded := fold(t, in, batchOf("a", 1), 1); len(folded.New) != 0 {
		t.Errorf("an epoch older than all that are remembered brought %+v", folded)
	}
	in = NewIngest("shop-1")
	seen := 0
	for i := range uint64(3 * maxRanges) {
		seen += len(fold(t, in, batchOf("a", 2*i+2), 0).New)
	}
	if len(in.epochs[0].events) > maxRanges || seen != maxRanges {
		t.Errorf("%d runs, %d events said to be new; want both %d", len(in.epochs[0].events), seen, maxRanges)
	}
}

// Every event is new exactly once and the acknowledgement never falls and never passes a hole, whatever comes in whatever order and how often;
// in the end the same reports give the same memory.
func TestP04_AnyOrderAndAnyRepetitionGiveTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Uint64Range(1, 40).Draw(t, "events")
		type message struct {
			batch EventBatch
			at    time.Time
		}
		var sent []message
		for from := uint64(1); from <= total; {
			to := min(total, from+rapid.Uint64Range(0, 6).Draw(t, "length"))
			var sequences []uint64
			for s := from; s <= to; s++ {
				sequences = append(sequences, s)
			}
			batch := batchOf("a", sequences...)
			if to-from >= 2 && rapid.Bool().Draw(t, "gap") {
				batch = gapOf("a", to, from, to-1)
			}
			sent = append(sent, message{batch, noon.Add(time.Duration(to) * time.Minute)})
			from = to + 1
		}
		order := append(sent[:len(sent):len(sent)], rapid.SliceOf(rapid.SampledFrom(sent)).Draw(t, "repeated")...)
		order = rapid.Permutation(order).Draw(t, "order")

		straight, shuffled := NewIngest("shop-1"), NewIngest("shop-1")
		for _, m := range sent {
			if _, err := straight.Events(m.batch, m.at); err != nil {
				t.Fatal(err)
			}
		}
		isNew, received, upto := map[uint64]int{}, map[uint64]bool{}, uint64(0)
		for _, m := range order {
			folded, err := shuffled.Events(m.batch, m.at)
			if err != nil {
				t.Fatal(err)
			}
			for _, event := range folded.New {
				isNew[event.Sequence]++
			}
			for _, event := range m.batch.Events {
				received[event.Sequence] = true
				for s := event.From; s <= event.To && s > 0; s++ {
					received[s] = true
				}
			}
			ack, _ := shuffled.Ack()
			if ack.Upto < upto {
				t.Fatalf("acknowledgement fell from %d to %d", upto, ack.Upto)
			}
			for upto = 0; received[upto+1]; upto++ {
			}
			if ack.Upto != upto {
				t.Fatalf("acknowledged %d, received without a hole %d", ack.Upto, upto)
			}
		}
		for sequence, times := range isNew {
			if times != 1 {
				t.Fatalf("event %d was new %d times", sequence, times)
			}
		}
		if !reflect.DeepEqual(straight, shuffled) {
			t.Fatalf("order mattered: %+v, %+v", straight.epochs[0], shuffled.epochs[0])
		}
	})
}

func FuzzIngestEvents(f *testing.F) {
	for _, batch := range []EventBatch{batchOf("a", 1, 2, 3), gapOf("a", 9, 3, 8), batchOf("b", 7)} {
		raw, err := json.Marshal(batch)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var batch EventBatch
		if len(raw) > MaxMessage || decodeStrict(raw, &batch) != nil {
			return
		}
		in := NewIngest("shop-1")
		if _, err := in.Events(batchOf("a", 1, 2, 3), noon); err != nil {
			t.Fatal(err)
		}
		batch.Site = "shop-1"
		if _, err := in.Events(batch, noon.Add(time.Minute)); err != nil {
			return
		}
		before, _ := in.Ack()
		again, err := in.Events(batch, noon.Add(time.Minute))
		if err != nil || len(again.New) > 0 {
			t.Fatalf("the same batch again: %+v, %v", again, err)
		}
		if after, _ := in.Ack(); !reflect.DeepEqual(after, before) {
			t.Fatalf("the same batch again moved the acknowledgement from %+v to %+v", before, after)
		}
		_ = in.Alarms()
	})
}
