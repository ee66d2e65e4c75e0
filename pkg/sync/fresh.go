package sync

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// TypeFresh is the message type of a Fresh.
const TypeFresh = "fresh/v1"

// Fresh is signed by the hub and comes as the payload of a poke: what is newest for the site. As the answer to the nonce of a Hello it also says
// what time it is now; without a nonce it only spares the site a look.
type Fresh struct {
	Site  bundle.SiteID `json:"site"`
	Nonce string        `json:"nonce,omitempty"` // of the Hello that it answers
	Time  time.Time     `json:"time"`            // by the hub's clock
	Root  uint64        `json:"root,omitempty"`  // version of the newest root of trust
	// Targets is the version of its trust document.
	Targets uint64 `json:"targets,omitempty"`
	// Assignment is the sequence of the site's newest assignment; 0: it has none.
	Assignment uint64 `json:"assignment"`
	// Ack is what the hub has of the site's events; nil: of none.
	Ack *Ack `json:"ack,omitempty"`
	// Reads names the ways of compression that the hub reads in reports (Packed), in answers to a nonce.
	Reads []string `json:"reads,omitempty"`
	// Note is a Note of the site that is newer than the one its Hello knows of (T3).
	Note json.RawMessage `json:"note,omitempty"`
}

// NonceSize is the length of a nonce: hex digits.
const NonceSize = 32

// AskPatience is how long a site waits for the answer to its nonce.
const AskPatience = 30 * time.Second

// The pauses of asking what is fresh.
const (
	againPause  = 250 * time.Millisecond
	againTries  = 5
	trustMargin = 24 * time.Hour // how long before the proof of its root of trust ends a site no longer puts the safety look off
)

// freshness is what is known of how new the desired state is.
type freshness struct {
	askAt  time.Time
	nonce  string // of the question that waits for its answer
	former string // the one before, if it had no answer yet
	asked  time.Time
	count  uint64    // of nonces made in this life
	asOf   time.Time // the hub's time of the newest proof that the site has the newest assignment
	newest uint64    // sequence that the hub last said is the newest
	root   uint64    // version that the hub last said is the newest
	said   uint64    // highest sequence that the hub has signed in any statement
	again  int       // looks that did not find it
	stale  string    // why the desired state is not proven to be the newest; empty: nothing speaks against it
}

// nonce makes one that nobody can foresee who does not know the seed.
func (e *Edge) nonce() string {
	e.fresh.count++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", e.cfg.Seed, e.fresh.count))
	return hex.EncodeToString(sum[:])[:NonceSize]
}

// ask puts a nonce into a hello, when it is time to.
func (e *Edge) ask(now time.Time, hello *Hello) {
	if e.fresh.askAt.After(now) || e.cfg.Seed == "" {
		return
	}
	e.fresh.former = e.fresh.nonce
	e.fresh.nonce, e.fresh.asked, e.fresh.askAt = e.nonce(), now, now.Add(e.cfg.AskEvery)
	hello.Nonce, hello.Note = e.fresh.nonce, e.note.Number
}

// poked looks again, unless the hub's signed word says that there is nothing to see.
func (e *Edge) poked(now time.Time, in Poked, out *Effects) {
	var f Fresh
	if len(in.Statement) == 0 || OpenBy(TypeFresh, in.Statement, e.cfg.HubKeys, &f) != nil || f.Site != e.cfg.Site {
		e.lookAt = now
		return
	}
	e.raiseFloor(now, f.Time, out)
	if f.Assignment > e.fresh.said {
		e.fresh.said, e.fresh.again = f.Assignment, 0
	}
	e.echoed(now, f.Note, out)
	switch {
	case f.Nonce == "" || f.Nonce == e.fresh.former:
	case f.Nonce == e.fresh.nonce && now.Sub(e.fresh.asked) <= AskPatience:
		e.answered(now, f, out)
	default:
		// An answer to something else: late, or replayed by whoever wants the site to believe that nothing is new (T5). It proves nothing.
		if e.fresh.nonce != "" {
			e.nowStale(now, "the hub's statement was heard before: replayed or late", out)
		}
	}
	if f.Ack != nil && f.Ack.Site == e.cfg.Site && f.Ack.Epoch == e.identity.Epoch {
		e.acknowledged(now, *f.Ack, out)
	}
	switch {
	case e.store.why != "":
	case f.Root > e.trust.Root || f.Targets > e.trust.Targets:
		e.lookAt = now
	case f.Assignment > e.sequence():
		e.ordered = f.Assignment
	}
}

// answered takes the hub's fresh word.
func (e *Edge) answered(now time.Time, f Fresh, out *Effects) {
	e.fresh.nonce, e.note.alone, e.packs = "", false, slices.Contains(f.Reads, Packed)
	before := e.clock.quality(now)
	e.reached(now, e.fresh.asked, out)
	if e.clock.prove(now, f.Time) {
		out.Persist = append(out.Persist, record(keyClock, e.clock.clockRecord))
	}
	if before == TimeUntrusted {
		e.snapshot.dirty = true
		for _, h := range e.bundles { // what was refused for the time may be right
			if h.Phase == PhaseRefused && (h.Reason == string(verify.KeyOutsideWindow) || h.Reason == string(verify.Expired)) {
				h.retryAt, h.refused = now, false
			}
		}
	}
	e.fresh.newest, e.fresh.root = f.Assignment, f.Root
	if f.Assignment > e.sequence() || e.trustEnds(now) || e.owed() {
		return // it is not stale before a look does not find it
	}
	e.fresh.asOf = e.clock.time(now)
	e.nowFresh()
	if e.lookAt.After(now) && !e.looking { // nothing is new: the safety look can wait
		e.lookAt = now.Add(lookEvery)
	}
}

// sequence is the assignment's that the site has.
func (e *Edge) sequence() uint64 {
	if e.assignment == nil {
		return 0
	}
	return e.assignment.Sequence
}

// raiseFloor takes a signed time.
func (e *Edge) raiseFloor(now, signed time.Time, out *Effects) {
	was := e.clock.Floor
	if e.clock.raise(now, signed) && signed.Sub(was) >= storeEvery {
		out.Persist = append(out.Persist, record(keyClock, e.clock.clockRecord))
	}
}

// doubt says that a question for what is fresh was not answered in time.
func (e *Edge) doubt(now time.Time, out *Effects) {
	if e.fresh.nonce != "" && now.Sub(e.fresh.asked) >= AskPatience {
		e.fresh.nonce, e.note.alone = "", false
		e.nowStale(now, "the hub did not prove what is newest", out)
	}
}

// behind looks again soon, a few times, where a look found an older assignment than the hub has signed for: any replica of the bus answers a look, and one that
// lags answers with what was true before (F24). What was found and refused is not behind.
func (e *Edge) behind(now time.Time, found []byte) bool {
	if !e.owed() || e.store.why != "" || found != nil && e.refused == string(bundle.DigestOf(found)) {
		return false
	}
	if again := now.Add(againPause << e.fresh.again); again.Before(e.lookAt) {
		e.lookAt = again
	}
	e.fresh.again++
	return true
}

// owed says that the hub has signed for a newer assignment, which looks may find yet.
func (e *Edge) owed() bool { return e.fresh.said > e.sequence() && e.fresh.again < againTries }

// compare holds what a look found against what the hub said is newest.
func (e *Edge) compare(now time.Time, out *Effects) {
	switch {
	case e.clock.proven.IsZero() || !e.lookAt.After(now) || e.ordered > e.sequence(): // nothing was said, or another look is due that may find more
	case e.fresh.newest > e.sequence():
		e.nowStale(now, fmt.Sprintf("the hub says that assignment %d is the newest, and what could be taken is %d", e.fresh.newest, e.sequence()), out)
	case e.clock.time(e.clock.proven).After(e.fresh.asOf):
		e.fresh.asOf = e.clock.time(e.clock.proven)
		e.nowFresh()
	}
}

func (e *Edge) nowStale(now time.Time, why string, out *Effects) {
	if e.fresh.stale == why {
		return
	}
	e.fresh.stale = why
	e.say(now, out, Event{Kind: EventStale, Message: why})
}

func (e *Edge) nowFresh() {
	if e.fresh.stale != "" {
		e.fresh.stale = ""
		e.snapshot.dirty = true
	}
}
