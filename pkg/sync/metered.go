package sync

import "time"

// gatherFor is how long a site on a metered line gathers what it reports before it sends: each message costs a signature, an acknowledgement and TLS.
const gatherFor = time.Minute

// gather says whether events wait for more of them. A batch that is full does not wait, nor what the hub asked for again.
func (e *Edge) gather(now time.Time) bool {
	o := &e.outbox
	waiting := len(o.entries) - o.at(o.sent+1)
	switch {
	case !e.cfg.Metered || waiting == 0 || waiting >= maxBatch || len(o.wanted) > 0:
		e.gathered = time.Time{}
		return false
	case e.gathered.IsZero():
		e.gathered = now.Add(gatherFor)
	}
	if e.gathered.After(now) {
		return true
	}
	e.gathered = time.Time{}
	return false
}

// snapshotPause is the least time between two snapshots.
func (e *Edge) snapshotPause() time.Duration {
	if e.cfg.Metered {
		return gatherFor
	}
	return snapshotPause
}
