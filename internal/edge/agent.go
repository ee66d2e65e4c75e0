// Package edge is the shell of the agent: it carries out what fleetsync.Edge decides, over the store, the link and the site's cluster.
//
// One goroutine, Run, gives inputs to the core and carries out its effects in their order; whatever takes time (fetching, applying,
// sending) runs beside it and comes back as an input. What must work with a broken disk or no link – correcting drift – waits for neither.
package edge

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Workloads keeps bundles in the site's cluster. KubeWorkloads does.
type Workloads interface {
	// Start begins to watch the cluster. What is seen goes to sink, which never blocks: ClusterSeen, HealthSeen, DriftSeen and Corrected.
	Start(ctx context.Context, sink func(fleetsync.Input))
	// Run applies and watches, or removes.
	Run(ctx context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error)) fleetsync.Ran
	// Correct asks for one object to be put back, without waiting; the answer is a Corrected.
	Correct(correct fleetsync.Correct)
}

// Options are the parts of an Agent.
type Options struct {
	Site       *fleetsync.SiteFile
	Trust      *verify.Trust
	Signatures verify.Signatures
	Store      fleetsync.Store
	Link       fleetsync.Link
	Workloads  Workloads
	// Marks are counters that were found outside the store.
	Marks verify.Counters
	// SaveMarks makes counters durable outside the store, before a bundle that raised them is applied.
	SaveMarks func(verify.Counters) error
	// Damage, if not empty, says that an earlier store was damaged and set aside.
	Damage  string
	Keys    Keys
	Version string
	Epoch   string // for a new store: random, 32 hex digits
	Log     *zap.Logger
}

// Keys are the ones a site signs and believes with.
type Keys struct {
	Site ed25519.PrivateKey
	Hub  ed25519.PublicKey
}

// Agent is a running edge. Use Run once.
type Agent struct {
	opts     Options
	core     *fleetsync.Edge
	mail     *mailbox
	contents *contents
	fetcher  *fetcher
	saved    verify.Counters
	due      time.Time // when the core wants a Tick; zero: not

	// held back until the store takes writes again, in order.
	held    []fleetsync.Effects
	retryAt time.Time
}

// retryStore is how long to wait before trying again to write to a store that refused.
const retryStore = 2 * time.Second

// New makes an agent from its parts.
func New(opts Options) *Agent {
	a := &Agent{opts: opts, mail: newMailbox(), saved: opts.Marks}
	a.core = fleetsync.NewEdge(fleetsync.EdgeConfig{
		Site: opts.Site.Site, Agent: opts.Version, HubKey: opts.Keys.Hub, NewEpoch: opts.Epoch,
		HeartBeat: time.Duration(opts.Site.HeartBeatSeconds) * time.Second,
	})
	a.contents = &contents{store: opts.Store, trust: opts.Trust, sigs: opts.Signatures, site: opts.Site.Site}
	a.fetcher = &fetcher{contents: a.contents, link: opts.Link, now: time.Now,
		damaged: func(message string) { a.mail.put(fleetsync.Damage{Message: message}) }}
	return a
}

// Run keeps the site until ctx ends. It returns an error only if the stored records cannot be read.
func (a *Agent) Run(ctx context.Context) error {
	records, err := a.records()
	if err != nil {
		return err
	}
	if err := a.step(ctx, fleetsync.Restored{Records: records, Marks: a.opts.Marks}); err != nil {
		return err
	}
	if a.opts.Damage != "" {
		a.mail.put(fleetsync.Damage{Message: a.opts.Damage})
	}
	a.opts.Workloads.Start(ctx, a.mail.put)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case notice, open := <-a.opts.Link.Notices():
			if !open {
				return nil
			}
			err = a.step(ctx, a.heard(notice))
		case <-a.mail.full:
			for _, in := range a.mail.take() {
				if err = a.step(ctx, in); err != nil {
					break
				}
			}
		case <-timer.C:
			err = a.step(ctx, fleetsync.Tick{})
		}
		if err != nil {
			return err
		}
		timer.Reset(a.untilWake())
	}
}

func (a *Agent) records() (records []fleetsync.Record, err error) {
	err = a.opts.Store.Scan(fleetsync.RecordPrefix, func(key string, value []byte) error {
		records = append(records, fleetsync.Record{Key: key, Value: append([]byte(nil), value...)})
		return nil
	})
	return records, err
}

func (a *Agent) heard(n fleetsync.Notice) fleetsync.Input {
	switch n.Kind {
	case fleetsync.LinkUp:
		a.opts.Log.Info("link to the hub is up")
		return fleetsync.LinkChanged{Up: true}
	case fleetsync.LinkDown:
		a.opts.Log.Info("link to the hub is down", zap.Error(n.Err))
		return fleetsync.LinkChanged{}
	}
	return fleetsync.Poked{}
}

func (a *Agent) step(ctx context.Context, in fleetsync.Input) error {
	effects, err := a.core.Step(time.Now(), in)
	if err != nil {
		return err
	}
	a.due = effects.Wake
	if len(effects.Persist) == 0 {
		a.carryOut(ctx, effects)
	} else {
		a.held = append(a.held, effects)
	}
	a.release(ctx)
	return nil
}

// untilWake is how long nothing needs doing unless something happens.
func (a *Agent) untilWake() time.Duration {
	wait := time.Hour
	if !a.due.IsZero() {
		wait = min(wait, time.Until(a.due))
	}
	if len(a.held) > 0 {
		wait = min(wait, time.Until(a.retryAt))
	}
	return max(wait, 0)
}

// release carries out what waited for the store, in order, as far as the store takes it.
func (a *Agent) release(ctx context.Context) {
	for len(a.held) > 0 && !a.retryAt.After(time.Now()) {
		next := a.held[0]
		if err := a.persist(next.Persist); err != nil {
			a.retryAt = time.Now().Add(retryStore)
			a.opts.Log.Warn("the store refuses to write", zap.Error(err))
			a.mail.put(fleetsync.StoreSeen{Message: "storageDegraded: " + err.Error()})
			return
		}
		if !a.retryAt.IsZero() {
			a.retryAt = time.Time{}
			a.mail.put(fleetsync.StoreSeen{})
		}
		a.held = a.held[1:]
		a.carryOut(ctx, next)
	}
}

// persist makes records durable, and the counters in them outside the store too, before anything that follows from them is done.
func (a *Agent) persist(records []fleetsync.Record) error {
	if err := a.opts.Store.Commit(records...); err != nil {
		return err
	}
	marks := a.core.Marks()
	if a.opts.SaveMarks == nil || equalMarks(marks, a.saved) {
		return nil
	}
	if err := a.opts.SaveMarks(marks); err != nil {
		return fmt.Errorf("counters beside the store: %w", err)
	}
	a.saved = marks
	return nil
}

func equalMarks(a, b verify.Counters) bool {
	if len(a) != len(b) {
		return false
	}
	for name, mark := range a {
		if b[name] != mark {
			return false
		}
	}
	return true
}

func (a *Agent) carryOut(ctx context.Context, e fleetsync.Effects) {
	if e.Look {
		go func() { a.mail.put(a.look(ctx)) }()
	}
	marks := a.core.Marks()
	for _, f := range e.Fetch {
		go func() { a.mail.put(a.fetcher.fetch(ctx, f, marks)) }()
	}
	if e.Run != nil {
		run := *e.Run
		go func() { a.mail.put(a.opts.Workloads.Run(ctx, run, a.contents.load)) }()
	}
	for _, c := range e.Correct {
		a.opts.Workloads.Correct(c)
	}
	for _, s := range e.Send {
		go func() { a.mail.put(a.send(ctx, s)) }()
	}
	if e.Retain != nil {
		a.retain(e.Retain)
	}
}

func (a *Agent) retain(manifests []bundle.Digest) {
	keep := map[bundle.Digest]bool{}
	for _, m := range manifests {
		keep[m] = true
	}
	if err := a.contents.retain(keep); err != nil {
		a.opts.Log.Warn("old bundles stay in the store", zap.Error(err))
	}
}

// patience is how long a request to the hub may take.
const patience = 30 * time.Second

func (a *Agent) look(ctx context.Context) fleetsync.Looked {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	site := a.opts.Site.Site
	assignment, err := a.newest(ctx, fleetsync.DesiredSubject(site))
	if err != nil {
		return fleetsync.Looked{Err: err.Error()}
	}
	ack, err := a.newest(ctx, fleetsync.AckSubject(site))
	if err != nil {
		return fleetsync.Looked{Err: err.Error()}
	}
	return fleetsync.Looked{Assignment: assignment, Ack: ack}
}

func (a *Agent) newest(ctx context.Context, subject string) ([]byte, error) {
	raw, err := a.opts.Link.Get(ctx, subject)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, nil
	}
	return raw, err
}

// send seals and delivers one message.
func (a *Agent) send(ctx context.Context, s fleetsync.Send) fleetsync.Sent {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := fleetsync.Sent{Type: s.Type}
	site := a.opts.Site.Site
	var err error
	switch s.Type {
	case fleetsync.TypeHello:
		err = a.deliver(ctx, s.Type, s.Hello, fleetsync.HelloSubject(site), a.opts.Link.Hello)
	case fleetsync.TypeState:
		err = a.deliver(ctx, s.Type, s.State, fleetsync.StateSubject(site), a.opts.Link.Report)
	case fleetsync.TypeEvents:
		var batch fleetsync.EventBatch
		if batch, err = a.batch(s.From, s.To); err == nil {
			sent.Upto = batch.Events[len(batch.Events)-1].Sequence
			err = a.deliver(ctx, s.Type, batch, fleetsync.EventSubject(site), a.opts.Link.Report)
		}
	}
	if err != nil {
		sent.Err = err.Error()
	}
	return sent
}

func (a *Agent) deliver(ctx context.Context, messageType string, payload any, subject string, by func(context.Context, string, []byte) error) error {
	sealed, err := fleetsync.Seal(messageType, payload, a.opts.Keys.Site)
	if err != nil {
		return err
	}
	return by(ctx, subject, sealed)
}

// maxBatchBytes keeps a batch, sealed, well below what a message may have.
const maxBatchBytes = 384 << 10

var errBatchFull = errors.New("batch is full")

// batch reads the stored events of a range, as many as fit one message.
func (a *Agent) batch(from, to uint64) (fleetsync.EventBatch, error) {
	batch := fleetsync.EventBatch{Site: a.opts.Site.Site, Epoch: a.core.Epoch()}
	size := 0
	err := a.opts.Store.Scan(fleetsync.EventPrefix, func(key string, value []byte) error {
		if key < fleetsync.EventKey(from) {
			return nil
		}
		if key > fleetsync.EventKey(to) || (size > 0 && size+len(value) > maxBatchBytes) {
			return errBatchFull
		}
		var ev fleetsync.Event
		if err := json.Unmarshal(value, &ev); err != nil {
			return fmt.Errorf("stored event %s: %w", key, err)
		}
		size += len(value)
		batch.Events = append(batch.Events, ev)
		return nil
	})
	if err != nil && !errors.Is(err, errBatchFull) {
		return batch, err
	}
	if len(batch.Events) == 0 {
		return batch, fmt.Errorf("events %d to %d are not in the store", from, to)
	}
	return batch, nil
}
