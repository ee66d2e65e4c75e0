package sync

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestT25_TheWallClockIsBelievedInNothing starts a machine with a wall clock of any time: before the hub has spoken it knows that it is later than the
// floor and no more, after it what the hub said plus what the boot clock counted.
func TestT25_TheWallClockIsBelievedInNothing(t *testing.T) {
	noon := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		wall := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "wall"), 0).UTC() // 1970 to 2096
		waited := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "waited"))
		record := clockRecord{Floor: noon, Base: noon, Boot: "before", Up: time.Hour}

		another := clock{clockRecord: record}
		another.begin(wall, Boot{ID: "another", Up: time.Minute})
		now := wall.Add(waited)
		if q := another.quality(now); q != TimeUntrusted {
			t.Fatalf("after a boot nobody told the time, and it is %s", q)
		}
		if got, want := another.time(now), noon.Add(waited); !got.Equal(want) {
			t.Fatalf("at least %s, want the floor and what was waited since: %s", got, want)
		}

		same := clock{clockRecord: record}
		same.begin(wall, Boot{ID: "before", Up: 3 * time.Hour})
		if got, want := same.time(now), noon.Add(2*time.Hour+waited); !got.Equal(want) || same.quality(now) != TimeSinceBoot {
			t.Fatalf("%s (%s), want what the boot clock counted: %s", got, same.quality(now), want)
		}

		floor := another.Floor
		if another.raise(now, floor.Add(-time.Second)) || another.Floor != floor {
			t.Fatal("the floor fell")
		}
		said := floor.Add(time.Duration(rapid.Int64Range(0, int64(20*365*24*time.Hour)).Draw(t, "said")))
		another.prove(now, said)
		if got := another.time(now); !got.Equal(said) || another.quality(now) != TimeTrusted {
			t.Fatalf("%s (%s), want what the hub said: %s", got, another.quality(now), said)
		}
	})
}
