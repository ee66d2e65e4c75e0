package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// Store is what the hub needs of the bus to remember. Sequences are of the stream; errors are those of package stream and fleetsync.
type Store interface {
	// Put stores the newest message of a subject and returns once it is on the disk.
	Put(ctx context.Context, subject string, data []byte) (sequence uint64, err error)
	// PutIf does so if the subject's newest message has the sequence last, 0 for none; otherwise stream.ErrConflict.
	PutIf(ctx context.Context, subject string, data []byte, last uint64) (sequence uint64, err error)
	// CreateAll stores the first messages of many subjects; stream.ErrExists says that one of them was not empty.
	CreateAll(ctx context.Context, messages []stream.Message) error
	// Get gives the newest message of a subject, or fleetsync.ErrNotFound.
	Get(ctx context.Context, subject string) (stream.Message, error)
	// Each calls f with the messages of a stream that match filter ("" is all), from a sequence on, up to the newest.
	Each(ctx context.Context, name, filter string, from uint64, f func(stream.Message) error) error
	// Delete removes the messages of a stream whose subject matches.
	Delete(ctx context.Context, name, subject string) error
	// DeleteUpTo removes those up to a sequence.
	DeleteUpTo(ctx context.Context, name, subject string, last uint64) error
	// Follow calls f with the messages of a stream from a sequence on, for ever.
	Follow(ctx context.Context, name string, from uint64, f func(stream.Message) error) error
}

// Signals is what the hub needs of the bus to talk with connected sites. Nothing of it is stored.
type Signals interface {
	// Answer pokes a site with a sealed statement.
	Answer(site bundle.SiteID, statement []byte) error
	OnHello(f func(site bundle.SiteID, data []byte)) (stop func(), err error)
}

// Bus is all the hub needs of the bus: internal/bus has it over NATS, internal/bus/membus in memory.
type Bus interface {
	Store
	Signals
}

// Config is how to run a hub.
type Config struct {
	DataDir    string
	StoreKey   string // where the secret is that seals the key of the embedded store and of backups: as storekey.Open takes it; empty: StoreKeyFile
	ListenNATS string // host:port of the embedded bus; port 0 is any free one
	// ListenWebSocket is where the embedded bus is served over WebSocket, too: host:port. Empty: nowhere.
	ListenWebSocket string
	ListenAPI       string // host:port
	// SiteURLs are the addresses of the bus that sites are given, tls:// or wss://, in the order in which they try them. Nil: made of Hosts and
	// of what listens, or those of the external bus.
	SiteURLs []string
	// Hosts are the names and addresses by which sites and operators reach the hub; the first stands in the admin's context file.
	Hosts []string
	// Certificate is what bus and API show; nil: one by the hub's own CA.
	Certificate *CertificateFiles
	External    *External // nil: the bus is embedded
	Bus         Bus       // not nil: this one, which stays its owner's, instead of either
	// Trust is what the offline keys have published, and Online the private keys of which the root names one at least.
	Trust      tuf.Publication
	Online     []ed25519.PrivateKey
	TrustLife  time.Duration // how long snapshot and timestamp are good; 0 is 7 days
	Signatures verify.Signatures
	HeartBeat  time.Duration // how often sites say hello; 0 is six minutes
	// Allowance is what one site may send before it is throttled; zero: fleetsync.DefaultAllowance.
	Allowance fleetsync.Allowance
	// CredentialLife is how long a site's credential is good; sites renew at half of it. 0 is 30 days.
	CredentialLife time.Duration
	// LeaseSpan is how long the hub that leads rollouts may be silent before another one takes over. 0 is 10 seconds.
	LeaseSpan time.Duration
	// Prometheus is asked by the checks of plans that are queries; empty: such plans are refused.
	Prometheus string
	Backups    Backups
	Retention  Retention
	Now        func() time.Time // nil is the wall clock
	Log        *zap.Logger      // nil is silent

	around      func(h *Hub, next http.Handler) http.Handler // tests look at what the API answers
	noticeEvery time.Duration                                // how often notifications look; 0 is lookEvery
}

// External is a bus that somebody else runs.
type External struct {
	URL         string           // NATS URLs, joined by commas
	Keys        *bus.Keys        // nil: those of the data directory
	Credentials *bus.Credentials // nil: made of the keys
	System      *bus.Credentials // of a user of the system account, who cuts off who is revoked; nil: made of the keys
	CA          []byte           // PEM of the servers' CA, for hub and sites; nil: the system's
	Replicas    int              // nodes that keep each stream; 0: three in a cluster, one elsewhere
}

func (c Config) replicas() int {
	if c.External == nil {
		return 0
	}
	return c.External.Replicas
}

// Hub is a running hub. Its methods may be called concurrently.
type Hub struct {
	cfg          Config
	log          *zap.Logger
	root         rootOfTrust
	keys         bus.Keys
	certificates certificates
	doorkeeper
	store    Store
	counts   counts // nil: the bus cannot tell
	ledger   *ledger
	mender   *mender   // nil: the bus is somebody else's
	unlocked *unlocked // nil: the bus is somebody else's, and no backups are made
	pulse    *pulse    // store, watched
	metrics  *metrics
	sessions *sessions // of the web pages
	signals  Signals
	servers  []string // NATS URLs for sites

	url     string   // of the API
	urls    []string // of the API, by all public hosts
	pushing *semaphore.Weighted
	// auditing is held by who appends to the audit log.
	auditing *semaphore.Weighted
	acks     *acknowledger
	warden   *warden
	life     string // names this process among the hubs of a bus
	door     *door
	users    *users
	replays  *replays
	feed     *feed
	purging  sync.Mutex // one purge at a time
	notifier *notifier
	asks     struct { // of the API
		ofUser, from, failed, refused *limiter
		haste                         haste
	}
	revoker revoker     // nil: the bus is somebody else's
	system  *bus.System // nil: the bus is this hub's own
	// connections is how many there are to the embedded bus; nil: it is somebody else's.
	connections func() int
	letIn       func() // lets sites in; nil as above
	// present says which sites are; nil as above.
	present func([]bundle.SiteID) (map[bundle.SiteID]bool, error)

	enrolling sync.Mutex // one enrolment is decided at a time
	shutting  sync.Mutex // one list of revoked users is given at a time; guards shut
	shut      []string   // the list that the bus has

	throttling chan struct{} // somebody is throttled from now on

	mu        sync.Mutex // guards what is below
	view      *View
	rollouts  *rollouts
	lastEvent uint64 // sequence of the last message of EVENTS that was folded

	front   front
	http    *http.Server
	failed  chan error
	closers []func() // called in reverse order
	close   sync.Once
}

// Open starts a hub and returns when it serves. Its errors say which port, file or store, and why; those with a Hint method say what to do.
func Open(ctx context.Context, cfg Config) (*Hub, error) {
	h := &Hub{cfg: cfg, pushing: semaphore.NewWeighted(1), auditing: semaphore.NewWeighted(1), failed: make(chan error, 1), throttling: make(chan struct{}, 1)}
	if err := h.configure(); err != nil {
		return nil, err
	}
	if err := h.open(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Hub) configure() error {
	cfg := &h.cfg
	if len(cfg.Trust.Roots) == 0 {
		return hinted{errors.New("trust: none is given, so nothing could be believed"), "holdfast init makes a root of trust; give its folder with --trust FOLDER"}
	}
	if cfg.TrustLife == 0 {
		cfg.TrustLife = defaultTrustLife
	}
	if cfg.Signatures == nil {
		return errors.New("trust: there is no verifier")
	}
	if cfg.HeartBeat == 0 {
		cfg.HeartBeat = 6 * time.Minute
	}
	if cfg.HeartBeat < time.Second {
		return fmt.Errorf("heartbeat %s: want a second or more", cfg.HeartBeat)
	}
	if cfg.Allowance == (fleetsync.Allowance{}) {
		cfg.Allowance = fleetsync.DefaultAllowance
	}
	if cfg.CredentialLife == 0 {
		cfg.CredentialLife = 30 * 24 * time.Hour
	}
	if cfg.CredentialLife < time.Second {
		return fmt.Errorf("credential life %s: want a second or more", cfg.CredentialLife)
	}
	h.door, h.users, h.replays, h.sessions, h.feed = newDoor(), newUsers(), newReplays(), newSessions(), newFeed()
	h.asks.haste.of = map[string]hurry{}
	h.asks.ofUser, h.asks.from, h.asks.failed = newLimiter(asksOfUser, asksOfUserBurst), newLimiter(asksFrom, asksFromBurst), newLimiter(failedLogins, failedLoginBurst)
	h.asks.refused = newLimiter(refusalsASecond, refusalsAtOnce)
	if cfg.LeaseSpan == 0 {
		cfg.LeaseSpan = leaseSpan
	}
	if cfg.LeaseSpan < time.Second {
		return fmt.Errorf("lease %s: want a second or more", cfg.LeaseSpan)
	}
	if err := cfg.Retention.check(); err != nil {
		return err
	}
	h.life = rand.Text()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	h.log = cfg.Log
	return nil
}

// open brings everything up in the order in which it is needed; Close takes down what came up.
func (h *Hub) open(ctx context.Context) error {
	ring, err := openKeyring(h.cfg.DataDir)
	if err != nil {
		return hinted{err, "choose another directory with --data, or give this one to the hub's user"}
	}
	if external := h.cfg.External; external != nil && external.Keys != nil {
		h.keys = *external.Keys
	} else if h.keys, err = ring.busKeys(); err != nil {
		return err
	}
	if err := h.openCertificates(ring); err != nil {
		return err
	}
	listener, err := listenAPI(h.cfg.ListenAPI)
	if err != nil {
		return err
	}
	h.closers = append(h.closers, func() { listener.Close() })
	h.serve(listener)
	h.ledger = openLedger(h.cfg.DataDir, h.cfg.Now())
	if err := h.openBus(ctx); err != nil {
		return err
	}
	if err := h.openTrust(ctx); err != nil {
		return err
	}
	h.view = NewView(h.hubKeys(), h.cfg.HeartBeat)
	h.watchStore()
	if err := h.follow(ctx); err != nil {
		return err
	}
	if err := h.resign(ctx); err != nil {
		h.log.Error("what the bus holds is not all signed by this hub's keys", zap.Error(err), zap.String("hint", "start the hub with --online-key of the key before the rotation, too"))
	}
	if err := h.followUsers(ctx); err != nil {
		return err
	}
	if err := h.startRollouts(ctx); err != nil {
		return err
	}
	h.startPurging()
	h.startNotifying()
	if err := h.shutOut(); err != nil {
		h.log.Error("the bus does not know yet who is revoked: they stay connected", zap.Error(err))
	}
	for _, host := range publicHosts(h.cfg.Hosts) {
		h.urls = append(h.urls, "https://"+net.JoinHostPort(host, portOf(listener.Addr())))
	}
	h.url = h.urls[0]
	keeper, written, err := ring.doorkeeper(h.cfg.DataDir, h.url, h.certificates.pinned())
	if err != nil {
		return err
	}
	if h.doorkeeper = keeper; written {
		h.log.Info("first start: the admin's context is written", zap.String("file", h.ContextFile()))
	}
	h.front.opened(h.handler())
	if h.letIn != nil {
		h.letIn() // what they say is folded into all there is
	}
	return nil
}

// openBus takes the bus that is given, connects to the external one, or starts the embedded one.
func (h *Hub) openBus(ctx context.Context) error {
	var client *bus.Hub
	var err error
	if h.cfg.Bus != nil {
		h.store, h.signals = h.cfg.Bus, h.cfg.Bus
		return nil
	}
	if h.cfg.External != nil {
		client, err = h.connectBus(ctx)
	} else {
		client, err = h.startBus(ctx)
	}
	if err != nil {
		return err
	}
	h.closers = append(h.closers, client.Close)
	if err := client.EnsureStreams(ctx, bus.StreamOptions{Replicas: h.cfg.replicas()}); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h.store, h.signals, h.counts = client, client, client
	if h.cfg.Backups.Dir != "" {
		if err := h.unlockBackups(ctx); err != nil {
			return err
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.keepBackups(ctx, client)
		}()
		h.closers = append(h.closers, func() {
			stop()
			<-ended
		})
	}
	return nil
}

func (h *Hub) startBus(ctx context.Context) (*bus.Hub, error) {
	server, unlocked, err := h.keyed().start(ctx, bus.ServerOptions{
		Listen: h.cfg.ListenNATS, WebSocket: h.cfg.ListenWebSocket, TLS: h.certificates.tls(), Keys: h.keys, Log: h.log.Named("nats"), Held: true,
	})
	if err != nil {
		return nil, err
	}
	h.unlocked = unlocked
	h.closers = append(h.closers, unlocked.close, server.Close)
	h.mender = &mender{server, h.cfg.DataDir, h.log}
	mending, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.mender.run(mending)
	}()
	h.closers = append(h.closers, func() {
		stop()
		<-ended
	})
	h.revoker, h.connections, h.present, h.letIn = server, server.Connections, server.Connected, server.Admit
	if h.servers = h.cfg.SiteURLs; h.servers == nil {
		if h.servers, err = siteURLs(publicHosts(h.cfg.Hosts), server); err != nil {
			return nil, err
		}
	}
	return server.Hub(ctx, h.log.Named("bus"))
}

// siteURLs are the addresses of the embedded bus: NATS over TLS first, because it costs less, then over WebSocket, which gets out of more networks.
func siteURLs(hosts []string, server *bus.Server) (urls []string, err error) {
	for _, at := range []struct{ scheme, address string }{{"tls", server.Addr()}, {"wss", server.WebSocketAddr()}} {
		if at.address == "" {
			continue
		}
		_, port, err := net.SplitHostPort(at.address)
		if err != nil {
			return nil, fmt.Errorf("bus: address %s: %w", at.address, err)
		}
		for _, host := range hosts {
			urls = append(urls, at.scheme+"://"+net.JoinHostPort(host, port))
		}
	}
	return urls, nil
}

// publicHosts are the hosts that sites and operators are told. Without any the hub is for this machine alone.
func publicHosts(hosts []string) []string {
	if len(hosts) == 0 {
		return []string{"127.0.0.1"}
	}
	return hosts
}

// certificateNames are the hosts and this machine's own names.
func certificateNames(hosts []string) []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	if name, err := os.Hostname(); err == nil && name != "" {
		names = append(names, name)
	}
	return names
}

// serve answers requests from now on: until there is something to answer with, that the hub is starting.
func (h *Hub) serve(listener net.Listener) {
	h.http = h.newServer()
	h.http.RegisterOnShutdown(h.feed.close)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.http.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			h.fail(fmt.Errorf("api: %w", err))
		}
	}()
	h.closers = append(h.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if err := h.http.Shutdown(ctx); err != nil {
			h.log.Warn("requests were cut off", zap.Error(err))
			h.http.Close()
		}
		<-ended
	})
}

// shutdownTime is what requests under way get to finish.
const shutdownTime = 10 * time.Second

// Fleet is the fleet's name.
func (h *Hub) Fleet() string { return h.trust().Fleet }

// URL is where the API is.
func (h *Hub) URL() string { return h.url }

// Servers are the NATS URLs that sites are given.
func (h *Hub) Servers() []string { return h.servers }

// ContextFile is the path of the admin's context file.
func (h *Hub) ContextFile() string { return filepath.Join(h.cfg.DataDir, ContextFileName) }

// Wait blocks until the context ends, which is no error, or the hub can serve no longer.
func (h *Hub) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-h.failed:
		return err
	}
}

// Close lets requests finish and stops everything. What was promised to sites or operators is on the disk already.
func (h *Hub) Close() {
	h.close.Do(func() {
		for i := len(h.closers) - 1; i >= 0; i-- {
			h.closers[i]()
		}
	})
}

// hinted is an error that knows what to do about it.
type hinted struct {
	error
	hint string
}

// Hint says what to do.
func (h hinted) Hint() string { return h.hint }

func (h hinted) Unwrap() error { return h.error }
