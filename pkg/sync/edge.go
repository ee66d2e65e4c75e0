package sync

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Pauses of the edge. The safety look is for pokes that were lost.
const (
	lookEvery      = 6 * time.Hour
	stalledLook    = 10 * time.Second // while events wait for an acknowledgement
	firstRetry     = 2 * time.Second
	longestRetry   = 5 * time.Minute
	defaultHealth  = 5 * time.Minute
	snapshotPause  = 500 * time.Millisecond // between two snapshots, so that a busy apply costs a few messages
	snapshotsAhead = 1000                   // sequences reserved with one write
)

// Edge decides what a site does next. It is a value machine: Step is its only method that changes it, it has no clock, no goroutine and no I/O,
// and a restart feeds the stored records into the same Step. It is not safe for concurrent use.
type Edge struct {
	cfg        EdgeConfig
	identity   identityRecord
	assignment *Assignment
	known      struct{ assignment, ack bundle.Digest } // of the sealed messages that were opened last: most looks find nothing new
	bundles    map[bundle.Name]*held
	marks      verify.Counters
	outbox     outbox

	started   time.Time
	linked    bool
	looking   bool
	lookAt    time.Time
	ordered   uint64 // sequence of the assignment that alone is newer, by the hub's signed word: it is looked for, and lookAt stays what it is
	lookTries int
	helloAt   time.Time
	running   bundle.Name // name of the bundle whose Run is under way
	refused   string      // the last assignment that was refused, so that it is said once
	cluster   ClusterStatus
	store     degraded
	clock     clock
	fresh     freshness
	unseen    bool // the link is up, and what the hub wants was not looked at yet
	trust     TrustStatus
	note      remembered
	rekeyed   bool                   // the hub has another key than the one that the stored assignment may be signed by
	brought   map[bundle.Digest]bool // bundles that came by hand: they are in the store
	exported  State
	packs     bool      // the hub said that it reads compressed reports
	gathered  time.Time // when events that wait for more go out; zero: none do
	busy      []busySignal
	overrides map[string]override // by object

	snapshot struct {
		next     uint64
		last     uint64 // sequence sent last
		stored   uint64 // sequence the hub's stream has
		dirty    bool
		reserved bool // the sequences of this life are durable
		inFlight bool
		notUntil time.Time
	}
}

// NewEdge makes an Edge whose first input must be Restored.
func NewEdge(cfg EdgeConfig) *Edge {
	if cfg.HeartBeat == 0 {
		cfg.HeartBeat = time.Minute
	}
	if cfg.AskEvery == 0 {
		cfg.AskEvery = 4 * time.Minute
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 20_000
	}
	if cfg.MaxPendingBytes == 0 {
		cfg.MaxPendingBytes = 64 << 20
	}
	return &Edge{
		cfg:     cfg,
		clock:   clock{trusted: 2 * cfg.AskEvery},
		bundles: map[bundle.Name]*held{},
		marks:   verify.Counters{},
		outbox:  outbox{outboxRecord: outboxRecord{Next: 1}, limit: cfg.MaxPending, quota: cfg.MaxPendingBytes},
	}
}

// Epoch is the random identity of this life of the store.
func (e *Edge) Epoch() string { return e.identity.Epoch }

// HubKeys are the keys whose signature assignments and acknowledgements carry.
func (e *Edge) HubKeys() []ed25519.PublicKey { return e.cfg.HubKeys }

// Time is what the time is at least, by signed words; where there are none, the wall clock's.
func (e *Edge) Time(now time.Time) time.Time {
	if t := e.clock.time(now); !t.IsZero() {
		return t
	}
	return now
}

// Marks are the highest release counters accepted, by bundle name.
func (e *Edge) Marks() verify.Counters { return maps.Clone(e.marks) }

// State is the snapshot of now, as it would be sent.
func (e *Edge) State(now time.Time) State { return e.state(now) }

// Linked says whether the link is up.
func (e *Edge) Linked() bool { return e.linked }

// Step takes what happened and says what to do. The only error is a stored record that does not decode or verify: the store is damaged.
func (e *Edge) Step(now time.Time, in Input) (Effects, error) {
	out := &Effects{}
	switch in := in.(type) {
	case Restored:
		if err := e.begin(now, in, out); err != nil {
			return Effects{}, err
		}
	case LinkChanged:
		e.linkChanged(now, in.Up, out)
	case Trusted:
		e.trusted(now, in, out)
	case Poked:
		e.poked(now, in, out)
	case Looked:
		e.looked(now, in, out)
	case Fetched:
		e.fetched(now, in, out)
	case Prefetched:
		e.imagesFetched(now, in, out)
	case Ran:
		e.ran(now, in, out)
	case HealthSeen:
		e.healthSeen(now, in, out)
	case DriftSeen:
		e.driftSeen(now, in, out)
	case Corrected:
		e.corrected(now, in, out)
	case ClusterSeen:
		e.clusterSeen(now, in, out)
	case Sent:
		e.delivered(now, in)
	case StoreSeen:
		e.storeSeen(now, in.Message, out)
	case Damage:
		e.say(now, out, Event{Kind: EventStoreDamaged, Message: in.Message})
	case Busy:
		e.busySet(now, in, out)
	case Brought:
		e.bring(now, in, out)
	case Exported:
		e.export(now, out)
	case BusySeen:
		e.busySeen(now, in, out)
	case OverrideSet:
		e.overrideSet(now, in, out)
	case OverrideClear:
		if _, known := e.overrides[in.Object]; known {
			e.overrideOver(now, in.Object, "cleared by "+clip(in.Who), out)
		}
	case Noted:
		e.noted(now, in, out)
	case NoteKept:
		e.noteKept(now, in, out)
	case Tick:
	}
	e.proceed(now, out)
	out.Persist = newestOfEach(out.Persist)
	return *out, nil
}

func (e *Edge) begin(now time.Time, in Restored, out *Effects) error {
	if err := e.restore(in.Records); err != nil {
		return err
	}
	e.started = now
	e.clock.begin(now, in.Boot)
	e.note.begin(e.cfg.NoteKey, e.cfg.Site, e.cfg.Notebook)
	beside := e.raiseMarks(now, in.Marks, out)
	if e.assignment != nil {
		e.clock.raise(now, e.assignment.Issued)
	}
	e.cluster.Since = now
	if e.identity.Epoch == "" {
		e.identity.Epoch, beside = e.cfg.NewEpoch, nil // a new store knows none by right
	}
	e.snapshot.next = e.identity.Snapshots + 1
	e.reserveSnapshots(out)
	e.outbox.restore(in.Outbox)
	e.say(now, out, Event{Kind: EventStarted, Message: e.cfg.Agent})
	if len(beside) > 0 {
		e.say(now, out, Event{Kind: EventPutBack, Reason: ReasonPutBack, Message: "the counters beside the store know more than it, so it was put back to an earlier time: " + strings.Join(beside[:min(len(beside), maxRecalled)], "; ")})
	}
	return nil
}

func (e *Edge) reserveSnapshots(out *Effects) {
	e.identity.Snapshots = e.snapshot.next + snapshotsAhead
	out.Persist = append(out.Persist, record(keyIdentity, e.identity))
}

// say records an event: it is durable before anything else of this step happens, and goes out when the link allows.
func (e *Edge) say(now time.Time, out *Effects, ev Event) {
	e.snapshot.dirty = true
	if !e.store.admit() {
		return
	}
	ev.At, ev.Clock = e.clock.at(now), e.clock.quality(now)
	ev.Offline = !e.linked
	ev.Message = clip(ev.Message)
	out.Persist = append(out.Persist, e.outbox.append(ev, e.inOrder)...)
}

func (e *Edge) linkChanged(now time.Time, up bool, out *Effects) {
	if up == e.linked {
		return
	}
	e.fresh.nonce, e.unseen, e.ordered = "", up, 0
	if up {
		e.linked = true
		e.lookAt, e.helloAt, e.fresh.askAt = now, now, now
		e.snapshot.inFlight, e.looking = false, false
		e.outbox.connected()
		for _, h := range e.bundles { // what waited for the link need not wait longer
			if h.Phase == PhaseFetching || h.Phase == PhaseRefused {
				h.retryAt = now
			}
			h.resumeAt = now
		}
		e.say(now, out, Event{Kind: EventLinkUp})
		return
	}
	e.say(now, out, Event{Kind: EventLinkDown})
	e.linked = false
}

func (e *Edge) looked(now time.Time, in Looked, out *Effects) {
	e.looking, e.unseen = false, false
	if in.Err != "" {
		e.lookTries++
		e.lookAt = now.Add(pause(e.lookTries))
		return
	}
	e.lookTries = 0
	if in.Ack != nil && fresh(&e.known.ack, in.Ack) {
		var ack Ack
		if err := OpenBy(TypeAck, in.Ack, e.cfg.HubKeys, &ack); err == nil && ack.Site == e.cfg.Site && ack.Epoch == e.identity.Epoch {
			e.acknowledged(now, ack, out)
		}
	}
	if in.Assignment != nil && e.store.why == "" && fresh(&e.known.assignment, in.Assignment) { // a store that takes no writes takes no new orders
		e.assigned(now, in.Assignment, out)
	}
	if !e.behind(now, in.Assignment) {
		e.compare(now, out)
	}
}

// fresh notes a sealed message and says whether it is another one than the last.
func fresh(last *bundle.Digest, sealed []byte) bool {
	digest := bundle.DigestOf(sealed)
	if *last == digest {
		return false
	}
	*last = digest
	return true
}

func (e *Edge) assigned(now time.Time, sealed []byte, out *Effects) {
	var a Assignment
	err := OpenBy(TypeAssignment, sealed, e.cfg.HubKeys, &a)
	switch {
	case err != nil:
	case len(sealed) > MaxAssignment:
		err = fmt.Errorf("it has %d bytes, and a site can keep at most %d", len(sealed), MaxAssignment)
	case a.Site != e.cfg.Site:
		err = fmt.Errorf("it is for site %s, this is %s", a.Site, e.cfg.Site)
	case e.assignment != nil && a.Sequence < e.assignment.Sequence:
		err = fmt.Errorf("sequence %d is older than %d", a.Sequence, e.assignment.Sequence)
	case e.ordersBehind() && a.Sequence < e.note.last.Assignment:
		err = fmt.Errorf("sequence %d is older than %d, which this site had before its store was put back", a.Sequence, e.note.last.Assignment)
	case e.assignment != nil && a.Sequence == e.assignment.Sequence:
		if sameOrders(a, *e.assignment) {
			e.resealed(sealed, out)
			return
		}
		err = fmt.Errorf("sequence %d is held already and orders something else: the hub may have been put back to an earlier time", a.Sequence)
	default:
		err = checkAssigned(a.Bundles)
	}
	if err != nil {
		if digest := string(bundle.DigestOf(sealed)); e.refused != digest {
			e.refused = digest
			e.say(now, out, Event{Kind: EventAssignRefused, Reason: "AssignmentRefused", Message: err.Error()})
		}
		return
	}
	e.assignment = &a
	e.raiseFloor(now, a.Issued, out)
	e.rekeyed = false
	out.Persist = append(out.Persist, Record{keyAssignment, slices.Clone(sealed)})
	e.say(now, out, Event{Kind: EventAssigned, Message: assignedText(a)})
	e.adopt(now, a, out)
}

// sameOrders says that two assignments order the same, whenever they were issued.
func sameOrders(a, b Assignment) bool {
	a.Issued, b.Issued = time.Time{}, time.Time{}
	return bytes.Equal(record("", a).Value, record("", b).Value)
}

func checkAssigned(bundles []AssignedBundle) error {
	seen := map[bundle.Name]bool{}
	for _, b := range bundles {
		if _, err := bundle.ParseName(string(b.Name)); err != nil {
			return err
		}
		if _, err := bundle.ParseDigest(string(b.Digest)); err != nil {
			return fmt.Errorf("bundle %s: %w", b.Name, err)
		}
		if err := b.Scope.Check(); err != nil {
			return fmt.Errorf("bundle %s: %w", b.Name, err)
		}
		if b.Schedule != nil {
			if err := b.Schedule.Check(); err != nil {
				return fmt.Errorf("bundle %s: %w", b.Name, err)
			}
		}
		if seen[b.Name] {
			return fmt.Errorf("bundle %s stands in it twice", b.Name)
		}
		seen[b.Name] = true
	}
	return nil
}

func assignedText(a Assignment) string {
	text := fmt.Sprintf("assignment %d:", a.Sequence)
	if len(a.Bundles) == 0 {
		return text + " nothing"
	}
	for _, b := range a.Bundles {
		text += " " + bundle.Ref{Name: b.Name, Version: b.Version}.String()
	}
	return text
}

func (e *Edge) clusterSeen(now time.Time, in ClusterSeen, out *Effects) {
	was := e.cluster
	if in.Reachable == was.Reachable && in.Version == was.Version && in.Message == was.Message && !was.Since.IsZero() && e.snapshot.last > 0 {
		return
	}
	e.cluster.Version, e.cluster.Message = in.Version, in.Message
	if in.Version == "" {
		e.cluster.Version = was.Version
	}
	e.snapshot.dirty = true
	for _, h := range e.bundles { // what was refused or held back for its version may be taken now
		if e.cluster.Version != was.Version && (h.Phase == PhaseRefused && h.Reason == string(verify.WrongTarget) || h.Phase == PhaseFetching) {
			h.retryAt, h.refused = now, false
		}
	}
	if in.Reachable == was.Reachable {
		return
	}
	e.cluster.Reachable, e.cluster.Since = in.Reachable, e.clock.at(now)
	if !in.Reachable {
		e.say(now, out, Event{Kind: EventClusterDown, Message: in.Message})
		return
	}
	e.say(now, out, Event{Kind: EventClusterUp, Message: in.Version})
	for _, h := range e.bundles { // what failed for want of a cluster need not wait out its pause
		h.resumeAt = now
		if h.Phase != PhaseFetching && h.Phase != PhaseRefused {
			h.retryAt = now
		}
	}
}

func (e *Edge) delivered(now time.Time, in Sent) {
	switch in.Type {
	case TypeEvents:
		e.outbox.delivered(now, in.Upto, in.Err != "")
	case TypeState:
		e.snapshot.inFlight = false
		if in.Err == "" {
			e.snapshot.stored, e.snapshot.reserved = e.snapshot.last, true
		} else {
			e.snapshot.dirty = true
			e.snapshot.notUntil = now.Add(firstRetry)
		}
	}
}

// proceed adds what is due now, whatever the input was.
func (e *Edge) proceed(now time.Time, out *Effects) {
	e.busyOver(now, out)
	e.overridesOver(now, out)
	for _, name := range e.names() {
		e.advance(now, name, e.bundles[name], out)
	}
	e.keep(now, out)
	if e.linked {
		e.doubt(now, out)
		e.report(now, out)
		if e.outbox.stalled() && e.lookAt.After(now.Add(stalledLook)) {
			e.lookAt = now.Add(stalledLook)
		}
		if !e.looking && !e.lookAt.After(now) {
			// A poke from here on may be about what this look does not see yet, so it makes another one.
			e.looking, e.ordered, e.lookAt, out.Look = true, 0, now.Add(lookEvery), true
		}
		if !e.looking && e.ordered > e.sequence() {
			e.looking, e.ordered, out.Look, out.Brief = true, 0, true, true
		}
	}
	forgotten, more := e.outbox.forget()
	out.Persist = append(out.Persist, forgotten...)
	if out.Wake = e.nextWake(now); more {
		out.Wake = now.Add(time.Millisecond)
	}
}

// report sends the snapshot before the backlog, so that the hub's picture is right after one message.
func (e *Edge) report(now time.Time, out *Effects) {
	s := &e.snapshot
	if s.dirty && (e.store.why == "" || s.next <= e.identity.Snapshots) && !s.inFlight && !s.notUntil.After(now) {
		state := e.state(now)
		s.last, s.dirty, s.inFlight, s.notUntil = state.Sequence, false, true, now.Add(e.snapshotPause())
		if s.next++; s.next > e.identity.Snapshots {
			e.reserveSnapshots(out)
		}
		out.Send = append(out.Send, Send{Type: TypeState, State: &state, Packed: e.packs})
		if !s.reserved { // until one was delivered, nothing proves that this life's sequences are durable, and the next life's would be the same
			out.Persist = append(out.Persist, record(keyIdentity, e.identity))
		}
	}
	if !e.gather(now) {
		if from, to, ok := e.outbox.next(now); ok {
			out.Send = append(out.Send, Send{Type: TypeEvents, From: from, To: to, Epoch: e.identity.Epoch, Packed: e.packs})
		}
	}
	if !e.helloAt.After(now) {
		e.helloAt = now.Add(e.heartBeat())
		hello := &Hello{Site: e.cfg.Site, Epoch: e.identity.Epoch, At: now, State: s.stored}
		e.ask(now, hello)
		out.Send = append(out.Send, Send{Type: TypeHello, Hello: hello})
	}
}

func (e *Edge) nextWake(now time.Time) time.Time {
	wake := e.soonest(now)
	sooner := func(t time.Time) {
		if t.After(now) && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	if e.linked {
		sooner(e.helloAt)
		if e.fresh.nonce != "" {
			sooner(e.fresh.asked.Add(AskPatience))
		}
		sooner(e.lookAt)
		sooner(e.outbox.notUntil)
		sooner(e.gathered)
		if e.outbox.sent > e.outbox.Acked {
			sooner(e.outbox.resendAt)
		}
		if e.snapshot.dirty {
			sooner(e.snapshot.notUntil)
		}
	}
	sooner(e.note.credit)
	sooner(e.note.retryAt)
	for _, h := range e.bundles {
		sooner(h.retryAt)
		sooner(h.resumeAt)
		sooner(h.deadline)
		sooner(h.confirmBy)
		sooner(h.heldUntil)
	}
	return wake
}

// newestOfEach leaves only the last record of each key.
func newestOfEach(records []Record) []Record {
	last := make(map[string]int, len(records))
	for i, r := range records {
		last[r.Key] = i
	}
	var newest []Record
	for i, r := range records {
		if last[r.Key] == i {
			newest = append(newest, r)
		}
	}
	return newest
}

func (e *Edge) names() []bundle.Name { return slices.Sorted(maps.Keys(e.bundles)) }

// pause grows with the attempts, from two seconds to five minutes.
func pause(attempts int) time.Duration {
	if attempts > 8 {
		return longestRetry
	}
	return min(firstRetry<<max(attempts-1, 0), longestRetry)
}
