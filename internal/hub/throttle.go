package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// A site that sends more than its allowance is throttled: its connection is cut and no new one let in for as long as the quota says (fleetsync.Quota), and its
// heartbeats are dropped unread. That is the one measure that holds against all it can send, because what costs is what the bus stores before the hub sees it. What
// the bus had acknowledged by then is folded like anything else; what it had not is still in the site's outbox and comes later (P4). Every hub of a bus counts for
// itself. Where the bus is somebody else's and the hub has no system account, only heartbeats are dropped.

// throttlePause is how soon a throttle that ended is noticed.
const throttlePause = time.Second

// charge counts a message against its site's quota, before it is read, and says that the site is throttled.
func (h *Hub) charge(m stream.Message) (over bool) {
	id, err := stream.SiteOf(m.Subject)
	if err != nil {
		return false
	}
	h.mu.Lock()
	over, throttle := h.view.charge(id, m, h.cfg.Allowance)
	h.mu.Unlock()
	if throttle == nil {
		return over
	}
	h.metrics.throttles.Inc()
	h.log.Warn("a site is throttled", zap.String("site", string(id)), zap.String("why", throttle.Why), zap.Time("until", throttle.Until))
	select {
	case h.throttling <- struct{}{}:
	default:
	}
	return over
}

// charge gives the throttle where it begins.
func (v *View) charge(id bundle.SiteID, m stream.Message, a fleetsync.Allowance) (over bool, throttle *fleetsync.Throttle) {
	site, known := v.sites[id]
	if !known {
		return false, nil
	}
	over, began := site.quota.Take(m.Time, len(m.Data), a)
	if !began {
		return over, nil
	}
	v.throttled[id] = true
	return over, site.quota.Throttled(m.Time)
}

// throttledKeys are the keys of the sites that are throttled now, by name of site.
func (v *View) throttledKeys(now time.Time) (keys []string) {
	for id := range v.throttled {
		if site := v.sites[id]; site != nil && site.quota.Throttled(now) != nil {
			keys = append(keys, site.record.PublicKey)
		} else {
			delete(v.throttled, id)
		}
	}
	slices.Sort(keys)
	return keys
}

// keepThrottled has the bus shut out who is throttled, and let in again who is no longer, until ctx ends.
func (h *Hub) keepThrottled(ctx context.Context) {
	ticker := time.NewTicker(throttlePause)
	defer ticker.Stop()
	var shut []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.throttling:
		case <-ticker.C:
		}
		h.mu.Lock()
		keys := h.view.throttledKeys(h.cfg.Now())
		h.mu.Unlock()
		if slices.Equal(keys, shut) {
			continue
		}
		if err := h.shutOut(); err != nil {
			h.log.Error("a throttled site stays connected", zap.Error(err))
		}
		shut = keys
	}
}

func (s *siteView) throttleAlarm(now time.Time) []string {
	t := s.quota.Throttled(now)
	if t == nil {
		return nil
	}
	return []string{fmt.Sprintf("throttled since %s until %s: %s", t.Since.UTC().Format(time.RFC3339), t.Until.UTC().Format(time.RFC3339), t.Why)}
}
