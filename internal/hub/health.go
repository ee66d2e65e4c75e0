package hub

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// healthTime is how long a probe waits for the store.
const healthTime = 2 * time.Second

// troubles are why this hub cannot be relied on now, in words, each a line; none where it can.
func (h *Hub) troubles(ctx context.Context) []string {
	var lines []string
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	if _, err := h.store.Get(ctx, auditSubject); err != nil && !errors.Is(err, fleetsync.ErrNotFound) {
		lines = append(lines, "store: cannot be read: "+err.Error())
	}
	if err := h.pulse.trouble(); err != nil {
		lines = append(lines, err.Error())
	}
	if err := h.mender.trouble(); err != nil {
		lines = append(lines, err.Error())
	}
	if err := h.ledger.trouble(); err != nil {
		lines = append(lines, err.Error())
	}
	for _, finding := range h.ledger.found() {
		lines = append(lines, "damage: "+finding.String())
	}
	return lines
}

// getHealth answers whether the process serves at all: a restart would help where it does not.
func (h *Hub) getHealth(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") }

// getReadiness answers whether the hub can be relied on. Who asks has no token and learns no more than which part is not well;
// the log says why.
func (h *Hub) getReadiness(w http.ResponseWriter, r *http.Request) {
	lines := h.troubles(r.Context())
	if len(lines) == 0 {
		writeText(w, http.StatusOK, "ok\n")
		return
	}
	var said strings.Builder
	for _, line := range lines {
		part, _, _ := strings.Cut(line, ":")
		said.WriteString("not well: " + part + "\n")
	}
	writeText(w, http.StatusServiceUnavailable, said.String())
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
