package sim

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Away is one site whose line never lasts: every hour objects are edited and put back, every few hours the link comes and nothing gets through, every
// day the cluster is away for a moment, every week the agent is started again and somebody offers what nobody signed, every month a release fails.
type Away struct {
	Days      int
	Events    int // bounds of the outbox; 0 are the defaults
	Bytes     int
	EditsHour int // objects edited in an hour
}

// Outbox is what a site has after all that.
type Outbox struct {
	MostBytes int               // the events took, ever
	Stored    []fleetsync.Event // by sequence
	Must      []fleetsync.Event // recorded, and never to be dropped
	Next      uint64            // the sequence the next event would get
	Dropped   uint64            // as the site counts them
}

// Run plays it.
func (a Away) Run() (Outbox, error) {
	s := &awaySite{Away: a, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), disk: map[string][]byte{}, hub: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	if err := s.play(); err != nil {
		return Outbox{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(s.disk)) {
		var ev fleetsync.Event
		if !strings.HasPrefix(key, fleetsync.EventPrefix) {
			continue
		}
		if err := json.Unmarshal(s.disk[key], &ev); err != nil {
			return Outbox{}, err
		}
		s.out.Stored = append(s.out.Stored, ev)
	}
	return s.out, nil
}

type awaySite struct {
	Away
	now     time.Time
	edge    *fleetsync.Edge
	disk    map[string][]byte
	bytes   int
	hub     ed25519.PrivateKey
	orders  uint64
	spec    string
	out     Outbox
	failure error
}

func (s *awaySite) play() error {
	s.boot()
	for hour := range s.Days * 24 {
		s.now = s.now.Add(time.Hour)
		for n := range s.EditsHour {
			drift := fleetsync.Drift{Object: fmt.Sprintf("ConfigMap/shop/object-%d-%d", n, hour%500), Kind: fleetsync.DriftChanged, Paths: []string{"/data/key"}}
			s.step(fleetsync.Corrected{Name: "shop", Drift: drift})
		}
		switch {
		case hour%(24*30) == 0:
			s.order()
		case hour%(24*7) == 1:
			s.boot()
			s.step(fleetsync.Damage{Message: fmt.Sprintf("a stored chunk no longer verifies, week %d", hour/24/7)})
		case hour%24 == 2:
			s.step(fleetsync.ClusterSeen{Message: "connection refused"})
			s.step(fleetsync.ClusterSeen{Reachable: true, Version: "1.37.1"})
		case hour%3 == 0:
			s.step(fleetsync.LinkChanged{Up: true})
			s.step(fleetsync.LinkChanged{})
		}
		if s.failure != nil {
			return s.failure
		}
	}
	return nil
}

func (s *awaySite) boot() {
	s.edge = fleetsync.NewEdge(fleetsync.EdgeConfig{
		Site: "shop-1", Agent: "sim", HubKeys: []ed25519.PublicKey{s.hub.Public().(ed25519.PublicKey)}, NewEpoch: "epoch-1", MaxPending: s.Events, MaxPendingBytes: s.Bytes,
	})
	in := fleetsync.Restored{}
	for _, key := range slices.Sorted(maps.Keys(s.disk)) {
		r := fleetsync.Record{Key: key, Value: s.disk[key]}
		if strings.HasPrefix(key, fleetsync.EventPrefix) {
			line, err := fleetsync.StoredOf(r)
			if err != nil {
				s.failure = err
			}
			in.Outbox = append(in.Outbox, line)
		} else {
			in.Records = append(in.Records, r)
		}
	}
	s.step(in)
}

// order brings a release whose apply fails, and one that nobody signed. The last order is the one in force.
func (s *awaySite) order() {
	for _, refused := range []bool{true, false} {
		s.orders++
		version := bundle.Version(fmt.Sprintf("1.%d.0", s.orders))
		assigned := fleetsync.AssignedBundle{Name: "shop", Version: version, Digest: bundle.DigestOf([]byte(version))}
		sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, fleetsync.Assignment{Site: "shop-1", Sequence: s.orders, Bundles: []fleetsync.AssignedBundle{assigned}}, s.hub)
		if err != nil {
			s.failure = err
		}
		s.step(fleetsync.LinkChanged{Up: true})
		s.step(fleetsync.Looked{Assignment: sealed})
		fetched := fleetsync.Fetched{Name: "shop", Digest: assigned.Digest, Counter: bundle.Counter(s.orders), Objects: 3}
		if refused {
			fetched.Refusal = &fleetsync.Refusal{Reason: "BadSignature", Message: "nobody signed it"}
		}
		s.step(fetched)
		s.step(fleetsync.LinkChanged{})
		if !refused {
			s.step(fleetsync.Ran{Name: "shop", Spec: s.spec, Outcome: fleetsync.OutcomeRejected, Reason: "Rejected", Object: "ConfigMap/shop/a", Message: "data: invalid"})
		}
	}
}

func (s *awaySite) step(in fleetsync.Input) {
	out, err := s.edge.Step(s.now, in)
	if err != nil {
		s.failure = err
		return
	}
	if out.Run != nil {
		s.spec = out.Run.Spec
	}
	for _, r := range out.Persist {
		s.persist(r)
	}
	for _, m := range out.Send {
		if m.Type == fleetsync.TypeState {
			s.out.Next, s.out.Dropped = m.State.Outbox.Next, m.State.Outbox.Dropped
		}
	}
	s.out.MostBytes = max(s.out.MostBytes, s.bytes)
}

func (s *awaySite) persist(r fleetsync.Record) {
	if !strings.HasPrefix(r.Key, fleetsync.EventPrefix) {
		s.disk[r.Key] = r.Value
		if r.Value == nil {
			delete(s.disk, r.Key)
		}
		return
	}
	if old, there := s.disk[r.Key]; there {
		s.bytes -= len(r.Key) + len(old)
		delete(s.disk, r.Key)
	}
	if r.Value == nil {
		return
	}
	s.disk[r.Key] = r.Value
	s.bytes += len(r.Key) + len(r.Value)
	var ev fleetsync.Event
	if err := json.Unmarshal(r.Value, &ev); err != nil {
		s.failure = err
	}
	switch ev.Kind {
	case fleetsync.EventRefused, fleetsync.EventStoreDamaged:
		s.out.Must = append(s.out.Must, ev)
	case fleetsync.EventApplyFailed: // of the current order only
		s.out.Must = slices.DeleteFunc(s.out.Must, func(old fleetsync.Event) bool { return old.Kind == ev.Kind })
		s.out.Must = append(s.out.Must, ev)
	}
}
