package bus

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// buses are the ways in which a site can reach the streams: each must keep it to its own.
var buses = map[string]func(t *testing.T, b *bench){
	"embedded": func(t *testing.T, b *bench) { b.start(t, "127.0.0.1:0") },
	"websocket": func(t *testing.T, b *bench) {
		b.webSocket = "127.0.0.1:0"
		b.start(t, "127.0.0.1:0")
		b.url = "wss://" + b.server.WebSocketAddr()
	},
	"external":                func(t *testing.T, b *bench) { b.operate(t, "") },
	"external, accounts kept": func(t *testing.T, b *bench) { b.operate(t, t.TempDir()) },
}

// onEachBus runs a test on each of them.
func onEachBus(t *testing.T, test func(t *testing.T, b *bench)) {
	for name, start := range buses {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			start(t, b)
			test(t, b)
		})
	}
}

// operate starts a NATS server as its operator would: from a configuration file of its own that includes what the hub printed.
func (b *bench) operate(t *testing.T, resolver string) *server.Server {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	write("holdfast.conf", []byte(mustGet[string](t)(ServerConfig(b.keys, resolver))))
	certificate, key := b.pem(t)
	cert, secret := write("cert.pem", certificate), write("key.pem", key)
	tls := fmt.Sprintf("tls { cert_file: %q, key_file: %q, min_version: \"1.3\" }", cert, secret)
	listen := "127.0.0.1:-1"
	if b.listen != "" {
		listen = b.listen
	}
	config := write("nats.conf", []byte(fmt.Sprintf("server_name: bus\nlisten: %q\n%s\nwebsocket { listen: \"127.0.0.1:-1\", %s }\njetstream { store_dir: %q, sync_interval: always, limits { default_max_consumers: -1 } }\ninclude ./holdfast.conf\n",
		listen, tls, tls, b.dir)))
	options := mustGet[*server.Options](t)(server.ProcessConfigFile(config))
	options.NoLog, options.NoSigs = true, true
	srv := mustGet[*server.Server](t)(server.NewServer(options))
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the external server does not start")
	}
	b.external, b.url = srv, "tls://"+srv.Addr().String()
	return srv
}

// A site with two addresses takes the one that leads to the hub, comes back over it, and finds the other when that is the one left.
func TestTwoWaysToTheHub(t *testing.T) {
	b := newBench(t)
	b.webSocket = "127.0.0.1:0"
	b.start(t, "127.0.0.1:0")
	h := b.hub(t)
	plain, web := newCable(t, b.server.Addr()), newCable(t, b.server.WebSocketAddr())
	plain.sever()
	o := b.linkOptions(t, "shop-1", plain.url())
	o.Servers = append(o.Servers, "wss://"+web.listener.Addr().String())
	core, logs := observer.New(zap.DebugLevel)
	o.Log = zap.New(core)
	l := mustGet[*link.Link](t)(link.Dial(o))
	t.Cleanup(func() { _ = l.Close() })
	bustest.Await(t, l, fleetsync.LinkUp)
	must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte("over WebSocket")))
	must(t, h.Poke("shop-1"))
	bustest.Await(t, l, fleetsync.LinkPoke)

	// A break of the way that worked: it is tried again before the other.
	switches := func() int { return logs.FilterMessage("trying another way to the hub").Len() }
	before := switches()
	web.sever()
	web.mend()
	bustest.Await(t, l, fleetsync.LinkUp)
	if switches() != before {
		t.Errorf("%d switches, want %d: what worked was not tried first", switches(), before)
	}
	plain.mend()
	web.sever()
	bustest.Await(t, l, fleetsync.LinkUp)
	must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte("over TCP")))
	plain.mu.Lock()
	carried := len(plain.conns)
	plain.mu.Unlock()
	if carried == 0 {
		t.Error("it came back, and not over the way that is left")
	}
}

// With one way only nothing is given up, and a link that found no way is closed at once.
func TestNoWayToTheHub(t *testing.T) {
	b := newBench(t)
	dead := mustGet[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	_ = dead.Close()
	o := b.linkOptions(t, "shop-1", "tls://"+dead.Addr().String())
	o.Servers = append(o.Servers, "wss://"+dead.Addr().String())
	core, logs := observer.New(zap.DebugLevel)
	o.Log = zap.New(core)
	l := mustGet[*link.Link](t)(link.Dial(o))
	eventually(t, "both ways are tried again and again", func() bool { return logs.FilterMessage("trying another way to the hub").Len() >= 3 })
	if err := l.Report(t.Context(), fleetsync.EventSubject("shop-1"), nil); err == nil {
		t.Error("a report without a link is taken")
	}
	must(t, l.Close())
	for _, server := range []string{"nats://h:1", "ws://h:1", "wss://h", "https://h:1", "tls://", "tls://user:secret@h:1", "", "wss://user:secret@h:1"} {
		o.Servers = []string{server}
		if _, err := link.Dial(o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", server, err)
		}
	}
}

// A revoked site is cut off an external bus by the system account, stays out, and a server that forgot the list hears it again.
func TestT23_RevokedOnAnExternalBus(t *testing.T) {
	for name, kept := range map[string]bool{"accounts in memory": false, "accounts kept": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			resolver := ""
			if kept {
				resolver = t.TempDir()
			}
			b.operate(t, resolver)
			b.hub(t)
			s, err := ConnectSystem(HubOptions{URL: b.url, CA: b.pool, Credentials: mustGet[Credentials](t)(b.keys.SystemUser())}, b.keys)
			must(t, err)
			defer s.Close()
			eventually(t, "the system user is in", s.nc.IsConnected)
			good := b.link(t, "shop-good", b.url)
			bad := connectRaw(t, b, b.linkOptions(t, "shop-bad", b.url))
			stays := connectRaw(t, b, b.linkOptions(t, "shop-stays", b.url))
			bustest.Await(t, good, fleetsync.LinkUp)
			must(t, s.Revoke([]string{bad.user}))
			if err := s.Trouble(); err != nil {
				t.Errorf("trouble %v", err)
			}
			// The connection is cut by the server; it does not come back, because the server refuses it.
			eventually(t, "the revoked site is cut off", func() bool { return !bad.IsConnected() })
			if !stays.IsConnected() {
				t.Error("another site was cut off")
			}
			if err := good.Report(t.Context(), fleetsync.EventSubject("shop-good"), []byte("x")); err != nil {
				t.Errorf("another site: %v", err)
			}
			if nc, err := dialRaw(b, bad.o); err == nil {
				nc.Close()
				t.Error("a revoked site is let in again")
			}

			// The server starts anew: with accounts in memory it has forgotten, and hears it again when the hub is back.
			address := b.external.Addr().String()
			b.external.Shutdown()
			b.external.WaitForShutdown()
			b.listen = address
			b.operate(t, resolver)
			eventually(t, "the server shuts it out again", func() bool {
				nc, err := dialRaw(b, bad.o)
				if err != nil {
					return strings.Contains(strings.ToLower(err.Error()), "authorization")
				}
				defer nc.Close()
				return false
			})
		})
	}
}

// Without the right credentials nothing is claimed: the error says that the list is not with the bus.
func TestT23_AnHonestErrorWithoutTheSystemAccount(t *testing.T) {
	b := newBench(t)
	b.operate(t, "")
	s, err := ConnectSystem(HubOptions{URL: b.url, CA: b.pool, Credentials: mustGet[Credentials](t)(newBench(t).keys.SystemUser())}, b.keys)
	must(t, err)
	defer s.Close()
	_, public, err := NewSiteKey()
	must(t, err)
	if err := s.Revoke([]string{public}); err == nil || s.Trouble() == nil {
		t.Errorf("revoked without being let in: %v, %v", err, s.Trouble())
	}
	// The hub's own user has no system account: nothing answers it.
	own, err := ConnectSystem(HubOptions{URL: b.url, CA: b.pool, Credentials: mustGet[Credentials](t)(b.keys.HubUser())}, b.keys)
	must(t, err)
	defer own.Close()
	eventually(t, "it is connected", own.nc.IsConnected)
	if err := own.Revoke([]string{public}); err == nil {
		t.Error("revoked by a user without the right to")
	}
}
