// Package notices carries a link's words to its reader without ever blocking the link.
package notices

import (
	"bytes"
	"slices"
	"sync"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Box holds what the reader has not taken yet: at most the newest up or down, and a few pokes. It may be used concurrently.
type Box struct {
	mu    sync.Mutex
	link  *fleetsync.Notice // newest up or down
	pokes []fleetsync.Notice
	wake  chan struct{}
	out   chan fleetsync.Notice
	done  chan struct{}
	close sync.Once
}

// New starts a box; Close ends it.
func New() *Box {
	b := &Box{wake: make(chan struct{}, 1), out: make(chan fleetsync.Notice), done: make(chan struct{})}
	go b.deliver()
	return b
}

// C is the reader's end. It is closed after Close.
func (b *Box) C() <-chan fleetsync.Notice { return b.out }

// maxPokes is how many pokes wait at most.
const maxPokes = 8

// Put adds a notice: an up or down replaces one that was not taken yet, a poke is folded into one that says the same, and too many into one
// that says nothing.
func (b *Box) Put(n fleetsync.Notice) {
	b.mu.Lock()
	if n.Kind == fleetsync.LinkPoke {
		b.addPoke(n)
	} else {
		b.link = &n
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Box) addPoke(n fleetsync.Notice) {
	same := func(waiting fleetsync.Notice) bool { return bytes.Equal(waiting.Data, n.Data) }
	switch {
	case slices.ContainsFunc(b.pokes, same):
	case len(b.pokes) == maxPokes:
		b.pokes = []fleetsync.Notice{{Kind: fleetsync.LinkPoke}}
	default:
		b.pokes = append(b.pokes, n)
	}
}

// Close ends the box. What was not taken is gone.
func (b *Box) Close() { b.close.Do(func() { close(b.done) }) }

func (b *Box) deliver() {
	defer close(b.out)
	for {
		n, ok := b.take()
		if !ok {
			select {
			case <-b.wake:
				continue
			case <-b.done:
				return
			}
		}
		select {
		case b.out <- n:
		case <-b.wake:
			b.putBack(n)
		case <-b.done:
			return
		}
	}
}

func (b *Box) take() (fleetsync.Notice, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.link; n != nil {
		b.link = nil
		return *n, true
	}
	if len(b.pokes) > 0 {
		n := b.pokes[0]
		b.pokes = b.pokes[1:]
		return n, true
	}
	return fleetsync.Notice{}, false
}

// putBack keeps a notice that was not taken, unless a newer one came meanwhile.
func (b *Box) putBack(n fleetsync.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n.Kind == fleetsync.LinkPoke {
		b.addPoke(n)
	} else if b.link == nil {
		b.link = &n
	}
}
