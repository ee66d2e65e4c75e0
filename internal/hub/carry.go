package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// getSealedAssignment gives a site's assignment as the site would read it from the bus, to be carried there.
func (h *Hub) getSealedAssignment(_ http.ResponseWriter, r *http.Request) (api.SealedAssignment, error) {
	id, err := bundle.ParseSiteID(r.PathValue("site"))
	if err != nil {
		return api.SealedAssignment{}, malformed("not a site's name", err)
	}
	h.mu.Lock()
	record, known := h.view.Record(id)
	h.mu.Unlock()
	if !known || !actorOf(r.Context()).sees(record.Labels) {
		return api.SealedAssignment{}, unknownSite(id)
	}
	current, _, err := h.assignment(r.Context(), id)
	if err != nil {
		return api.SealedAssignment{}, err
	}
	if current.Sequence == 0 {
		return api.SealedAssignment{}, refuse(http.StatusNotFound, "NothingAssigned", fmt.Sprintf("site %s has no assignment", id), "", "assign a bundle first: holdfast assign")
	}
	message, err := h.store.Get(r.Context(), fleetsync.DesiredSubject(id))
	if err != nil {
		return api.SealedAssignment{}, fmt.Errorf("site %s: assignment: %w", id, err)
	}
	given := api.SealedAssignment{Site: id, Sequence: current.Sequence, Sealed: message.Data}
	if given.Trust, err = h.carriedTrust(r.Context()); err != nil {
		return api.SealedAssignment{}, err
	}
	for _, b := range current.Bundles {
		given.Bundles = append(given.Bundles, bundle.Ref{Name: b.Name, Version: b.Version})
	}
	return given, nil
}

// carriedTrust are the files that lead from any root of this fleet to the newest.
func (h *Hub) carriedTrust(ctx context.Context) (files []api.TrustFile, err error) {
	newest := h.root.state.Load()
	for version := int64(1); version <= newest.Versions.Root; version++ {
		name := tuf.Name("root", version)
		message, err := h.store.Get(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("root of trust: %s: %w", name, err)
		}
		files = append(files, api.TrustFile{Name: name, Data: message.Data})
	}
	m, v := newest.Metadata, newest.Versions
	return append(files, api.TrustFile{Name: tuf.TimestampName, Data: m.Timestamp}, api.TrustFile{Name: tuf.Name("snapshot", v.Snapshot), Data: m.Snapshot},
		api.TrustFile{Name: tuf.Name("targets", v.Targets), Data: m.Targets}, api.TrustFile{Name: tuf.FleetName(m.Fleet), Data: m.Fleet}), nil
}

// postReport takes what a site reported by hand: each message is what the site would have sent, is checked as that is, and goes the same way.
func (h *Hub) postReport(w http.ResponseWriter, r *http.Request) (api.ReportTaken, error) {
	raw, err := readBody(w, r, api.MaxReport)
	if err != nil {
		return api.ReportTaken{}, err
	}
	var taken api.ReportTaken
	var messages []stream.Message
	err = fleetsync.ReadCarried(bytes.NewReader(raw), func(site bundle.SiteID, kind fleetsync.CarriedKind, data []byte) error {
		h.mu.Lock()
		record, known := h.view.Record(site)
		h.mu.Unlock()
		if !known {
			return unknownSite(site)
		}
		m := stream.Message{Data: data, Time: h.cfg.Now()}
		switch taken.Site = site; kind {
		case fleetsync.CarriedState:
			m.Subject = fleetsync.StateSubject(site)
			var state fleetsync.State
			err := record.open(fleetsync.TypeState, m, &state)
			if err == nil && state.Site != site {
				err = fmt.Errorf("it is of site %s", state.Site)
			}
			if err != nil {
				return malformed("the snapshot is not the site's", err)
			}
			if h.hasNewer(state) { // it would replace a newer one
				return nil
			}
			taken.State = state.Sequence
		case fleetsync.CarriedEvents:
			m.Subject = fleetsync.EventSubject(site)
			var batch fleetsync.EventBatch
			err := record.open(fleetsync.TypeEvents, m, &batch)
			if err == nil && batch.Site != site {
				err = fmt.Errorf("they are of site %s", batch.Site)
			}
			if err != nil {
				return malformed("the events are not the site's", err)
			}
			taken.Events += len(batch.Events)
		default:
			return malformed("the file is not a site's report", fmt.Errorf("it holds a section of kind %d", kind))
		}
		messages = append(messages, m)
		return nil
	})
	if err != nil {
		if known := (*api.Error)(nil); !errors.As(err, &known) {
			err = malformed("the file is not a site's report", err)
		}
		return api.ReportTaken{}, err
	}
	for _, m := range messages {
		if _, err := h.store.Put(r.Context(), m.Subject, m.Data); err != nil {
			return api.ReportTaken{}, fmt.Errorf("site %s: report: %w", taken.Site, err)
		}
	}
	return taken, nil
}

// hasNewer says that the hub has this snapshot of the site, or a newer one of the same epoch.
func (h *Hub) hasNewer(state fleetsync.State) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	site := h.view.sites[state.Site]
	if site == nil {
		return false
	}
	known, _ := site.ingest.Snapshot()
	return known != nil && known.Epoch == state.Epoch && known.Sequence >= state.Sequence
}
