package sync

import (
	"fmt"
	"time"
)

// Allowance is what one site may send: so much a second in the long run, and so much at once.
type Allowance struct {
	Messages, MessagesAtOnce float64
	Bytes, BytesAtOnce       float64
}

// DefaultAllowance is far above what a site that is well sends. At once it may send its whole outbox twice over, in batches that a bad line made small.
var DefaultAllowance = Allowance{Messages: 10, MessagesAtOnce: 600, Bytes: 1 << 20, BytesAtOnce: 128 << 20}

// Quota is what is left of a site's allowance. It is pure: times are handed in, and one that is before another one counts as the same. One goroutine at a time. The
// zero Quota has everything left.
//
//	Q1  In any span a site takes at most what it may send at once, what the span allows, and one message.
//	Q2  A site that takes more is throttled until it has everything left again, and then is like any other: nothing is remembered against it.
//	Q3  What it does while it is throttled neither lengthens that nor shortens it.
type Quota struct {
	at              time.Time // of the last step
	messages, bytes float64   // taken and not yet allowed again
	throttle        Throttle
}

// Throttle says since when a site is throttled, until when, and why. The zero Throttle is none.
type Throttle struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// Take counts a message of that many bytes. over says that the site is throttled, began that it is from now on.
func (q *Quota) Take(now time.Time, bytes int, a Allowance) (over, began bool) {
	if q.Throttled(now) != nil {
		return true, false
	}
	if passed := now.Sub(q.at).Seconds(); passed > 0 {
		q.messages, q.bytes = max(0, q.messages-passed*a.Messages), max(0, q.bytes-passed*a.Bytes)
		q.at = now
	}
	q.messages, q.bytes = q.messages+1, q.bytes+float64(bytes)
	var why string
	switch {
	case q.messages > a.MessagesAtOnce:
		why = fmt.Sprintf("more than %.0f messages at once and %.0f a second", a.MessagesAtOnce, a.Messages)
	case q.bytes > a.BytesAtOnce:
		why = fmt.Sprintf("more than %.0f bytes at once and %.0f a second", a.BytesAtOnce, a.Bytes)
	default:
		return false, false
	}
	rest := max(q.messages/a.Messages, q.bytes/a.Bytes)
	q.throttle = Throttle{Since: q.at, Until: q.at.Add(time.Duration(rest * float64(time.Second))), Why: why}
	return true, true
}

// Throttled is the throttle in force, or nil.
func (q *Quota) Throttled(now time.Time) *Throttle {
	if !now.Before(q.throttle.Until) {
		return nil
	}
	throttle := q.throttle
	return &throttle
}
