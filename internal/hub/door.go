package hub

import (
	"sync"
	"time"
)

// Limits of the doors that need no token, in requests. Five hundred devices behind one address get in within two minutes.
const (
	knocksFrom      = 5.0 // a second, from one address
	knocksFromBurst = 100
	knocksAll       = 100.0 // a second, from all
	knocksAllBurst  = 500
	maxAddresses    = 4096 // remembered
)

// bucket is a token bucket: it fills at a rate up to its size, and each use takes one.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(now time.Time, rate float64, size float64) bool {
	if b.at.IsZero() {
		b.left = size
	} else if passed := now.Sub(b.at); passed > 0 {
		b.left = min(size, b.left+passed.Seconds()*rate)
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// door limits who knocks without a token, and how much of what is refused there is written down.
type door struct {
	mu      sync.Mutex
	all     bucket
	from    map[string]*bucket
	written bucket
	missed  int
}

func newDoor() *door { return &door{from: map[string]*bucket{}} }

// admits says whether one more request from the address is let in.
func (d *door) admits(now time.Time, address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, known := d.from[address]
	if !known {
		if len(d.from) >= maxAddresses {
			clear(d.from) // an attacker with many addresses still meets the limit of all
		}
		b = &bucket{}
		d.from[address] = b
	}
	return b.take(now, knocksFrom, knocksFromBurst) && d.all.take(now, knocksAll, knocksAllBurst)
}

// notes says whether a refusal is to be written down, and how many were not since the last that was.
func (d *door) notes(now time.Time) (write bool, missed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.written.take(now, refusalsASecond, refusalsAtOnce) {
		d.missed++
		return false, 0
	}
	missed, d.missed = d.missed, 0
	return true, missed
}
