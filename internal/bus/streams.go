package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
)

// StreamOptions are what an operator may choose about the streams.
type StreamOptions struct {
	// Replicas is how many nodes of a cluster keep each stream. 0 is three in a cluster, or what a stream has above that, and one elsewhere.
	Replicas int
	EventAge time.Duration // how long events are kept; 0 is stream.DefaultEventAge
	// EventBytes bounds the stream of events; a full one refuses new events and keeps the old. 0 is no bound.
	EventBytes int64
}

// EnsureStreams makes the streams that are missing, adjusts what StreamOptions say, and refuses a bus whose streams have other rules.
func (h *Hub) EnsureStreams(ctx context.Context, o StreamOptions) error {
	atLeast := o.Replicas == 0
	if atLeast {
		o.Replicas = 1
		if h.clustered() {
			o.Replicas = clusterReplicas
		}
	}
	if o.EventAge == 0 {
		o.EventAge = stream.DefaultEventAge
	}
	if o.EventBytes == 0 {
		o.EventBytes = -1
	}
	var problems []error
	for _, rule := range stream.Rules {
		if err := h.ensure(ctx, streamConfig(rule, o), atLeast); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// clusterReplicas are what outlasts the loss of one node.
const clusterReplicas = 3

func streamConfig(rule stream.Rule, o StreamOptions) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: rule.Name, Description: "holdfast: " + rule.Purpose, Subjects: rule.Subjects,
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: o.Replicas,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: stream.MaxMessage, MaxConsumers: -1,
		AllowDirect: true,
		// Message ids are not used; a short window keeps a site from filling memory with its own.
		Duplicates: time.Second,
	}
	switch rule.Keep {
	case stream.Newest:
		c.MaxMsgsPerSubject, c.Discard = 1, jetstream.DiscardOld
	case stream.First:
		c.MaxMsgsPerSubject, c.Discard, c.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
	case stream.All:
		c.Discard, c.MaxAge, c.MaxBytes = jetstream.DiscardNew, o.EventAge, o.EventBytes
	case stream.Ever:
		c.Discard = jetstream.DiscardNew
	}
	return c
}

// ensure makes or adjusts a stream; atLeast leaves it more replicas than wanted.
func (h *Hub) ensure(ctx context.Context, want jetstream.StreamConfig, atLeast bool) error {
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	s, err := h.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err := h.js.CreateStream(ctx, want); err != nil {
			return fmt.Errorf("stream %s: make: %w", want.Name, replicasRefused(err, want.Replicas))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", want.Name, line.Meaning(err))
	}
	have := s.CachedInfo().Config
	if atLeast {
		want.Replicas = max(want.Replicas, have.Replicas)
	}
	if err := compare(have, want); err != nil {
		return err
	}
	if have.Replicas == want.Replicas && have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes && have.Description == want.Description {
		return nil
	}
	if _, err := h.js.UpdateStream(ctx, want); err != nil {
		return fmt.Errorf("stream %s: change replicas, age or size: %w", want.Name, replicasRefused(err, want.Replicas))
	}
	return nil
}

// replicasRefused says what to do where the bus has not as many nodes as there shall be replicas.
func replicasRefused(err error, replicas int) error {
	var api *jetstream.APIError
	if replicas > 1 && errors.As(err, &api) && slices.Contains([]jetstream.ErrorCode{codeNoPeers, codeNoResources, codeNotClustered}, api.ErrorCode) {
		return fmt.Errorf("%d replicas: %w: hint: start as many nodes of the NATS cluster with JetStream, or choose fewer with --replicas", replicas, err)
	}
	return line.Meaning(err)
}

// Codes of JetStream's errors for nodes that are not there.
const (
	codeNoPeers      = 10005
	codeNoResources  = 10023
	codeNotClustered = 10074
)

// compare says in plain words what of a stream's rules is not as the bus promises.
func compare(have, want jetstream.StreamConfig) error {
	var differs []error
	check := func(same bool, what string, has, wants any) {
		if !same {
			differs = append(differs, fmt.Errorf("stream %s: %s is %v, want %v", want.Name, what, has, wants))
		}
	}
	check(slices.Equal(have.Subjects, want.Subjects), "list of subjects", have.Subjects, want.Subjects)
	check(have.Storage == want.Storage, "storage", have.Storage, want.Storage)
	check(have.Retention == want.Retention, "retention", have.Retention, want.Retention)
	check(have.Discard == want.Discard, "discard policy", have.Discard, want.Discard)
	check(have.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "messages kept per subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	check(have.DiscardNewPerSubject == want.DiscardNewPerSubject, "refusal of a second message per subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject)
	check(have.MaxMsgs == want.MaxMsgs, "limit of messages", have.MaxMsgs, want.MaxMsgs)
	check(have.MaxMsgSize == want.MaxMsgSize, "limit of a message's bytes", have.MaxMsgSize, want.MaxMsgSize)
	check(have.AllowDirect, "direct reading", have.AllowDirect, true)
	check(!have.AllowRollup, "permission to roll up", have.AllowRollup, false)
	check(!have.AllowMsgTTL, "expiry by message", have.AllowMsgTTL, false)
	check(!have.AllowMsgSchedules, "scheduling by message", have.AllowMsgSchedules, false)
	check(!have.AllowMsgCounter, "counters", have.AllowMsgCounter, false)
	check(!have.NoAck, "silence instead of acknowledgements", have.NoAck, false)
	check(!have.Sealed, "seal", have.Sealed, false)
	check(have.PersistMode == jetstream.DefaultPersistMode, "persistence", have.PersistMode, jetstream.DefaultPersistMode)
	check(have.RePublish == nil && have.SubjectTransform == nil && have.Mirror == nil && len(have.Sources) == 0,
		"republishing, transforming, mirroring or sourcing", "on", "off")
	if len(differs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: hint: another program made or changed this stream; give Holdfast an account of its own", errors.Join(differs...))
}

// Replicas says on how many nodes a stream is kept.
func (h *Hub) Replicas(ctx context.Context, name string) (int, error) {
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	s, err := h.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", name, line.Meaning(err))
	}
	return s.CachedInfo().Config.Replicas, nil
}
