package bus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestT24_Configuration(t *testing.T) {
	b := newBench(t)
	o, err := serverOptions(b.options("127.0.0.1:4222"), newTurnstile(false))
	must(t, err)
	for what, ok := range map[string]bool{
		"monitoring off":         o.HTTPPort == 0 && o.HTTPSPort == 0 && o.ProfPort == 0,
		"no other listener":      o.Cluster.Port == 0 && o.Gateway.Port == 0 && o.LeafNode.Port == 0 && o.MQTT.Port == 0 && o.Websocket.Port == 0,
		"TLS 1.3 required":       o.TLSConfig.MinVersion == tls.VersionTLS13 && !o.AllowNonTLS,
		"sync always":            o.SyncAlways,
		"no anonymous user":      o.NoAuthUser == "" && o.Authorization == "" && len(o.Users) == 0 && len(o.Nkeys) == 0,
		"operator mode":          len(o.TrustedOperators) == 1 && o.SystemAccount != "",
		"message limit":          o.MaxPayload == stream.MaxMessage,
		"pending limit":          o.MaxPending == maxPending,
		"handshake bounded":      o.TLSTimeout > 0 && o.AuthTimeout > o.TLSTimeout,
		"pings":                  o.PingInterval == 4*time.Minute && o.MaxPingsOut == 2,
		"consumers not capped":   o.JetStreamLimits.DefaultMaxConsumers == -1,
		"signals are the hub's":  o.NoSigs,
		"no tracing of messages": !o.Trace && !o.Debug && !o.TraceVerbose,
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	s := b.start(t, "127.0.0.1:0")
	if s.nats.MonitorAddr() != nil || s.nats.ProfilerAddr() != nil || s.nats.ClusterAddr() != nil {
		t.Error("another port listens")
	}
	if c := s.nats.JetStreamConfig(); !c.SyncAlways {
		t.Errorf("running with %+v", c)
	}
}

func TestT24_OnlyTheRightClientsGetIn(t *testing.T) {
	b := newBench(t)
	s := b.start(t, "127.0.0.1:0")
	site := b.linkOptions(t, "shop-1", s.URL())
	foreign := newBench(t)
	stranger := foreign.linkOptions(t, "shop-1", s.URL())
	trusting := &tls.Config{RootCAs: b.pool}
	for _, c := range []struct {
		name string
		url  string
		opts []nats.Option
		in   bool
	}{
		{"the site", s.URL(), []nats.Option{nats.Secure(trusting), nats.UserJWTAndSeed(site.JWT, site.Seed)}, true},
		{"nobody", s.URL(), []nats.Option{nats.Secure(trusting)}, false},
		{"user and password", s.URL(), []nats.Option{nats.Secure(trusting), nats.UserInfo("hub", "hub")}, false},
		{"user of another operator", s.URL(), []nats.Option{nats.Secure(trusting), nats.UserJWTAndSeed(stranger.JWT, stranger.Seed)}, false},
		{"another's token", s.URL(), []nats.Option{nats.Secure(trusting), nats.UserJWTAndSeed(site.JWT, stranger.Seed)}, false},
		{"token only", s.URL(), []nats.Option{nats.Secure(trusting), nats.UserJWT(func() (string, error) { return site.JWT, nil }, func([]byte) ([]byte, error) { return nil, nil })}, false},
		{"TLS 1.2", s.URL(), []nats.Option{nats.Secure(&tls.Config{RootCAs: b.pool, MaxVersion: tls.VersionTLS12}), nats.UserJWTAndSeed(site.JWT, site.Seed)}, false},
		{"one who does not know the hub", s.URL(), []nats.Option{nats.Secure(&tls.Config{RootCAs: foreign.pool}), nats.UserJWTAndSeed(site.JWT, site.Seed)}, false},
	} {
		nc, err := nats.Connect(c.url, append(c.opts, nats.Timeout(5*time.Second))...)
		if (err == nil) != c.in {
			t.Errorf("%s: %v", c.name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
	// In the clear: the server greets, and takes nothing but a TLS line.Handshake.
	conn := mustGet[net.Conn](t)(net.Dial("tcp", s.Addr()))
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := fmt.Fprintf(conn, "CONNECT {\"verbose\":true}\r\nPING\r\n")
	must(t, err)
	var got bytes.Buffer
	_, _ = got.ReadFrom(conn)
	if strings.Contains(got.String(), "PONG") || strings.Contains(got.String(), "+OK") {
		t.Errorf("in the clear: %s", got.String())
	}
}

func TestServerSaysWhatItCannotOpen(t *testing.T) {
	taken := mustGet[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	running := newBench(t)
	running.start(t, "127.0.0.1:0")
	for _, c := range []struct {
		name string
		set  func(o *ServerOptions)
		want []string
	}{
		{"port taken", func(o *ServerOptions) { o.Listen = taken.Addr().String() }, []string{"listen " + taken.Addr().String(), "address already in use", "hint:"}},
		{"address of another machine", func(o *ServerOptions) { o.Listen = "192.0.2.1:4222" }, []string{"listen 192.0.2.1:4222", "hint:"}},
		{"no port", func(o *ServerOptions) { o.Listen = "localhost" }, []string{"localhost", "host:port"}},
		{"store is a file", func(o *ServerOptions) { o.DataDir = file }, []string{"store", file}},
		{"store in use", func(o *ServerOptions) { o.DataDir = running.dir }, []string{running.dir, "in use by another process"}},
		{"no certificate", func(o *ServerOptions) { o.TLS = nil }, []string{"TLS certificate"}},
		{"no keys", func(o *ServerOptions) { o.Keys = Keys{} }, []string{"bus keys", "operator"}},
	} {
		b := newBench(t)
		o := b.options("127.0.0.1:0")
		c.set(&o)
		s, err := StartServer(o)
		if err == nil {
			s.Close()
			t.Errorf("%s: started", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
}

func TestStreamsOfOthersAreRefused(t *testing.T) {
	b := newBench(t)
	s := b.start(t, "127.0.0.1:0")
	h, err := s.Hub(t.Context(), nil)
	must(t, err)
	defer h.Close()
	_, err = h.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.Events, Subjects: []string{"hf.event.*"}, Storage: jetstream.MemoryStorage, AllowRollup: true})
	must(t, err)
	err = h.EnsureStreams(t.Context(), StreamOptions{})
	for _, w := range []string{"stream EVENTS", "storage is Memory, want File", "discard policy is DiscardOld, want DiscardNew", "roll up", "hint:"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
	must(t, h.js.DeleteStream(t.Context(), stream.Events))
	must(t, h.EnsureStreams(t.Context(), StreamOptions{}))
	must(t, h.EnsureStreams(t.Context(), StreamOptions{EventAge: time.Hour, EventBytes: 1 << 20}))
	info, err := h.js.Stream(t.Context(), stream.Events)
	must(t, err)
	if c := info.CachedInfo().Config; c.MaxAge != time.Hour || c.MaxBytes != 1<<20 {
		t.Errorf("age %s, bytes %d", c.MaxAge, c.MaxBytes)
	}
}

func TestFullEventStreamRefusesAndSaysSo(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	must(t, h.EnsureStreams(t.Context(), StreamOptions{EventBytes: 200 << 10}))
	l := b.link(t, "shop-1", b.server.URL())
	bustest.Await(t, l, fleetsync.LinkUp)
	var err error
	stored := 0
	for ; err == nil && stored < 10; stored++ {
		err = l.Report(t.Context(), fleetsync.EventSubject("shop-1"), make([]byte, 64<<10))
	}
	if err == nil || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Fatalf("after %d batches: %v", stored, err)
	}
	n := 0
	must(t, h.Each(t.Context(), stream.Events, "", 0, func(stream.Message) error { n++; return nil }))
	if n != stored-1 {
		t.Errorf("%d of %d acknowledged batches are there", n, stored-1)
	}
}

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	b := newBench(t)
	s := b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	addr := s.Addr()
	creds := mustGet[Credentials](t)(b.keys.HubUser())
	outside, err := ConnectHub(t.Context(), HubOptions{URL: s.URL(), Credentials: creds, CA: b.pool})
	must(t, err)
	defer outside.Close()
	got := make(chan string, 100)
	following, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = outside.Follow(following, stream.Events, 0, func(m stream.Message) error { got <- string(m.Data); return nil })
	}()
	l := b.link(t, "shop-1", s.URL())
	bustest.Await(t, l, fleetsync.LinkUp)
	must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte("before")))
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject("shop-1"), []byte("assignment")))
	if m := <-got; m != "before" {
		t.Errorf("followed %q", m)
	}
	h.Close()
	s.Close()
	bustest.Await(t, l, fleetsync.LinkDown)
	if err := l.Report(t.Context(), fleetsync.EventSubject("shop-1"), nil); !errors.Is(err, fleetsync.ErrNoLink) {
		t.Errorf("without a server: %v", err)
	}
	b.start(t, addr)
	b.hub(t)
	bustest.Await(t, l, fleetsync.LinkUp)
	if data, err := l.Get(t.Context(), fleetsync.DesiredSubject("shop-1")); err != nil || string(data) != "assignment" {
		t.Errorf("after the restart: %q, %v", data, err)
	}
	must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte("after")))
	select {
	case m := <-got:
		if m != "after" {
			t.Errorf("followed %q", m)
		}
	case <-time.After(60 * time.Second):
		t.Error("following did not go on")
	}
}

// serverVar names the directory of a re-executed test binary that is to be a server.
const serverVar = "HOLDFAST_BUS_TEST_SERVER"

type childConfig struct {
	Keys Keys
	Cert []byte
	Key  []byte
}

func serveForEver(dir string) int {
	fail := func(err error) int { fmt.Println("error", err); return 1 }
	b, err := os.ReadFile(filepath.Join(dir, "child.json"))
	if err != nil {
		return fail(err)
	}
	var c childConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return fail(err)
	}
	cert, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return fail(err)
	}
	s, err := StartServer(ServerOptions{DataDir: filepath.Join(dir, "bus"), Listen: "127.0.0.1:0", Keys: c.Keys, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err != nil {
		return fail(err)
	}
	h, err := s.Hub(context.Background(), nil)
	if err == nil {
		err = h.EnsureStreams(context.Background(), StreamOptions{})
	}
	if err != nil {
		return fail(err)
	}
	fmt.Println("listening", s.URL())
	select {}
}

func (b *bench) pem(t *testing.T) (cert, key []byte) {
	t.Helper()
	der := mustGet[[]byte](t)(x509.MarshalPKCS8PrivateKey(b.cert.PrivateKey))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.cert.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestF10_KilledServerKeepsWhatItAcknowledged kills the server right after an acknowledgement, several times.
func TestF10_KilledServerKeepsWhatItAcknowledged(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	b.dir = filepath.Join(dir, "bus")
	cert, key := b.pem(t)
	config, err := json.Marshal(childConfig{b.keys, cert, key})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "child.json"), config, 0o600))
	const rounds, each = 4, 25
	for round := range rounds {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), serverVar+"="+dir)
		out := mustGet[interface{ Read([]byte) (int, error) }](t)(c.StdoutPipe())
		must(t, c.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		must(t, err)
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
		if !ok {
			t.Fatal(line)
		}
		l := b.link(t, "shop-1", url)
		bustest.Await(t, l, fleetsync.LinkUp)
		for i := range each {
			must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte(fmt.Sprint(round*each+i))))
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		must(t, l.Close())
	}
	b.start(t, "127.0.0.1:0")
	var got []string
	must(t, b.hub(t).Each(t.Context(), stream.Events, "", 0, func(m stream.Message) error { got = append(got, string(m.Data)); return nil }))
	for i := range rounds * each {
		if i >= len(got) || got[i] != fmt.Sprint(i) {
			t.Fatalf("%d messages, %d is not in its place", len(got), i)
		}
	}
}

// TestLinkOutlastsARefusingHub: two equal refusals would end an ordinary client for good.
func TestLinkOutlastsARefusingHub(t *testing.T) {
	b, wrong := newBench(t), newBench(t)
	wrong.cert, wrong.pool = b.cert, b.pool
	s := wrong.start(t, "127.0.0.1:0")
	addr := s.Addr()
	l := b.link(t, "shop-1", s.URL())
	if n := bustest.Await(t, l, fleetsync.LinkDown); n.Err == nil || !strings.Contains(n.Err.Error(), "uthorization") {
		t.Errorf("down because of %v", n.Err)
	}
	eventually(t, "the link tries again and again", func() bool {
		v, err := s.nats.Varz(nil)
		return err == nil && v.TotalConnections >= 6
	})
	s.Close()
	b.start(t, addr)
	bustest.Await(t, l, fleetsync.LinkUp)
}

// TestSilentConnectionIsGivenUp: a router forgets the connection, and nobody is told.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject("shop-1"), []byte("x")))
	c := newCable(t, b.server.Addr())
	o := b.linkOptions(t, "shop-1", c.url())
	o.ProbeTimeout = 200 * time.Millisecond
	l, err := link.Dial(o)
	must(t, err)
	defer l.Close()
	bustest.Await(t, l, fleetsync.LinkUp)
	thaw := c.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := l.Get(ctx, fleetsync.DesiredSubject("shop-1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on a silent connection: %v", err)
	}
	bustest.Await(t, l, fleetsync.LinkDown)
	thaw()
	bustest.Await(t, l, fleetsync.LinkUp)
	if data, err := l.Get(t.Context(), fleetsync.DesiredSubject("shop-1")); err != nil || string(data) != "x" {
		t.Errorf("got %q, %v", data, err)
	}
}

// TestT12_ADrippingLineIsGivenUp: somebody on the way keeps the connection alive and lets hardly anything through. A request ends in its time, the
// connection is given up for another one, and what was stored is had then.
func TestT12_ADrippingLineIsGivenUp(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject("shop-1"), chunk))
	c := newCable(t, b.server.Addr())
	o := b.linkOptions(t, "shop-1", c.url())
	o.ProbeTimeout = 200 * time.Millisecond
	l, err := link.Dial(o)
	must(t, err)
	defer l.Close()
	bustest.Await(t, l, fleetsync.LinkUp)
	c.drips.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := l.Get(ctx, fleetsync.DesiredSubject("shop-1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on a dripping line: %v", err)
	}
	bustest.Await(t, l, fleetsync.LinkDown)
	c.drips.Store(false)
	bustest.Await(t, l, fleetsync.LinkUp)
	if data, err := l.Get(t.Context(), fleetsync.DesiredSubject("shop-1")); err != nil || !bytes.Equal(data, chunk) {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
}

func TestCutFailsWhatWaits(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	b.hub(t)
	c := newCable(t, b.server.Addr())
	l := b.link(t, "shop-1", c.url())
	bustest.Await(t, l, fleetsync.LinkUp)
	thaw := c.freeze()
	done := make(chan error, 1)
	go func() {
		_, err := l.Get(context.Background(), fleetsync.DesiredSubject("shop-1"))
		done <- err
	}()
	eventually(t, "the request waits", func() bool { return l.Waiting() == 1 })
	c.sever()
	thaw()
	select {
	case err := <-done:
		if !errors.Is(err, fleetsync.ErrNoLink) {
			t.Errorf("got %v, want %v", err, fleetsync.ErrNoLink)
		}
	case <-time.After(10 * time.Second):
		t.Error("still waiting")
	}
}

func TestDialReturnsAtOnceAndRefusesNonsense(t *testing.T) {
	b := newBench(t)
	good := b.linkOptions(t, "shop-1", "tls://192.0.2.1:4222")
	began := time.Now()
	l, err := link.Dial(good)
	must(t, err)
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := l.Get(t.Context(), fleetsync.DesiredSubject("shop-1")); !errors.Is(err, fleetsync.ErrNoLink) {
		t.Errorf("get: %v", err)
	}
	go l.Close() // waits for the attempt under way
	for name, change := range map[string]func(*link.Options){
		"site":     func(o *link.Options) { o.Site = "*" },
		"servers":  func(o *link.Options) { o.Servers = nil },
		"no TLS":   func(o *link.Options) { o.Servers = []string{"nats://hub:4222"} },
		"the seed": func(o *link.Options) { o.Seed = "SUSECRET" },
	} {
		o := good
		change(&o)
		if _, err := link.Dial(o); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExternalServer runs a server that has nothing of ours but the text of ServerConfig.
func TestExternalServer(t *testing.T) {
	b := newBench(t)
	text, err := ServerConfig(b.keys, "")
	must(t, err)
	for _, secret := range []string{b.keys.Operator, b.keys.System, b.keys.Hub, b.keys.Sites, b.keys.User} {
		if strings.Contains(text, secret) {
			t.Error("the configuration holds a secret")
		}
	}
	b.operate(t, "")
	url := b.url

	creds := mustGet[Credentials](t)(b.keys.HubUser())
	creds = mustGet[Credentials](t)(ParseCredentials(mustGet[[]byte](t)(creds.File())))
	h, err := ConnectHub(t.Context(), HubOptions{URL: url, Credentials: creds, CA: b.pool})
	must(t, err)
	defer h.Close()
	must(t, h.EnsureStreams(t.Context(), StreamOptions{}))
	l := b.link(t, "shop-1", url)
	bustest.Await(t, l, fleetsync.LinkUp)
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject("shop-1"), []byte("assignment")))
	if data, err := l.Get(t.Context(), fleetsync.DesiredSubject("shop-1")); err != nil || string(data) != "assignment" {
		t.Errorf("got %q, %v", data, err)
	}
	must(t, l.Report(t.Context(), fleetsync.StateSubject("shop-1"), []byte("state")))
	must(t, h.Poke("shop-1"))
	bustest.Await(t, l, fleetsync.LinkPoke)
	if _, err := ConnectHub(t.Context(), HubOptions{URL: "tls://127.0.0.1:1", Credentials: creds, CA: b.pool}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("no server: %v", err)
	}
}

// TestFanOut: a new assignment reaches two hundred sites.
func TestFanOut(t *testing.T) {
	const sites = 200
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	links := make([]*link.Link, sites)
	for i := range links {
		links[i] = b.link(t, bundle.SiteID(fmt.Sprintf("shop-%03d", i)), b.server.URL())
	}
	for _, l := range links {
		bustest.Await(t, l, fleetsync.LinkUp)
	}
	began := time.Now()
	for i := range links {
		site := bundle.SiteID(fmt.Sprintf("shop-%03d", i))
		mustGet[uint64](t)(h.Put(t.Context(), fleetsync.DesiredSubject(site), []byte(site)))
		must(t, h.Poke(site))
	}
	var wg sync.WaitGroup
	for i, l := range links {
		wg.Go(func() {
			site := bundle.SiteID(fmt.Sprintf("shop-%03d", i))
			for n := range l.Notices() {
				if n.Kind == fleetsync.LinkPoke {
					break
				}
			}
			if data, err := l.Get(t.Context(), fleetsync.DesiredSubject(site)); err != nil || string(data) != string(site) {
				t.Errorf("%s: %q, %v", site, data, err)
			}
			if err := l.Report(t.Context(), fleetsync.StateSubject(site), []byte("seen")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sites told, read and reported in %s", sites, time.Since(began).Round(time.Millisecond))
	if n := b.server.Connections(); n < sites {
		t.Errorf("%d connections", n)
	}
}

func TestFullJitter(t *testing.T) {
	for attempts, bound := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		var most time.Duration
		for range 2000 {
			most = max(most, line.FullJitter(time.Second, 5*time.Minute, attempts))
		}
		if most > bound || most < bound/2 {
			t.Errorf("attempt %d: at most %s, want nearly %s", attempts, most, bound)
		}
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte("-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if c, err := ParseCredentials(file); err == nil && (c.JWT == "" || c.Seed == "") {
			t.Errorf("%q gives %q", file, c.JWT)
		}
	})
}
