package hub

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

// Limits of sessions of the web pages.
const (
	sessionLife = 12 * time.Hour
	sessionIdle = time.Hour
	maxSessions = 1000
	maxOfUser   = 20 // a user who logs in again and again ends own sessions and nobody else's
	// sessionCookie has the prefix with which browsers hold a cookie to this host, to HTTPS and to the whole of it.
	sessionCookie = "__Host-holdfast"
)

// sessions are the browsers that are logged in. A session stands for the token it was made from, which is asked about at every request: what is
// revoked is out at once. They are in memory only: after a start of the hub people log in again.
type sessions struct {
	mu  sync.Mutex
	all map[string]session
}

type session struct {
	user       string
	token      string
	made, used time.Time
}

func newSessions() *sessions { return &sessions{all: map[string]session{}} }

// open begins a session of a user and gives its name, 260 bits of chance. Where there are too many, of the user or of all, the one that was used least
// lately ends.
func (s *sessions) open(now time.Time, user, token string) string {
	id := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, own, ofUser := "", "", 0
	for other, o := range s.all {
		if o.over(now) {
			delete(s.all, other)
			continue
		}
		if oldest == "" || o.used.Before(s.all[oldest].used) {
			oldest = other
		}
		if o.user != user {
			continue
		}
		if ofUser++; own == "" || o.used.Before(s.all[own].used) {
			own = other
		}
	}
	switch {
	case ofUser >= maxOfUser:
		delete(s.all, own)
	case len(s.all) >= maxSessions:
		delete(s.all, oldest)
	}
	s.all[id] = session{user, token, now, now}
	return id
}

func (o session) over(now time.Time) bool {
	return now.Sub(o.made) > sessionLife || now.Sub(o.used) > sessionIdle
}

// token is that of a session that is not over.
func (s *sessions) token(now time.Time, id string) (token string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, known := s.all[id]
	if !known || o.over(now) {
		delete(s.all, id)
		return "", false
	}
	o.used = now
	s.all[id] = o
	return o.token, true
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
}

// cookie hands a session to the browser; an empty one takes it back.
func cookie(id string) *http.Cookie {
	c := &http.Cookie{Name: sessionCookie, Value: id, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(sessionLife.Seconds())}
	if id == "" {
		c.MaxAge = -1
	}
	return c
}

func sessionOf(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}
