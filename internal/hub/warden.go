package hub

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// lives are the processes that spoke for a site within its newest epoch, by when they say they started. An image of a whole disk has the epoch
// of the original, so two copies of that differ in nothing but this.
type lives struct {
	epoch string
	heard []life // the newest few, in the order in which they were first heard
}

type life struct {
	started     time.Time
	first, last time.Time // received
}

// maxLives bounds the processes remembered of a site.
const maxLives = 16

// lateReports is how long after a new process began a report of the one before may still arrive over a slow line.
const lateReports = 15 * time.Second

func (l *lives) hear(epoch string, started, at time.Time) {
	if epoch != l.epoch {
		l.epoch, l.heard = epoch, nil
	}
	for i := range l.heard {
		if l.heard[i].started.Equal(started) {
			if at.After(l.heard[i].last) {
				l.heard[i].last = at
			}
			return
		}
	}
	l.heard = append(l.heard, life{started, at, at})
	if len(l.heard) > maxLives {
		l.heard = l.heard[1:]
	}
}

// twins says that a process was heard, after the time settled, although a newer one had begun.
func (l *lives) twins(settled time.Time) (why string, alive bool) {
	for i, older := range l.heard {
		for _, newer := range l.heard[i+1:] {
			if older.last.After(newer.first.Add(lateReports)) && older.last.After(settled) {
				return fmt.Sprintf("two live copies: the agent started at %s was heard at %s, after another began", older.started.UTC().Format(time.RFC3339), older.last.UTC().Format(time.RFC3339)), true
			}
		}
	}
	return "", false
}

// Clones says why a site is to be held; alive is false for one that need not be, or is already.
func (v *View) Clones(id bundle.SiteID) (why string, alive bool) {
	site, known := v.sites[id]
	if !known || site.record.Held != nil || site.record.Revoked != nil {
		return "", false
	}
	var settled time.Time
	if site.record.Settled != nil {
		settled = *site.record.Settled
	}
	if older, newer, at, alive := site.ingest.LiveCopies(settled); alive {
		return fmt.Sprintf("two live copies: epoch %.16s was heard at %s, after epoch %.16s began", older, at.UTC().Format(time.RFC3339), newer), true
	}
	return site.lives.twins(settled)
}

// Left says that a site that is leaving has told, in a snapshot of the last order, that nothing is left of its bundles.
func (v *View) Left(id bundle.SiteID) bool {
	site, known := v.sites[id]
	if !known || site.record.Leaving == nil {
		return false
	}
	state, _ := site.ingest.Snapshot()
	if state == nil {
		return site.desired.Sequence == 0 // it was never given anything
	}
	return state.Assignment >= site.desired.Sequence && len(site.desired.Bundles) == 0 && len(state.Bundles) == 0
}

// warden writes down what the view finds about sites: that one must be held, that one has left.
type warden struct {
	hub *Hub
	due *dueSites
}

func newWarden(h *Hub) *warden { return &warden{hub: h, due: newDueSites()} }

// look has the site looked at soon. It never blocks.
func (w *warden) look(site bundle.SiteID) { w.due.put(site) }

// judging is how many sites are looked at a time: most looks find nothing.
const judging = 8

func (w *warden) run(ctx context.Context) {
	w.due.run(ctx, w.hub.log, judging, "what was found about a site is not stored: will try again", w.judge)
}

func (w *warden) judge(ctx context.Context, site bundle.SiteID) error {
	h := w.hub
	h.mu.Lock()
	why, clones := h.view.Clones(site)
	left := h.view.Left(site)
	h.mu.Unlock()
	if !clones && !left {
		return nil
	}
	if left {
		why = "it removed its workloads"
	}
	did := false
	_, err := h.changeSite(ctx, site, func(r *SiteRecord) (bool, error) {
		switch {
		case left && r.Leaving != nil:
			r.leave(&Ruling{At: h.ruling("", "").At, By: r.Leaving.By, Why: r.Leaving.Why})
		case clones && r.Held == nil && r.Revoked == nil:
			r.Held = h.ruling("hub", why)
		default:
			return false, nil
		}
		did = true
		return true, nil
	})
	if err != nil || !did {
		return err
	}
	what := "site hold"
	if left {
		what = "site left"
	}
	h.log.Warn(what, zap.String("site", string(site)), zap.String("why", why))
	if err := h.audit(ctx, api.AuditRecord{Who: "hub", What: what, Target: string(site), Outcome: done, Detail: why}); err != nil {
		return err
	}
	return h.shutOut()
}
