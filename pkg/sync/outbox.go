package sync

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"sort"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Bounds of the outbox.
const (
	// ackPatience is how long the hub may take to acknowledge what its stream has. Then the rest is sent again: the hub may have lost it.
	ackPatience = time.Minute
	maxBatch    = MaxBatch
	// maxForget is the most records one step deletes, so that they fit one commit.
	maxForget = 1000
	// tailEvents and tailBytes bound what is kept after it was acknowledged, for a hub that is restored from a backup.
	tailEvents = 2000
	tailBytes  = 8 << 20
	// firstWindow and fullWindow are how many events may be delivered and not acknowledged: before the hub acknowledged anything in this
	// connection, and after. The hub so paces ten thousand sites that come back at once.
	firstWindow = maxBatch
	fullWindow  = 8 * maxBatch
	// longestPace bounds how slow the hub may ask a site to go.
	longestPace = 5 * time.Minute
	// maxMissing bounds the runs that one acknowledgement asks for.
	maxMissing = 16
	// maxGapRuns bounds the runs that one gap event names.
	maxGapRuns = 64
)

// outbox is the decisions about the durable queue of events. The events themselves are in the store, one record each, so an outage costs disk, not
// memory; here is a line about each.
type outbox struct {
	outboxRecord
	entries []Stored // what the store holds, by sequence: first the tail that is acknowledged, then what is not
	bytes   int
	limit   int // entries
	quota   int // bytes

	sent     uint64 // delivered in this connection, not necessarily acknowledged
	flight   Range  // being delivered; zero: nothing is
	again    bool   // what is being delivered was asked for again
	rewound  bool   // a gap took a place before what is being delivered
	fits     int    // events the next batch may have: fewer where the line breaks before a batch is through; 0: maxBatch
	wanted   ranges // asked for by the hub and not delivered again yet
	askable  time.Time
	heard    bool      // an acknowledgement of this connection
	notUntil time.Time // after a failed delivery, or because the hub asked for it
	pace     time.Duration
	resendAt time.Time // when what was delivered should have been acknowledged
	changed  bool      // the record is to be written
}

// Stored is a line about an event in the store: enough to decide what becomes of it without reading it.
type Stored struct {
	Sequence uint64
	Kind     EventKind
	size     int    // bytes of the record
	same     uint64 // equal for events that say the same
	about    uint64 // equal for events about the same bundle and manifest
	gap      *Event // of a gap event: all of it
}

// StoredOf reads the line from an event's record.
func StoredOf(r Record) (Stored, error) {
	var ev Event
	if err := json.Unmarshal(r.Value, &ev); err != nil {
		return Stored{}, fmt.Errorf("stored record %s: %w", r.Key, err)
	}
	if r.Key != EventKey(ev.Sequence) {
		return Stored{}, fmt.Errorf("stored record %s: it holds event %d", r.Key, ev.Sequence)
	}
	return storedOf(ev, len(r.Key)+len(r.Value)), nil
}

func storedOf(ev Event, size int) Stored {
	s := Stored{Sequence: ev.Sequence, Kind: ev.Kind, size: size, about: aboutOf(ev.Bundle, ev.Digest)}
	s.same = hashOf(string(ev.Kind), string(ev.Bundle), string(ev.Digest), ev.Object, ev.Reason)
	if ev.Kind == EventGap {
		s.gap = &ev
	}
	return s
}

func aboutOf(name bundle.Name, digest bundle.Digest) uint64 {
	return hashOf(string(name), string(digest))
}

func hashOf(words ...string) uint64 {
	h := fnv.New64a()
	for _, word := range words {
		_ = binary.Write(h, binary.BigEndian, uint32(len(word)))
		_, _ = h.Write([]byte(word))
	}
	return h.Sum64()
}

// restore takes what the store holds.
func (o *outbox) restore(stored []Stored) {
	o.entries = slices.Clone(stored)
	sort.Slice(o.entries, func(i, j int) bool { return o.entries[i].Sequence < o.entries[j].Sequence })
	o.bytes = 0
	for _, s := range o.entries {
		o.bytes += s.size
	}
	o.sent = o.Acked
}

// connected begins a connection: nothing of the last one is under way any more.
func (o *outbox) connected() {
	if o.flight != (Range{}) {
		o.shorten()
	}
	o.sent, o.flight, o.heard, o.wanted, o.askable, o.pace = o.Acked, Range{}, false, nil, time.Time{}, 0
}

// at is where in entries the first event at or after the sequence is.
func (o *outbox) at(sequence uint64) int {
	return sort.Search(len(o.entries), func(i int) bool { return o.entries[i].Sequence >= sequence })
}

// append gives the event its sequence and its place in the chain, and the records that make it durable. When the queue is full, what is worth least gives
// way to gap events that say what is gone: what the hub sees stays in order and without a hole that nobody explains.
func (o *outbox) append(ev Event, inForce func(about uint64) bool) []Record {
	ev.Sequence, ev.Prev = o.Next, o.Head
	o.Next++
	r := record(EventKey(ev.Sequence), ev)
	o.Head = digestOfEvent(r.Value)
	o.insert(len(o.entries), ev, r)
	records := []Record{r}
	if o.full(1, 1) {
		records = append(records, o.shrink(ev, inForce)...)
	}
	return append(records, record(keyOutbox, o.outboxRecord))
}

func (o *outbox) insert(i int, ev Event, r Record) {
	s := storedOf(ev, len(r.Key)+len(r.Value))
	o.entries = slices.Insert(o.entries, i, s)
	o.bytes += s.size
}

func (o *outbox) remove(i int) Record {
	s := o.entries[i]
	o.bytes -= s.size
	if i == 0 {
		o.entries = o.entries[1:]
	} else {
		o.entries = slices.Delete(o.entries, i, i+1)
	}
	return Record{Key: EventKey(s.Sequence)}
}

// full says whether more than the part of the bounds is used.
func (o *outbox) full(part, of int) bool {
	return len(o.entries) > o.limit*part/of || o.bytes > o.quota*part/of
}

// shrink makes room down to nine tenths of the bounds: the tail first, then by dropOrder. Neither the newest event goes, nor what is being delivered,
// nor the first event of the epoch.
func (o *outbox) shrink(now Event, inForce func(about uint64) bool) (records []Record) {
	for o.full(9, 10) && len(o.entries) > 1 && o.entries[0].Sequence <= o.Acked {
		records = append(records, o.remove(0))
	}
	if !o.full(9, 10) {
		return records
	}
	victims := o.victims(inForce)
	if len(victims) < 2 { // a gap in the place of one event gains nothing
		return records
	}
	return append(records, o.drop(now, victims)...)
}

// victims are the events to drop, by sequence, and why.
func (o *outbox) victims(inForce func(about uint64) bool) map[uint64]string {
	said := map[uint64]seen{}
	for _, s := range o.entries[o.at(o.Acked+1):] {
		before, known := said[s.same]
		if !known {
			before.first = s.Sequence
		}
		said[s.same] = seen{before.first, s.Sequence}
	}
	count, size := len(o.entries), o.bytes
	victims := map[uint64]string{}
	for _, stage := range dropOrder {
		for i := o.at(o.Acked + 1); i < len(o.entries)-1; i++ {
			s := &o.entries[i]
			if count <= o.limit*9/10 && size <= o.quota*9/10 {
				return victims
			}
			if victims[s.Sequence] != "" || s.gap != nil || s.Sequence == 1 || o.flight.From <= s.Sequence && s.Sequence <= o.flight.To {
				continue
			}
			if stage.drops(s, said[s.same], inForce) {
				victims[s.Sequence] = stage.why
				count, size = count-1, size-s.size
			}
		}
	}
	return victims
}

// drop replaces the victims, together with the gaps that are there already, by as few gaps as may be. A gap stands in the place of the first event
// it is for, so that the hub hears of it before it sees that something is missing.
func (o *outbox) drop(now Event, victims map[uint64]string) (records []Record) {
	var gaps []Event
	kept := o.entries[:0:0]
	from := o.at(o.Acked + 1)
	kept = append(kept, o.entries[:from]...)
	for _, s := range o.entries[from:] {
		why := victims[s.Sequence]
		inFlight := o.flight.From <= s.Sequence && s.Sequence <= o.flight.To
		switch {
		case why != "":
			gaps = joinGap(gaps, Event{Sequence: s.Sequence, Gaps: []Range{{s.Sequence, s.Sequence}}, Lost: []Lost{{s.Kind, why, 1}}})
			o.Dropped++
		case s.gap != nil && !inFlight && len(s.gap.Gaps) > 0:
			gaps = joinGap(gaps, *s.gap)
		default:
			kept = append(kept, s)
			continue
		}
		o.bytes -= s.size
		records = append(records, Record{Key: EventKey(s.Sequence)})
	}
	o.entries = kept
	for _, gap := range gaps {
		gap.At, gap.Offline, gap.Kind, gap.Reason = now.At, now.Offline, EventGap, "OutboxFull"
		gap.From, gap.To = gap.Gaps[0].From, gap.Gaps[len(gap.Gaps)-1].To
		gap.Message = "the outbox was full: dropped " + lostText(gap.Lost)
		r := record(EventKey(gap.Sequence), gap)
		records = append(records, r)
		o.insert(o.at(gap.Sequence), gap, r)
		o.sent = min(o.sent, gap.Sequence-1)
		o.rewound = o.rewound || gap.Sequence < o.flight.From
	}
	return records
}

// joinGap adds a gap behind others: to the last one, if that can name all the runs.
func joinGap(gaps []Event, gap Event) []Event {
	if len(gaps) == 0 {
		return append(gaps, gap)
	}
	last := &gaps[len(gaps)-1]
	runs := ranges(last.Gaps)
	for _, run := range gap.Gaps {
		runs = runs.with(run)
	}
	if len(runs) > maxGapRuns {
		return append(gaps, gap)
	}
	last.Gaps = runs
	for _, lost := range gap.Lost {
		last.Lost = addLost(last.Lost, lost)
	}
	return gaps
}

func addLost(all []Lost, more Lost) []Lost {
	for i, lost := range all {
		if lost.Kind == more.Kind && lost.Why == more.Why {
			all = slices.Clone(all)
			all[i].Count += more.Count
			return all
		}
	}
	return append(slices.Clone(all), more)
}

func lostText(lost []Lost) string {
	text := ""
	for i, l := range lost {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d %s (%s)", l.Count, l.Kind, l.Why)
	}
	return text
}

// acknowledge notes what the hub has, how fast it wants more, and what it asks for again. lost is what it asks for and is no longer kept: a gap event
// is to say so.
func (o *outbox) acknowledge(now time.Time, ack Ack) (lost []Range) {
	if ack.Upto < o.Next && ack.Upto > o.Acked {
		o.Acked, o.changed = ack.Upto, true
		o.sent = max(o.sent, o.Acked)
	}
	o.heard = true
	o.pace = min(time.Duration(max(ack.Pace, 0))*time.Millisecond, longestPace)
	if len(ack.Missing) == 0 || now.Before(o.askable) {
		return nil // what was delivered again takes a while to be acknowledged
	}
	o.askable = now.Add(ackPatience)
	for i, missing := range ack.Missing {
		missing.From, missing.To = max(missing.From, 1), min(missing.To, o.Next-1)
		if i >= maxMissing || missing.From > missing.To {
			break
		}
		lost = append(lost, o.want(missing)...)
		lost = lost[:min(len(lost), maxGapRuns)] // the rest is asked for again
	}
	return lost
}

// want has a range delivered again, and what covers it where it was dropped. lost is what neither is there nor covered.
func (o *outbox) want(missing Range) (lost []Range) {
	o.wanted = o.wanted.with(missing)
	there := ranges{}
	for i := range o.entries {
		s := &o.entries[i]
		if missing.From <= s.Sequence && s.Sequence <= missing.To {
			there = there.with(Range{s.Sequence, s.Sequence})
		}
		if s.gap == nil {
			continue
		}
		for _, run := range s.gap.covered() {
			if run.From <= missing.To && missing.From <= run.To {
				there = there.with(Range{max(run.From, missing.From), min(run.To, missing.To)})
				o.wanted = o.wanted.with(Range{s.Sequence, s.Sequence})
			}
		}
	}
	return ranges{missing}.except(there)
}

// forget gives the records that forget what was acknowledged and is beyond the tail; more says that a step did not do.
func (o *outbox) forget() (records []Record, more bool) {
	beyond, size := o.at(o.Acked+1), 0
	for kept := 0; beyond > 0 && kept < tailEvents && size+o.entries[beyond-1].size <= tailBytes; kept++ {
		beyond--
		size += o.entries[beyond].size
	}
	for range min(beyond, maxForget) {
		records = append(records, o.remove(0))
	}
	if o.changed || len(records) > 0 {
		o.changed = false
		records = append(records, record(keyOutbox, o.outboxRecord))
	}
	return records, beyond > maxForget
}

// delivered notes the end of a delivery.
func (o *outbox) delivered(now time.Time, upto uint64, failed bool) {
	flight, rewound := o.flight, o.rewound
	o.flight, o.rewound = Range{}, false
	switch {
	case failed:
		o.shorten()
		o.notUntil = now.Add(firstRetry)
		return
	case o.again:
		o.wanted = o.wanted.except(ranges{{flight.From, upto}})
	case !rewound:
		o.sent = max(o.sent, upto)
		o.resendAt = now.Add(ackPatience)
	}
	o.fits = min(2*cmp.Or(o.fits, maxBatch), maxBatch)
	o.notUntil = now.Add(o.pace)
}

// shorten makes the next batch half as long, so that something gets through a line that breaks after a few kilobytes (F2).
func (o *outbox) shorten() { o.fits = max(cmp.Or(o.fits, maxBatch)/2, 1) }

// next is the range to send now, false if there is none, one is under way, or the hub is to acknowledge first.
func (o *outbox) next(now time.Time) (from, to uint64, ok bool) {
	if o.flight != (Range{}) || o.notUntil.After(now) {
		return 0, 0, false
	}
	if o.sent > o.Acked && !o.resendAt.After(now) {
		o.sent = o.Acked
	}
	for len(o.wanted) > 0 {
		run := o.wanted[0]
		i := o.at(run.From)
		if i < len(o.entries) && o.entries[i].Sequence <= run.To {
			return o.send(i, run.To, true)
		}
		o.wanted = o.wanted[1:] // dropped since it was asked for: the hub will ask for the gap
	}
	i := o.at(o.sent + 1)
	if i == len(o.entries) || o.stalled() {
		return 0, 0, false
	}
	return o.send(i, o.Next-1, false)
}

func (o *outbox) send(i int, most uint64, again bool) (from, to uint64, ok bool) {
	from, to = o.entries[i].Sequence, min(most, o.entries[min(i+cmp.Or(o.fits, maxBatch), len(o.entries))-1].Sequence)
	o.flight, o.again = Range{from, to}, again
	return from, to, true
}

// stalled says that there is more to send once the hub has acknowledged what it got.
func (o *outbox) stalled() bool {
	window := firstWindow
	if o.heard {
		window = fullWindow
	}
	sent := o.at(o.sent + 1)
	return sent < len(o.entries) && sent-o.at(o.Acked+1) >= window
}

// inOrder says whether an order for the bundle and manifest is wanted, begun or applied.
func (e *Edge) inOrder(about uint64) bool {
	for name, h := range e.bundles {
		for _, o := range []*order{h.Want, h.Intent, h.Applied} {
			if o != nil && aboutOf(name, o.Bundle.Digest) == about {
				return true
			}
		}
	}
	return false
}

// acknowledged takes the hub's word of what it has. What it asks for again and is no longer kept, a gap event says.
func (e *Edge) acknowledged(now time.Time, ack Ack, out *Effects) {
	if ack.Upto >= e.outbox.Next {
		e.copied(now, ack.Upto, out)
		return
	}
	if lost := e.outbox.acknowledge(now, ack); len(lost) > 0 {
		gap := Event{Kind: EventGap, From: lost[0].From, To: lost[len(lost)-1].To, Reason: LostTail}
		gap.Message = "the hub asks for events that it had acknowledged and that are no longer kept"
		if len(lost) > 1 {
			gap.Gaps = lost
		}
		e.say(now, out, gap)
	}
	if ack.Snapshot > 0 && ack.Snapshot < MaxSequence {
		e.snapshot.dirty = true
		if ack.Snapshot >= e.snapshot.next {
			e.snapshot.next = ack.Snapshot + 1
			e.reserveSnapshots(out)
		}
	}
	if len(ack.Missing) > 0 { // the hub may say the very same again
		e.known.ack = ""
	}
}
