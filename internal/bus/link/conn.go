package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// errElsewhere says that a route leads nowhere and another one is to be tried.
var errElsewhere = errors.New("no way through")

// run keeps a connection until the link is closed. The client library reconnects by itself; where it finds no way through and there is
// another route, that one is tried; should it give up all the same, it is started anew.
func (l *Link) run() {
	defer close(l.ended)
	for attempts := 1; l.ctx.Err() == nil; attempts++ {
		began := time.Now()
		err := l.live(l.routes.now())
		if l.ctx.Err() != nil {
			return
		}
		if time.Since(began) > l.o.RetryMax {
			attempts = 1
		}
		if rest := l.routes.next(); errors.Is(err, errElsewhere) && !rest {
			attempts--
			l.o.Log.Info("trying another way to the hub", zap.Strings("servers", l.routes.now()))
			continue
		} else if !errors.Is(err, errElsewhere) {
			l.o.Log.Warn("link to the hub ended: starting it again", zap.Error(err))
		}
		select {
		case <-time.After(line.FullJitter(l.o.RetryMin, l.o.RetryMax, attempts)):
		case <-l.hurry:
		case <-l.ctx.Done():
		}
	}
}

// live is one life of a client connection over one route, through any number of reconnects.
func (l *Link) live(servers []string) error {
	connected, closed, elsewhere := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	var was atomic.Bool // connected in this life
	signal := func(*nats.Conn) {
		select {
		case connected <- struct{}{}:
		default:
		}
	}
	nc, err := nats.Connect(strings.Join(servers, ","), append(l.natsOptions(),
		nats.ConnectHandler(signal), nats.ReconnectHandler(signal),
		nats.CustomReconnectDelay(func(rounds int) time.Duration {
			// A connection that was there is tried once more where it was: most that end are back at once.
			if l.routes.several() && (rounds > 1 || !was.Load()) {
				select {
				case elsewhere <- struct{}{}:
				default:
				}
			}
			return line.FullJitter(l.o.RetryMin, l.o.RetryMax, rounds)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.client = nc
	l.mu.Unlock()
	defer func() {
		nc.Close()
		<-closed
		l.lost(nil)
	}()
	if _, err := nc.Subscribe(fleetsync.PokeSubject(l.o.Site), func(m *nats.Msg) {
		l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkPoke, Data: m.Data})
	}); err != nil {
		return err
	}
	for {
		select {
		case <-connected:
			was.Store(true)
			l.routes.worked()
			l.greet(nc)
		case <-elsewhere:
			if nc.IsConnected() {
				continue // it came through after all
			}
			return errElsewhere
		case <-closed:
			return errors.Join(errors.New("the client gave up"), nc.LastError())
		case <-l.ctx.Done():
			return nil
		}
	}
}

// dialer is Options.Dial for the client library.
type dialer func(network, address string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

func (l *Link) natsOptions() []nats.Option {
	options := []nats.Option{
		nats.Name("holdfast-edge " + string(l.o.Site)),
		nats.UserJWT(l.currentJWT, l.sign),
		nats.Secure(l.tls()),
		nats.CustomInboxPrefix(line.InboxPrefix(l.o.Site)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // what cannot be sent now is in the store, not in memory
		nats.Timeout(line.Handshake), nats.PingInterval(l.o.PingInterval), nats.MaxPingsOutstanding(line.PingsOut),
		nats.FlusherTimeout(line.WriteDeadline),
		nats.NoEcho(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.unwelcome(err); l.lost(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.unwelcome(err); l.unreachable(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.unwelcome(err)
			l.o.Log.Warn("link to the hub", zap.Error(err))
			if errors.Is(err, nats.ErrPermissionViolation) {
				l.refuse(err)
			}
		}),
	}
	dial := (&net.Dialer{Timeout: line.Handshake}).Dial
	if l.o.Dial != nil {
		dial, options = l.o.Dial, append(options, nats.SkipHostLookup())
	}
	return append(options, nats.SetCustomDialer(dialer(func(network, address string) (net.Conn, error) {
		conn, err := dial(network, address)
		if err != nil {
			return nil, err
		}
		return l.traffic.count(conn), nil
	})))
}

func (l *Link) currentJWT() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jwt, nil
}

func (l *Link) sign(nonce []byte) ([]byte, error) {
	pair, err := nkeys.FromSeed([]byte(l.o.Seed))
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}

// unwelcome tells whoever keeps the JWT that the server does not take it.
func (l *Link) unwelcome(err error) {
	if l.o.Refused != nil && (errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)) {
		l.o.Refused()
	}
}

// greet makes the link usable. The poke subscription is at the server before the news is told, so that whoever looks for changes on
// LinkUp misses none between looking and listening.
func (l *Link) greet(nc *nats.Conn) {
	if err := nc.FlushTimeout(line.Handshake); err != nil {
		if errors.Is(err, nats.ErrTimeout) {
			_ = nc.ForceReconnect()
		}
		return // a reconnect will greet again
	}
	l.mu.Lock()
	if l.down != nil {
		l.down(fmt.Errorf("%w: connected anew", fleetsync.ErrNoLink))
	}
	l.nc = nc
	l.up, l.down = context.WithCancelCause(context.Background())
	l.why = ""
	l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkUp})
	l.mu.Unlock()
	// It may have broken before there was anything to fail; what mends it will greet again.
	if !nc.IsConnected() {
		l.lost(nats.ErrDisconnected)
	}
}

// lost fails what waits for an answer and tells that the link is down.
func (l *Link) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down == nil {
		return
	}
	cause := fleetsync.ErrNoLink
	if err != nil {
		cause = fmt.Errorf("%w: connection lost: %w", fleetsync.ErrNoLink, err)
	}
	l.down(cause)
	l.up, l.down = nil, nil
	l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkDown, Err: err})
}

// unreachable tells why an attempt to connect failed, once for each reason.
func (l *Link) unreachable(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || err.Error() == l.why {
		return
	}
	l.why = err.Error()
	l.o.Log.Warn("hub cannot be reached", zap.Error(err))
	l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkDown, Err: err})
}
