package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Retention is how long the hub keeps what is over. 0 is the default.
type Retention struct {
	Rollouts time.Duration // after a rollout ended and nothing comes of it any more; 90 days
	Audit    time.Duration // of records; 400 days
}

// The defaults and bounds of retention.
const (
	keepRollouts  = 90 * 24 * time.Hour
	keepAudit     = 400 * 24 * time.Hour
	leastKept     = 24 * time.Hour
	leastAudit    = 1000 // records that stay, however old
	auditBatch    = 100  // records that go at one time at least: a purge writes one itself
	purgeEvery    = 6 * time.Hour
	orphanAge     = time.Hour // a part is older before it is one that nothing names: its head may be on the way
	maxPurgeBatch = 1000      // rollouts of one purge
)

func (r *Retention) check() error {
	for _, one := range []struct {
		what string
		keep *time.Duration
		or   time.Duration
	}{{"rollouts", &r.Rollouts, keepRollouts}, {"audit log", &r.Audit, keepAudit}} {
		if *one.keep == 0 {
			*one.keep = one.or
		}
		if *one.keep < leastKept {
			return fmt.Errorf("retention of the %s %s: want %s or more", one.what, *one.keep, leastKept)
		}
	}
	return nil
}

// overdue are the rollouts of which nothing can come any more and that ended before a time: retired ones, aborted ones, and rollbacks that are done
// everywhere. A rollback outlives what it takes back: whoever finds an order without its rollback would begin it anew. Parents come first.
func overdue(heads []api.Rollout, before time.Time) (ids []string) {
	gone := map[string]bool{}
	known := map[string]bool{}
	for _, r := range heads {
		known[r.ID] = true
	}
	over := func(r api.Rollout) bool { return r.Ended != nil && r.Ended.Before(before) && len(ids) < maxPurgeBatch }
	for _, r := range heads {
		if !r.Back && over(r) && (r.Retired || r.Phase == rollout.Aborted) {
			gone[r.ID], ids = true, append(ids, r.ID)
		}
	}
	for _, r := range heads {
		if r.Back && over(r) && (!known[r.Parent] || gone[r.Parent]) && (r.Retired || r.Phase == rollout.Aborted || succeeded(r)) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func succeeded(r api.Rollout) bool {
	n := 0
	for _, w := range r.Waves {
		n += w.Tally.Succeeded
	}
	return n == r.Sites
}

// auditMark is what a purge of the audit log leaves of what it removed, under auditMarkSubject: the number of the last such record and its hash, from
// which the first that stays follows.
type auditMark struct {
	Number uint64    `json:"number"`
	Head   string    `json:"head"`
	At     time.Time `json:"at"`
}

// auditMark is the newest; the zero value: nothing was ever removed.
func (h *Hub) auditMark(ctx context.Context) (mark auditMark, err error) {
	m, err := h.store.Get(ctx, auditMarkSubject)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return mark, nil
	}
	if err == nil {
		err = decodeRecord(m.Data, &mark)
	}
	if err != nil {
		return mark, fmt.Errorf("audit log: mark of the last purge: %w", err)
	}
	return mark, nil
}

// purgeable is what a purge would remove.
type purgeable struct {
	rollouts []api.Rollout
	audit    auditMark // of the last record; the zero value: none
	sequence uint64    // of that record
	parts    []string  // subjects of chunks that nothing names
}

func (h *Hub) purgeable(ctx context.Context) (p purgeable, err error) {
	now := h.cfg.Now()
	byID := map[string]api.Rollout{}
	heads := h.rollouts.list()
	for _, head := range heads {
		byID[head.ID] = head
	}
	for _, id := range overdue(heads, now.Add(-h.cfg.Retention.Rollouts)) {
		p.rollouts = append(p.rollouts, byID[id])
	}
	if p.audit, p.sequence, err = h.oldAudit(ctx, now.Add(-h.cfg.Retention.Audit)); err != nil {
		return p, err
	}
	p.parts, err = h.orphans(ctx, now.Add(-orphanAge))
	return p, err
}

// oldAudit is the last record of before a time that may go.
func (h *Hub) oldAudit(ctx context.Context, before time.Time) (mark auditMark, sequence uint64, err error) {
	last, err := h.store.Get(ctx, auditSubject)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return mark, 0, nil
	}
	if err != nil {
		return mark, 0, fmt.Errorf("audit log: %w", err)
	}
	old := 0
	err = h.store.Each(ctx, stream.Audit, "", 1, func(m stream.Message) error {
		var record api.AuditRecord
		if err := decodeRecord(m.Data, &record); err != nil {
			return errEnough // a damaged log stays as it is
		}
		if !record.Time.Before(before) || m.Sequence+leastAudit > last.Sequence {
			return errEnough
		}
		old++
		mark, sequence = auditMark{record.Number, hashOf(m.Data), h.cfg.Now().UTC().Truncate(time.Second)}, m.Sequence
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return mark, 0, fmt.Errorf("audit log: %w", err)
	}
	if old < auditBatch {
		return auditMark{}, 0, nil
	}
	return mark, sequence, nil
}

// orphans are chunks of rollouts that were written before a time and that no head names: what a crash between parts and head left.
func (h *Hub) orphans(ctx context.Context, before time.Time) (subjects []string, err error) {
	heads := map[string]rolloutHead{}
	err = h.store.Each(ctx, stream.RolloutParts, "", 1, func(m stream.Message) error {
		tokens := strings.Split(m.Subject, ".") // hf.part.<id>.<digest>.<n>
		if len(tokens) != 5 || !m.Time.Before(before) {
			return nil
		}
		id := tokens[2]
		head, read := heads[id]
		if !read {
			var unknown *api.Error
			var err error
			if head, err = h.readHead(ctx, id); err != nil && !errors.As(err, &unknown) {
				return err
			}
			heads[id] = head
		}
		if strings.TrimPrefix(string(head.Digest), "sha256:") != tokens[3] {
			subjects = append(subjects, m.Subject)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parts of rollouts: %w", err)
	}
	return subjects, nil
}

func (p purgeable) impact() api.Impact {
	impact := api.Impact{Act: "purge", Target: "store", Losses: []api.Loss{}}
	for _, r := range p.rollouts {
		impact.Lose("rollout", r.ID, "", "its record: it ended at %s", r.Ended.UTC().Format(time.RFC3339))
	}
	if p.audit.Number > 0 {
		impact.Lose("audit", fmt.Sprintf("1-%d", p.audit.Number), "", "the oldest records; the first that stays follows from %.16s…", p.audit.Head)
	}
	if len(p.parts) > 0 {
		impact.Lose("chunks", fmt.Sprint(len(p.parts)), "", "parts of rollouts that no rollout names")
	}
	impact.Changed = len(impact.Losses) > 0
	return impact
}

// purge removes what is over, each in an order in which a crash leaves nothing half: a rollout's head before its parts, the mark of the audit log before
// its records.
func (h *Hub) purge(ctx context.Context) (api.Impact, error) {
	h.purging.Lock()
	defer h.purging.Unlock()
	p, err := h.purgeable(ctx)
	if err != nil {
		return api.Impact{Act: "purge", Target: "store", Losses: []api.Loss{}}, err
	}
	impact := p.impact()
	for _, r := range p.rollouts {
		if err := h.purgeRollout(ctx, r.ID); err != nil {
			return impact, err
		}
	}
	for _, subject := range p.parts {
		if err := h.store.Delete(ctx, stream.RolloutParts, subject); err != nil {
			return impact, fmt.Errorf("parts of rollouts: %w", err)
		}
	}
	if p.audit.Number == 0 {
		return impact, nil
	}
	raw, err := json.Marshal(p.audit)
	if err == nil {
		_, err = h.store.Put(ctx, auditMarkSubject, raw)
	}
	if err == nil {
		err = h.store.DeleteUpTo(ctx, stream.Audit, auditSubject, p.sequence)
	}
	if err != nil {
		return impact, fmt.Errorf("audit log: %w", err)
	}
	return impact, nil
}

// purgeRollout removes a rollout as this hub knows it. One that somebody went on with at the same moment stays.
func (h *Hub) purgeRollout(ctx context.Context, id string) error {
	s := h.rollouts
	s.mu.Lock()
	head := s.heads[id]
	s.mu.Unlock()
	if err := h.store.DeleteUpTo(ctx, stream.Rollouts, RolloutSubject(id), head.sequence); err != nil {
		return fmt.Errorf("rollout %s: %w", id, err)
	}
	there, err := h.readHead(ctx, id)
	var unknown *api.Error
	switch {
	case err == nil:
		s.know(there)
		return nil
	case !errors.As(err, &unknown):
		return err
	}
	if err := h.store.Delete(ctx, stream.RolloutParts, partSubject(id, "*", "*")); err != nil {
		return fmt.Errorf("rollout %s: %w", id, err)
	}
	s.forget(id)
	return nil
}

// forget drops a rollout that the bus does not have any more.
func (s *rollouts) forget(id string) {
	s.mu.Lock()
	delete(s.heads, id)
	s.moved[id] = true // whoever leads it hears of it
	s.mu.Unlock()
	s.nudge()
}

// keepPurged purges now and then where this hub leads. Elsewhere it forgets what another hub has purged.
func (h *Hub) keepPurged(ctx context.Context) {
	every(ctx, purgeEvery, func() {
		if _, ours := h.rollouts.lease.held(); !ours {
			h.forgetPurged(ctx)
			return
		}
		impact, err := h.purge(ctx)
		if err != nil {
			h.log.Warn("what is over is not purged: will try again", zap.Error(err))
			return
		}
		if !impact.Changed {
			return
		}
		if err := h.audit(ctx, api.AuditRecord{Who: hubName, What: "purge", Target: impact.Target, Outcome: done, Detail: purgeDetail(impact)}); err != nil {
			h.log.Warn("a purge is not in the audit log", zap.Error(err))
		}
	})
}

func (h *Hub) forgetPurged(ctx context.Context) {
	for _, id := range overdue(h.rollouts.list(), h.cfg.Now().Add(-h.cfg.Retention.Rollouts)) {
		var unknown *api.Error
		if _, err := h.readHead(ctx, id); errors.As(err, &unknown) {
			h.rollouts.forget(id)
		}
	}
}

// startPurging purges from now on.
func (h *Hub) startPurging() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.keepPurged(ctx) })
	h.closers = append(h.closers, func() {
		stop()
		running.Wait()
	})
}

func purgeDetail(impact api.Impact) string {
	var parts []string
	for _, l := range impact.Losses {
		parts = append(parts, l.Kind+" "+l.Name)
	}
	return strings.Join(parts, ", ")
}

func (h *Hub) postPurge(w http.ResponseWriter, r *http.Request) (api.Impact, error) {
	if _, err := decodeRequest[api.Because](w, r); err != nil {
		return api.Impact{Losses: []api.Loss{}}, err
	}
	return h.purge(context.WithoutCancel(r.Context()))
}

func (h *Hub) foreseePurge(w http.ResponseWriter, r *http.Request) (api.Impact, error) {
	if _, err := decodeRequest[api.Because](w, r); err != nil {
		return api.Impact{Losses: []api.Loss{}}, err
	}
	p, err := h.purgeable(r.Context())
	impact := p.impact()
	impact.DryRun = true
	return impact, err
}
