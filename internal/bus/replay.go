package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

// Each calls f with the messages of a stream that match filter ("" is all), from a sequence on, in order, up to the newest there is when it
// begins or a little beyond. An error of f ends it and is returned.
func (h *Hub) Each(ctx context.Context, name, filter string, from uint64, f func(stream.Message) error) error {
	return h.replay(ctx, name, filter, from, true, f)
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
		m, err := messages.Next(jetstream.NextContext(ctx))
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
