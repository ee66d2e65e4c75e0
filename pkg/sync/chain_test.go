package sync

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorded is a chain of events as an outbox makes it, read back from its records.
func recorded(t *testing.T, n int) []Event {
	t.Helper()
	o := outbox{outboxRecord: outboxRecord{Next: 1}, limit: 1000, quota: 1 << 20}
	var events []Event
	for i := range n {
		r := o.append(Event{Kind: EventHealthy, At: noon.Add(time.Duration(i) * time.Second).In(time.FixedZone("", 3600)), Message: "<é>"}, func(uint64) bool { return true })[0]
		var ev Event
		if err := json.Unmarshal(r.Value, &ev); err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	return events
}

// sentOver is the batch as it comes out of the wire.
func sentOver(t *testing.T, events []Event) (batch EventBatch) {
	t.Helper()
	raw, err := json.Marshal(NewBatch("shop-1", "a", events))
	if err != nil {
		t.Fatal(err)
	}
	if err := decodeStrict(raw, &batch); err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestT18_TheChainOfEventsHoldsHoweverItIsCut(t *testing.T) {
	events := recorded(t, 30)
	if batch := sentOver(t, events[4:20]); batch.Events[0].Prev == "" || batch.Events[1].Prev != "" || !reflect.DeepEqual(batch.Relinked(), events[4:20]) {
		t.Fatalf("a batch carries %+v", batch.Events[:2])
	}
	for name, cuts := range map[string][][2]int{
		"whole":        {{0, 30}},
		"in pieces":    {{0, 10}, {10, 11}, {11, 30}},
		"out of order": {{20, 30}, {0, 10}, {10, 20}},
		"overlapping":  {{0, 15}, {10, 20}, {5, 30}},
	} {
		in := NewIngest("shop-1")
		for _, cut := range cuts {
			if folded := fold(t, in, sentOver(t, events[cut[0]:cut[1]]), 0); folded.Broken != 0 {
				t.Errorf("%s: the chain breaks at %d", name, folded.Broken)
			}
		}
		if alarms := in.Alarms(); len(alarms) != 0 {
			t.Errorf("%s: %q", name, alarms)
		}
	}
}

func TestT18_TheChainOfEventsBreaksWhereSomethingElseWasRecorded(t *testing.T) {
	events := recorded(t, 30)
	edited := slices.Clone(events)
	edited[11].Message = "edited in the store"
	other := recorded(t, 11) // another copy of the site from event 11 on
	other[10].Message = "what the copy recorded"
	for name, try := range map[string]struct {
		batches [][]Event
		at      uint64
	}{
		"edited within a batch":   {[][]Event{edited[:20]}, 13},
		"edited, met later":       {[][]Event{events[:5], edited[5:12], events[12:]}, 13},
		"edited, met out of turn": {[][]Event{events[12:], edited[5:12]}, 13},
		"two histories":           {[][]Event{other, events[10:11], events[11:]}, 12},
	} {
		in := NewIngest("shop-1")
		broken := uint64(0)
		for _, batch := range try.batches {
			if folded := fold(t, in, sentOver(t, batch), 0); folded.Broken != 0 {
				broken = folded.Broken
			}
		}
		if broken != try.at {
			t.Errorf("%s: the chain breaks at %d, want %d", name, broken, try.at)
		}
		if alarms := strings.Join(in.Alarms(), "\n"); !strings.Contains(alarms, "the chain of events of epoch a breaks at event") {
			t.Errorf("%s: alarms %q", name, alarms)
		}
	}
}

// TestF14_EveryKindHasAClass fails for a new kind of event until somebody has decided what becomes of it when the outbox is full.
func TestF14_EveryKindHasAClass(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	count := func(n ast.Node) bool {
		value, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := value.Type.(*ast.Ident); !ok || name.Name != "EventKind" || len(value.Values) != 1 {
			return true
		}
		kinds++
		text := strings.Trim(value.Values[0].(*ast.BasicLit).Value, `"`)
		if _, decided := classes[EventKind(text)]; !decided {
			t.Errorf("%s has no class in classes.go", value.Names[0].Name)
		}
		return true
	}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, count)
	}
	if kinds != len(classes) {
		t.Errorf("%d kinds, %d classes", kinds, len(classes))
	}
}

func TestF11_AHubThatLostEventsAsksForThem(t *testing.T) {
	in := NewIngest("shop-1")
	fold(t, in, batchOf("a", 1, 2, 3), 0)
	state := State{Site: "shop-1", Epoch: "a", Sequence: 9, Outbox: OutboxStatus{Next: 11, Acked: 10}}
	if _, err := in.State(state, noon); err != nil {
		t.Fatal(err)
	}
	ack, _ := in.Ack()
	if want := (Ack{Site: "shop-1", Epoch: "a", Upto: 3, Missing: []Range{{4, 10}}}); !reflect.DeepEqual(ack, want) {
		t.Fatalf("ack %+v, want %+v", ack, want)
	}
	fold(t, in, batchOf("a", 8, 9, 10), 1)
	fold(t, in, EventBatch{Site: "shop-1", Epoch: "a", Events: []Event{{Sequence: 11, Kind: EventGap, From: 4, To: 7, Reason: LostTail, Message: "no longer kept"}}}, 2)
	if ack, _ := in.Ack(); ack.Upto != 11 || len(ack.Missing) != 0 {
		t.Fatalf("after the tail came again: %+v", ack)
	}
	if alarms := in.Alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "no longer kept") {
		t.Fatalf("alarms %q", alarms)
	}
	// A hub that knows nothing of the epoch asks for all of it.
	fresh := NewIngest("shop-1")
	if _, err := fresh.State(state, noon); err != nil {
		t.Fatal(err)
	}
	if ack, ok := fresh.Ack(); !ok || !reflect.DeepEqual(ack.Missing, []Range{{1, 10}}) {
		t.Fatalf("ack %+v %v", ack, ok)
	}
}

func TestF15_EventsWeeksLateAndDoubledCountOnce(t *testing.T) {
	events := recorded(t, 20)
	in := NewIngest("shop-1")
	fold(t, in, sentOver(t, events), 0)
	for week := 1; week < 6; week++ {
		again := fold(t, in, sentOver(t, events[week:2*week+4]), week*7*24*60)
		if len(again.New) != 0 || again.Broken != 0 || again.Duplicates != week+4 {
			t.Fatalf("week %d: %+v", week, again)
		}
	}
	if ack, _ := in.Ack(); ack.Upto != 20 || len(in.Alarms()) != 0 {
		t.Fatalf("ack %+v alarms %q", ack, in.Alarms())
	}
}
