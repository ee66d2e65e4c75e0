package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

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

// tooFast answers who asks too often.
func tooFast(w http.ResponseWriter, whose string, wait time.Duration) {
	seconds := int(wait/time.Second) + 1
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	writeProblem(w, api.Problem{
		Status: http.StatusTooManyRequests, Title: "too many requests", Detail: "the limit of " + whose + " is reached", Reason: "TooMany", Hint: fmt.Sprintf("try again in %ds", seconds),
	})
}
