package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

// pulse is a Store that counts what is written and remembers whether the last write was refused.
type pulse struct {
	Store
	now     func() time.Time
	metrics *metrics
	log     *zap.Logger
	mender  *mender

	mu      sync.Mutex
	written time.Time // the last write ended
	refusal error     // of the last write; nil after one that was taken
	since   time.Time
}

// beatEvery is how long the store may go without a write before one is made, so that a store that takes none is noticed without a client.
const beatEvery = 15 * time.Second

// run writes now and then until ctx ends.
func (p *pulse) run(ctx context.Context) {
	every(ctx, beatEvery, func() {
		p.mu.Lock()
		quiet := p.now().Sub(p.written) >= beatEvery
		p.mu.Unlock()
		if !quiet {
			return
		}
		writing, cancel := context.WithTimeout(ctx, beatEvery)
		// What becomes of it is noted by write.
		_, _ = p.Put(writing, pulseSubject, []byte(p.now().UTC().Format(time.RFC3339)))
		cancel()
	})
}

// watchStore has everything that is written counted from now on.
func (h *Hub) watchStore() {
	h.metrics = newMetrics(h)
	h.pulse = &pulse{Store: h.store, now: h.cfg.Now, metrics: h.metrics, log: h.log, mender: h.mender}
	h.store = h.pulse
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.pulse.run(ctx) })
	h.closers = append(h.closers, func() {
		stop()
		running.Wait()
	})
}

func (p *pulse) Put(ctx context.Context, subject string, data []byte) (sequence uint64, err error) {
	return p.write(subject, func() (uint64, error) { return p.Store.Put(ctx, subject, data) })
}

func (p *pulse) PutIf(ctx context.Context, subject string, data []byte, last uint64) (sequence uint64, err error) {
	return p.write(subject, func() (uint64, error) { return p.Store.PutIf(ctx, subject, data, last) })
}

func (p *pulse) CreateAll(ctx context.Context, messages []stream.Message) error {
	if len(messages) == 0 {
		return p.Store.CreateAll(ctx, messages)
	}
	_, err := p.write(messages[0].Subject, func() (uint64, error) { return 0, p.Store.CreateAll(ctx, messages) })
	return err
}

func (p *pulse) write(subject string, write func() (uint64, error)) (uint64, error) {
	begun := time.Now()
	var sequence uint64
	err := p.mender.trouble() // the server would not answer at all
	if err == nil {
		sequence, err = write()
	}
	outcome := outcomeOf(err)
	name := "unknown"
	if rule, noRule := stream.Of(subject); noRule == nil {
		name = rule.Name
	}
	p.metrics.writes.WithLabelValues(name, outcome).Inc()
	p.metrics.writeTook.Observe(time.Since(begun).Seconds())
	p.beat(outcome, err)
	return sequence, err
}

// outcomeOf tells what the store refused from what it could not do. A caller who went away says nothing about the store.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, stream.ErrConflict), errors.Is(err, stream.ErrExists), errors.Is(err, stream.ErrTooLarge), errors.Is(err, stream.ErrDenied):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "failed"
}

func (p *pulse) beat(outcome string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = p.now()
	switch {
	case outcome == "cancelled":
	case outcome != "failed":
		if p.refusal != nil {
			p.log.Info("the store takes writes again")
		}
		p.refusal = nil
	case p.refusal == nil:
		p.log.Error("the store refuses writes", zap.Error(err))
		p.refusal, p.since = err, p.now()
	default:
		p.refusal = err
	}
}

// trouble is why the store does not take writes; nil where the last one was taken.
func (p *pulse) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil {
		return nil
	}
	return fmt.Errorf("store: refuses writes since %s: %w", p.since.UTC().Format(time.RFC3339), p.refusal)
}
