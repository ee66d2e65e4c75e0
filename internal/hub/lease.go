package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// lease is leadership among hubs that share a bus: one record, swapped by compare-and-swap. No two clocks are ever compared. Its holder counts from
// before it wrote the record, everybody else from after they saw it, and only a record that did not change for a whole span is taken over, with
// a higher token. A holder that was paused and does not know yet is kept out by what it writes: see rollouts.
type lease struct {
	store   Store
	holder  string
	span    time.Duration
	alone   bool // the bus is our own: whoever stands in the record is dead
	log     *zap.Logger
	changed func() // called after the lease was won or lost, or won again after it ran out

	trying sync.Mutex // guards seen and since
	seen   uint64     // sequence of the record that was seen last
	since  time.Time

	mu    sync.Mutex
	token uint64
	until time.Time // held before it
	seq   uint64    // of our own record
	asked time.Time // the bus answered; zero: not when it was asked last
	there time.Time // since then it answered every time
}

// leaseRecord is what leaderSubject holds.
type leaseRecord struct {
	Holder string `json:"holder"` // empty: given back
	Token  uint64 `json:"token"`
}

// held is the fencing token of the lease, while it is ours.
func (l *lease) held() (token uint64, ours bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token, time.Now().Before(l.until)
}

// run takes, renews and watches the lease until ctx ends, and gives it back then.
func (l *lease) run(ctx context.Context) {
	ticker := time.NewTicker(l.span / 4)
	defer ticker.Stop()
	for {
		if err := l.try(ctx, 0); err != nil && ctx.Err() == nil {
			l.log.Warn("lease of the rollouts", zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			l.release()
			return
		}
	}
}

// try renews the lease, or takes it where it is free. Its token is then above the given one.
func (l *lease) try(ctx context.Context, above uint64) error {
	l.trying.Lock()
	defer l.trying.Unlock()
	begun := time.Now()
	record, seq, err := l.read(ctx)
	l.reached(begun, err)
	if err != nil {
		return err
	}
	if seq != l.seen {
		l.seen, l.since = seq, begun
	}
	l.mu.Lock()
	ours := seq != 0 && seq == l.seq
	l.mu.Unlock()
	if free := seq == 0 || record.Holder == "" || l.alone || begun.Sub(l.since) >= l.span; !ours && !free {
		l.set(0, time.Time{}, 0)
		return nil
	}
	next := leaseRecord{Holder: l.holder, Token: record.Token}
	if !ours || record.Token <= above {
		next.Token = max(record.Token, above) + 1
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	seq, err = l.store.PutIf(ctx, leaderSubject, raw, seq)
	if errors.Is(err, stream.ErrConflict) {
		l.set(0, time.Time{}, 0)
		return nil
	}
	if err != nil {
		return err // perhaps it was written: the next try sees a record of ours that it does not know, and waits for it to run out
	}
	l.seen, l.since = seq, begun
	l.set(next.Token, begun.Add(l.span), seq)
	return nil
}

// reached notes whether the bus answered a question asked at a time.
func (l *lease) reached(asked time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.asked = time.Time{}
		return
	case asked.Sub(l.asked) > l.span: // for the first time, or after a failure or a pause
		l.there = asked
	}
	l.asked = asked
}

// attached is for how long this hub was never away from the bus: what sites said in that time it heard.
func (l *lease) attached() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		return 0
	}
	return time.Since(l.there)
}

func (l *lease) read(ctx context.Context) (record leaseRecord, seq uint64, err error) {
	m, err := l.store.Get(ctx, leaderSubject)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return record, 0, nil
	}
	if err != nil {
		return record, 0, err
	}
	return record, m.Sequence, decodeRecord(m.Data, &record)
}

func (l *lease) set(token uint64, until time.Time, seq uint64) {
	l.mu.Lock()
	changed := token != l.token || token != 0 && !time.Now().Before(l.until) // it ran out in between, and others may have thought so
	l.token, l.until, l.seq = token, until, seq
	l.mu.Unlock()
	if changed {
		l.changed()
	}
}

// release gives the lease back, so that another hub need not wait.
func (l *lease) release() {
	l.mu.Lock()
	token, seq := l.token, l.seq
	l.token, l.until, l.seq = 0, time.Time{}, 0
	l.mu.Unlock()
	if seq == 0 {
		return
	}
	raw, err := json.Marshal(leaseRecord{Token: token})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := l.store.PutIf(ctx, leaderSubject, raw, seq); err != nil {
		l.log.Debug("lease not given back: others wait until it runs out", zap.Error(err))
	}
}
