package bus

import (
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
)

// turnstile is what connections of the network wait at before their TLS handshake: for the hub to be ready for them, and for those before them. A fleet that
// comes back at once is let in one by one, and costs no handshakes that end in a timeout. The hub's own connection does not come by it.
type turnstile struct {
	opened, shut chan struct{} // closed once
	open, close  sync.Once

	mu   sync.Mutex
	next time.Time // when the next one may go through
}

// turnPace is the pause between two connections, turnPatience how long one waits: what it has for the handshake is then used up.
const (
	turnPace     = time.Millisecond
	turnPatience = line.Handshake
)

var (
	errNotOpen = errors.New("the hub is not ready for sites yet")
	errTooMany = errors.New("too many connections wait for a handshake")
)

func newTurnstile(held bool) *turnstile {
	t := &turnstile{opened: make(chan struct{}), shut: make(chan struct{})}
	if !held {
		t.admit()
	}
	return t
}

// admit lets in who waits, and who comes from now on.
func (t *turnstile) admit() { t.open.Do(func() { close(t.opened) }) }

// end turns everybody away.
func (t *turnstile) end() { t.close.Do(func() { close(t.shut) }) }

// pass returns when a connection may shake hands; an error says that it is turned away.
func (t *turnstile) pass() error {
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	select {
	case <-t.opened:
	case <-t.shut:
		return errNotOpen
	case <-patience.C:
		return errNotOpen
	}
	turn := t.turn(time.Now())
	if turn <= 0 {
		return nil
	}
	if turn > turnPatience {
		return errTooMany
	}
	select {
	case <-time.After(turn):
		return nil
	case <-t.shut:
		return errNotOpen
	case <-patience.C:
		return errTooMany
	}
}

// turn takes the next place and says how long until then.
func (t *turnstile) turn(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next.Before(now) {
		t.next = now
	}
	wait := t.next.Sub(now)
	if wait <= turnPatience {
		t.next = t.next.Add(turnPace)
	}
	return wait
}

// guard is a configuration whose handshakes pass the gate first.
func (t *turnstile) guard(config *tls.Config) *tls.Config {
	guarded, before := config.Clone(), config.GetConfigForClient
	guarded.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if err := t.pass(); err != nil {
			return nil, err
		}
		if before != nil {
			return before(hello)
		}
		return nil, nil
	}
	return guarded
}
