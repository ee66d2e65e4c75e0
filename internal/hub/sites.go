package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// maxLabels is the most labels of one site.
const maxLabels = 64

// AddSite makes a site known and gives it the right to connect. The very same request again, after a lost answer, is granted again.
func (h *Hub) AddSite(ctx context.Context, request api.SiteRequest) (api.SiteGrant, error) {
	record, isNew, err := h.newRecord(request)
	if err != nil {
		return api.SiteGrant{}, err
	}
	if err := record.refusal(); err != nil {
		return api.SiteGrant{}, err
	}
	token, err := h.credential(record)
	if err != nil {
		return api.SiteGrant{}, err
	}
	trust, err := h.trustMetadata()
	if err != nil {
		return api.SiteGrant{}, err
	}
	if isNew {
		err = h.keepSite(ctx, record)
		if errors.Is(err, stream.ErrConflict) { // somebody added it a moment ago; perhaps this very request, whose answer was lost
			_, isNew, err = h.newRecord(request)
			if err == nil && isNew {
				err = siteExists(record.Site)
			}
		}
		if err != nil {
			return api.SiteGrant{}, err
		}
	}
	return api.SiteGrant{
		Site: record.Site, Servers: h.servers, CA: h.busCA(), JWT: token,
		HeartBeat: int(h.cfg.HeartBeat / time.Second), Trust: trust, Hubs: h.urls, HubCA: h.certificates.pinned(),
	}, nil
}

func (h *Hub) keepSite(ctx context.Context, record SiteRecord) error {
	raw, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("site %s: encode: %w", record.Site, err)
	}
	subject := SiteSubject(record.Site)
	switch err := h.putIf(ctx, subject, raw, 0); {
	case errors.Is(err, stream.ErrConflict):
		if there, readErr := h.store.Get(ctx, subject); readErr == nil {
			h.fold(there)
		}
		return err
	case err != nil:
		return fmt.Errorf("site %s: %w", record.Site, err)
	}
	h.fold(stream.Message{Subject: subject, Data: raw, Time: record.Added})
	return nil
}

// putIf stores a message if the subject's newest still has the sequence last. A failure says nothing of what was stored, and a conflict may be
// with our own first try, so the bus is asked.
func (h *Hub) putIf(ctx context.Context, subject string, data []byte, last uint64) error {
	_, err := h.putAt(ctx, subject, data, last)
	return err
}

// putAt is putIf that says where the message is in its stream.
func (h *Hub) putAt(ctx context.Context, subject string, data []byte, last uint64) (sequence uint64, err error) {
	if sequence, err = h.store.PutIf(ctx, subject, data, last); err == nil {
		return sequence, nil
	}
	if there, readErr := h.store.Get(ctx, subject); readErr == nil && bytes.Equal(there.Data, data) {
		return there.Sequence, nil
	}
	return 0, err
}

func siteExists(site bundle.SiteID) error {
	return refuse(http.StatusConflict, "SiteExists", fmt.Sprintf("site %s exists", site), "", "choose another name; a site's file is given out once, when it is added")
}

// newRecord makes the record a request asks for; isNew is false for one that is kept already.
func (h *Hub) newRecord(request api.SiteRequest) (record SiteRecord, isNew bool, err error) {
	site, err := bundle.ParseSiteID(string(request.ID))
	if err != nil {
		return SiteRecord{}, false, malformed("not a site's name", err)
	}
	if len(request.Labels) > maxLabels {
		return SiteRecord{}, false, refuse(http.StatusBadRequest, "Malformed", fmt.Sprintf("site %s: %d labels are more than the %d it may have", site, len(request.Labels), maxLabels), "", "")
	}
	for key, value := range request.Labels {
		if err := bundle.CheckLabel(key, value); err != nil {
			return SiteRecord{}, false, malformed(fmt.Sprintf("site %s: not a label", site), err)
		}
	}
	key, err := siteKey(request.PublicKey)
	if err != nil {
		return SiteRecord{}, false, malformed(fmt.Sprintf("site %s: not a public key", site), err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if record, known := h.view.Record(site); known {
		if key.Equal(record.Key) && maps.Equal(record.Labels, request.Labels) {
			return record, false, nil
		}
		return SiteRecord{}, false, siteExists(site)
	}
	// Two sites with one key could sign for each other.
	if other, used := h.view.HolderOf(key); used || key.Equal(h.signing().public) {
		return SiteRecord{}, false, refuse(http.StatusConflict, "KeyInUse", fmt.Sprintf("site %s: its public key is in use", site), string(other), "make a new key for each site")
	}
	added := h.cfg.Now().UTC().Truncate(time.Millisecond)
	return SiteRecord{Site: site, Labels: request.Labels, PublicKey: request.PublicKey, Key: key, Added: added}, true, nil
}

// Assign puts a bundle into the assignments of sites. The error is about the request as a whole; each site has its own outcome.
func (h *Hub) Assign(ctx context.Context, request api.AssignRequest) ([]api.AssignResult, error) {
	if err := checkSites(request.Sites); err != nil {
		return nil, err
	}
	ref, err := bundle.ParseRef(request.Bundle.String())
	if err != nil {
		return nil, malformed("not a bundle", err)
	}
	h.mu.Lock()
	entry, known := h.view.Entry(ref)
	h.mu.Unlock()
	if !known {
		return nil, unknownBundle(ref)
	}
	_, signed, err := h.offer(ctx, entry.Digest)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", ref, err)
	}
	wanted := fleetsync.AssignedBundle{Name: ref.Name, Version: ref.Version, Digest: entry.Digest, Values: request.Values, Drift: request.Drift, Scope: request.Scope, AcceptLoss: request.AcceptLoss}
	decide := func(current fleetsync.Assignment, site SiteRecord) (fleetsync.Assignment, bool, error) {
		wanted := wanted
		wanted.Attempt = attemptOf(current, wanted, request.Retry)
		return withBundle(current, site, signed.Manifest(), wanted, h.cfg.Now())
	}
	if request.DryRun {
		return h.foresee(ctx, request.Sites, ref.Name, decide), nil
	}
	return h.reassign(ctx, request.Sites, decide), nil
}

// Unassign takes a bundle out of the assignments of sites.
func (h *Hub) Unassign(ctx context.Context, request api.UnassignRequest) ([]api.AssignResult, error) {
	if err := checkSites(request.Sites); err != nil {
		return nil, err
	}
	name, err := bundle.ParseName(string(request.Name))
	if err != nil {
		return nil, malformed("not a bundle's name", err)
	}
	decide := func(current fleetsync.Assignment, site SiteRecord) (fleetsync.Assignment, bool, error) {
		return withoutBundle(current, site, name, h.cfg.Now())
	}
	if request.DryRun {
		return h.foresee(ctx, request.Sites, name, decide), nil
	}
	return h.reassign(ctx, request.Sites, decide), nil
}

// change decides a site's next assignment; changed is false where the current one stays.
type change func(current fleetsync.Assignment, site SiteRecord) (next fleetsync.Assignment, changed bool, err error)

// reassigning is how many sites are reassigned at a time: each waits for its own write to be on the disk.
const reassigning = 32

func (h *Hub) reassign(ctx context.Context, sites []bundle.SiteID, decide change) []api.AssignResult {
	results := make([]api.AssignResult, len(sites))
	var working errgroup.Group
	working.SetLimit(reassigning)
	for i, site := range sites {
		working.Go(func() error {
			sequence, changed, err := h.reassignSite(ctx, site, decide)
			results[i] = api.AssignResult{Site: site, Sequence: sequence, Changed: changed}
			if err != nil {
				problem := problemOf(err)
				results[i] = api.AssignResult{Site: site, Error: &problem}
			}
			return nil
		})
	}
	_ = working.Wait() // each site has its own outcome
	return results
}

// assignTries is how often an assignment is decided again because somebody else changed it in between.
const assignTries = 8

func (h *Hub) reassignSite(ctx context.Context, id bundle.SiteID, decide change) (sequence uint64, changed bool, err error) {
	h.mu.Lock()
	site, known := h.view.Record(id)
	reported := h.view.Reported(id)
	current, revision := h.view.Ordered(id)
	h.mu.Unlock()
	if !known {
		return 0, false, unknownSite(id)
	}
	if err := site.refusal(); err != nil {
		return 0, false, err
	}
	for try := range assignTries {
		if try > 0 {
			if current, revision, err = h.assignment(ctx, id); err != nil {
				return 0, false, err
			}
		}
		next, changed, err := decide(current, site)
		if (err != nil || !changed) && try == 0 {
			continue // the view may be behind the bus, and what is not written is not checked by it: that is said of what the bus has
		}
		if err != nil || !changed {
			return current.Sequence, false, err
		}
		// A hub restored from a backup has forgotten assignments that the site has (F11): what is ordered now must be newer than those.
		next.Sequence = max(next.Sequence, reported+1)
		sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, next, h.signing().private)
		if err != nil {
			return 0, false, fmt.Errorf("site %s: %w", id, err)
		}
		// Commit point: from here on the site may see it, whether or not anybody pokes it.
		subject := fleetsync.DesiredSubject(id)
		stored, err := h.putAt(ctx, subject, sealed, revision)
		switch {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return 0, false, fmt.Errorf("site %s: assignment: %w", id, err)
		}
		h.mu.Lock()
		h.view.Took(next, sealed, stored)
		h.mu.Unlock()
		h.fold(stream.Message{Subject: subject, Data: sealed, Sequence: stored, Time: h.cfg.Now()})
		h.poke(id)
		return next.Sequence, true, nil
	}
	return 0, false, fmt.Errorf("site %s: assignment: %w %d times", id, stream.ErrConflict, assignTries)
}

// assignment reads the site's assignment back from the bus, which holds the truth, and its revision there.
func (h *Hub) assignment(ctx context.Context, id bundle.SiteID) (fleetsync.Assignment, uint64, error) {
	message, err := h.store.Get(ctx, fleetsync.DesiredSubject(id))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return fleetsync.Assignment{Site: id}, 0, nil
	}
	if err != nil {
		return fleetsync.Assignment{}, 0, fmt.Errorf("site %s: assignment: %w", id, err)
	}
	var current fleetsync.Assignment
	if err := fleetsync.OpenBy(fleetsync.TypeAssignment, message.Data, h.hubKeys(), &current); err != nil {
		return current, 0, fmt.Errorf("site %s: the assignment on the bus is not this hub's: %w", id, err)
	}
	if current.Site != id {
		return current, 0, fmt.Errorf("site %s: the assignment on the bus is for site %s", id, current.Site)
	}
	return current, message.Sequence, nil
}
