package hub

import (
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// leads says whether this hub is the one of its bus that holds the lease: it decides rollouts, and it alone acknowledges events and answers hellos. The others
// fold the same reports and keep silent, so that three hubs write and say as much as one. A leader that is paused and does not know that it was replaced says
// less than the new one, which costs at most what a site sends again.
func (h *Hub) leads() bool {
	h.mu.Lock()
	s := h.rollouts
	h.mu.Unlock()
	if s == nil {
		return false
	}
	_, ours := s.lease.held()
	return ours
}

// speak makes good, once this hub leads, what no hub said while none did: acknowledgements that are not on the bus, answers that sites still wait for, and pokes
// of assignments that a hub wrote just before it died. What is folded later is told as it comes: whoever folds asks who leads after that.
func (h *Hub) speak() {
	var behind []bundle.SiteID
	h.mu.Lock()
	for id := range h.view.sites {
		if h.view.Behind(id) {
			behind = append(behind, id)
		}
		if ack, ok := h.view.Ack(id); ok && !h.view.Told(id, ack) {
			h.acks.owe(id)
		}
	}
	asked := h.view.Asked(h.cfg.Now().Add(-fleetsync.AskPatience))
	h.mu.Unlock()
	for id, hello := range asked {
		h.state(id, hello)
	}
	for _, id := range behind {
		h.poke(id)
	}
}
