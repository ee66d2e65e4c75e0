package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

// Each calls f with the messages of a stream that match filter ("" is all), from a sequence on, in order, up to the newest there is when it
// begins or a little beyond. An error of f ends it and is returned.
//
// Where the server falls silent before the end, because a damaged block makes it wait for a message it no longer has, the rest is asked for one by one and
// what cannot be read is left out: whoever counts will notice.
func (h *Hub) Each(ctx context.Context, name, filter string, from uint64, f func(stream.Message) error) error {
	next := max(from, 1)
	err := h.replay(ctx, name, filter, from, true, func(m stream.Message) error {
		next = m.Sequence + 1
		return f(m)
	})
	if !errors.Is(err, errSilent) {
		return err
	}
	h.log.Warn("the server falls silent: reading one by one", zap.String("stream", name), zap.Uint64("next", next))
	return h.eachBySequence(ctx, name, filter, next, f)
}

// errSilent says that there is more, and it does not come.
var errSilent = errors.New("the server falls silent")

// silence is how long the next message of a replay may take.
const silence = 3 * time.Second

func (h *Hub) eachBySequence(ctx context.Context, name, filter string, next uint64, f func(stream.Message) error) error {
	s, err := h.stream(ctx, name)
	if err != nil {
		return err
	}
	_, last, err := h.Count(ctx, name)
	if err != nil {
		return err
	}
	for ; next <= last; next++ {
		m, err := s.GetMsg(ctx, next)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || filter != "" && !stream.Matches(filter, m.Subject) {
			continue
		}
		if err := f(stream.Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Data: m.Data}); err != nil {
			return err
		}
	}
	return nil
}

// Follow calls f with the messages of a stream from a sequence on, in order, for ever. It outlasts lost connections and restarts of the
// server; no message comes twice and none is left out that is still in the stream. It returns the error of f or of the context.
func (h *Hub) Follow(ctx context.Context, name string, from uint64, f func(stream.Message) error) error {
	next := from
	for {
		var failed error
		err := h.replay(ctx, name, "", next, false, func(m stream.Message) error {
			if failed = f(m); failed == nil {
				next = m.Sequence + 1
			}
			return failed
		})
		if failed != nil {
			return failed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h.log.Warn("following a stream: will go on", zap.String("stream", name), zap.Uint64("next", next), zap.Error(err))
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (h *Hub) replay(ctx context.Context, name, filter string, from uint64, toEnd bool, f func(stream.Message) error) error {
	config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	if filter != "" {
		config.FilterSubjects = []string{filter}
	}
	if from > 1 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	consumer, err := h.js.OrderedConsumer(ctx, name, config)
	if err != nil {
		return fmt.Errorf("replay %s: %w", name, line.Meaning(err))
	}
	if toEnd && consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("replay %s: %w", name, line.Meaning(err))
	}
	defer messages.Stop()
	for {
		waiting, cancel := ctx, func() {}
		if toEnd {
			waiting, cancel = context.WithTimeout(ctx, silence)
		}
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if toEnd && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return errSilent
		}
		if err != nil {
			return fmt.Errorf("replay %s: %w", name, line.Meaning(err))
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("replay %s: %w", name, err)
		}
		if err := f(stream.Message{Subject: m.Subject(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Data: m.Data()}); err != nil {
			return err
		}
		if toEnd && meta.NumPending == 0 {
			return nil
		}
	}
}
