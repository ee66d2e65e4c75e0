package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// ServerOptions says how to run the embedded server.
type ServerOptions struct {
	DataDir string // of JetStream; one server at a time uses it
	Listen  string // host:port; port 0 is any free one
	// WebSocket is where the same bus is served over WebSocket, for sites whose networks let nothing but HTTPS out. Empty: nowhere.
	WebSocket string // host:port
	TLS       *tls.Config
	Keys      Keys
	Log       *zap.Logger // nil is silent
	// Key encrypts the store; empty: it is in the clear. One store has one key for ever: what is there already is neither encrypted nor encrypted anew.
	Key string
	// MaxConnections is how many sites and tools may be connected. 0 is 65,536.
	MaxConnections int
	// Held lets nobody in over the network before Admit is called.
	Held bool
	// MaxStoreBytes bounds all streams together. 0 is three quarters of what is free.
	MaxStoreBytes int64
}

// storeCipher is what the store is encrypted with: chunks cost 1.3 times what they cost in the clear, and 1.9 times with ChaCha.
const storeCipher = server.AES

// Limits of the embedded server that are not the operator's to choose.
const (
	maxPending   = 16 << 20 // bytes waiting for one connection
	startTimeout = 5 * time.Minute
)

// Server is an embedded NATS server with JetStream.
type Server struct {
	options ServerOptions
	keys    Keys
	lock    *os.File
	stop    sync.Once
	turns   *turnstile

	mu      sync.Mutex
	nats    *server.Server
	log     *serverLog
	revoked []string
}

// StartServer starts the server and returns when it takes connections. Reading back large streams may take minutes.
func StartServer(o ServerOptions) (*Server, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	turns := newTurnstile(o.Held)
	opts, err := serverOptions(o, turns)
	if err != nil {
		return nil, err
	}
	lock, err := lockStore(o.DataDir)
	if err != nil {
		return nil, err
	}
	if err := checkKey(o); err != nil {
		_ = lock.Close()
		return nil, err
	}
	s := &Server{options: o, keys: o.Keys, lock: lock, turns: turns}
	if err := s.start(opts, o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func serverOptions(o ServerOptions, turns *turnstile) (*server.Options, error) {
	host, port, err := splitListen(o.Listen)
	if err != nil {
		return nil, err
	}
	if o.TLS == nil || len(o.TLS.Certificates) == 0 && o.TLS.GetCertificate == nil {
		return nil, errors.New("bus: a TLS certificate is needed")
	}
	secure := turns.guard(o.TLS)
	secure.MinVersion = tls.VersionTLS13
	opts := &server.Options{
		ServerName: "holdfast-hub", Host: host, Port: port,
		NoSigs: true, DisableJetStreamBanner: true,
		MaxConn: o.MaxConnections, MaxPayload: stream.MaxMessage, MaxPending: maxPending,
		PingInterval: line.PingInterval, MaxPingsOut: line.PingsOut,
		TLSConfig: secure, TLS: true, TLSTimeout: line.Handshake.Seconds(), AuthTimeout: line.Handshake.Seconds() + 1,
		WriteDeadline: line.WriteDeadline, WriteTimeout: server.WriteTimeoutPolicyRetry,
		JetStream: true, StoreDir: o.DataDir, JetStreamMaxStore: o.MaxStoreBytes, SyncAlways: true,
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1},
		JetStreamKey:    o.Key, JetStreamCipher: storeCipher,
	}
	if o.WebSocket != "" {
		if opts.Websocket, err = webSocketOptions(o.WebSocket, secure); err != nil {
			return nil, err
		}
	}
	t, err := o.Keys.tokens()
	if err != nil {
		return nil, err
	}
	return opts, t.apply(opts)
}

// webSocketOptions serve the bus to the same users. Compression stays off: what a client that has not logged in yet sends is never inflated.
func webSocketOptions(listen string, secure *tls.Config) (server.WebsocketOpts, error) {
	host, port, err := splitListen(listen)
	return server.WebsocketOpts{
		Host: host, Port: port, TLSConfig: secure, HandshakeTimeout: line.Handshake, AuthTimeout: line.Handshake.Seconds() + 1, PingInterval: line.PingInterval,
	}, err
}

func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("bus: listen address %q: want host:port", listen)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

func (s *Server) start(opts *server.Options, o ServerOptions) error {
	// Asked here, because the server would only log that it cannot listen.
	for _, listen := range []string{o.Listen, o.WebSocket} {
		if listen == "" {
			continue
		}
		if err := tryListen(listen); err != nil {
			return err
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	log := &serverLog{log: o.Log.WithOptions(zap.AddCallerSkip(1)).Sugar()}
	s.nats, s.log = srv, log
	srv.SetLoggerV2(log, false, false, false)
	go srv.Start()
	if err := awaitReady(srv, log); err != nil {
		return fmt.Errorf("bus: start in %s: %w", o.DataDir, err)
	}
	// B1: the whole fleet relies on it, so it is asked of the running server and not of our options.
	if c := srv.JetStreamConfig(); c == nil || !c.SyncAlways {
		return fmt.Errorf("bus: JetStream in %s would acknowledge before it syncs: refusing to start", o.DataDir)
	}
	if text := log.locked(); text != "" {
		return fmt.Errorf("bus: start in %s: %w: %s", o.DataDir, ErrWrongKey, text)
	}
	return nil
}

// awaitReady waits until the server takes connections or says that it cannot.
func awaitReady(srv *server.Server, log *serverLog) error {
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if srv.ReadyForConnections(100 * time.Millisecond) {
			return nil
		}
		if text := log.fatal(); text != "" {
			return errors.New(text)
		}
	}
	return fmt.Errorf("not ready after %s", startTimeout)
}

func tryListen(listen string) error {
	l, err := net.Listen("tcp", listen)
	if err == nil {
		return l.Close()
	}
	var cause error = err
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		cause = op.Err
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		cause, hint = errors.New("address already in use"), ": hint: another hub or NATS server runs there; stop it or choose another port"
	case errors.Is(err, syscall.EACCES):
		cause, hint = errors.New("permission denied"), ": hint: ports below 1024 need a privilege; choose a higher one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": hint: this machine does not have that address"
	}
	return fmt.Errorf("bus: listen %s: %w%s", listen, cause, hint)
}

// ErrWrongKey says that a store is encrypted with another key than the one given, or with none, or in the clear where one is given. Nothing was changed.
var ErrWrongKey = errors.New("the store's key is not this one")

// Locked says whether the streams in a store's directory are encrypted. A store without streams is empty.
func Locked(dir string) (locked, empty bool, err error) {
	streams, err := filepath.Glob(filepath.Join(glob(dir), server.JetStreamStoreDir, "*", "streams", "*", server.JetStreamMetaFile))
	if err != nil {
		return false, false, fmt.Errorf("bus: store: %w", err)
	}
	for _, meta := range streams {
		if _, err := os.Stat(filepath.Join(filepath.Dir(meta), server.JetStreamMetaFileKey)); err == nil {
			return true, false, nil
		}
	}
	return false, len(streams) == 0, nil
}

// glob is a path of which nothing is a pattern.
func glob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// checkKey keeps a store in the clear from being encrypted where it lies: the server does it in place, and a crash in between loses a stream.
func checkKey(o ServerOptions) error {
	locked, empty, err := Locked(o.DataDir)
	switch {
	case err != nil:
		return err
	case empty || locked == (o.Key != ""):
		return nil
	case locked:
		return fmt.Errorf("bus: store %s: %w: it is encrypted, and none is given", o.DataDir, ErrWrongKey)
	}
	return fmt.Errorf("bus: store %s: %w: it is in the clear", o.DataDir, ErrWrongKey)
}

// ErrInUse says that another process has a directory.
var ErrInUse = errors.New("in use by another process")

// Lock takes a directory for this process until it is closed.
func Lock(dir string) (io.Closer, error) { return lockStore(dir) }

// lockStore takes the directory for this process. NATS itself does not, and two servers on one store destroy it.
func lockStore(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bus: store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "holdfast.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bus: store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("bus: store %s: %w", dir, ErrInUse)
	}
	return f, nil
}

// running is the server of the moment.
func (s *Server) running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nats
}

// InProcessConn connects to the server of the moment without a network.
func (s *Server) InProcessConn() (net.Conn, error) { return s.running().InProcessConn() }

// Hurt says why the server no longer writes a stream, or is empty. It does not try again by itself, also when the disk is well: Restart does.
func (s *Server) Hurt() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.hurt()
}

// Restart stops the server and starts it again in the same place. Clients come back by themselves.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.options
	o.Listen = s.nats.Addr().String()
	if o.WebSocket != "" {
		o.WebSocket = webSocketAddr(s.nats)
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
	opts, err := serverOptions(o, s.turns)
	if err == nil {
		err = s.start(opts, o)
	}
	if err == nil && len(s.revoked) > 0 {
		err = s.revoke(s.revoked)
	}
	if err != nil {
		return fmt.Errorf("bus: start again: %w", err)
	}
	return nil
}

// Admit lets sites in, those who waited first.
func (s *Server) Admit() { s.turns.admit() }

// Addr is where the server listens.
func (s *Server) Addr() string { return s.running().Addr().String() }

// URL is where the server listens, as a NATS URL.
func (s *Server) URL() string { return "tls://" + s.Addr() }

// WebSocketAddr is where the server listens for WebSocket, or empty.
func (s *Server) WebSocketAddr() string {
	if s.options.WebSocket == "" {
		return ""
	}
	return webSocketAddr(s.running())
}

func webSocketAddr(srv *server.Server) string {
	return strings.TrimPrefix(srv.WebsocketURL(), "wss://")
}

// Connected says which of the sites are: somebody listens for their pokes, which nobody but a site may. It costs a look into a tree for each; the server's own
// list of connections verifies the credential of every one of them each time it is asked who they are.
func (s *Server) Connected(sites []bundle.SiteID) (map[bundle.SiteID]bool, error) {
	keys, err := open("sites account", s.keys.Sites)
	if err != nil {
		return nil, fmt.Errorf("bus: connections: %w", err)
	}
	account, err := s.running().LookupAccount(keys.public)
	if err != nil {
		return nil, fmt.Errorf("bus: connections: %w", err)
	}
	connected := map[bundle.SiteID]bool{}
	for _, site := range sites {
		if account.SubscriptionInterest(fleetsync.PokeSubject(site)) {
			connected[site] = true
		}
	}
	return connected, nil
}

// Connections counts who is connected, the hub itself among them.
func (s *Server) Connections() int { return s.running().NumClients() }

// Hub connects the hub to the server without a network.
func (s *Server) Hub(ctx context.Context, log *zap.Logger) (*Hub, error) {
	c, err := s.keys.HubUser()
	if err != nil {
		return nil, err
	}
	return ConnectHub(ctx, HubOptions{Credentials: c, Log: log, inProcess: s})
}

// Close stops the server and waits until it has.
func (s *Server) Close() {
	s.stop.Do(func() {
		s.turns.end()
		if srv := s.running(); srv != nil {
			srv.Shutdown()
			srv.WaitForShutdown()
		}
		_ = s.lock.Close()
	})
}

// serverLog is the server's logger. What is fatal to it is kept, because the server itself only logs it.
type serverLog struct {
	log *zap.SugaredLogger

	mu      sync.Mutex
	dead    string
	refuses string
	shut    string
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// The server's logging interface.

func (l *serverLog) Noticef(f string, a ...any) { l.log.Debugf("nats: "+f, a...) }
func (l *serverLog) Debugf(f string, a ...any)  { l.log.Debugf("nats: "+f, a...) }
func (l *serverLog) Tracef(f string, a ...any)  {}

// Warnf keeps what the server says of a stream that it leaves out because its key is another one.
func (l *serverLog) Warnf(f string, a ...any) {
	l.log.Warnf("nats: "+f, a...)
	if strings.Contains(f, "Error decrypting our stream") || strings.Contains(f, "Bad stream encryption key") {
		l.mu.Lock()
		l.shut = strings.TrimSpace(fmt.Sprintf(f, a...))
		l.mu.Unlock()
	}
}

func (l *serverLog) locked() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shut
}

// Errorf keeps what the server says of a stream that it will not write any more: it says so nowhere else.
func (l *serverLog) Errorf(f string, a ...any) {
	l.log.Errorf("nats: "+f, a...)
	if text := fmt.Sprintf(f, a...); strings.Contains(text, "ritical write error") {
		l.mu.Lock()
		l.refuses = text
		l.mu.Unlock()
	}
}

func (l *serverLog) hurt() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuses
}

func (l *serverLog) Fatalf(f string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == "" {
		l.dead = fmt.Sprintf(f, a...)
	}
}
