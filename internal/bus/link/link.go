// Package link is the site's end of the bus: a fleetsync.Link over NATS that never gives up. It is apart from package bus so that an agent
// has no server in it.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/notices"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Defaults of Options.
const (
	defaultRetryMin = time.Second
	defaultRetryMax = 5 * time.Minute
	linkTimeout     = 30 * time.Second // of a request without a deadline
	probeTimeout    = 15 * time.Second // of the question whether a silent connection is alive
)

// Options says how a site reaches its hub.
type Options struct {
	Site bundle.SiteID
	// Servers are tried in order, and what led to the hub last comes first: tls://host:port is NATS over TLS, wss://host:port over WebSocket.
	Servers []string
	CA      *x509.CertPool
	JWT     string
	Seed    string
	// Refused, if set, is called when the server does not take the JWT: expired, revoked or not its own. It must not block.
	Refused func()
	// Dial, if set, makes the connections instead of the network itself: through a proxy. It resolves the host's name, too.
	Dial func(network, address string) (net.Conn, error)
	Log  *zap.Logger // nil is silent
	// RetryMin and RetryMax bound the pause before another try to connect: full jitter, the bound doubling from the first to the
	// second. 0 is 1 s and 5 min.
	RetryMin, RetryMax time.Duration
	// PingInterval is how often a silent connection is tried; two unanswered pings end it. 0 is 4 min.
	PingInterval time.Duration

	// ProbeTimeout is how long the answer to "are you still there" may take. 0 is 15 s.
	ProbeTimeout time.Duration
}

// Link is a site's fleetsync.Link over NATS.
type Link struct {
	o      Options
	box    *notices.Box
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  chan struct{}
	routes routes        // of run
	hurry  chan struct{} // ends a pause between two routes

	mu      sync.Mutex
	jwt     string
	client  *nats.Conn      // of the moment, connected or not
	nc      *nats.Conn      // of the last time the link was up
	up      context.Context // ends when the connection breaks; nil while there is none
	down    context.CancelCauseFunc
	denied  map[string][]chan error // by subject: who waits for an answer that may be a refusal
	why     string                  // the last attempt to connect failed
	probing bool

	traffic counter
}

var _ fleetsync.Link = (*Link)(nil)

// Dial starts the link and returns at once, whether the hub is there or not. Errors are about the options only.
func Dial(o Options) (*Link, error) {
	if _, err := bundle.ParseSiteID(string(o.Site)); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if len(o.Servers) == 0 {
		return nil, errors.New("link: no servers")
	}
	routes, err := routesTo(o.Servers)
	if err != nil {
		return nil, fmt.Errorf("link: server %w", err)
	}
	if _, err := nkeys.FromSeed([]byte(o.Seed)); err != nil {
		return nil, fmt.Errorf("link: seed: %w", err)
	}
	o = o.withDefaults()
	l := &Link{o: o, jwt: o.JWT, box: notices.New(), ended: make(chan struct{}), routes: routes, hurry: make(chan struct{}, 1), denied: map[string][]chan error{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run()
	return l, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.RetryMin <= 0 {
		o.RetryMin = defaultRetryMin
	}
	if o.RetryMax <= 0 {
		o.RetryMax = defaultRetryMax
	}
	if o.PingInterval <= 0 {
		o.PingInterval = line.PingInterval
	}
	if o.ProbeTimeout <= 0 {
		o.ProbeTimeout = probeTimeout
	}
	return o
}

// Waiting counts the requests that have no answer yet.
func (l *Link) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := 0
	for _, who := range l.denied {
		waiting += len(who)
	}
	return waiting
}

// Notices tells what happens to the link. The channel is closed after Close.
func (l *Link) Notices() <-chan fleetsync.Notice { return l.box.C() }

// Close ends the link.
func (l *Link) Close() error {
	l.cancel()
	<-l.ended
	l.box.Close()
	return nil
}

// Renew has the link connect with another JWT of the same user from now on. A connection that is up stays.
func (l *Link) Renew(jwt string) {
	l.mu.Lock()
	l.jwt = jwt
	nc, up := l.client, l.up != nil
	l.mu.Unlock()
	if nc != nil && !up {
		_ = nc.ForceReconnect() // it need not wait until its pause is over
		select {
		case l.hurry <- struct{}{}:
		default:
		}
	}
}

// Get gives the newest message of a subject.
func (l *Link) Get(ctx context.Context, subject string) ([]byte, error) {
	if !stream.MayRead(l.o.Site, subject) {
		return nil, fmt.Errorf("get %s: %w", subject, stream.ErrDenied)
	}
	rule, err := stream.Of(subject)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	m, err := l.request(ctx, line.DirectGet(rule.Name, subject), nil)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", subject, err)
	}
	switch status := m.Header.Get("Status"); {
	case status == "404":
		return nil, fmt.Errorf("get %s: %w", subject, fleetsync.ErrNotFound)
	case status != "":
		return nil, fmt.Errorf("get %s: the hub answered %s %s", subject, status, m.Header.Get("Description"))
	}
	if got := m.Header.Get("Nats-Subject"); got != subject {
		return nil, fmt.Errorf("get %s: the hub answered with %.120q", subject, got)
	}
	return m.Data, nil
}

// Report stores a message and returns nil once the hub's stream has it on disk.
func (l *Link) Report(ctx context.Context, subject string, data []byte) error {
	if !stream.MayReport(l.o.Site, subject) {
		return fmt.Errorf("report %s: %w", subject, stream.ErrDenied)
	}
	if len(data) > stream.MaxReport {
		return fmt.Errorf("report %s: %w: %d bytes, at most %d", subject, stream.ErrTooLarge, len(data), stream.MaxReport)
	}
	m, err := l.request(ctx, subject, data)
	if err != nil {
		return fmt.Errorf("report %s: %w", subject, err)
	}
	rule, err := stream.Of(subject)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := checkAck(m.Data, rule.Name); err != nil {
		return fmt.Errorf("report %s: %w", subject, err)
	}
	return nil
}

// checkAck reads JetStream's answer to a publish. Nothing but a complete acknowledgement is one.
func checkAck(answer []byte, stream string) error {
	var ack struct {
		Stream   string `json:"stream"`
		Sequence uint64 `json:"seq"`
		Error    *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if len(answer) > 64<<10 {
		return fmt.Errorf("the hub's answer has %d bytes", len(answer))
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return fmt.Errorf("the hub's answer is no acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return fmt.Errorf("the hub's stream refused it: %.300s (%d)", ack.Error.Description, ack.Error.Code)
	}
	if ack.Stream != stream || ack.Sequence == 0 {
		return fmt.Errorf("the hub's answer is no acknowledgement of stream %s: %.120q", stream, answer)
	}
	return nil
}

// Hello sends a heartbeat that nobody stores.
func (l *Link) Hello(_ context.Context, subject string, data []byte) error {
	if subject != stream.HelloOf(l.o.Site) {
		return fmt.Errorf("hello %s: %w", subject, stream.ErrDenied)
	}
	nc, up := l.conn()
	if up == nil {
		return fmt.Errorf("hello: %w", fleetsync.ErrNoLink)
	}
	if err := nc.Publish(subject, data); err != nil {
		return fmt.Errorf("hello: %w", line.Meaning(err))
	}
	return nil
}

// request asks and waits until the answer, the end of the connection, a refusal or the end of the context comes.
func (l *Link) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	nc, up := l.conn()
	if up == nil {
		return nil, fleetsync.ErrNoLink
	}
	ctx, cancel := line.Bounded(ctx, linkTimeout)
	defer cancel()
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(up, func() { stop(context.Cause(up)) })()
	refused := l.awaitRefusal(subject)
	defer l.forgetRefusal(subject, refused)
	go func() {
		select {
		case err := <-refused:
			stop(err)
		case <-asking.Done():
		}
	}()
	m, err := nc.RequestWithContext(asking, subject, data)
	if err == nil {
		return m, nil
	}
	if cause := context.Cause(asking); cause != nil && ctx.Err() == nil {
		return nil, cause // the connection broke or the server refused
	}
	if ctx.Err() != nil {
		l.probe(nc)
		return nil, context.Cause(ctx)
	}
	return nil, line.Meaning(err)
}

func (l *Link) awaitRefusal(subject string) chan error {
	c := make(chan error, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.denied[subject] = append(l.denied[subject], c)
	return c
}

func (l *Link) forgetRefusal(subject string, c chan error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.denied[subject][:0]
	for _, other := range l.denied[subject] {
		if other != c {
			rest = append(rest, other)
		}
	}
	if l.denied[subject] = rest; len(rest) == 0 {
		delete(l.denied, subject)
	}
}

// refuse tells those who wait for an answer on a subject that the server will not give one.
func (l *Link) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for subject, waiting := range l.denied {
		if !strings.Contains(err.Error(), `"`+subject+`"`) {
			continue
		}
		for _, c := range waiting {
			select {
			case c <- fmt.Errorf("%w: %w", stream.ErrDenied, err):
			default:
			}
		}
	}
}

// probe asks a connection that left a request unanswered whether it is alive, and gives it up if it is not: a router that forgot the
// connection would otherwise cost minutes.
func (l *Link) probe(nc *nats.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probing || l.ctx.Err() != nil {
		return
	}
	l.probing = true
	go func() {
		err := nc.FlushTimeout(l.o.ProbeTimeout)
		if errors.Is(err, nats.ErrTimeout) {
			l.o.Log.Info("connection to the hub is silent: connecting again")
			_ = nc.ForceReconnect()
		}
		l.mu.Lock()
		l.probing = false
		l.mu.Unlock()
	}()
}

// conn gives the connection, and nil for up while there is none.
func (l *Link) conn() (nc *nats.Conn, up context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nc, l.up
}

func (l *Link) tls() *tls.Config { return &tls.Config{RootCAs: l.o.CA, MinVersion: tls.VersionTLS13} }
