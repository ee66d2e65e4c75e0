package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

const (
	// hubTimeout bounds a request whose context has no deadline.
	hubTimeout = 10 * time.Second
	// inFlight bounds what CreateAll has under way: chunks of 256 KiB.
	inFlight = 32
	// otherWrite bounds the wait for a write that won against one of ours; one that was lost with its leader never comes.
	otherWrite = 2 * time.Second
	// followPause is how long Follow rests after the server failed it.
	followPause = time.Second
)

// HubOptions says how the hub reaches its bus.
type HubOptions struct {
	URL         string // comma-separated NATS URLs
	Credentials Credentials
	CA          *x509.CertPool // nil is the system's
	Log         *zap.Logger

	inProcess nats.InProcessConnProvider
}

// Hub is the hub's client: everything in the account HUB. It may be used concurrently and reconnects by itself for ever.
type Hub struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log *zap.Logger

	mu      sync.Mutex
	streams map[string]jetstream.Stream
}

// natsOptions are what every connection of the hub has.
func (o HubOptions) natsOptions(name string) []nats.Option {
	opts := []nats.Option{
		nats.Name(name),
		nats.UserJWTAndSeed(o.Credentials.JWT, o.Credentials.Seed),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration { return line.FullJitter(time.Second, 30*time.Second, attempts) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { o.Log.Warn("bus", zap.Error(err)) }),
	}
	if o.inProcess != nil {
		return append(opts, nats.InProcessServer(o.inProcess))
	}
	return append(opts, nats.Secure(&tls.Config{RootCAs: o.CA, MinVersion: tls.VersionTLS13}))
}

// ConnectHub connects and checks that JetStream answers; it fails where the bus is not there.
func ConnectHub(ctx context.Context, o HubOptions) (*Hub, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	log := o.Log
	opts := append(o.natsOptions("holdfast-hub"),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("connection to the bus lost", zap.Error(err)) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("connection to the bus is back", zap.String("server", nc.ConnectedUrl()))
		}))
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("bus %s: connect: %w", o.URL, err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(inFlight), jetstream.WithDefaultTimeout(hubTimeout))
	if err == nil {
		_, err = js.AccountInfo(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("bus %s: JetStream: %w", o.URL, err)
	}
	return &Hub{nc: nc, js: js, log: log, streams: map[string]jetstream.Stream{}}, nil
}

// Close ends the connection.
func (h *Hub) Close() { h.nc.Close() }

// Put stores a message as the newest of its subject, or, in a stream that keeps the first, as the only one (stream.ErrExists).
// It returns the sequence once the message is on the disk.
func (h *Hub) Put(ctx context.Context, subject string, data []byte) (sequence uint64, err error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return 0, err
	}
	if rule.Keep == stream.First {
		return h.Create(ctx, subject, data)
	}
	return h.publish(ctx, rule, subject, data)
}

// Create stores the first message of a subject, or says stream.ErrExists.
func (h *Hub) Create(ctx context.Context, subject string, data []byte) (sequence uint64, err error) {
	sequence, err = h.PutIf(ctx, subject, data, 0)
	if errors.Is(err, stream.ErrConflict) {
		return 0, fmt.Errorf("%s: %w", subject, stream.ErrExists)
	}
	return sequence, err
}

// PutIf stores a message if the newest of its subject still has the sequence last, 0 for none, or says stream.ErrConflict.
func (h *Hub) PutIf(ctx context.Context, subject string, data []byte, last uint64) (sequence uint64, err error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return 0, err
	}
	sequence, err = h.publish(ctx, rule, subject, data, jetstream.WithExpectLastSequencePerSubject(last))
	if errors.Is(err, stream.ErrConflict) && h.clustered() {
		h.awaitOther(ctx, subject, last)
	}
	return sequence, err
}

// awaitOther waits until something else than the sequence last can be read of a subject. A cluster refuses a swap as soon as another one is on its way to the
// replicas, long before that can be read: who reads again at once finds what it found before, and has used up its tries when the other's is there.
func (h *Hub) awaitOther(ctx context.Context, subject string, last uint64) {
	ctx, cancel := context.WithTimeout(ctx, otherWrite)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		m, err := h.Get(ctx, subject)
		if err != nil && !errors.Is(err, fleetsync.ErrNotFound) || m.Sequence != last {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) publish(ctx context.Context, rule stream.Rule, subject string, data []byte, opts ...jetstream.PublishOpt) (uint64, error) {
	if len(data) > stream.MaxMessage {
		return 0, fmt.Errorf("%s: %w: %d bytes, at most %d", subject, stream.ErrTooLarge, len(data), stream.MaxMessage)
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	ack, err := h.js.Publish(ctx, subject, data, append(opts, jetstream.WithExpectStream(rule.Name))...)
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", subject, line.Meaning(err))
	}
	return ack.Sequence, nil
}

// CreateAll stores the first messages of many subjects, several at a time, and returns when all are on the disk or one failed; the
// others may then have been stored or not. stream.ErrExists says that a subject was not empty.
func (h *Hub) CreateAll(ctx context.Context, messages []stream.Message) error {
	futures := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, m := range messages {
		rule, err := stream.Of(m.Subject)
		if err != nil {
			return err
		}
		if len(m.Data) > stream.MaxMessage {
			return fmt.Errorf("%s: %w: %d bytes, at most %d", m.Subject, stream.ErrTooLarge, len(m.Data), stream.MaxMessage)
		}
		f, err := h.js.PublishAsync(m.Subject, m.Data, jetstream.WithExpectStream(rule.Name),
			jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithStallWait(hubTimeout))
		if err != nil {
			return fmt.Errorf("store %s: %w", m.Subject, line.Meaning(err))
		}
		futures = append(futures, f)
	}
	ctx, cancel := line.Bounded(ctx, time.Minute)
	defer cancel()
	for i, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			if err = line.Meaning(err); errors.Is(err, stream.ErrConflict) {
				err = stream.ErrExists
			}
			return fmt.Errorf("store %s: %w", messages[i].Subject, err)
		case <-ctx.Done():
			return fmt.Errorf("store %s: %w", messages[i].Subject, context.Cause(ctx))
		}
	}
	return nil
}

// Get gives the newest message of a subject, or fleetsync.ErrNotFound.
func (h *Hub) Get(ctx context.Context, subject string) (stream.Message, error) {
	rule, err := stream.Of(subject)
	if err != nil {
		return stream.Message{}, err
	}
	s, err := h.stream(ctx, rule.Name)
	if err != nil {
		return stream.Message{}, err
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	var m *jetstream.RawStreamMsg
	if h.clustered() {
		m, err = h.askLeader(ctx, rule.Name, subject)
	} else {
		m, err = s.GetLastMsgForSubject(ctx, subject)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stream.Message{}, fmt.Errorf("%s: %w", subject, fleetsync.ErrNotFound)
	}
	if err != nil {
		return stream.Message{}, fmt.Errorf("read %s: %w", subject, line.Meaning(err))
	}
	return stream.Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil
}

// clustered says that the bus is a cluster, whose streams have replicas.
func (h *Hub) clustered() bool { return h.nc.ConnectedClusterName() != "" }

// askLeader reads the newest message of a subject from the stream's leader. Any replica answers a direct get, and one that lags behind answers
// with what was true before: a hub that decides by it would overlook what it or another one wrote last (F24).
func (h *Hub) askLeader(ctx context.Context, name, subject string) (*jetstream.RawStreamMsg, error) {
	question, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	m, err := h.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+name, question)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("the bus's answer: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil || answer.Message.Subject != subject:
		return nil, errors.New("the bus's answer is about another subject")
	}
	return &jetstream.RawStreamMsg{Subject: subject, Sequence: answer.Message.Sequence, Data: answer.Message.Data, Time: answer.Message.Time}, nil
}

// Count says how many messages a stream has, and the sequence of the last it ever had.
func (h *Hub) Count(ctx context.Context, name string) (messages, last uint64, err error) {
	s, err := h.stream(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	info, err := s.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("stream %s: %w", name, line.Meaning(err))
	}
	return info.State.Msgs, info.State.LastSeq, nil
}

// Delete removes all messages of a stream whose subject matches; wildcards are allowed.
func (h *Hub) Delete(ctx context.Context, name, subject string) error {
	s, err := h.stream(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return fmt.Errorf("delete %s: %w", subject, line.Meaning(err))
	}
	return nil
}

// DeleteUpTo removes the messages up to a sequence whose subject matches.
func (h *Hub) DeleteUpTo(ctx context.Context, name, subject string, last uint64) error {
	s, err := h.stream(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(last+1)); err != nil {
		return fmt.Errorf("delete %s up to %d: %w", subject, last, line.Meaning(err))
	}
	return nil
}

// stream gives the handle of a stream, asked for once.
func (h *Hub) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	h.mu.Lock()
	s := h.streams[name]
	h.mu.Unlock()
	if s != nil {
		return s, nil
	}
	ctx, cancel := line.Bounded(ctx, hubTimeout)
	defer cancel()
	s, err := h.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, line.Meaning(err))
	}
	h.mu.Lock()
	h.streams[name] = s
	h.mu.Unlock()
	return s, nil
}

// Poke tells a site, where it is connected, that there is something new for it. Nobody is told whether it heard.
func (h *Hub) Poke(site bundle.SiteID) error { return h.Answer(site, nil) }

// Answer pokes a site with a statement, if it is connected.
func (h *Hub) Answer(site bundle.SiteID, statement []byte) error {
	if err := h.nc.Publish(fleetsync.PokeSubject(site), statement); err != nil {
		return fmt.Errorf("poke %s: %w", site, line.Meaning(err))
	}
	return nil
}

// OnHello calls f with each heartbeat, one after another, until stop is called. The site is proved by the subject.
func (h *Hub) OnHello(f func(site bundle.SiteID, data []byte)) (stop func(), err error) {
	sub, err := h.nc.Subscribe(stream.AnySite(stream.HelloOf), func(m *nats.Msg) {
		site, err := stream.SiteOf(m.Subject)
		if err != nil {
			h.log.Warn("hello from nobody", zap.Error(err))
			return
		}
		f(site, m.Data)
	})
	if err == nil {
		err = h.nc.FlushTimeout(hubTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("listen to heartbeats: %w", line.Meaning(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
