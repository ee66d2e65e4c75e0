package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// replayed are the streams the view is made of, in the order in which they are folded at start: who is spoken of before what is said (V3),
// and acknowledgements after the events they are of.
var replayed = []string{stream.Sites, stream.Catalog, stream.Groups, stream.Plans, stream.Notifications, stream.Desired, stream.Events, stream.State, stream.Acks}

// follow builds the view from the bus and keeps it right from then on.
func (h *Hub) follow(ctx context.Context) error {
	next := map[string]uint64{}
	events := true // are all there
	for i, name := range replayed {
		h.front.reading(i + 1)
		var there []line
		err := h.store.Each(ctx, name, "", 1, func(m stream.Message) error {
			if name != stream.Acks || events { // with events lost, what was acknowledged says nothing of what is here: sites are asked for it again
				h.fold(m)
			}
			there, next[name] = append(there, lineOf(m)), m.Sequence+1
			return nil
		})
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		sound := h.ledger.check(name, there, h.cfg.Now())
		events = events && (sound || name != stream.Events)
	}
	h.recount(ctx, func(name string, messages, last uint64) { h.ledger.checkCount(name, messages, last, h.cfg.Now()) })
	h.scrub(ctx, false)
	for _, finding := range h.ledger.found() {
		h.log.Error("the store lost what it had acknowledged", zap.Stringer("finding", finding))
	}
	following, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	h.acks = newAcknowledger(h)
	running.Go(func() { h.acks.run(following) })
	h.warden = newWarden(h)
	running.Go(func() { h.warden.run(following) })
	for _, site := range h.view.ids() {
		h.warden.look(site)
	}
	running.Go(func() { h.keepThrottled(following) })
	running.Go(func() { h.keepFresh(following) })
	running.Go(func() { h.keepLedger(following) })
	if h.present != nil {
		running.Go(func() { h.watchPresence(following) })
	}
	running.Go(func() { h.scrub(following, true) })
	for _, name := range replayed {
		running.Go(func() {
			err := h.store.Follow(following, name, max(next[name], 1), func(m stream.Message) error {
				h.ledger.count(name, m) // before anybody is told of it (L1)
				if name == stream.Events || name == stream.State {
					h.charge(m)
				}
				h.fold(m)
				return nil
			})
			if following.Err() == nil {
				h.fail(fmt.Errorf("store: %w", err))
			}
		})
	}
	deaf, err := h.signals.OnHello(func(site bundle.SiteID, data []byte) {
		m := stream.Message{Subject: fleetsync.HelloSubject(site), Data: data, Time: h.cfg.Now()}
		if h.charge(m) {
			return
		}
		h.fold(m)
		if h.leads() {
			h.answer(site, m)
		}
	})
	h.closers = append(h.closers, func() {
		if deaf != nil {
			deaf()
		}
		stop()
		running.Wait()
	})
	return err
}

// fail ends Wait with the first failure.
func (h *Hub) fail(err error) {
	select {
	case h.failed <- err:
	default:
	}
}

// fold takes a message into the view. What is refused is logged here and stays in the site's alarms.
func (h *Hub) fold(m stream.Message) {
	h.mu.Lock()
	wasFresh := h.view.heardOf(m, h.cfg.Now())
	folded, err := h.view.Fold(m)
	if site, isEvent := eventSite(m.Subject); isEvent {
		h.lastEvent = max(h.lastEvent, m.Sequence)
		if folded != nil && h.acks != nil {
			h.acks.owe(site)
		}
	} else if err == nil && h.acks != nil && (m.Subject == fleetsync.StateSubject(site) || m.Subject == fleetsync.HelloSubject(site)) && h.view.Lacks(site) {
		h.acks.owe(site)
	}
	if site, err := stream.SiteOf(m.Subject); err == nil {
		if h.warden != nil {
			h.warden.look(site)
		}
		if h.rollouts != nil {
			h.rollouts.look(site, m.Subject == SiteSubject(site))
		}
	}
	live := h.acks != nil // what a start reads again was counted before
	h.mu.Unlock()
	if live {
		h.metrics.folded(m, folded, err)
		h.feed.put(notesOf(m, folded, err, wasFresh)...)
	}
	if err != nil {
		h.log.Warn("message refused", zap.String("subject", m.Subject), zap.Error(err))
	}
	if folded != nil && folded.Broken != 0 {
		h.log.Warn("the chain of events breaks", zap.String("subject", m.Subject), zap.Uint64("at", folded.Broken))
	}
	if folded != nil && folded.Missing.From != 0 {
		h.log.Warn("events are missing", zap.String("subject", m.Subject), zap.Uint64("from", folded.Missing.From), zap.Uint64("to", folded.Missing.To))
	}
}

// heardOf says that a heartbeat tells nothing new: its site is fresh anyway.
func (v *View) heardOf(m stream.Message, now time.Time) bool {
	id, err := stream.SiteOf(m.Subject)
	if site := v.sites[id]; err == nil && site != nil && m.Subject == fleetsync.HelloSubject(id) {
		return site.freshness(now, v.heartBeat) == api.Fresh
	}
	return false
}

// notesOf is what a message means to those who watch.
func notesOf(m stream.Message, folded *fleetsync.Folded, err error, wasFresh bool) (notes []note) {
	site, siteErr := stream.SiteOf(m.Subject)
	if err != nil || siteErr != nil || wasFresh {
		return nil
	}
	switch m.Subject {
	case SiteSubject(site), fleetsync.DesiredSubject(site), fleetsync.StateSubject(site), fleetsync.HelloSubject(site):
		return []note{{site: site}}
	case fleetsync.EventSubject(site):
		if folded == nil {
			return nil
		}
		for _, event := range folded.New {
			notes = append(notes, note{site: site, event: &api.SiteEvent{Site: site, Epoch: folded.Epoch, Received: m.Time, Event: event}})
		}
	}
	return notes
}

func eventSite(subject string) (bundle.SiteID, bool) {
	site, err := stream.SiteOf(subject)
	return site, err == nil && subject == fleetsync.EventSubject(site)
}

// acknowledger tells sites which of their events are safe. It folds what is owed to a site into one message, and a failure into a later try.
type acknowledger struct {
	hub  *Hub
	owed *dueSites
}

func newAcknowledger(h *Hub) *acknowledger { return &acknowledger{hub: h, owed: newDueSites()} }

// paceEach is what each site that waits for an acknowledgement adds to the pause that the others are asked for between two batches, in milliseconds: two
// synced writes, and as much time again for everything else.
const paceEach = 2

// acknowledging is how many acknowledgements are written at a time. One write of the ledger serves all that wait for it.
const acknowledging = 32

func (a *acknowledger) owe(site bundle.SiteID) { a.owed.put(site) }

func (a *acknowledger) run(ctx context.Context) {
	a.owed.run(ctx, a.hub.log, acknowledging, "acknowledgement not stored: will try again", a.tell)
}

// tell publishes the site's acknowledgement and pokes it, where this hub is the one that speaks. One that says nothing new is only poked: the site sent again
// what it was told of, so it has not looked.
func (a *acknowledger) tell(ctx context.Context, site bundle.SiteID) error {
	h := a.hub
	if !h.leads() {
		return nil // whoever leads finds out what is owed
	}
	h.mu.Lock()
	ack, ok := h.view.Ack(site)
	told := ok && h.view.Told(site, ack)
	h.mu.Unlock()
	if !ok {
		return nil
	}
	if !told {
		ack.Pace = a.owed.waiting() * paceEach
		if err := h.ledger.cover(fleetsync.EventSubject(site)); err != nil {
			return err
		}
		sealed, err := fleetsync.Seal(fleetsync.TypeAck, ack, h.signing().private)
		if err != nil {
			return err
		}
		if _, err := h.store.Put(ctx, fleetsync.AckSubject(site), sealed); err != nil {
			return err
		}
		h.mu.Lock()
		_, err = h.view.Fold(stream.Message{Subject: fleetsync.AckSubject(site), Data: sealed, Time: h.cfg.Now()})
		h.mu.Unlock()
		if err != nil {
			return err
		}
	}
	h.poke(site)
	return nil
}

// eventChoice is which events are asked for.
type eventChoice struct {
	site  bundle.SiteID // empty: of all the sites
	sites access.Sites
	since time.Time // received at or after
	limit int
	// upto is the last message of the stream that counts, 0 for the last there is; skip is how many of the newest before it were given already.
	upto uint64
	skip int
}

// maxSkip bounds how far back a list goes on; since chooses what is older.
const maxSkip = 20_000

// goOn takes up where the list before ended.
func (c *eventChoice) goOn(r *http.Request) error {
	text, err := continueAsked(r)
	if err != nil || text == "" {
		return err
	}
	if n, err := fmt.Sscanf(text, "%d.%d", &c.upto, &c.skip); n != 2 || err != nil || c.upto == 0 || c.skip < 1 || c.skip > maxSkip {
		return malformed("continue is not what a list gave", errors.New("take it from the Link header as it is"))
	}
	return nil
}

// Events gives the newest events of a choice, oldest first, and where older ones are, if there may be any.
// It reads the stream backwards in growing windows, because a stream may hold months.
func (h *Hub) Events(ctx context.Context, choice eventChoice) (events []api.SiteEvent, older string, err error) {
	if choice.upto == 0 {
		h.mu.Lock()
		choice.upto = h.lastEvent
		h.mu.Unlock()
	}
	want := choice.skip + choice.limit
	for window := uint64(4 * want); ; window *= 16 {
		from := uint64(1)
		if choice.upto > window {
			from = choice.upto - window + 1
		}
		all, complete, err := h.eventsFrom(ctx, choice, from, want)
		if err != nil {
			return nil, "", fmt.Errorf("events: %w", err)
		}
		if !complete && from > 1 && len(all) < want {
			continue
		}
		if len(all) >= want && want <= maxSkip {
			older = fmt.Sprintf("%d.%d", choice.upto, want)
		}
		return all[:max(0, len(all)-choice.skip)], older, nil
	}
}

// eventsFrom gives the newest events of a window; complete says that older windows hold nothing that was received since.
func (h *Hub) eventsFrom(ctx context.Context, choice eventChoice, from uint64, want int) (events []api.SiteEvent, complete bool, err error) {
	filter := ""
	if choice.site != "" {
		filter = fleetsync.EventSubject(choice.site)
	}
	line := newTimeline(want)
	err = h.store.Each(ctx, stream.Events, filter, from, func(m stream.Message) error {
		if m.Sequence > choice.upto {
			return nil
		}
		if m.Time.Before(choice.since) {
			complete = true
			return nil
		}
		site, isEvent := eventSite(m.Subject)
		if !isEvent {
			return nil
		}
		h.mu.Lock()
		record, known := h.view.Record(site)
		h.mu.Unlock()
		var batch fleetsync.EventBatch
		if !known || !choice.sites.Has(record.Labels) || record.open(fleetsync.TypeEvents, m, &batch) != nil || batch.Site != site {
			return nil // not asked for, or refused when it was folded, and in the site's alarms
		}
		_ = line.add(batch, m.Time) // as above
		return nil
	})
	return line.newest(), complete, err
}
