package sync

import "time"

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
