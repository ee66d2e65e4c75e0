package sim

import (
	"testing"
	"time"
)

// TestT03_NotesAreRightThroughEveryCrash: agents die at every effect, disks take no writes, and notes and their answers are lost. No site takes its disk or its note
// for one that was put back, which neither is, and in the end the note in the cluster has every counter that was accepted.
func TestT03_NotesAreRightThroughEveryCrash(t *testing.T) {
	for seed := range uint64(24) {
		c := Config{Seed: seed, Sites: 2, Length: 2 * time.Hour, Notes: true, Loss: 0.2, Crash: 0.05, Cut: 0.02, Edit: 0.02, Release: 0.1, Disk: 0.01, Clock: 0.3}
		if seed%3 == 0 {
			c.Damage = 0.01
		}
		w := run(t, c, func(*World) {})
		for _, s := range w.sites {
			if len(s.note) == 0 {
				t.Errorf("seed %d: %s has no note", seed, s.id)
			}
		}
	}
}
