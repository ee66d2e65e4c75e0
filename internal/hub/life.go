package hub

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// open believes what one of the site's keys signed in its time, and nothing that came after the site was shut out.
func (r SiteRecord) open(kind string, m stream.Message, into any) error {
	if r.Revoked != nil && m.Time.After(r.Revoked.At) {
		return errors.New("the site is revoked")
	}
	err := fleetsync.Open(kind, m.Data, r.Key, into)
	if !errors.Is(err, fleetsync.ErrForged) {
		return err
	}
	for _, former := range r.Former {
		if !m.Time.After(former.Until) && !errors.Is(fleetsync.Open(kind, m.Data, former.Key, into), fleetsync.ErrForged) {
			return fleetsync.Open(kind, m.Data, former.Key, into)
		}
	}
	return err
}

// refusal is why the site is given nothing new; nil for a site like any other.
func (r SiteRecord) refusal() error {
	switch {
	case r.Gone != nil, r.Leaving != nil:
		return &enrol.Refusal{Reason: enrol.SiteRevoked, What: fmt.Sprintf("site %s is leaving the fleet or has left it", r.Site)}
	case r.Revoked != nil:
		return &enrol.Refusal{Reason: enrol.SiteRevoked, What: fmt.Sprintf("site %s is revoked: %s", r.Site, r.Revoked.Why), Advice: "holdfast site replace lets it come back with a new key"}
	case r.Held != nil:
		return &enrol.Refusal{Reason: enrol.SiteHeld, What: fmt.Sprintf("site %s is held: %s", r.Site, r.Held.Why),
			Advice: "find the other copy; then holdfast site release, or holdfast site replace if its key may be in other hands"}
	}
	return nil
}

// formerly says whether what came at the time is of hardware that was replaced since.
func (r SiteRecord) formerly(at time.Time) bool {
	return slices.ContainsFunc(r.Former, func(f FormerKey) bool { return !at.After(f.Until) })
}

func (r SiteRecord) status() string {
	switch {
	case r.Gone != nil:
		return "gone"
	case r.Revoked != nil:
		return "revoked"
	case r.Leaving != nil:
		return "leaving"
	case r.Held != nil:
		return "held"
	}
	return ""
}

func (r SiteRecord) alarms() (alarms []string) {
	for _, ruling := range []struct {
		word string
		*Ruling
	}{{"left the fleet", r.Gone}, {"revoked", r.Revoked}, {"leaving the fleet", r.Leaving}, {"held", r.Held}} {
		if ruling.Ruling != nil {
			alarms = append(alarms, fmt.Sprintf("%s at %s by %s: %s", ruling.word, ruling.At.UTC().Format(time.RFC3339), ruling.By, ruling.Why))
		}
	}
	return alarms
}

func (r SiteRecord) occupant() *enrol.Occupant {
	return &enrol.Occupant{Site: r.Site, Key: r.Key, Revoked: r.Revoked != nil, Gone: r.Gone != nil}
}

// keys are all that the site has or had.
func (r SiteRecord) keys() iter.Seq[ed25519.PublicKey] {
	return func(yield func(ed25519.PublicKey) bool) {
		if !yield(r.Key) {
			return
		}
		for _, former := range r.Former {
			if !yield(former.Key) {
				return
			}
		}
	}
}

// shutKeys are the keys of the site that nobody may connect with.
func (r SiteRecord) shutKeys() (keys []string) {
	for _, former := range r.Former {
		keys = append(keys, former.PublicKey)
	}
	if r.Revoked != nil {
		keys = append(keys, r.PublicKey)
	}
	return keys
}

// credential is the site's right to connect, for a while.
func (h *Hub) credential(record SiteRecord) (string, error) {
	return h.keys.SiteUserUntil(record.Site, record.PublicKey, h.cfg.Now().Add(h.cfg.CredentialLife))
}

// revoker cuts the connections of users, by their public keys, and lets them in no more. It takes the whole list each time.
type revoker interface {
	Revoke(publicKeys []string) error
}

// shutOut brings the bus's list of revoked users up to date with the sites' records.
func (h *Hub) shutOut() error {
	h.shutting.Lock()
	defer h.shutting.Unlock()
	h.mu.Lock()
	var keys []string
	for _, id := range h.view.ids() {
		record, _ := h.view.Record(id)
		keys = append(keys, record.shutKeys()...)
	}
	keys = append(keys, h.view.throttledKeys(h.cfg.Now())...)
	h.mu.Unlock()
	if slices.Equal(keys, h.shut) {
		return nil
	}
	if h.revoker == nil {
		return nil // tests: a bus in memory
	}
	if err := h.revoker.Revoke(keys); err != nil {
		return hinted{fmt.Errorf("revoke: %w", err), "it is written down, and nothing is given to the site any more; its connection is cut as soon as the bus takes the list"}
	}
	h.shut = keys
	return nil
}

// siteRecord reads a site's record back from the bus, which holds the truth.
func (h *Hub) siteRecord(ctx context.Context, id bundle.SiteID) (record SiteRecord, sequence uint64, err error) {
	message, err := h.store.Get(ctx, SiteSubject(id))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return record, 0, unknownSite(id)
	}
	if err == nil {
		err = decodeRecord(message.Data, &record)
	}
	if err != nil {
		return record, 0, fmt.Errorf("site %s: %w", id, err)
	}
	return record, message.Sequence, nil
}

// changeSite changes a site's record by compare-and-swap. edit says whether there is anything to change.
func (h *Hub) changeSite(ctx context.Context, id bundle.SiteID, edit func(*SiteRecord) (changed bool, err error)) (SiteRecord, error) {
	for range assignTries {
		record, sequence, err := h.siteRecord(ctx, id)
		if err != nil {
			return record, err
		}
		// As it is now, not as it was when the request was let in.
		if a := actorOf(ctx); !a.sees(record.Labels) {
			return record, outOfScope(a, id)
		}
		record.Labels = maps.Clone(record.Labels)
		changed, err := edit(&record)
		if err != nil || !changed {
			return record, err
		}
		switch err := h.writeSite(ctx, &record, sequence); {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return record, err
		}
		return record, nil
	}
	return SiteRecord{}, fmt.Errorf("site %s: %w %d times", id, stream.ErrConflict, assignTries)
}

// writeSite stores the record with the next revision if the newest still has the sequence, and folds it.
func (h *Hub) writeSite(ctx context.Context, record *SiteRecord, sequence uint64) error {
	record.Revision++
	raw, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("site %s: encode: %w", record.Site, err)
	}
	if err := h.putIf(ctx, SiteSubject(record.Site), raw, sequence); err != nil {
		return fmt.Errorf("site %s: %w", record.Site, err)
	}
	h.fold(stream.Message{Subject: SiteSubject(record.Site), Data: raw, Time: h.cfg.Now()})
	return nil
}

func (h *Hub) ruling(by, why string) *Ruling {
	return &Ruling{At: h.cfg.Now().UTC().Truncate(time.Millisecond), By: by, Why: why}
}

// RevokeSite shuts a site out: its connections are cut, no new one is let in, nothing it sends is believed and nothing is given to it.
func (h *Hub) RevokeSite(ctx context.Context, id bundle.SiteID, by, why string) error {
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		if r.Revoked != nil {
			return false, nil
		}
		r.Revoked = h.ruling(by, why)
		return true, nil
	})
	if err != nil {
		return err
	}
	// Also where it was revoked before: the first answer may have been lost before the bus knew.
	return h.shutOut()
}

// ReleaseSite ends a hold. Copies that were alive up to now are settled; another sign of life of an older one holds the site again.
func (h *Hub) ReleaseSite(ctx context.Context, id bundle.SiteID) error {
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		if r.Held == nil {
			return false, nil
		}
		now := h.cfg.Now().UTC()
		r.Held, r.Settled = nil, &now
		return true, nil
	})
	return err
}

// CordonSite keeps rollouts from giving the site anything new. A new reason replaces the one before.
func (h *Hub) CordonSite(ctx context.Context, id bundle.SiteID, request api.Because, by string) error {
	if request.Why == "" {
		return refuse(http.StatusBadRequest, "NoReason", fmt.Sprintf("site %s: cordoned without a reason", id), "whoever finds it cordoned in a month has to know why", "say it with --reason")
	}
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		if r.Gone != nil {
			return false, r.refusal()
		}
		if r.Cordoned != nil && r.Cordoned.Why == request.Why {
			return false, nil
		}
		r.Cordoned = h.ruling(by, request.Why)
		return true, nil
	})
	return err
}

// UncordonSite lets rollouts give the site something new again.
func (h *Hub) UncordonSite(ctx context.Context, id bundle.SiteID, _ api.Because, _ string) error {
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		changed := r.Cordoned != nil
		r.Cordoned = nil
		return changed, nil
	})
	return err
}

// LabelSite changes a site's labels, and its assignment with them.
func (h *Hub) LabelSite(ctx context.Context, id bundle.SiteID, change api.LabelChange) error {
	for key, value := range change.Set {
		if err := bundle.CheckLabel(key, value); err != nil {
			return malformed(fmt.Sprintf("site %s: not a label", id), err)
		}
	}
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		if err := r.refusal(); err != nil {
			return false, err
		}
		next := maps.Clone(r.Labels)
		if next == nil {
			next = map[string]string{}
		}
		maps.Copy(next, change.Set)
		for _, key := range change.Remove {
			delete(next, key)
		}
		if len(next) > maxLabels {
			return false, refuse(http.StatusBadRequest, "Malformed", fmt.Sprintf("site %s: %d labels are more than the %d it may have", id, len(next), maxLabels), "", "")
		}
		// Nobody labels a site out of the own scope: it could not be labelled back.
		if a := actorOf(ctx); !a.sees(next) {
			return false, outOfScope(a, id)
		}
		changed := !maps.Equal(r.Labels, next)
		r.Labels = next
		return changed, nil
	})
	if err != nil {
		return err
	}
	_, _, err = h.reassignSite(ctx, id, func(current fleetsync.Assignment, site SiteRecord) (fleetsync.Assignment, bool, error) {
		return successor(current, site, current.Bundles, h.cfg.Now())
	})
	return err
}

// DecommissionSite lets a site leave the fleet. Its workloads stay as they are, or it removes them first, and leaves when it said so.
func (h *Hub) DecommissionSite(ctx context.Context, id bundle.SiteID, request api.Decommission, by string) error {
	if request.RemoveWorkloads {
		// The order comes before the mark: a site that is marked is given nothing new.
		_, _, err := h.reassignSite(ctx, id, func(current fleetsync.Assignment, site SiteRecord) (fleetsync.Assignment, bool, error) {
			return successor(current, site, nil, h.cfg.Now())
		})
		if record, _, readErr := h.siteRecord(ctx, id); err != nil && (readErr != nil || record.Leaving == nil) {
			return err
		}
	}
	_, err := h.changeSite(ctx, id, func(r *SiteRecord) (bool, error) {
		switch {
		case r.Gone != nil:
			return false, nil
		case request.RemoveWorkloads && r.Leaving != nil:
			return false, nil
		case request.RemoveWorkloads:
			r.Leaving = h.ruling(by, request.Why)
			return true, nil
		}
		r.leave(h.ruling(by, request.Why))
		return true, nil
	})
	if err != nil {
		return err
	}
	h.warden.look(id)
	return h.shutOut()
}

func (r *SiteRecord) leave(ruling *Ruling) {
	r.Gone, r.Leaving, r.Held = ruling, nil, nil
	if r.Revoked == nil {
		r.Revoked = ruling
	}
}
