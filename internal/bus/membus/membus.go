// Package membus is the in-memory twin of internal/bus: hub and links in one process, with faults under the test's control.
//
// It keeps the rules of package stream and runs the suite of bustest. What it does, it does within the call, so that a test knows what
// has happened when the call returns.
package membus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Call is one thing a link asks of the bus.
type Call struct {
	Site    bundle.SiteID
	Op      Op
	Subject string
}

// Op is a kind of Call.
type Op string

// The calls.
const (
	OpGet    Op = "get"
	OpReport Op = "report"
	OpHello  Op = "hello"
)

// Outcome is what becomes of a Call.
type Outcome int

// The outcomes.
const (
	Pass       Outcome = iota
	Lose               // does not arrive; the caller waits until its context ends
	LoseAnswer         // arrives, and the caller waits for an answer until its context ends
	Twice              // arrives twice
)

// Bus is the hub's side. It may be used concurrently.
type Bus struct {
	now func() time.Time

	mu      sync.Mutex
	logs    map[string]*memory
	changed chan struct{} // closed and replaced when something is stored
	links   map[bundle.SiteID][]*Link
	cut     map[bundle.SiteID]bool
	hellos  map[int]func(bundle.SiteID, []byte)
	fault   func(Call) Outcome
	next    int
}

// memory is one stream.
type memory struct {
	rule     stream.Rule
	last     uint64
	messages []stream.Message
}

// New gives an empty bus. now stamps the messages; nil is the wall clock.
func New(now func() time.Time) *Bus {
	if now == nil {
		now = time.Now
	}
	b := &Bus{now: now, logs: map[string]*memory{}, changed: make(chan struct{}), links: map[bundle.SiteID][]*Link{},
		cut: map[bundle.SiteID]bool{}, hellos: map[int]func(bundle.SiteID, []byte){}}
	for _, r := range stream.Rules {
		b.logs[r.Name] = &memory{rule: r}
	}
	return b
}

// Fault asks f what becomes of each call of a link from now on; nil lets all pass. f may block, which delays the call.
func (b *Bus) Fault(f func(Call) Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = f
}

// Cut breaks the links of a site and keeps new ones from coming up.
func (b *Bus) Cut(site bundle.SiteID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut[site] = true
	for _, l := range b.links[site] {
		l.breakOff(errors.New("cut"))
	}
}

// Mend lets a site's links come up again.
func (b *Bus) Mend(site bundle.SiteID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.cut, site)
	for _, l := range b.links[site] {
		l.comeUp()
	}
}

// Put stores a message as the newest of its subject, or as the only one where the stream keeps the first.
func (b *Bus) Put(ctx context.Context, subject string, data []byte) (uint64, error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return 0, err
	}
	if rule.Keep == stream.First {
		return b.Create(ctx, subject, data)
	}
	return b.store(subject, data, nil)
}

// Create stores the first message of a subject, or says stream.ErrExists.
func (b *Bus) Create(ctx context.Context, subject string, data []byte) (uint64, error) {
	n, err := b.PutIf(ctx, subject, data, 0)
	if errors.Is(err, stream.ErrConflict) {
		return 0, fmt.Errorf("%s: %w", subject, stream.ErrExists)
	}
	return n, err
}

// PutIf stores a message if the newest of its subject still has the sequence last, 0 for none, or says stream.ErrConflict.
func (b *Bus) PutIf(_ context.Context, subject string, data []byte, last uint64) (uint64, error) {
	return b.store(subject, data, &last)
}

// CreateAll stores the first messages of many subjects, up to the first that fails.
func (b *Bus) CreateAll(ctx context.Context, messages []stream.Message) error {
	for _, m := range messages {
		if _, err := b.Create(ctx, m.Subject, m.Data); err != nil {
			return fmt.Errorf("store %s: %w", m.Subject, err)
		}
	}
	return nil
}

func (b *Bus) store(subject string, data []byte, last *uint64) (uint64, error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return 0, err
	}
	if len(data) > stream.MaxMessage {
		return 0, fmt.Errorf("%s: %w: %d bytes, at most %d", subject, stream.ErrTooLarge, len(data), stream.MaxMessage)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.logs[rule.Name]
	newest, _ := m.newest(subject)
	if last != nil && newest.Sequence != *last {
		return 0, fmt.Errorf("store %s: %w", subject, stream.ErrConflict)
	}
	if rule.Keep == stream.First && newest.Sequence != 0 {
		return 0, fmt.Errorf("store %s: %w", subject, stream.ErrExists)
	}
	if rule.Keep == stream.Newest {
		m.remove(subject)
	}
	m.last++
	m.messages = append(m.messages, stream.Message{Subject: subject, Sequence: m.last, Time: b.now(), Data: slices.Clone(data)})
	close(b.changed)
	b.changed = make(chan struct{})
	return m.last, nil
}

func (m *memory) newest(subject string) (stream.Message, bool) {
	for _, x := range slices.Backward(m.messages) {
		if x.Subject == subject {
			return x, true
		}
	}
	return stream.Message{}, false
}

func (m *memory) remove(pattern string) {
	m.messages = slices.DeleteFunc(m.messages, func(x stream.Message) bool { return stream.Matches(pattern, x.Subject) })
}

// Get gives the newest message of a subject, or fleetsync.ErrNotFound.
func (b *Bus) Get(_ context.Context, subject string) (stream.Message, error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return stream.Message{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.logs[rule.Name].newest(subject)
	if !ok {
		return stream.Message{}, fmt.Errorf("%s: %w", subject, fleetsync.ErrNotFound)
	}
	x.Data = slices.Clone(x.Data)
	return x, nil
}

// Delete removes all messages of a stream whose subject matches.
func (b *Bus) Delete(_ context.Context, name, subject string) error {
	if _, err := stream.Named(name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs[name].remove(subject)
	return nil
}

// DeleteUpTo removes the messages up to a sequence whose subject matches.
func (b *Bus) DeleteUpTo(_ context.Context, name, subject string, last uint64) error {
	if _, err := stream.Named(name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.logs[name]
	log.messages = slices.DeleteFunc(log.messages, func(x stream.Message) bool { return x.Sequence <= last && stream.Matches(subject, x.Subject) })
	return nil
}

// Each calls f with the messages there are that match filter, from a sequence on.
func (b *Bus) Each(_ context.Context, name, filter string, from uint64, f func(stream.Message) error) error {
	found, _, err := b.since(name, filter, from)
	if err != nil {
		return err
	}
	for _, m := range found {
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

// Follow calls f with the messages of a stream from a sequence on, for ever.
func (b *Bus) Follow(ctx context.Context, name string, from uint64, f func(stream.Message) error) error {
	for {
		found, changed, err := b.since(name, "", from)
		if err != nil {
			return err
		}
		for _, m := range found {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := f(m); err != nil {
				return err
			}
			from = m.Sequence + 1
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *Bus) since(name, filter string, from uint64) (found []stream.Message, changed chan struct{}, err error) {
	if _, err := stream.Named(name); err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.logs[name].messages {
		if m.Sequence >= from && (filter == "" || stream.Matches(filter, m.Subject)) {
			m.Data = slices.Clone(m.Data)
			found = append(found, m)
		}
	}
	return found, b.changed, nil
}

// Poke tells a site, where it is connected, that there is something new for it.
func (b *Bus) Poke(site bundle.SiteID) error { return b.Answer(site, nil) }

// Answer pokes a site with a statement.
func (b *Bus) Answer(site bundle.SiteID, statement []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links[site] {
		if l.up != nil {
			l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkPoke, Data: slices.Clone(statement)})
		}
	}
	return nil
}

// OnHello calls f with each heartbeat until stop is called.
func (b *Bus) OnHello(f func(site bundle.SiteID, data []byte)) (stop func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	id := b.next
	b.hellos[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.hellos, id)
	}, nil
}

// hello hands a heartbeat on.
func (b *Bus) hello(site bundle.SiteID, data []byte) {
	b.mu.Lock()
	fs := make([]func(bundle.SiteID, []byte), 0, len(b.hellos))
	for _, f := range b.hellos {
		fs = append(fs, f)
	}
	b.mu.Unlock()
	for _, f := range fs {
		f(site, slices.Clone(data))
	}
}

func (b *Bus) outcome(c Call) Outcome {
	b.mu.Lock()
	f := b.fault
	b.mu.Unlock()
	if f == nil {
		return Pass
	}
	return f(c)
}
