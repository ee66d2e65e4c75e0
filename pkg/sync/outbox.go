package sync

import "time"

// ackPatience is how long the hub may take to acknowledge what its stream has. Then the rest is sent again: the hub may have lost it.
const ackPatience = time.Minute

// maxBatch is the most events in one EventBatch.
const maxBatch = 500

// outbox is the decisions about the durable queue of events. The events themselves are in the store, one record each,
// so an outage costs disk, not memory.
type outbox struct {
	outboxRecord
	target   uint64 // acknowledged by the hub, not yet forgotten here
	sent     uint64 // delivered in this connection, not necessarily acknowledged
	inFlight bool
	notUntil time.Time // after a failed delivery
	resendAt time.Time // when what was delivered should have been acknowledged
	limit    int
}

// stored counts the records of the queue.
func (o *outbox) stored() uint64 { return o.Next - max(o.Acked+1, o.GapTo) }

// append gives the event its sequence and adds the records that make it durable. When the queue is full its oldest events become
// one gap event, which keeps the sequence of the last event it stands for: what the hub sees stays in order and without a hole.
func (o *outbox) append(ev Event) []Record {
	ev.Sequence = o.Next
	o.Next++
	records := []Record{record(EventKey(ev.Sequence), ev)}
	if stored := o.stored(); stored > uint64(o.limit) {
		records = append(records, o.drop(stored/10+1, ev)...)
	}
	return append(records, record(keyOutbox, o.outboxRecord))
}

func (o *outbox) drop(n uint64, now Event) []Record {
	first := o.Acked + 1
	from, begin := first, first
	if o.GapTo >= first { // the head is a gap already: it grows, nothing is counted twice
		from, begin = max(o.GapFrom, first), o.GapTo
	}
	to := min(begin+n, o.Next-2) // never the newest
	var records []Record
	for s := begin; s < to; s++ {
		records = append(records, Record{Key: EventKey(s)})
	}
	gap := Event{Sequence: to, At: now.At, Kind: EventGap, From: from, To: to, Reason: "OutboxFull", Message: "the outbox was full: the oldest events were dropped", Offline: now.Offline}
	o.Dropped += to - begin
	if o.GapTo < first {
		o.Dropped++ // the event whose place the gap takes
	}
	o.GapFrom, o.GapTo = from, to
	return append(records, record(EventKey(to), gap))
}

// maxForget is the most records one step deletes, so that they fit one commit.
const maxForget = 1000

// acknowledge notes what the hub has.
func (o *outbox) acknowledge(upto uint64) {
	if upto < o.Next {
		o.target = max(o.target, upto)
	}
}

// forget moves the acknowledged mark towards what the hub has and gives the records that forget it; more says that a step did not do.
func (o *outbox) forget() (records []Record, more bool) {
	if o.target <= o.Acked {
		return nil, false
	}
	begin := o.Acked + 1
	if o.GapTo >= begin {
		begin = o.GapTo // what it covers is gone already
	}
	upto := min(o.target, begin+maxForget-1)
	for s := begin; s <= upto; s++ {
		records = append(records, Record{Key: EventKey(s)})
	}
	o.Acked = upto
	o.sent = max(o.sent, upto)
	return append(records, record(keyOutbox, o.outboxRecord)), o.target > o.Acked
}

// delivered notes the end of a delivery.
func (o *outbox) delivered(now time.Time, upto uint64, failed bool) {
	o.inFlight = false
	if failed {
		o.notUntil = now.Add(firstRetry)
		return
	}
	o.sent = max(o.sent, upto)
	o.resendAt = now.Add(ackPatience)
}

// next is the range to send now, false if there is none or one is under way.
func (o *outbox) next(now time.Time) (from, to uint64, ok bool) {
	if o.sent > o.Acked && !o.resendAt.After(now) {
		o.sent = o.Acked
	}
	from = max(o.sent, o.Acked) + 1
	if o.inFlight || from >= o.Next || o.notUntil.After(now) {
		return 0, 0, false
	}
	return from, min(o.Next-1, from+maxBatch-1), true
}
