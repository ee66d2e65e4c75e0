package edge

import (
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// What may be joined into one commit. A single step may have more, within the store's own limits.
const (
	joinRecords = 1000
	joinBytes   = 256 << 10
)

// backlog is what has yet to become durable, as commits in their order. What belongs together is never torn apart, what comes later never
// becomes durable first, and of a key that is written twice only the newest value is written. So a commit that failed without saying
// whether it happened may be repeated, with more in it.
type backlog struct {
	commits []*commit
}

type commit struct {
	records []fleetsync.Record
	at      map[string]int // of a key in records
	bytes   int
}

func (b *backlog) empty() bool { return len(b.commits) == 0 }

// add puts the records of one step behind what waits already.
func (b *backlog) add(records []fleetsync.Record) {
	size := 0
	for _, r := range records {
		size += len(r.Key) + len(r.Value)
	}
	if n := len(b.commits); n == 0 || len(b.commits[n-1].records)+len(records) > joinRecords || b.commits[n-1].bytes+size > joinBytes {
		b.commits = append(b.commits, &commit{at: map[string]int{}})
	}
	last := b.commits[len(b.commits)-1]
	for _, r := range records {
		last.put(r)
	}
}

func (c *commit) put(r fleetsync.Record) {
	at, known := c.at[r.Key]
	if !known {
		at = len(c.records)
		c.at[r.Key] = at
		c.records = append(c.records, fleetsync.Record{Key: r.Key})
		c.bytes += len(r.Key)
	}
	c.bytes += len(r.Value) - len(c.records[at].Value)
	c.records[at].Value = r.Value
}

// drain commits as much as the store takes.
func (b *backlog) drain(store fleetsync.Store) error {
	for len(b.commits) > 0 {
		if err := store.Commit(b.commits[0].records...); err != nil {
			return err
		}
		b.commits = b.commits[1:]
	}
	return nil
}
