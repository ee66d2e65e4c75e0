package hub

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// seenEvery is how often it is written down that a user is there.
const seenEvery = 10 * time.Minute

// users are the users of the API, as stream USERS has them. Its methods may be called concurrently.
type users struct {
	mu     sync.Mutex
	byName map[string]access.User
	byHash map[string]string    // name
	seen   map[string]time.Time // exact
	noted  map[string]time.Time // as it was written down
}

func newUsers() *users {
	return &users{byName: map[string]access.User{}, byHash: map[string]string{}, seen: map[string]time.Time{}, noted: map[string]time.Time{}}
}

// seenRecord is what seenSubject holds.
type seenRecord struct {
	At time.Time `json:"at"`
}

// fold takes what the stream holds. An older revision never replaces a newer one.
func (u *users) fold(m stream.Message) error {
	if name, isSeen := strings.CutPrefix(m.Subject, seenSubject("")); isSeen {
		var record seenRecord
		if err := decodeRecord(m.Data, &record); err != nil {
			return fmt.Errorf("%s: %w", m.Subject, err)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.noted[name] = later(u.noted[name], record.At)
		u.seen[name] = later(u.seen[name], record.At)
		return nil
	}
	var user access.User
	if err := decodeRecord(m.Data, &user); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if UserSubject(user.Name) != m.Subject {
		return fmt.Errorf("%s: the record is of user %.80q", m.Subject, user.Name)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	before, known := u.byName[user.Name]
	if known && before.Revision > user.Revision {
		return nil
	}
	delete(u.byHash, before.Hash)
	u.byName[user.Name], u.byHash[user.Hash] = user, user.Name
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// of gives the user of a token. The map is asked by hash: how long it takes tells nothing of a token.
func (u *users) of(token string) (access.User, bool) {
	if len(token) > access.MaxToken {
		return access.User{}, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	name, known := u.byHash[access.Hash(token)]
	return u.byName[name], known
}

// shutOut says that a user who was admitted would not be now.
func (u *users) shutOut(a actor, now time.Time) bool {
	if a.hash == "" {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	user := u.byName[a.name]
	return user.Hash != a.hash || user.Role != a.role || user.Scope != a.scope || user.Barred(now) != ""
}

// see remembers that the user is there; note says that it is time to write it down.
func (u *users) see(name string, now time.Time) (note bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen[name] = later(u.seen[name], now)
	if now.Sub(u.noted[name]) < seenEvery {
		return false
	}
	u.noted[name] = now
	return true
}

func (u *users) shown(user access.User) api.User {
	shown := api.User{Name: user.Name, Role: user.Role, Scope: user.Scope, Created: user.Created, By: user.By, Expires: &user.Expires, Revoked: user.Revoked, Why: user.Why}
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, seen := u.seen[user.Name]; seen {
		at = at.UTC().Truncate(time.Second)
		shown.LastUsed = &at
	}
	return shown
}

func (u *users) all() []access.User {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.SortedFunc(maps.Values(u.byName), func(a, b access.User) int { return strings.Compare(a.Name, b.Name) })
}

// followUsers reads the users and keeps them right from then on: what another hub on the same bus revokes is shut out here too.
func (h *Hub) followUsers(ctx context.Context) error {
	next := uint64(1)
	take := func(m stream.Message) error {
		if err := h.users.fold(m); err != nil {
			h.log.Warn("message refused", zap.String("subject", m.Subject), zap.Error(err))
		}
		next = m.Sequence + 1
		h.feed.nudge()
		return nil
	}
	if err := h.store.Each(ctx, stream.Users, "", 1, take); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	following, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.store.Follow(following, stream.Users, next, take); following.Err() == nil {
			h.fail(fmt.Errorf("store: %w", err))
		}
	})
	h.closers = append(h.closers, func() {
		stop()
		running.Wait()
	})
	return nil
}

// admit finds the user of a token.
func (h *Hub) admit(ctx context.Context, token string) (actor, error) {
	if h.doorkeeper.admits(token) {
		return actor{name: access.AdminName, role: access.Admin}, nil
	}
	user, known := h.users.of(token)
	if !known {
		return actor{}, refuse(http.StatusUnauthorized, "Unauthorized", "not admitted", "the request has no token that this hub knows",
			"holdfast user add makes one; the first admin's is in "+ContextFileName+" in the hub's data directory")
	}
	now := h.cfg.Now()
	if why := user.Barred(now); why != "" {
		return actor{name: user.Name}, refuse(http.StatusUnauthorized, "Unauthorized", "not admitted", why, "ask an admin: holdfast user renew "+user.Name)
	}
	a := actor{name: user.Name, role: user.Role, scope: user.Scope, hash: user.Hash}
	if !user.Scope.Empty() {
		h.mu.Lock()
		a.sites = user.Scope.Sites(h.view.Selectors())
		h.mu.Unlock()
	}
	if h.users.see(user.Name, now) {
		raw, err := json.Marshal(seenRecord{now.UTC().Truncate(time.Second)})
		if err == nil {
			_, err = h.store.Put(context.WithoutCancel(ctx), seenSubject(user.Name), raw)
		}
		if err != nil {
			h.log.Warn("when a user was last there is not written down", zap.String("user", user.Name), zap.Error(err))
		}
	}
	return a, nil
}

func badUser(err error) *api.Error {
	return refuse(http.StatusBadRequest, "BadUser", err.Error(), "", "")
}

func unknownUser(name string) *api.Error {
	return refuse(http.StatusNotFound, "UnknownUser", fmt.Sprintf("user %.80q is not known", name), "", "holdfast user list shows the users")
}

// AddUser makes a user. Its token is in the answer and nowhere else.
func (h *Hub) AddUser(ctx context.Context, request api.UserRequest, by string) (api.UserGrant, error) {
	user := access.User{Name: request.Name, Role: request.Role, Scope: request.Scope, By: by}
	if err := h.knownScope(request.Scope); err != nil {
		return api.UserGrant{}, err
	}
	return h.grant(ctx, user, request.Seconds, 0)
}

// knownScope refuses a scope by a group that there is not.
func (h *Hub) knownScope(scope access.Scope) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.view.Group(scope.Group); scope.Group != "" && !known {
		return unknownGroup(scope.Group)
	}
	return nil
}

// ChangeUser gives a user another role or scope, which holds from the next request on; what the user watches ends.
func (h *Hub) ChangeUser(ctx context.Context, name string, rights api.UserRights) (api.User, error) {
	if err := h.knownScope(rights.Scope); err != nil {
		return api.User{}, err
	}
	return h.changeUser(ctx, name, func(user *access.User) (bool, error) {
		user.Role, user.Scope = rights.Role, rights.Scope
		if err := user.Check(); err != nil {
			return false, badUser(err)
		}
		return true, nil
	})
}

// changeUser changes a user by compare-and-swap. edit says whether there is anything to change.
func (h *Hub) changeUser(ctx context.Context, name string, edit func(*access.User) (changed bool, err error)) (api.User, error) {
	for range assignTries {
		user, sequence, err := h.user(ctx, name)
		if err != nil {
			return api.User{}, err
		}
		changed, err := edit(&user)
		if err == nil && changed {
			err = h.keepUser(ctx, user, sequence)
		}
		switch {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return api.User{}, err
		}
		return h.users.shown(user), nil
	}
	return api.User{}, fmt.Errorf("user %s: %w %d times", name, stream.ErrConflict, assignTries)
}

// RenewUser gives a user another token, also one whose token was revoked or expired. The one before it opens nothing any more.
func (h *Hub) RenewUser(ctx context.Context, name string, request api.UserRenewal) (api.UserGrant, error) {
	user, sequence, err := h.user(ctx, name)
	if err != nil {
		return api.UserGrant{}, err
	}
	user.Revoked, user.Why = nil, ""
	return h.grant(ctx, user, request.Seconds, sequence)
}

func (h *Hub) grant(ctx context.Context, user access.User, seconds int64, sequence uint64) (api.UserGrant, error) {
	token := access.Token(rand.Text() + rand.Text()) // 260 bits
	user.Hash = access.Hash(token)
	user.Created = h.cfg.Now().UTC().Truncate(time.Second)
	// Bounded before it is multiplied.
	user.Expires = user.Created.Add(time.Duration(min(max(seconds, 0), 1<<30)) * time.Second)
	if err := user.Check(); err != nil {
		return api.UserGrant{}, badUser(err)
	}
	switch err := h.keepUser(ctx, user, sequence); {
	case errors.Is(err, stream.ErrConflict) && sequence == 0:
		return api.UserGrant{}, refuse(http.StatusConflict, "UserExists", fmt.Sprintf("user %s exists", user.Name), "", "holdfast user renew gives it another token")
	case err != nil:
		return api.UserGrant{}, err
	}
	return api.UserGrant{User: h.users.shown(user), Context: api.ContextFile{URL: h.url, CA: h.certificates.pinned(), Token: token}}, nil
}

func (h *Hub) keepUser(ctx context.Context, user access.User, sequence uint64) error {
	user.Revision++
	raw, err := json.Marshal(user)
	if err != nil {
		return fmt.Errorf("user %s: encode: %w", user.Name, err)
	}
	if err := h.putIf(ctx, UserSubject(user.Name), raw, sequence); err != nil {
		return fmt.Errorf("user %s: %w", user.Name, err)
	}
	err = h.users.fold(stream.Message{Subject: UserSubject(user.Name), Data: raw})
	h.feed.nudge()
	return err
}

// user reads a user back from the bus, which holds the truth.
func (h *Hub) user(ctx context.Context, name string) (user access.User, sequence uint64, err error) {
	if _, err := bundle.ParseName(name); err != nil {
		return user, 0, unknownUser(name)
	}
	message, err := h.store.Get(ctx, UserSubject(name))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return user, 0, unknownUser(name)
	}
	if err == nil {
		err = decodeRecord(message.Data, &user)
	}
	if err != nil {
		return user, 0, fmt.Errorf("user %s: %w", name, err)
	}
	return user, message.Sequence, nil
}

// RevokeUser ends a user's token. The name stays, so that the audit log never speaks of two people by one.
func (h *Hub) RevokeUser(ctx context.Context, name, why string) (api.User, error) {
	return h.changeUser(ctx, name, func(user *access.User) (bool, error) {
		if user.Revoked != nil {
			return false, nil
		}
		now := h.cfg.Now().UTC().Truncate(time.Second)
		user.Revoked, user.Why = &now, fmt.Sprintf("%.200s", why)
		return true, nil
	})
}

func (h *Hub) getWhoAmI(_ http.ResponseWriter, r *http.Request) (api.User, error) {
	a := actorOf(r.Context())
	h.users.mu.Lock()
	user, known := h.users.byName[a.name]
	h.users.mu.Unlock()
	if !known {
		return api.User{Name: a.name, Role: a.role}, nil
	}
	return h.users.shown(user), nil
}

func (h *Hub) getUsers(http.ResponseWriter, *http.Request) ([]api.User, error) {
	list := []api.User{}
	for _, user := range h.users.all() {
		list = append(list, h.users.shown(user))
	}
	return list, nil
}

func (h *Hub) postUser(w http.ResponseWriter, r *http.Request) (api.UserGrant, error) {
	request, err := decodeRequest[api.UserRequest](w, r)
	if err != nil {
		return api.UserGrant{}, err
	}
	return h.AddUser(context.WithoutCancel(r.Context()), request, who(r))
}

func (h *Hub) postUserRenewal(w http.ResponseWriter, r *http.Request) (api.UserGrant, error) {
	request, err := decodeRequest[api.UserRenewal](w, r)
	if err != nil {
		return api.UserGrant{}, err
	}
	return h.RenewUser(context.WithoutCancel(r.Context()), r.PathValue("user"), request)
}

func (h *Hub) postUserRights(w http.ResponseWriter, r *http.Request) (api.User, error) {
	request, err := decodeRequest[api.UserRights](w, r)
	if err != nil {
		return api.User{}, err
	}
	return h.ChangeUser(context.WithoutCancel(r.Context()), r.PathValue("user"), request)
}

func (h *Hub) postUserRevocation(w http.ResponseWriter, r *http.Request) (api.User, error) {
	request, err := decodeRequest[api.Because](w, r)
	if err != nil {
		return api.User{}, err
	}
	return h.RevokeUser(context.WithoutCancel(r.Context()), r.PathValue("user"), request.Why)
}
