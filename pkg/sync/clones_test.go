package sync

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// imaged is a site's store with its agent, and the hub's memory that it reports to.
type imaged struct {
	t       *testing.T
	hub     ed25519.PrivateKey
	ingest  *Ingest
	records map[string][]byte
	edge    *Edge
	folded  map[string]bool // what the hub has, by what happened
	clock   *time.Time
}

// boot begins a life on the store.
func (s *imaged) boot(life string) *imaged {
	s.edge = NewEdge(EdgeConfig{Site: "shop-1", Agent: "test", HubKeys: []ed25519.PublicKey{s.hub.Public().(ed25519.PublicKey)}, NewEpoch: "first", Seed: life})
	in := Restored{}
	for _, key := range slices.Sorted(maps.Keys(s.records)) {
		r := Record{Key: key, Value: s.records[key]}
		if !strings.HasPrefix(key, EventPrefix) {
			in.Records = append(in.Records, r)
			continue
		}
		line, err := StoredOf(r)
		if err != nil {
			s.t.Fatal(err)
		}
		in.Outbox = append(in.Outbox, line)
	}
	s.step(in)
	s.step(LinkChanged{Up: true})
	return s
}

func (s *imaged) step(in Input) {
	s.t.Helper()
	*s.clock = s.clock.Add(time.Second)
	out, err := s.edge.Step(*s.clock, in)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range out.Persist {
		if s.records[r.Key] = r.Value; r.Value == nil {
			delete(s.records, r.Key)
		}
	}
	for _, m := range out.Send {
		sent := Sent{Type: m.Type, Upto: m.To}
		if m.Type == TypeState {
			_, _ = s.ingest.State(*m.State, *s.clock)
		}
		if m.Type == TypeEvents {
			var events []Event
			for n := m.From; n <= m.To; n++ {
				var ev Event
				if raw, there := s.records[EventKey(n)]; there && json.Unmarshal(raw, &ev) == nil {
					events = append(events, ev)
				}
			}
			folded, err := s.ingest.Events(NewBatch("shop-1", m.Epoch, events), *s.clock)
			if err != nil || folded.Broken != 0 && folded.NewEpoch {
				s.t.Fatalf("%+v, %v", folded, err)
			}
			for _, ev := range folded.New {
				s.folded[ev.Message] = true
			}
		}
		s.step(sent)
	}
}

// look brings the hub's acknowledgement.
func (s *imaged) look() {
	s.t.Helper()
	ack, ok := s.ingest.Ack()
	if !ok {
		s.t.Fatal("nothing is acknowledged")
	}
	sealed, err := Seal(TypeAck, ack, s.hub)
	if err != nil {
		s.t.Fatal(err)
	}
	s.step(Looked{Ack: sealed})
}

// TestT19_CopiesOfOneEpochAreToldApart starts two copies of one disk. The one that made less sees the hub acknowledge what it never said: it goes on
// under an epoch of its own, tells there what happened to it, and the hub sees two live copies.
func TestT19_CopiesOfOneEpochAreToldApart(t *testing.T) {
	for name, more := range map[string]int{"the same disk": 0, "a disk whose tail was dropped": 2 * tailEvents} {
		t.Run(name, func(t *testing.T) {
			_, hub, _ := ed25519.GenerateKey(nil)
			now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
			one := &imaged{t: t, hub: hub, ingest: NewIngest("shop-1"), records: map[string][]byte{}, folded: map[string]bool{}, clock: &now}
			one.boot("a")
			for n := range more {
				one.step(Damage{Message: fmt.Sprintf("before %d", n)})
				if n%maxBatch == 0 {
					one.look()
				}
			}
			one.look()
			other := &imaged{t: t, hub: hub, ingest: one.ingest, records: maps.Clone(one.records), folded: one.folded, clock: &now}
			for n := range 20 {
				one.step(Damage{Message: fmt.Sprintf("one %d", n)})
			}
			one.look()
			epoch := one.edge.Epoch()
			other.boot("b")
			for n := range 3 {
				other.step(Damage{Message: fmt.Sprintf("other %d", n)})
			}
			other.look()
			other.look()
			if other.edge.Epoch() == epoch || one.edge.Epoch() != epoch {
				t.Fatalf("epochs %s and %s", one.edge.Epoch(), other.edge.Epoch())
			}
			for n := range 3 {
				if !one.folded[fmt.Sprintf("other %d", n)] {
					t.Errorf("what happened to the other copy is lost: %d", n)
				}
			}
			if ack, _ := one.ingest.Ack(); ack.Epoch != other.edge.Epoch() || len(ack.Missing) > 0 {
				t.Errorf("%+v", ack)
			}
			one.step(Damage{Message: "one again"})
			if older, newer, _, alive := one.ingest.LiveCopies(time.Time{}); !alive || older != epoch || newer != other.edge.Epoch() {
				t.Errorf("%s and %s, alive %v", older, newer, alive)
			}
			// A restart of the other goes on where it was.
			was := other.edge.Epoch()
			other.boot("c")
			if other.look(); other.edge.Epoch() != was {
				t.Error("a restart began another epoch")
			}
		})
	}
}
