package bus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap/zaptest"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustGet[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// certificate makes a self-signed server certificate for loopback.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key := mustGet[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der := mustGet[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	pool := x509.NewCertPool()
	pool.AddCert(mustGet[*x509.Certificate](t)(x509.ParseCertificate(der)))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// bench is a server with all that is needed to connect to it.
type bench struct {
	keys   Keys
	dir    string
	cert   tls.Certificate
	pool   *x509.CertPool
	server *Server

	webSocket string         // where the embedded server listens for it
	external  *server.Server // instead of the embedded one
	listen    string         // of the external one
	url       string         // where sites connect
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{keys: mustGet[Keys](t)(NewKeys()), dir: filepath.Join(t.TempDir(), "bus")}
	b.cert, b.pool = certificate(t)
	return b
}

func (b *bench) options(listen string) ServerOptions {
	return ServerOptions{DataDir: b.dir, Listen: listen, WebSocket: b.webSocket, Keys: b.keys, TLS: &tls.Config{Certificates: []tls.Certificate{b.cert}}}
}

func (b *bench) start(t testing.TB, listen string) *Server {
	t.Helper()
	s, err := StartServer(b.options(listen))
	must(t, err)
	t.Cleanup(s.Close)
	b.server, b.url = s, s.URL()
	return s
}

// hub connects the hub and makes the streams.
func (b *bench) hub(t testing.TB) *Hub {
	t.Helper()
	var h *Hub
	var err error
	if b.external != nil {
		h, err = ConnectHub(t.Context(), HubOptions{URL: b.url, Credentials: mustGet[Credentials](t)(b.keys.HubUser()), CA: b.pool})
	} else {
		h, err = b.server.Hub(t.Context(), nil)
	}
	must(t, err)
	t.Cleanup(h.Close)
	must(t, h.EnsureStreams(t.Context(), StreamOptions{}))
	return h
}

func (b *bench) linkOptions(t testing.TB, site bundle.SiteID, url string) link.Options {
	t.Helper()
	seed, public, err := NewSiteKey()
	must(t, err)
	token, err := b.keys.SiteUser(site, public)
	must(t, err)
	return link.Options{Site: site, Servers: []string{url}, CA: b.pool, JWT: token, Seed: seed, RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond}
}

func (b *bench) link(t testing.TB, site bundle.SiteID, url string) *link.Link {
	t.Helper()
	l, err := link.Dial(b.linkOptions(t, site, url))
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// cable is a TCP proxy that can be cut.
type cable struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	cut    bool
	conns  []net.Conn
	frozen chan struct{} // until it is closed nothing is carried and nothing breaks; nil carries
	drips  atomic.Bool   // one byte at a time, with a pause after each
}

func newCable(t testing.TB, target string) *cable {
	t.Helper()
	l := mustGet[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	c := &cable{listener: l, target: target}
	t.Cleanup(func() { _ = l.Close(); c.sever() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(conn)
		}
	}()
	return c
}

func (c *cable) url() string { return "tls://" + c.listener.Addr().String() }

func (c *cable) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		_ = near.Close()
		return
	}
	c.mu.Lock()
	if c.cut {
		_ = near.Close()
		_ = far.Close()
	}
	c.conns = append(c.conns, near, far)
	c.mu.Unlock()
	go func() { _, _ = io.Copy(far, &gate{c, near}); _ = far.Close() }()
	_, _ = io.Copy(near, &gate{c, far})
	_ = near.Close()
}

// gate is a reader that stands still while the cable is frozen.
type gate struct {
	c *cable
	r io.Reader
}

func (g *gate) Read(p []byte) (int, error) {
	if g.c.drips.Load() && len(p) > 1 {
		<-time.After(20 * time.Millisecond)
		p = p[:1]
	}
	n, err := g.r.Read(p)
	g.c.mu.Lock()
	frozen := g.c.frozen
	g.c.mu.Unlock()
	if frozen != nil {
		<-frozen
		return 0, io.ErrUnexpectedEOF // what was in it is lost
	}
	return n, err
}

// freeze keeps the connections there are, and carries nothing on them ever again once thaw was called; new ones work from then on.
func (c *cable) freeze() (thaw func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frozen := make(chan struct{})
	c.frozen = frozen
	return func() {
		c.mu.Lock()
		c.frozen = nil
		c.mu.Unlock()
		close(frozen)
	}
}

// sever breaks what is connected and lets nothing new through.
func (c *cable) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.World {
		b := newBench(t)
		b.start(t, "127.0.0.1:0")
		cables := map[bundle.SiteID]*cable{}
		cableOf := func(site bundle.SiteID) *cable {
			if cables[site] == nil {
				cables[site] = newCable(t, b.server.Addr())
			}
			return cables[site]
		}
		return bustest.World{
			Hub:  b.hub(t),
			Link: func(t *testing.T, site bundle.SiteID) fleetsync.Link { return b.link(t, site, cableOf(site).url()) },
			Cut:  func(site bundle.SiteID) { cableOf(site).sever() },
			Mend: func(site bundle.SiteID) { cableOf(site).mend() },
		}
	})
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverVar); dir != "" {
		os.Exit(serveForEver(dir))
	}
	os.Exit(m.Run())
}

func TestLogsOfServerAndHub(t *testing.T) {
	b := newBench(t)
	o := b.options("127.0.0.1:0")
	o.Log = zaptest.NewLogger(t)
	s, err := StartServer(o)
	must(t, err)
	defer s.Close()
	h, err := s.Hub(context.Background(), zaptest.NewLogger(t))
	must(t, err)
	h.Close()
}
