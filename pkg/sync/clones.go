package sync

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// copied begins a new epoch: the hub has events of this one that this store never made, so a copy of the disk is alive, or the disk was put back to
// an earlier time. What is kept is told again under the new epoch, since the hub may have the other's under the same numbers. The hub then hears two
// epochs where a copy is alive (T19).
func (e *Edge) copied(now time.Time, upto uint64, out *Effects) {
	if e.store.why != "" {
		e.known.ack = "" // it is read again when the store takes writes
		return
	}
	made := e.outbox.Next - 1
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s", e.cfg.Seed, e.identity.Epoch))
	e.identity.Epoch = hex.EncodeToString(sum[:16])
	out.Persist = append(out.Persist, record(keyIdentity, e.identity))
	out.Persist = append(out.Persist, e.outbox.anew(e.clock.at(now))...)
	e.say(now, out, Event{Kind: EventCopySeen, Message: fmt.Sprintf("the hub has events up to %d of this epoch, and this store made %d: a copy of its disk is alive, or the disk was put back to an earlier time; a new epoch begins", upto, made)})
}

// anew begins an epoch with what is kept: nothing of it is acknowledged, and a gap event stands for what came before it.
func (o *outbox) anew(at time.Time) []Record {
	o.Acked, o.changed = 0, true
	o.connected()
	if len(o.entries) > 0 && o.entries[0].Sequence == 1 {
		return nil
	}
	before := o.Next - 1
	if len(o.entries) > 0 {
		before = o.entries[0].Sequence - 1
	}
	gap := Event{Sequence: 1, At: at, Kind: EventGap, From: 1, To: before, Reason: LostTail, Message: "this is in the epoch before"}
	r := record(EventKey(gap.Sequence), gap)
	o.insert(0, gap, r)
	return []Record{r}
}

// LiveCopies says whether an older epoch was heard after a newer one began, and after the time settled: two copies of the site are alive.
// at is when that was heard last; a zero settled settles nothing.
func (in *Ingest) LiveCopies(settled time.Time) (older, newer string, at time.Time, alive bool) {
	for i, epoch := range in.epochs {
		for _, later := range in.epochs[i+1:] {
			if epoch.last.After(later.first) && epoch.last.After(settled) && epoch.last.After(at) {
				older, newer, at, alive = epoch.id, later.id, epoch.last, true
			}
		}
	}
	return older, newer, at, alive
}
