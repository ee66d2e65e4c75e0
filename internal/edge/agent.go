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
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/edge/local"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Workloads keeps bundles in the site's cluster. KubeWorkloads does.
type Workloads interface {
	// Watch watches the cluster until ctx ends. What is seen goes to sink, which never blocks: ClusterSeen, HealthSeen, DriftSeen and Corrected.
	Watch(ctx context.Context, sink func(fleetsync.Input))
	// Run applies and watches, or removes. It tells once how it ended, before anything is told of what it watches.
	Run(ctx context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran))
	// Prefetch pulls the images of a version and applies nothing of it; what it tells on the way is Progress.
	Prefetch(ctx context.Context, prefetch fleetsync.Prefetch, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Prefetched)) fleetsync.Prefetched
	// Correct asks for one object to be put back, without waiting; the answer is a Corrected.
	Correct(correct fleetsync.Correct)
}

// Options are the parts of an Agent.
type Options struct {
	Site       *fleetsync.SiteFile
	Trust      *Belief
	Signatures verify.Signatures
	Store      fleetsync.Store
	Link       fleetsync.Link
	Workloads  Workloads
	// Marks are counters that were found outside the store.
	Marks verify.Counters
	// SaveMarks makes counters durable outside the store, before a bundle that raised them is applied.
	SaveMarks func(verify.Counters) error
	// Notebook is where the cluster keeps the site's note; nil: nowhere.
	Notebook Notebook
	// Dir, if not empty, is where the local socket and the busy folder are.
	Dir string
	// Damage, if not empty, says that an earlier store was damaged and set aside.
	Damage string
	// FirstApply is the site's policy for what is new while nobody has told it the time.
	FirstApply fleetsync.FirstApply
	Key        ed25519.PrivateKey // the site's own
	Metrics    *Metrics           // nil: none
	Metered    bool               // the line to the hub costs by the byte
	Version    string
	Epoch      string // for a new store: random, 32 hex digits
	// Announce, where not nil, is told of events as they are recorded. It must not block.
	Announce func(fleetsync.Event)
	// Rest, where not nil, is called when a piece of work that took memory has come to its end.
	Rest func()
	Log  *zap.Logger
}

// Agent is a running edge. Use Run once.
type Agent struct {
	opts     Options
	core     *fleetsync.Edge
	mail     *mailbox
	contents *contents
	fetcher  *fetcher
	work     sync.WaitGroup // what runs beside the loop
	due      time.Time      // when the core wants a Tick; zero: not

	importing sync.Mutex // one import at a time

	words chan word     // from people and programs at the site
	ended chan struct{} // closed when Run ends

	backlog  backlog
	saved    verify.Counters // that are durable outside the store
	failures int             // of the store, in a row
	retryAt  time.Time       // of the store
}

// The pauses before a store that refused is tried again, and how long Run waits for what it began when it is told to end.
const (
	firstStoreRetry   = 2 * time.Second
	longestStoreRetry = time.Minute
	endPatience       = 1500 * time.Millisecond
)

// askEvery is how often the hub is to prove what is newest while nothing happens: a question and its answer are a kilobyte.
const askEvery = 50 * time.Minute

// New makes an agent from its parts.
func New(opts Options) *Agent {
	if opts.Rest == nil {
		opts.Rest = func() {}
	}
	if opts.Announce == nil {
		opts.Announce = func(fleetsync.Event) {}
	}
	a := &Agent{opts: opts, mail: newMailbox(), words: make(chan word), ended: make(chan struct{}), saved: opts.Marks}
	hub, former := opts.Trust.HubKeys()
	sealing, err := secret.Statement(opts.Site.Site, opts.Key)
	if err != nil {
		opts.Log.Error("no secrets can be sealed for this site", zap.Error(err))
	}
	a.core = fleetsync.NewEdge(fleetsync.EdgeConfig{
		Site: opts.Site.Site, Agent: opts.Version, HubKeys: hub, FormerKeys: former, NewEpoch: opts.Epoch, Seed: newEpoch(), Zone: time.LoadLocation, AskEvery: askEvery, FirstApply: opts.FirstApply, Metered: opts.Metered,
		HeartBeat: time.Duration(opts.Site.HeartBeatSeconds) * time.Second, Sealing: sealing, NoteKey: sealOf(opts.Key).of("note"), Notebook: opts.Notebook != nil,
	})
	a.contents = &contents{store: opts.Store, trust: opts.Trust, seal: sealOf(opts.Key), sigs: opts.Signatures, site: opts.Site.Site}
	a.fetcher = newFetcher(a.contents, opts.Link, func(message string) { a.mail.put(fleetsync.Damage{Message: message}) })
	return a
}

// unreadable says that what is stored cannot be believed: the store must be set aside.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// Run keeps the site until ctx ends. It returns an error only if the stored records cannot be read. When it returns, what it began has ended.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer close(a.ended)
	defer a.end()
	defer cancel()
	records, err := a.records()
	if err != nil {
		return &unreadable{err}
	}
	stored, err := a.stored()
	if err != nil {
		return &unreadable{err}
	}
	if err := a.turn(ctx, fleetsync.Restored{Records: records, Boot: bootClock(), Outbox: stored, Marks: a.opts.Marks}); err != nil {
		return err
	}
	a.mail.put(fleetsync.Trusted{HubKeys: a.core.HubKeys(), Trust: a.opts.Trust.Status(nil)})
	if a.opts.Damage != "" {
		a.mail.put(fleetsync.Damage{Message: a.opts.Damage})
	}
	if a.opts.Notebook != nil {
		a.work.Go(func() { a.readNote(ctx) })
	}
	a.work.Go(func() { a.opts.Workloads.Watch(ctx, a.mail.put) })
	if dir := a.opts.Dir; dir != "" {
		a.work.Go(func() {
			if err := local.Serve(ctx, dir, a); err != nil {
				a.opts.Log.Error("people at the site cannot ask this agent", zap.Error(err))
			}
		})
		a.work.Go(func() { a.watchBusy(ctx, dir) })
	}
	timer := time.NewTimer(a.untilWake())
	defer timer.Stop()
	for {
		var in []fleetsync.Input
		then := func() {}
		select {
		case <-ctx.Done():
			return nil
		case notice, open := <-a.opts.Link.Notices():
			if !open {
				return errors.New("the link to the hub was closed")
			}
			in = append(in, a.heard(notice))
		case <-a.mail.full:
			in = a.mail.take()
		case w := <-a.words:
			if then = w.then; w.in != nil {
				in = append(in, w.in)
			}
		case <-timer.C:
			in = append(in, fleetsync.Tick{})
		}
		if err := a.turn(ctx, in...); err != nil {
			return err
		}
		a.opts.Metrics.see(a.core, a.measure)
		then()
		timer.Reset(a.untilWake())
	}
}

// end waits for what runs beside the loop. What does not end in time is left behind: it holds nothing that a crash would not also leave.
func (a *Agent) end() {
	ended := make(chan struct{})
	go func() {
		a.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endPatience):
		a.opts.Log.Warn("something does not end: leaving it behind")
	}
}

func (a *Agent) records() (records []fleetsync.Record, err error) {
	err = a.opts.Store.Scan(fleetsync.RecordPrefix, func(key string, value []byte) error {
		records = append(records, fleetsync.Record{Key: key, Value: append([]byte(nil), value...)})
		return nil
	})
	return records, err
}

// stored gives a line about each event in the store.
func (a *Agent) stored() (lines []fleetsync.Stored, err error) {
	err = a.opts.Store.Scan(fleetsync.EventPrefix, func(key string, value []byte) error {
		line, err := fleetsync.StoredOf(fleetsync.Record{Key: key, Value: value})
		lines = append(lines, line)
		return err
	})
	return lines, err
}

func (a *Agent) heard(n fleetsync.Notice) fleetsync.Input {
	switch n.Kind {
	case fleetsync.LinkUp:
		a.opts.Log.Info("link to the hub is up")
		a.opts.Metrics.link(true)
		return fleetsync.LinkChanged{Up: true}
	case fleetsync.LinkDown:
		a.opts.Log.Info("link to the hub is down", zap.Error(n.Err))
		a.opts.Metrics.link(false)
		return fleetsync.LinkChanged{}
	}
	return fleetsync.Poked{Statement: n.Data}
}

// turn gives inputs to the core and carries out what follows, with one commit for all of them.
func (a *Agent) turn(ctx context.Context, inputs ...fleetsync.Input) error {
	var waiting []fleetsync.Effects
	for _, in := range inputs {
		effects, err := a.core.Step(time.Now(), in)
		if err != nil {
			return &unreadable{err}
		}
		a.due = effects.Wake
		for _, c := range effects.Correct {
			a.opts.Workloads.Correct(c)
		}
		if len(effects.Persist) == 0 {
			a.carryOut(ctx, effects)
			continue
		}
		a.backlog.add(effects.Persist)
		a.tell(effects.Persist)
		waiting = append(waiting, effects)
	}
	if err := a.persist(); err != nil {
		for _, effects := range waiting {
			a.refuse(effects, err)
		}
		if damaged := (*store.Damaged)(nil); errors.As(err, &damaged) {
			return &unreadable{err}
		}
		return nil
	}
	for _, effects := range waiting {
		a.carryOut(ctx, effects)
	}
	return nil
}

// tell logs and announces the events among records, for whoever stands before the site.
func (a *Agent) tell(records []fleetsync.Record) {
	for _, r := range records {
		var ev fleetsync.Event
		if !strings.HasPrefix(r.Key, fleetsync.EventPrefix) || r.Value == nil || json.Unmarshal(r.Value, &ev) != nil {
			continue
		}
		a.opts.Metrics.told(ev.Kind)
		a.opts.Announce(ev)
		fields := []zap.Field{zap.Uint64("seq", ev.Sequence)}
		for _, word := range [][2]string{{"bundle", string(ev.Bundle)}, {"version", string(ev.Version)}, {"object", ev.Object}, {"reason", ev.Reason}, {"message", ev.Message}} {
			if word[1] != "" {
				fields = append(fields, zap.String(word[0], word[1]))
			}
		}
		a.opts.Log.Info(string(ev.Kind), fields...)
	}
}

// untilWake is how long nothing needs doing unless something happens.
func (a *Agent) untilWake() time.Duration {
	wait := time.Hour
	if !a.due.IsZero() {
		wait = min(wait, time.Until(a.due))
	}
	if a.failures > 0 {
		wait = min(wait, time.Until(a.retryAt))
	}
	return max(wait, 0)
}

var errStoreRefuses = errors.New("storageDegraded: the store takes no writes")

// persist makes what waits durable, unless the store refused a moment ago, and tells the core when that begins and ends.
func (a *Agent) persist() error {
	if a.failures > 0 && time.Now().Before(a.retryAt) {
		return errStoreRefuses
	}
	if err := a.commit(); err != nil {
		a.retryAt = time.Now().Add(min(firstStoreRetry<<min(a.failures, 10), longestStoreRetry))
		a.failures++
		a.opts.Log.Warn("the store refuses to write", zap.Error(err))
		a.mail.put(fleetsync.StoreSeen{Message: "storageDegraded: " + err.Error()})
		return err
	}
	if a.failures > 0 {
		a.failures = 0
		a.opts.Log.Info("the store takes writes again")
		a.mail.put(fleetsync.StoreSeen{})
	}
	return nil
}

// commit makes records durable, and the counters in them outside the store too, before anything that follows from them is done.
func (a *Agent) commit() error {
	if err := a.backlog.drain(a.opts.Store); err != nil {
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

// refuse answers for what is not carried out because it had to be durable first.
func (a *Agent) refuse(e fleetsync.Effects, why error) {
	if e.Look {
		a.mail.put(fleetsync.Looked{Err: why.Error()})
	}
	for _, f := range e.Fetch {
		a.mail.put(fleetsync.Fetched{Name: f.Bundle.Name, Digest: f.Bundle.Digest, Err: why.Error()})
	}
	for _, p := range e.Prefetch {
		a.mail.put(fleetsync.Prefetched{Name: p.Run.Bundle.Name, Spec: p.Run.Spec, Err: why.Error()})
	}
	if r := e.Run; r != nil {
		a.mail.put(fleetsync.Ran{Name: r.Bundle.Name, Spec: r.Spec, Remove: r.Remove, Outcome: fleetsync.OutcomeRejected, Reason: "StorageDegraded", Message: why.Error()})
	}
	if k := e.Keep; k != nil {
		a.mail.put(fleetsync.NoteKept{Number: k.Number, Err: why.Error()})
	}
	for _, s := range e.Send {
		a.mail.put(fleetsync.Sent{Type: s.Type, Err: why.Error()})
	}
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

// carryOut begins what the core decided, in its order. Correct was begun before.
func (a *Agent) carryOut(ctx context.Context, e fleetsync.Effects) {
	beside := func(do func() fleetsync.Input) { a.work.Go(func() { a.mail.put(do()) }) }
	if e.Look {
		at := a.core.Time(time.Now())
		beside(func() fleetsync.Input { return a.look(ctx, at, e.Brief) })
	}
	marks := a.core.Marks()
	for _, f := range e.Fetch {
		beside(func() fleetsync.Input { return a.fetcher.fetch(ctx, f, marks) })
	}
	for _, p := range e.Prefetch {
		beside(func() fleetsync.Input {
			return a.opts.Workloads.Prefetch(ctx, p, a.contents.load, func(seen fleetsync.Prefetched) { a.mail.put(seen) })
		})
	}
	if e.Run != nil {
		run := *e.Run
		a.work.Go(func() {
			a.opts.Workloads.Run(ctx, run, a.contents.load, func(ran fleetsync.Ran) { a.mail.put(ran) })
			a.opts.Rest()
		})
	}
	if e.Keep != nil {
		note := *e.Keep
		a.work.Go(func() { a.keepNote(ctx, note) })
	}
	var reports []fleetsync.Send
	for _, s := range e.Send {
		if s.Type == fleetsync.TypeHello {
			beside(func() fleetsync.Input { return a.send(ctx, s) })
		} else {
			reports = append(reports, s)
		}
	}
	if len(reports) > 0 {
		a.work.Go(func() {
			for _, s := range reports {
				a.mail.put(a.send(ctx, s))
			}
		})
	}
	if e.Retain != nil {
		a.retain(e.Retain)
		a.work.Go(a.opts.Rest) // a change has come to its end
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

func (a *Agent) look(ctx context.Context, at time.Time, brief bool) fleetsync.Looked {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	site := a.opts.Site.Site
	if brief {
		assignment, err := a.newest(ctx, fleetsync.DesiredSubject(site))
		if err != nil {
			return fleetsync.Looked{Err: err.Error()}
		}
		return fleetsync.Looked{Assignment: assignment}
	}
	// Beside it, so that it costs no time; an assignment by a key that only the newer root names is believed at once all the same, because the
	// core is told of the root first.
	var refreshed sync.WaitGroup
	refreshed.Go(func() { a.mail.put(a.opts.Trust.Refresh(ctx, a.opts.Link, a.opts.Store, at)) })
	defer refreshed.Wait()
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
		err = a.deliver(ctx, s, s.Hello, fleetsync.HelloSubject(site), a.opts.Link.Hello)
	case fleetsync.TypeState:
		a.measure(s.State)
		err = a.deliver(ctx, s, s.State, fleetsync.StateSubject(site), a.opts.Link.Report)
	case fleetsync.TypeEvents:
		var batch fleetsync.EventBatch
		if batch, err = a.batch(s.Epoch, s.From, s.To); err == nil {
			sent.Upto = batch.Events[len(batch.Events)-1].Sequence
			err = a.deliver(ctx, s, batch, fleetsync.EventSubject(site), a.opts.Link.Report)
		}
	}
	if err != nil {
		sent.Err = err.Error()
	}
	return sent
}

// measure adds what the link knows of itself.
func (a *Agent) measure(state *fleetsync.State) {
	line, measured := a.opts.Link.(interface {
		Traffic() fleetsync.TrafficStatus
		JWT() string
	})
	if !measured {
		return
	}
	state.Traffic = line.Traffic()
	if life, err := enrol.LifeOf(line.JWT()); err == nil {
		state.Credential = life.Expires
	}
}

func (a *Agent) deliver(ctx context.Context, s fleetsync.Send, payload any, subject string, by func(context.Context, string, []byte) error) error {
	seal := fleetsync.Seal
	if s.Packed {
		seal = fleetsync.SealPacked
	}
	sealed, err := seal(s.Type, payload, a.opts.Key)
	if err != nil {
		return err
	}
	return by(ctx, subject, sealed)
}

// maxBatchBytes keeps a batch, sealed, well below what a message may have.
const maxBatchBytes = 384 << 10

var errBatchFull = errors.New("batch is full")

// batch reads the stored events of a range, as many as fit one message.
func (a *Agent) batch(epoch string, from, to uint64) (fleetsync.EventBatch, error) {
	var events []fleetsync.Event
	first, last, size := fleetsync.EventKey(from), fleetsync.EventKey(to), 0
	err := a.opts.Store.Scan(common(first, last), func(key string, value []byte) error {
		if key < first {
			return nil
		}
		if key > last || (size > 0 && size+len(value) > maxBatchBytes) {
			return errBatchFull
		}
		var ev fleetsync.Event
		if err := json.Unmarshal(value, &ev); err != nil {
			return fmt.Errorf("stored event %s: %w", key, err)
		}
		size += len(value)
		events = append(events, ev)
		return nil
	})
	if err != nil && !errors.Is(err, errBatchFull) {
		return fleetsync.EventBatch{}, err
	}
	if len(events) == 0 {
		return fleetsync.EventBatch{}, fmt.Errorf("events %d to %d are not in the store", from, to)
	}
	return fleetsync.NewBatch(a.opts.Site.Site, epoch, events), nil
}

// common is how both begin.
func common(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
