package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// The bounds of an event query.
const (
	defaultEvents = 200
	maxEvents     = 5000
)

// timeline collects the newest events of one or more sites: each once, however often it was received. It is pure and bounded.
type timeline struct {
	limit  int
	sites  map[bundle.SiteID]*fleetsync.Ingest
	events []api.SiteEvent
}

func newTimeline(limit int) *timeline {
	return &timeline{limit: limit, sites: map[bundle.SiteID]*fleetsync.Ingest{}}
}

// add takes a batch that the bus received at the time; batches come in the order in which they were received.
func (t *timeline) add(batch fleetsync.EventBatch, received time.Time) error {
	ingest, known := t.sites[batch.Site]
	if !known {
		ingest = fleetsync.NewIngest(batch.Site)
		t.sites[batch.Site] = ingest
	}
	folded, err := ingest.Events(batch, received)
	if err != nil {
		return err
	}
	for _, event := range folded.New {
		t.events = append(t.events, api.SiteEvent{Site: batch.Site, Epoch: batch.Epoch, Received: received, Event: event})
	}
	// What is far older than the newest limit can no longer be among them.
	if excess := len(t.events) - 4*t.limit - fleetsync.MaxBatch; excess > 0 {
		t.events = slices.Delete(t.events, 0, excess)
	}
	return nil
}

// newest is the newest events, oldest first: of one site in the order of epoch and sequence, the sites merged by when they were received.
func (t *timeline) newest() []api.SiteEvent {
	born := map[string]time.Time{} // site and epoch: received first
	for _, event := range t.events {
		key := string(event.Site) + " " + event.Epoch
		if at, known := born[key]; !known || event.Received.Before(at) {
			born[key] = event.Received
		}
	}
	slices.SortStableFunc(t.events, func(a, b api.SiteEvent) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), born[string(a.Site)+" "+a.Epoch].Compare(born[string(b.Site)+" "+b.Epoch]), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence))
	})
	// An event that came late, sent again after a hole, keeps its place among its site's: it is merged by the time of the one before it.
	place := make([]time.Time, len(t.events))
	order := make([]int, len(t.events))
	for i, event := range t.events {
		order[i], place[i] = i, event.Received
		if i > 0 && t.events[i-1].Site == event.Site && place[i-1].After(place[i]) {
			place[i] = place[i-1]
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return place[a].Compare(place[b]) })
	order = order[max(0, len(order)-t.limit):]
	newest := make([]api.SiteEvent, len(order))
	for i, index := range order {
		newest[i] = t.events[index]
	}
	return newest
}
