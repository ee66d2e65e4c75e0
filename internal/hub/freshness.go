package hub

import (
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// poke tells a connected site what is newest for it; one that is away looks when it comes back.
func (h *Hub) poke(id bundle.SiteID) { h.state(id, fleetsync.Hello{}) }

// answer gives a site the proof of what is newest that its hello asks for (T5). One that does not ask, and whose site has not said that it has its newest
// assignment, is answered with a poke: the first one was lost with its hub or on the way. A hello that is not the site's gets nothing.
func (h *Hub) answer(id bundle.SiteID, m stream.Message) {
	h.mu.Lock()
	record, known := h.view.Record(id)
	behind := h.view.Behind(id)
	h.mu.Unlock()
	var hello fleetsync.Hello
	if !known || record.open(fleetsync.TypeHello, m, &hello) != nil || hello.Site != id {
		return
	}
	switch {
	case len(hello.Nonce) == fleetsync.NonceSize:
		h.state(id, hello)
	case hello.Nonce == "" && behind:
		h.poke(id)
	}
}

// heldNote is a site's newest note that the hub has seen. It is the site's to believe: the hub can neither make nor change one.
type heldNote struct {
	number uint64
	raw    []byte
}

// see keeps a note that is newer. It is not forgotten for an older one that a site sends whose disk was put back (T3).
func (n *heldNote) see(raw []byte) {
	if number := fleetsync.NoteNumber(raw); number > n.number {
		*n = heldNote{number, raw}
	}
}

// Note is the site's newest note that the hub has seen, if that is newer than the one with a number.
func (v *View) Note(id bundle.SiteID, than uint64) []byte {
	if site, known := v.sites[id]; known && site.note.number > than {
		return site.note.raw
	}
	return nil
}

// state tells a site what is newest for it, as the answer to a hello with a nonce or, without one, unasked.
func (h *Hub) state(id bundle.SiteID, hello fleetsync.Hello) {
	h.mu.Lock()
	root := h.root.state.Load().Versions
	f := fleetsync.Fresh{Site: id, Nonce: hello.Nonce, Time: h.cfg.Now().UTC(), Assignment: h.view.Assigned(id), Root: uint64(root.Root), Targets: uint64(root.Targets)}
	if ack, ok := h.view.Ack(id); ok {
		f.Ack = &ack
	}
	if hello.Nonce != "" {
		f.Reads, f.Note = []string{fleetsync.Packed}, h.view.Note(id, hello.Note)
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
