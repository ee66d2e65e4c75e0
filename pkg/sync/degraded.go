package sync

import (
	"fmt"
	"strings"
	"time"
)

// saidDegraded is how many events are kept in memory for a store that takes no writes. Beyond it they are only counted.
const saidDegraded = 500

// maxText bounds every message in an event or a status, in bytes, so that records and reports always fit.
const maxText = 2000

// MaxAssignment is the most bytes of a sealed Assignment, so that what a site must remember of it fits the records of its store.
const MaxAssignment = 96 << 10

// degraded is what is known of a store that takes no writes.
type degraded struct {
	why    string // empty: it takes writes
	since  time.Time
	said   int    // events that wait for it
	unsaid uint64 // events that were only counted
}

// admit says whether one more event may wait for the store.
func (d *degraded) admit() bool {
	switch {
	case d.why == "":
		return true
	case d.said < saidDegraded:
		d.said++
		return true
	}
	d.unsaid++
	return false
}

// storeSeen says once that the store takes no writes, and once that it does again, with what was not recorded meanwhile.
func (e *Edge) storeSeen(now time.Time, why string, out *Effects) {
	before := e.store
	switch {
	case why != "" && before.why != "": // the words change with the free space, the fact does not
		e.store.why = clip(why)
	case why != "":
		e.say(now, out, Event{Kind: EventStoreDegraded, Message: why})
		e.store = degraded{why: clip(why), since: now}
	case before.why != "":
		e.store = degraded{}
		message := fmt.Sprintf("it took no writes for %s", now.Sub(before.since).Round(time.Second))
		if before.unsaid > 0 {
			message += fmt.Sprintf("; %d events of that time are not recorded", before.unsaid)
		}
		e.say(now, out, Event{Kind: EventStoreRecovered, Message: message})
		e.lookAt = now
		for _, h := range e.bundles {
			h.retryAt, h.resumeAt = now, now
		}
		out.Retain = e.retained()
	}
}

// clip bounds foreign text.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
