package hub

import (
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// poke tells a connected site what is newest for it; one that is away looks when it comes back.
func (h *Hub) poke(id bundle.SiteID) { h.state(id, "") }

// answer gives a site the proof of what is newest that its hello asks for (T5). A hello that is not the site's gets none.
func (h *Hub) answer(id bundle.SiteID, m stream.Message) {
	h.mu.Lock()
	record, known := h.view.Record(id)
	h.mu.Unlock()
	var hello fleetsync.Hello
	if !known || record.open(fleetsync.TypeHello, m, &hello) != nil || hello.Site != id || len(hello.Nonce) != fleetsync.NonceSize {
		return
	}
	h.state(id, hello.Nonce)
}

// state tells a site what is newest for it, as the answer to a nonce or, with an empty one, unasked.
func (h *Hub) state(id bundle.SiteID, nonce string) {
	h.mu.Lock()
	root := h.root.state.Load().Versions
	f := fleetsync.Fresh{Site: id, Nonce: nonce, Time: h.cfg.Now().UTC(), Assignment: h.view.Assigned(id), Root: uint64(root.Root), Targets: uint64(root.Targets)}
	if ack, ok := h.view.Ack(id); ok {
		f.Ack = &ack
	}
	if nonce != "" {
		f.Reads = []string{fleetsync.Packed}
	}
	h.mu.Unlock()
	sealed, err := fleetsync.Seal(fleetsync.TypeFresh, f, h.signing().private)
	if err == nil {
		err = h.signals.Answer(id, sealed)
	}
	if err != nil {
		h.log.Debug("poke", zap.String("site", string(id)), zap.Error(err))
	}
}
