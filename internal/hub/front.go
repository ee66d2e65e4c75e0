package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// front answers before the hub can: that it lives, and what it is still doing. From opened on it hands everything on. A large fleet's streams take a
// while to be read, and who asks meanwhile is not to take that for a dead hub.
type front struct {
	handler atomic.Pointer[http.Handler]
	stage   atomic.Int64 // of the streams that are read, counted from 1; 0: none yet
}

// startingRetry is after how many seconds it is worth asking again.
const startingRetry = 2

// opened has requests handed on from now on.
func (f *front) opened(handler http.Handler) { f.handler.Store(&handler) }

// reading notes how far the start is.
func (f *front) reading(stage int) { f.stage.Store(int64(stage)) }

// doing says what the start is at. Who asks may be anybody, so it does not say how much there is to read.
func (f *front) doing() string {
	if stage := f.stage.Load(); stage > 0 {
		return fmt.Sprintf("it still reads its store, stream %d of %d", stage, len(replayed))
	}
	return "it still opens its store"
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := f.handler.Load(); handler != nil {
		(*handler).ServeHTTP(w, r)
		return
	}
	switch r.URL.Path {
	case "/healthz":
		writeText(w, http.StatusOK, "ok: starting\n")
		return
	case "/readyz":
		writeText(w, http.StatusServiceUnavailable, "not ready: "+f.doing()+"\n")
		return
	}
	w.Header().Set("Retry-After", strconv.Itoa(startingRetry))
	writeProblem(w, api.Problem{
		Status: http.StatusServiceUnavailable, Title: "the hub is starting", Detail: f.doing(), Reason: "Starting", Hint: fmt.Sprintf("try again in %ds", startingRetry),
	})
}
