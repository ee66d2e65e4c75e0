package hub

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// placers is how many assignments are written at a time: most of that time is the bus's.
const placers = 16

// errOvertaken says that the rollout is not what it was when the effect was decided, or that another hub leads: it is not carried out.
var errOvertaken = errors.New("the rollout changed since this was decided")

// carryOut does what was decided and stored. What fails is in the next decision again.
func (s *rollouts) carryOut(ctx context.Context, l *led, d rollout.Decision) error {
	for _, asked := range d.Checks {
		s.ask.put(l.r.ID, asked, s.hub.cfg.Now())
	}
	err := s.place(ctx, l, d.Withdrawals, func(current fleetsync.Assignment, site SiteRecord, o rollout.Offer) (fleetsync.Assignment, bool, error) {
		return withdrawn(current, site, l.r.Bundle.Name, l.r.ID, o, s.hub.cfg.Now())
	}, false)
	if err == nil {
		err = s.place(ctx, l, d.Offers, func(current fleetsync.Assignment, site SiteRecord, o rollout.Offer) (fleetsync.Assignment, bool, error) {
			if err := s.still(ctx, l); err != nil { // L2: asked after the assignment was read
				return current, false, err
			}
			if l.manifest != nil {
				if err := fits(site, current, l.manifest); err != nil {
					return current, false, err
				}
			}
			return offered(current, site, l.r.Bundle.Name, l.r.ID, o, s.hub.cfg.Now())
		}, true)
	}
	if errors.Is(err, errOvertaken) {
		return s.overtaken(ctx, l)
	}
	if err != nil {
		return err
	}
	return s.takeBack(ctx, l, d.RollBack)
}

// still says whether the rollout is what it was when the effects under way were decided.
func (s *rollouts) still(ctx context.Context, l *led) error {
	if token, ours := s.lease.held(); !ours || token != s.token {
		return errOvertaken
	}
	head, err := s.hub.readHead(ctx, l.r.ID)
	if err != nil {
		return err
	}
	if head.sequence != l.head.sequence {
		return errOvertaken
	}
	return nil
}

type decideOffer func(current fleetsync.Assignment, site SiteRecord, o rollout.Offer) (fleetsync.Assignment, bool, error)

// place writes offers or withdrawals into assignments, and takes in which were written. An error of one site does not keep the others from theirs;
// it is given when all were tried.
func (s *rollouts) place(ctx context.Context, l *led, offers []rollout.Offer, decide decideOffer, isOffer bool) error {
	if len(offers) == 0 {
		return nil
	}
	type result struct {
		sequence uint64
		err      error
	}
	results := make([]result, len(offers))
	group, placing := errgroup.WithContext(ctx)
	group.SetLimit(placers)
	for i, o := range offers {
		group.Go(func() error {
			sequence, _, err := s.hub.reassignSite(placing, o.Site, func(current fleetsync.Assignment, site SiteRecord) (fleetsync.Assignment, bool, error) {
				return decide(current, site, o)
			})
			results[i] = result{sequence, err}
			if errors.Is(err, errOvertaken) {
				return err // nobody else is to be written either
			}
			return nil
		})
	}
	overtaken := group.Wait()
	s.deciding.Lock()
	defer s.deciding.Unlock()
	var failed error
	for i, o := range offers {
		if err := results[i].err; err != nil {
			failed = fmt.Errorf("site %s: %w", o.Site, err)
			continue
		}
		p := placement{o, results[i].sequence}
		if !isOffer {
			p.sequence = 0
		}
		p.acknowledge(l.r)
		l.placed = append(l.placed, p)
		l.touched = true
		s.look(o.Site, false) // it may have answered already
	}
	if overtaken != nil {
		return overtaken
	}
	return failed
}

// acknowledge tells a rollout that the effect was carried out. One that means another attempt is refused, which is right.
func (p placement) acknowledge(r *rollout.Rollout) {
	if p.sequence == 0 {
		_ = r.Withdrew(p.offer.Site, p.offer.Attempt)
		return
	}
	_ = r.Placed(p.offer.Site, p.offer.Attempt, p.sequence)
}

// takeBack begins the rollback that the plan orders, or one that was ordered and whose beginning a crash cut off.
func (s *rollouts) takeBack(ctx context.Context, l *led, mode rollout.RollbackMode) error {
	if l.r.BackBy == "" && mode == "" {
		return nil
	}
	by, why := hubName, "the plan rolls back on failure"
	if l.r.Cause != nil {
		why = l.r.Cause.Words()
	}
	if l.r.BackBy != "" {
		s.mu.Lock()
		_, there := s.heads[l.r.BackBy]
		s.mu.Unlock()
		ordered := lastAct(l.r, "rollback")
		if there || ordered == nil {
			return nil
		}
		// Whoever ordered it is about to store it, unless that hub is dead.
		if at := ordered.At.Add(s.hub.cfg.LeaseSpan); at.After(s.hub.cfg.Now()) {
			l.wake = sooner(l.wake, at)
			return nil
		}
		by, why = ordered.By, ordered.Why
	}
	s.deciding.Lock()
	back, err := l.r.Rollback(s.hub.cfg.Now(), s.hub.backOrder(l.r, by, why, mode), nil)
	s.deciding.Unlock()
	if err != nil {
		s.hub.log.Warn("no rollback", zap.String("rollout", l.r.ID), zap.Error(err))
		return nil
	}
	s.deciding.Lock()
	l.head, err = s.hub.beginRollback(ctx, l.r, l.head, back)
	s.deciding.Unlock()
	if errors.Is(err, stream.ErrConflict) {
		return s.overtaken(ctx, l)
	}
	l.stored, l.touched = l.r.Revision, true
	s.know(l.head)
	return err
}

func lastAct(r *rollout.Rollout, act string) *rollout.Entry {
	for i := len(r.Trail) - 1; i >= 0; i-- {
		if r.Trail[i].Act == act {
			return &r.Trail[i]
		}
	}
	return nil
}

// backOrder is the request for a rollback. Content that sites ran before goes back under the highest counter it was released with: a site takes
// no older one.
func (h *Hub) backOrder(r *rollout.Rollout, by, why string, mode rollout.RollbackMode) rollout.BackOrder {
	order := rollout.BackOrder{ID: r.BackBy, By: by, Why: why, Mode: mode, Releases: map[bundle.Digest]rollout.Version{}}
	if order.ID == "" {
		order.ID = backID(r.ID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range r.Versions {
		was, known := h.view.releases[v.Digest]
		if !known {
			continue
		}
		for _, release := range h.view.Releases(r.Bundle.Name) { // the highest counter first
			if release.Content == was.Content {
				order.Releases[v.Digest] = rollout.Version{Version: release.Version, Digest: release.Digest, Counter: release.Counter}
				break
			}
		}
	}
	return order
}

func backID(id string) string {
	const suffix = "-back"
	return id[:min(len(id), 63-len(suffix))] + suffix
}

// beginRollback stores what is rolled back before the rollback: a crash in between leaves an order that the next decision finds.
func (h *Hub) beginRollback(ctx context.Context, r *rollout.Rollout, was rolloutHead, back *rollout.Rollout) (rolloutHead, error) {
	r.RolledBack(back.ID)
	head, err := h.storeRollout(ctx, r, was)
	if err != nil {
		return was, err
	}
	begun, err := h.storeRollout(ctx, back, rolloutHead{})
	if err != nil && !errors.Is(err, stream.ErrConflict) { // a conflict: it was begun already
		return head, err
	}
	if err == nil {
		h.rollouts.know(begun)
	}
	return head, nil
}
