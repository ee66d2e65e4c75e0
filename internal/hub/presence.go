package hub

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// presenceEvery is how often the embedded bus is asked who is connected, so that a site that is gone is missed long before its next heartbeat.
const presenceEvery = 15 * time.Second

// watchPresence asks until ctx ends, first when sites have had time to come back after a start.
func (h *Hub) watchPresence(ctx context.Context) {
	every(ctx, presenceEvery, h.notePresence)
}

func (h *Hub) notePresence() {
	asked := h.cfg.Now()
	h.mu.Lock()
	sites := slices.Collect(maps.Keys(h.view.sites))
	h.mu.Unlock()
	connected, err := h.present(sites)
	if err != nil {
		h.log.Warn("who is connected is not known", zap.Error(err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view.Present(connected, asked)
}
