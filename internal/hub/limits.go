package hub

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// Limits of the API, in requests. A desk that rolls out to a fleet stays far below them; one that runs wild does not slow the others.
const (
	asksOfUser       = 200.0 // a second, of one user
	asksOfUserBurst  = 1000
	asksFrom         = 400.0 // a second, from one address
	asksFromBurst    = 2000
	failedLogins     = 0.5 // a second, from one address; the others are neither answered nor written down
	failedLoginBurst = 20
)

// maxKeys bounds what a limiter remembers.
const maxKeys = 4096

// limiter is one rate for each of many keys. Its methods may be called concurrently.
type limiter struct {
	rate  rate.Limit // a second
	burst int

	mu  sync.Mutex
	key map[string]*rate.Limiter
}

func newLimiter(each float64, burst int) *limiter {
	return &limiter{rate: rate.Limit(each), burst: burst, key: map[string]*rate.Limiter{}}
}

// of is the limit of a key. Who comes with ever new keys still meets the limits that have others.
func (l *limiter) of(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, known := l.key[key]
	if !known {
		if len(l.key) >= maxKeys {
			clear(l.key)
		}
		one = rate.NewLimiter(l.rate, l.burst)
		l.key[key] = one
	}
	return one
}

// take says how long the key has to wait for one more; 0 is that it need not.
func (l *limiter) take(now time.Time, key string) time.Duration { return take(now, l.of(key)) }

func take(now time.Time, l *rate.Limiter) time.Duration {
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// hasteEvery is how often it is written down that somebody asks too often.
const hasteEvery = time.Minute

// haste counts the requests of each that were refused for their number. Its methods may be called concurrently.
type haste struct {
	mu sync.Mutex
	of map[string]hurry
}

type hurry struct {
	written time.Time
	refused int // since then
}

// count counts refused more requests of who, and gives the number to be written down now: 0 for none, or where the last record is too young.
func (s *haste) count(now time.Time, who string, refused int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.of[who]
	one.refused += refused
	if one.refused == 0 {
		return 0
	}
	due := now.Sub(one.written) >= hasteEvery
	n := one.refused
	if due {
		one = hurry{written: now}
	}
	if _, known := s.of[who]; !known && len(s.of) >= maxKeys {
		clear(s.of)
	}
	s.of[who] = one
	if !due {
		return 0
	}
	return n
}

// noteHaste writes down that a user, or an address without one, was refused that many more requests for their number: at most one record of each a minute,
// with the number of those since the last. What is left at the end of a burst is written with the user's next request, so 0 asks for that.
func (h *Hub) noteHaste(ctx context.Context, user, from string, refused int) {
	who := cmp.Or(user, from)
	n := h.asks.haste.count(h.cfg.Now(), who, refused)
	if n == 0 {
		return
	}
	refusal := refuse(http.StatusTooManyRequests, "TooMany", fmt.Sprintf("asked too often: %d refused", n), "", "")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	if user == "" { // there are more addresses than users
		h.noteRefusal(ctx, who, "ask", refusal)
		return
	}
	if err := h.audit(ctx, api.AuditRecord{Who: who, What: "ask", Outcome: refusal.Problem.Reason, Detail: refusal.Problem.Title}); err != nil {
		h.log.Warn("a refusal is not in the audit log", zap.Error(err))
	}
}

// tooFast answers who asks too often. user is empty for one who is not known yet.
func (h *Hub) tooFast(w http.ResponseWriter, r *http.Request, user, whose string, wait time.Duration) {
	h.noteHaste(r.Context(), user, addressOf(r), 1)
	seconds := int(wait/time.Second) + 1
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	writeProblem(w, api.Problem{
		Status: http.StatusTooManyRequests, Title: "too many requests", Detail: "the limit of " + whose + " is reached", Reason: "TooMany", Hint: fmt.Sprintf("try again in %ds", seconds),
	})
}
