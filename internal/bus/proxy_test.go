package bus

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// connectProxy is an HTTP proxy that lets who has the password through to anywhere, and nobody else.
func connectProxy(t *testing.T, user string) (address string, tunnels *atomic.Int32) {
	t.Helper()
	l := mustGet[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = l.Close() })
	tunnels = new(atomic.Int32)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
	serve := func(near net.Conn) {
		defer near.Close()
		in := bufio.NewReader(near)
		request, err := http.ReadRequest(in)
		if err != nil || request.Method != http.MethodConnect {
			return
		}
		if request.Header.Get("Proxy-Authorization") != want {
			_, _ = io.WriteString(near, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
			return
		}
		far, err := net.Dial("tcp", request.Host)
		if err != nil {
			_, _ = io.WriteString(near, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return
		}
		defer far.Close()
		tunnels.Add(1)
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
		go func() { _, _ = io.Copy(far, in); _ = far.Close() }()
		_, _ = io.Copy(near, far)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String(), tunnels
}

func TestThroughAProxy(t *testing.T) {
	b := newBench(t)
	b.webSocket = "127.0.0.1:0"
	b.start(t, "127.0.0.1:0")
	b.hub(t)
	address, tunnels := connectProxy(t, "shop:canary-of-the-proxy")
	for _, server := range []string{b.url, "wss://" + b.server.WebSocketAddr()} {
		before := tunnels.Load()
		through := mustGet[*proxy.Proxy](t)(proxy.Parse("http://shop:canary-of-the-proxy@" + address))
		o := b.linkOptions(t, "shop-1", server)
		o.Dial = through.Dial
		l := mustGet[*link.Link](t)(link.Dial(o))
		bustest.Await(t, l, fleetsync.LinkUp)
		must(t, l.Report(t.Context(), fleetsync.EventSubject("shop-1"), []byte("x")))
		must(t, l.Close())
		if tunnels.Load() != before+1 {
			t.Errorf("%s: %d tunnels, want %d", server, tunnels.Load(), before+1)
		}
	}
}

func TestT16_AProxyThatRefusesLearnsAndTellsNothing(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	address, tunnels := connectProxy(t, "shop:right")
	core, logs := observer.New(zap.DebugLevel)
	o := b.linkOptions(t, "shop-1", b.url)
	o.Dial, o.Log = mustGet[*proxy.Proxy](t)(proxy.Parse("http://shop:canary@"+address)).Dial, zap.New(core)
	l := mustGet[*link.Link](t)(link.Dial(o))
	defer l.Close()
	n := bustest.Await(t, l, fleetsync.LinkDown)
	if text := n.Err.Error(); !strings.Contains(text, "407") || strings.Contains(text, "canary") {
		t.Errorf("it says %q", text)
	}
	for _, entry := range logs.All() {
		for _, value := range entry.ContextMap() {
			if text, _ := value.(string); strings.Contains(text, "canary") {
				t.Errorf("the log holds the password: %s", text)
			}
		}
	}
	if tunnels.Load() != 0 {
		t.Error("let through without the password")
	}
}
