package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	systemTimeout = 4 * time.Second // for the servers of an external bus to answer
	systemQuiet   = 250 * time.Millisecond
)

// System is the hub as the system user of an external bus: it tells the servers whom they shut out, so that connections that are open are cut.
// It reconnects by itself for ever, and says the list again whenever it does and whenever somebody on the list gets in: a server that keeps
// accounts in memory forgets the list when it is started anew.
type System struct {
	keys  Keys
	sites string // public key of the account
	log   *zap.Logger
	nc    *nats.Conn

	again chan struct{} // the list is to be said again
	stop  context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	revoked []string
	failed  error // of the last time it was said
}

// ConnectSystem begins to connect and returns at once. Errors are about the options only.
func ConnectSystem(o HubOptions, keys Keys) (*System, error) {
	sites, err := open("sites account", keys.Sites)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &System{keys: keys, log: o.Log, again: make(chan struct{}, 1), ended: make(chan struct{}), failed: errors.New("not connected yet")}
	s.sites = sites.public
	if s.nc, err = nats.Connect(o.URL, append(o.natsOptions("holdfast-hub system"), nats.RetryOnFailedConnect(true),
		nats.ConnectHandler(func(*nats.Conn) { s.sayAgain() }), nats.ReconnectHandler(func(*nats.Conn) { s.sayAgain() }))...); err != nil {
		return nil, fmt.Errorf("bus %s: system account: %w", o.URL, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go s.run(ctx)
	if _, err = s.nc.Subscribe("$SYS.ACCOUNT."+sites.public+".CONNECT", s.connected); err != nil {
		s.Close()
		return nil, fmt.Errorf("bus %s: system account: %w", o.URL, err)
	}
	return s, nil
}

// Close ends the connection. Who is shut out stays so.
func (s *System) Close() {
	s.stop()
	s.nc.Close()
	<-s.ended
}

func (s *System) sayAgain() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

func (s *System) run(ctx context.Context) {
	defer close(s.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.again:
			s.mu.Lock()
			err := s.say()
			s.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				s.log.Error("the bus does not know who is revoked: they stay connected", zap.Error(err))
			}
		}
	}
}

// connected is told of each user of the account SITES that gets in.
func (s *System) connected(m *nats.Msg) {
	var event struct {
		Client struct {
			User string `json:"user"`
		} `json:"client"`
	}
	if json.Unmarshal(m.Data, &event) != nil {
		return
	}
	s.mu.Lock()
	shut := slices.Contains(s.revoked, event.Client.User)
	s.mu.Unlock()
	if shut {
		s.log.Warn("a revoked user was let in: the list is said again", zap.String("user", event.Client.User))
		s.sayAgain()
	}
}

// Revoke shuts out the users with the public keys and those alone, as Server.Revoke does. It returns an error where no server said that it has
// the list; it is said again as soon as one can be reached.
func (s *System) Revoke(publicKeys []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = slices.Clone(publicKeys)
	return s.say()
}

// Trouble is why the servers may not have the list; nil where they have it.
func (s *System) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// say tells every server. The caller has locked.
func (s *System) say() (err error) {
	defer func() { s.failed = err }()
	claims, operator, err := s.keys.sitesWithout(s.revoked)
	if err != nil {
		return err
	}
	token, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	return s.update(s.sites, token)
}

// update gives the servers an account token and wants one of them at least to have taken it and none to have refused it.
func (s *System) update(account, token string) error {
	if !s.nc.IsConnected() {
		return errors.Join(errors.New("system account of the bus: not connected"), s.nc.LastError())
	}
	inbox, err := s.nc.SubscribeSync(s.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("system account of the bus: %w", err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	if err := s.nc.PublishRequest("$SYS.REQ.ACCOUNT."+account+".CLAIMS.UPDATE", inbox.Subject, []byte(token)); err != nil {
		return fmt.Errorf("system account of the bus: %w", err)
	}
	// How many servers there are nobody says: after the first answer a while without another one ends it.
	for wait, taken := systemTimeout, false; ; wait = systemQuiet {
		m, err := inbox.NextMsg(wait)
		if err != nil && taken {
			return nil
		}
		if err != nil {
			return fmt.Errorf("system account of the bus: no server answers: %w", err)
		}
		var answer struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return fmt.Errorf("system account of the bus: answer of a server: %w", err)
		}
		if answer.Error != nil {
			return fmt.Errorf("system account of the bus: a server refuses the account token: %.300s", answer.Error.Description)
		}
		taken = true
	}
}

// SystemUser gives credentials of the system account, whose user hears of connections and says what the accounts are.
func (k Keys) SystemUser() (Credentials, error) {
	return k.user("system account", k.System, jwt.Permissions{
		Pub: jwt.Permission{Allow: jwt.StringList{"$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE"}},
		Sub: jwt.Permission{Allow: jwt.StringList{"$SYS.ACCOUNT.*.CONNECT", "_INBOX.>"}},
	})
}
