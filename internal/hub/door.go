package hub

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of the doors that need no token, in requests. Five hundred devices behind one address get in within two minutes.
const (
	knocksFrom      = 5.0 // a second, from one address
	knocksFromBurst = 100
	knocksAll       = 100.0 // a second, from all
	knocksAllBurst  = 500
)

// door limits who knocks without a token, and how much of what is refused there is written down.
type door struct {
	all  *rate.Limiter
	from *limiter

	mu      sync.Mutex
	written *rate.Limiter
	missed  int
}

func newDoor() *door {
	return &door{
		all: rate.NewLimiter(knocksAll, knocksAllBurst), from: newLimiter(knocksFrom, knocksFromBurst), written: rate.NewLimiter(refusalsASecond, refusalsAtOnce),
	}
}

// admits says whether one more request from the address is let in.
func (d *door) admits(now time.Time, address string) bool {
	return d.from.of(address).AllowN(now, 1) && d.all.AllowN(now, 1)
}

// notes says whether a refusal is to be written down, and how many were not since the last that was.
func (d *door) notes(now time.Time) (write bool, missed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.written.AllowN(now, 1) {
		d.missed++
		return false, 0
	}
	missed, d.missed = d.missed, 0
	return true, missed
}
