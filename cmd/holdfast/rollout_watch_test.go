package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

// mover is a hub with one rollout that goes on by a step whenever it was told, or, where it tells nobody, whenever it was asked.
type mover struct {
	tells bool

	mu    sync.Mutex
	step  int
	asked int
}

func (m *mover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/watch" {
		if !m.tells {
			w.Header().Set("Content-Type", api.ProblemType)
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"status":429,"title":"too many watch"}`))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "id: a-1\n: since then\n\n")
		for n := range 3 {
			m.mu.Lock()
			m.step = n + 1
			m.mu.Unlock()
			fmt.Fprintf(w, "id: a-%d\nevent: rollout\ndata: {\"id\":\"r\"}\n\nid: a-%d\nevent: rollout\ndata: {\"id\":\"other\"}\n\n", 2*n+2, 2*n+3)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if !m.tells {
		m.step = m.asked
	}
	e := rollout.Explanation{ID: "r", Phase: rollout.Running}
	for n := range min(m.step, 3) {
		e.Trail = append(e.Trail, rollout.Entry{By: "engine", Act: fmt.Sprintf("step %d", n+1)})
	}
	if m.step >= 3 {
		e.Phase = rollout.Completed
	}
	_ = json.NewEncoder(w).Encode(e)
}

// A rollout is told as it moves: by the hub's own word, and by asking again where the hub refuses to be watched.
func TestARolloutIsToldByTheHubOrByAsking(t *testing.T) {
	for _, tells := range []bool{true, false} {
		m := &mover{tells: tells}
		server := httptest.NewTLSServer(m)
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		hub, err := api.NewClient(api.ContextFile{URL: server.URL, CA: string(ca), Token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		var out, talk bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := (&desk{out: &out, talk: &talk}).tell(ctx, hub, "r"); err != nil {
			t.Errorf("tells %t: %v", tells, err)
		}
		cancel()
		server.CloseClientConnections()
		server.Close()
		for n := range 3 {
			if strings.Count(out.String(), fmt.Sprintf("step %d", n+1)) != 1 {
				t.Errorf("tells %t: told\n%s", tells, out.String())
			}
		}
		// The first look, the beginning of the watch and at most a look a note: no clock asks.
		if tells && m.asked > 5 || talk.Len() > 0 {
			t.Errorf("tells %t: asked %d times, said %q", tells, m.asked, talk.String())
		}
	}
}
