package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// Limits of idempotency keys. Answers are kept in memory and nowhere else, because some hold a secret: a hub that starts again has forgotten them,
// and what is asked again then meets the write's own conflict rules.
const (
	maxIdempotencyKey = 128 // bytes
	maxReplays        = 2000
	maxReplay         = 256 << 10 // bytes of an answer; a larger one is not kept
	replayLife        = time.Hour
)

// replays are the answers to requests with an idempotency key. Its methods may be called concurrently.
type replays struct {
	mu    sync.Mutex
	byKey map[string]*replay
	order []string // of byKey, the oldest first
}

// replay is a request under way or answered. What is not the mutex's is written before done is closed.
type replay struct {
	asked  [sha256.Size]byte // method, path and body
	at     time.Time
	done   chan struct{}
	kept   bool
	status int
	kind   string
	body   []byte
}

func newReplays() *replays { return &replays{byKey: map[string]*replay{}} }

// begin gives what was begun with the key, or begins it: first is true for who has to carry it out.
func (p *replays) begin(now time.Time, key string, asked [sha256.Size]byte) (r *replay, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.order) > 0 && (len(p.order) >= maxReplays || now.Sub(p.byKey[p.order[0]].at) > replayLife) {
		delete(p.byKey, p.order[0])
		p.order = p.order[1:]
	}
	if r, known := p.byKey[key]; known {
		return r, false
	}
	r = &replay{asked: asked, at: now, done: make(chan struct{})}
	p.byKey[key], p.order = r, append(p.order, key)
	return r, true
}

// forget takes an answer away that is not to be given again.
func (p *replays) forget(key string, r *replay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey[key] != r {
		return
	}
	delete(p.byKey, key)
	for i, one := range p.order {
		if one == key {
			p.order = append(p.order[:i:i], p.order[i+1:]...)
			break
		}
	}
}

// tape passes an answer on and keeps a copy of it.
type tape struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
	long   bool
}

func (t *tape) WriteHeader(status int) {
	t.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *tape) Write(b []byte) (int, error) {
	if t.long = t.long || t.body.Len()+len(b) > maxReplay; !t.long {
		t.body.Write(b)
	}
	return t.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController and MaxBytesReader reach the connection.
func (t *tape) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// once carries a write of at most limit bytes with an Idempotency-Key out once: the same request again is given the same answer, another one under the key is refused.
// Keys are each user's own. An answer that says nothing was decided (5xx, 429) is not kept.
func (h *Hub) once(limit int64, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		if key == "" {
			next(w, r)
			return
		}
		if len(key) > maxIdempotencyKey {
			writeProblem(w, api.Problem{Status: http.StatusBadRequest, Title: "the idempotency key is too long", Detail: "at most 128 bytes", Reason: "Malformed"})
			return
		}
		body, err := readBody(w, r, limit)
		if err != nil {
			writeProblem(w, problemOf(err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		sum := sha256.New()
		_, _ = io.WriteString(sum, r.Method+" "+r.URL.RequestURI()+"\n") // a hash takes everything
		_, _ = sum.Write(body)
		key = who(r) + " " + key
		kept, first := h.replays.begin(h.cfg.Now(), key, [sha256.Size]byte(sum.Sum(nil)))
		if !first {
			h.again(w, r.Context(), kept, [sha256.Size]byte(sum.Sum(nil)))
			return
		}
		recorded := &tape{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			kept.kept = !recorded.long && recorded.status < http.StatusInternalServerError && recorded.status != http.StatusTooManyRequests
			kept.status, kept.kind, kept.body = recorded.status, w.Header().Get("Content-Type"), recorded.body.Bytes()
			if !kept.kept {
				h.replays.forget(key, kept)
			}
			close(kept.done)
		}()
		next(recorded, r)
	}
}

// again answers a request whose key was used before.
func (h *Hub) again(w http.ResponseWriter, ctx context.Context, kept *replay, asked [sha256.Size]byte) {
	if kept.asked != asked {
		writeProblem(w, api.Problem{Status: http.StatusUnprocessableEntity, Title: "the idempotency key was used for another request", Reason: "KeyReused", Hint: "use a new key for each request"})
		return
	}
	select {
	case <-kept.done:
	case <-ctx.Done():
		return
	}
	if !kept.kept {
		writeProblem(w, api.Problem{Status: http.StatusServiceUnavailable, Title: "the first request with this idempotency key was not carried out", Reason: "Unavailable", Hint: "send it again"})
		return
	}
	w.Header().Set("Content-Type", kept.kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(kept.status)
	_, _ = w.Write(kept.body) // the client is gone if this fails
}
