package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// rollouts is the shell of package rollout. Every hub of a bus follows the heads and lets persons act: a person's act is read, changed, swapped.
// One hub at a time, the holder of the lease, decides and carries out:
//
//	L1  A decision is stored before anything of it is done; who loses the compare-and-swap throws it away with all its effects.
//	L2  An offer is put into an assignment only if, after the assignment was read, the bus still had the head of the decision. A withdrawal
//	    always writes the assignment. So no leader that was replaced, or beaten by an abort, offers after that.
//	L3  What a leader carried out and could not store is found done by the next one.
//	L4  Evidence is the view's: what a site said last, verified when it was folded. Nothing that was missed is needed.
type rollouts struct {
	hub   *Hub
	lease *lease
	ask   *asker
	wake  chan struct{}

	mu    sync.Mutex             // guards what is between here and deciding
	heads map[string]rolloutHead // as followed
	dirty map[bundle.SiteID]bool // sites that something was heard of; true: its record
	moved map[string]bool        // rollouts whose head is new
	said  []verdict              // answers of outside checks

	deciding sync.Mutex // guards what is below, and every Rollout in it
	token    uint64     // of the lease with which led was loaded
	led      map[string]*led
	silent   silence // when connected sites will count as away
}

// led is a rollout that this hub leads.
type led struct {
	r        *rollout.Rollout
	head     rolloutHead
	manifest *bundle.Manifest // of what it brings; nil for a rollback
	stored   uint64           // revision that the bus has
	placed   []placement      // since then
	newer    string           // a rollout of the bundle that begins where this one has ended
	touched  bool
	wake     time.Time
	rest     time.Time // not stored again before it
}

// placement is an effect that was carried out.
type placement struct {
	offer    rollout.Offer
	sequence uint64 // of the assignment; 0: a withdrawal
}

// restShare bounds what storing a rollout may take of a hub's time: a tenth. A small rollout rests for milliseconds, one of ten thousand sites
// for the better part of a second.
const restShare = 10

// leaseSpan is how long a leader that died keeps others waiting.
const leaseSpan = 10 * time.Second

func newRollouts(h *Hub) *rollouts {
	s := &rollouts{hub: h, wake: make(chan struct{}, 1), heads: map[string]rolloutHead{}, dirty: map[bundle.SiteID]bool{}, moved: map[string]bool{}, led: map[string]*led{}}
	s.lease = &lease{
		store: h.store, holder: h.life, span: h.cfg.LeaseSpan, alone: h.cfg.External == nil && h.cfg.Bus == nil, log: h.log, changed: s.passed,
	}
	s.ask = newAsker(h.cfg.Prometheus, s.hear)
	return s
}

// startRollouts follows the rollouts and leads them where the lease is ours.
func (h *Hub) startRollouts(ctx context.Context) error {
	s := newRollouts(h)
	next := uint64(1)
	err := h.store.Each(ctx, stream.Rollouts, "hf.rollout.*", 1, func(m stream.Message) error {
		s.heard(m)
		next = m.Sequence + 1
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h.mu.Lock()
	h.rollouts = s
	h.mu.Unlock()
	running, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { s.lease.run(running) })
	group.Go(func() { s.run(running) })
	group.Go(func() {
		err := h.store.Follow(running, stream.Rollouts, next, func(m stream.Message) error {
			s.heard(m)
			return nil
		})
		if running.Err() == nil {
			h.fail(fmt.Errorf("store: %w", err))
		}
	})
	h.closers = append(h.closers, func() {
		stop()
		group.Wait()
		s.ask.close()
	})
	return nil
}

// heard takes a head in.
func (s *rollouts) heard(m stream.Message) {
	if m.Subject == leaderSubject {
		return
	}
	head, err := decodeHead(m)
	if err != nil {
		s.hub.log.Warn("rollout refused", zap.String("subject", m.Subject), zap.Error(err))
		return
	}
	s.know(head)
}

func (s *rollouts) know(head rolloutHead) {
	s.mu.Lock()
	if head.sequence > s.heads[head.ID].sequence {
		s.heads[head.ID] = head
		s.moved[head.ID] = true
		s.hub.feed.put(note{rollout: &head.Rollout})
	}
	s.mu.Unlock()
	s.nudge()
}

// look has the site looked at soon. It never blocks. record says that its labels or its standing may have changed.
func (s *rollouts) look(site bundle.SiteID, record bool) {
	s.mu.Lock()
	s.dirty[site] = s.dirty[site] || record
	s.mu.Unlock()
	s.nudge()
}

// hear takes the answer of an outside check.
func (s *rollouts) hear(v verdict) {
	s.mu.Lock()
	s.said = append(s.said, v)
	s.mu.Unlock()
	s.nudge()
}

func (s *rollouts) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// list is all rollouts, the newest first.
func (s *rollouts) list() []api.Rollout {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]api.Rollout, 0, len(s.heads))
	for _, head := range s.heads {
		all = append(all, head.Rollout)
	}
	slices.SortFunc(all, func(a, b api.Rollout) int {
		if c := b.Started.Compare(a.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// passed is called when the lease was won or lost.
func (s *rollouts) passed() {
	if token, ours := s.lease.held(); ours {
		s.hub.log.Info("this hub leads the rollouts", zap.Uint64("token", token))
		s.hub.speak()
	} else {
		s.hub.log.Info("another hub leads the rollouts")
	}
	s.nudge()
}

func (s *rollouts) run(ctx context.Context) {
	for {
		next := s.hub.cfg.HeartBeat // looks at least so often: a clock that was put right wakes nobody
		if token, ours := s.lease.held(); ours {
			if at := s.step(ctx, token); !at.IsZero() {
				next = min(next, max(at.Sub(s.hub.cfg.Now()), 0))
			}
		} else {
			s.drop()
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// drop forgets what a leader knows.
func (s *rollouts) drop() {
	s.deciding.Lock()
	s.led, s.token, s.silent = map[string]*led{}, 0, silence{}
	s.deciding.Unlock()
	s.mu.Lock()
	clear(s.dirty)
	s.said = nil
	s.mu.Unlock()
}

// step takes in what was heard, decides what that touches, and says when to look again.
func (s *rollouts) step(ctx context.Context, token uint64) (again time.Time) {
	if token != s.token {
		s.drop()
		s.token = token
		s.watchAll()
		s.mu.Lock()
		for id := range s.heads {
			s.moved[id] = true
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	dirty, moved, said := s.dirty, s.moved, s.said
	s.dirty, s.moved, s.said = map[bundle.SiteID]bool{}, map[string]bool{}, nil
	s.mu.Unlock()
	now := s.hub.cfg.Now()
	failed := false
	for _, id := range slices.Sorted(maps.Keys(moved)) {
		if err := s.load(ctx, id); err != nil {
			s.hub.log.Warn("rollout not loaded: will try again", zap.String("rollout", id), zap.Error(err))
			s.mu.Lock()
			s.moved[id] = true
			s.mu.Unlock()
			failed = true
		}
	}
	s.expire(now, dirty)
	s.fold(now, dirty)
	s.answer(now, said)
	again = s.nextExpiry()
	for _, id := range slices.Sorted(maps.Keys(s.led)) {
		l := s.led[id]
		if l == nil || !l.touched && (l.wake.IsZero() || l.wake.After(now)) {
			if l != nil {
				again = sooner(again, l.wake)
			}
			continue
		}
		if l.rest.After(now) {
			again = sooner(again, l.rest)
			continue
		}
		if err := s.decide(ctx, l); err != nil {
			s.hub.log.Warn("rollout: will try again", zap.String("rollout", id), zap.Error(err))
			failed = true
		}
		if l.touched {
			again = sooner(again, latestOf(l.rest, now))
		}
		again = sooner(again, l.wake)
	}
	if failed {
		again = sooner(again, now.Add(duePause))
	}
	return again
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latestOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// load brings a rollout to lead up to what the bus has: at the beginning, after an act, after another leader.
func (s *rollouts) load(ctx context.Context, id string) error {
	s.mu.Lock()
	head, known := s.heads[id]
	s.mu.Unlock()
	if !known { // purged
		s.deciding.Lock()
		delete(s.led, id)
		s.deciding.Unlock()
		return nil
	}
	was := s.led[id]
	if was != nil && was.head.sequence >= head.sequence {
		return nil
	}
	if head.Retired && was == nil {
		return nil
	}
	r, head, err := s.hub.loadRollout(ctx, id)
	if err != nil {
		return err
	}
	fence := r.Fence
	if fence > s.token { // a store that was put back forgets tokens, rollouts of later do not
		return s.lease.try(ctx, fence)
	}
	l := &led{r: r, head: head, stored: r.Revision, touched: true}
	if !r.Back {
		if _, signed, err := s.hub.offer(ctx, r.Bundle.Digest); err == nil {
			l.manifest = signed.Manifest()
		}
	}
	s.deciding.Lock()
	defer s.deciding.Unlock()
	if r.Retired {
		delete(s.led, id)
		return nil
	}
	if err := r.Lead(s.token); err != nil {
		return err
	}
	if was == nil && fence != 0 && fence < s.token { // led before, by another hub or in another life: what was heard before this one was there is not known here
		r.Restarted(s.hub.cfg.Now().Add(-s.lease.attached()), s.hub.cfg.HeartBeat)
	}
	if was != nil {
		for _, p := range was.placed {
			p.acknowledge(r)
		}
	}
	s.led[id] = l
	s.survey(l)
	return s.overlap(l)
}

// survey tells a rollout that was just read all there is to know.
func (s *rollouts) survey(l *led) {
	h := s.hub
	now := h.cfg.Now().UTC()
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.view.sites {
		if f, known := h.view.Facts(now, id, l.r.Bundle.Name, l.manifest); known {
			l.r.Observe(f)
		}
	}
	selectors := h.view.Selectors()
	for id := range h.view.sites {
		s.foldSite(l, id, h.view.Word(id))
		s.join(now, l, id, selectors)
	}
}

// overlap holds an active rollout against the others of its bundle. It retires those that have ended and share a site. One that is active and was
// started earlier wins: two hubs may have started both at the same moment, and neither saw the other's (R9).
func (s *rollouts) overlap(l *led) error {
	if !l.r.Active() || l.r.Back {
		return nil
	}
	now := s.hub.cfg.Now()
	for _, other := range s.led {
		if other == l || other.r.Bundle.Name != l.r.Bundle.Name {
			continue
		}
		site := shared(l.r, other.r)
		first := other.r.Started.Before(l.r.Started) || other.r.Started.Equal(l.r.Started) && other.r.ID < l.r.ID
		switch {
		case site == "" || !first:
		case other.r.Active():
			why := fmt.Sprintf("site %s is in rollout %s, which was started before", site, other.r.ID)
			return l.r.Abort(now, rollout.Actor{Name: hubName}, why)
		default:
			other.newer, other.touched = l.r.ID, true
		}
	}
	return nil
}

// shared is a site that both rollouts have, or empty.
func shared(a, b *rollout.Rollout) bundle.SiteID {
	for i := range a.Sites {
		if _, has := b.Site(a.Sites[i].Site); has {
			return a.Sites[i].Site
		}
	}
	return ""
}

// retire ends the part of a rollout that has ended before a newer one, once nothing of it is left to do.
func (s *rollouts) retire(now time.Time, l *led) {
	if l.newer != "" && !l.r.Active() && !l.r.Retired && (l.r.Phase == rollout.Completed || !l.r.Withdrawing()) {
		if err := l.r.Retire(now, l.newer); err != nil {
			s.hub.log.Warn("rollout not retired", zap.String("rollout", l.r.ID), zap.Error(err))
		}
	}
}

// hubName is who acts where nobody asked for it.
const hubName = "hub"

// fold tells every rollout what was heard of sites.
func (s *rollouts) fold(now time.Time, dirty map[bundle.SiteID]bool) {
	if len(dirty) == 0 {
		return
	}
	h := s.hub
	s.deciding.Lock()
	defer s.deciding.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	var selectors map[string]string
	for _, id := range slices.Sorted(maps.Keys(dirty)) {
		s.watch(now, id)
		w := h.view.Word(id)
		for _, l := range s.led {
			f, known := h.view.Facts(now, id, l.r.Bundle.Name, l.manifest)
			if !known {
				break
			}
			l.r.Observe(f)
			s.foldSite(l, id, w)
			if dirty[id] {
				if selectors == nil {
					selectors = h.view.Selectors()
				}
				s.join(now, l, id, selectors)
			}
			l.touched = true
		}
	}
}

// foldSite gives a rollout the site's word as evidence. What does not count, or was counted, changes nothing.
func (s *rollouts) foldSite(l *led, id bundle.SiteID, w word) {
	if w.state == nil {
		return
	}
	if e, ok := l.r.Report(w.state, w.stateAt, id); ok {
		l.r.Fold(e)
	}
	if e, ok := l.r.Beat(&w.hello, w.state, w.helloAt, id); ok {
		l.r.Fold(e)
	}
}

// join takes a site in that is new, or whose labels are (R9).
func (s *rollouts) join(now time.Time, l *led, id bundle.SiteID, selectors map[string]string) {
	if l.r.Back || l.r.Phase == rollout.Aborted || l.r.Pulled || l.manifest == nil {
		return
	}
	if _, member := l.r.Site(id); member {
		return
	}
	f, known := s.hub.view.Facts(now, id, l.r.Bundle.Name, l.manifest)
	if !known || f.Conflict != "" {
		return
	}
	for _, other := range s.led {
		if other != l && other.r.Active() && other.r.Bundle.Name == l.r.Bundle.Name {
			if _, member := other.r.Site(id); member {
				f.Rollout = other.r.ID
			}
		}
	}
	if err := l.r.Join(now, f, selectors); err == nil {
		s.hub.log.Info("a site joins a rollout", zap.String("rollout", l.r.ID), zap.String("site", string(id)))
		l.touched = true
	}
}

// watch remembers when a connected site will count as away.
func (s *rollouts) watch(now time.Time, id bundle.SiteID) {
	if site, known := s.hub.view.sites[id]; known && site.connected(now, s.hub.cfg.HeartBeat) {
		s.silent.put(id, site.silentAfter(s.hub.cfg.HeartBeat))
	}
}

func (s *rollouts) watchAll() {
	now := s.hub.cfg.Now()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for id := range s.hub.view.sites {
		s.watch(now, id)
	}
}

// expire looks again at sites of which nothing was heard.
func (s *rollouts) expire(now time.Time, dirty map[bundle.SiteID]bool) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range s.silent.due(now) {
		site, known := h.view.sites[id]
		if !known {
			continue
		}
		if site.connected(now, h.cfg.HeartBeat) { // heard since
			s.silent.put(id, site.silentAfter(h.cfg.HeartBeat))
		} else if _, there := dirty[id]; !there {
			dirty[id] = false
		}
	}
}

func (s *rollouts) nextExpiry() time.Time {
	next, there := s.silent.next()
	if !there {
		return time.Time{}
	}
	return next.Add(time.Millisecond)
}

func (s *rollouts) answer(now time.Time, said []verdict) {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	for _, v := range said {
		l := s.led[v.rollout]
		if l == nil {
			continue
		}
		if err := l.r.Verdict(now, v.wave, v.check, v.verdict, v.detail); err != nil {
			s.hub.log.Debug("an outside verdict comes too late", zap.String("rollout", v.rollout), zap.Error(err))
		}
		l.touched = true
	}
}

// decide is one turn of a rollout: decide, store, do.
func (s *rollouts) decide(ctx context.Context, l *led) error {
	phase := l.head.Phase
	d, err := s.decideAndStore(ctx, l)
	if errors.Is(err, stream.ErrConflict) {
		return s.overtaken(ctx, l)
	}
	if err != nil {
		return err
	}
	for _, m := range d.Moves {
		s.hub.log.Info("rollout", zap.String("rollout", l.r.ID), zap.Stringer("move", m))
	}
	if l.r.Phase != phase {
		s.tell(ctx, l.r)
	}
	return s.carryOut(ctx, l, d)
}

// decideAndStore keeps others from reading what is decided and not yet stored. Without the lease nothing is decided.
func (s *rollouts) decideAndStore(ctx context.Context, l *led) (d rollout.Decision, err error) {
	s.deciding.Lock()
	defer s.deciding.Unlock()
	if token, ours := s.lease.held(); !ours || token != s.token {
		return d, nil
	}
	begun, now := time.Now(), s.hub.cfg.Now().UTC()
	s.retire(now, l)
	d = l.r.Decide(now)
	l.touched, l.wake = false, d.Wake
	if l.r.Revision == l.stored {
		return d, nil
	}
	head, err := s.hub.storeRollout(ctx, l.r, l.head)
	if err != nil {
		l.touched = true
		return d, err
	}
	l.head, l.stored, l.placed = head, l.r.Revision, nil
	l.rest = s.hub.cfg.Now().Add(restShare * time.Since(begun))
	s.know(head)
	return d, nil
}

// overtaken reads a rollout again that somebody else changed.
func (s *rollouts) overtaken(ctx context.Context, l *led) error {
	head, err := s.hub.readHead(ctx, l.r.ID)
	if err != nil {
		return err
	}
	s.know(head)
	return s.load(ctx, l.r.ID)
}

// tell writes into the audit log that the engine stopped a rollout or brought it to its end.
func (s *rollouts) tell(ctx context.Context, r *rollout.Rollout) {
	record := api.AuditRecord{Who: hubName, What: "rollout " + strings.ToLower(string(r.Phase)), Target: r.ID, Outcome: done}
	if r.Cause != nil {
		record.Detail = r.Cause.Words()
	}
	if err := s.hub.audit(ctx, record); err != nil {
		s.hub.log.Warn("what became of a rollout is not in the audit log", zap.String("rollout", r.ID), zap.Error(err))
	}
}
