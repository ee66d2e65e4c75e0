package hub

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// presenceEvery is how often the embedded bus is asked who is connected, so that a site that is gone is missed long before its next heartbeat.
const presenceEvery = 15 * time.Second

// watchPresence asks until ctx ends, first when sites have had time to come back after a start. users is the bus's answer: public keys.
func (h *Hub) watchPresence(ctx context.Context, users func() (map[string]bool, error)) {
	every(ctx, presenceEvery, func() { h.notePresence(users) })
}

func (h *Hub) notePresence(users func() (map[string]bool, error)) {
	asked := h.cfg.Now()
	connected, err := users()
	if err != nil {
		h.log.Warn("who is connected is not known", zap.Error(err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view.Present(connected, asked)
}
