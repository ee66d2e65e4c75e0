package sim

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds = flag.Uint64("seeds", 400, "how many worlds to play")
	tail  = flag.Int("tail", 80, "how many lines of a failing trace to print")
	first = flag.Uint64("seed", 1, "the first seed")
)

// world is the world of a seed: each has its own mixture of trouble.
func world(seed uint64) Config {
	pick := func(n uint64, of ...float64) float64 { return of[(seed/n)%uint64(len(of))] }
	return Config{
		Seed: seed, Sites: 2, Length: 6 * time.Hour,
		Loss: pick(1, 0, 0.1, 0.3), Crash: pick(3, 0, 0.01, 0.05), Cut: pick(9, 0, 0.02, 0.2), Edit: 0.05, Release: pick(27, 0.01, 0.1),
		Evil: pick(54, 0, 0.1), Rejected: pick(108, 0, 0.2), Pending: int(pick(216, 0, 40)), Bad: pick(2, 0, 0.3),
	}
}

// TestP01P03P04P06_FleetUnderFaults plays many worlds. A failing seed prints its trace; repeat it with -seed N -seeds 1.
func TestP01P03P04P06_FleetUnderFaults(t *testing.T) {
	var next atomic.Uint64
	next.Store(*first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < *first+*seeds; seed = next.Add(1) - 1 {
				w := New(world(seed))
				if err := w.Run(); err != nil {
					t.Errorf("%v\n%s", err, w.Tail(*tail))
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d worlds from seed %d", *seeds, *first)
}

// TestSameSeedSameWorld is what makes a failing seed worth keeping.
func TestSameSeedSameWorld(t *testing.T) {
	a, b := New(world(77)), New(world(77))
	if errA, errB := a.Run(), b.Run(); (errA == nil) != (errB == nil) {
		t.Fatalf("%v and %v", errA, errB)
	}
	if a.Tail(1<<20) != b.Tail(1<<20) {
		t.Fatal("two runs of one seed differ")
	}
}
