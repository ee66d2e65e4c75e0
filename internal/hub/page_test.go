package hub

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// The client goes on where a page ended, so that a list is whole whatever its length, and ends where a limit is.
func TestTheClientFollowsAListToItsEnd(t *testing.T) {
	h := startHub(t, inMemory(t))
	client, ctx := clientOf(t, h), t.Context()
	const fleet = 1203
	for i := range fleet {
		h.fold(siteMessage(t, SiteRecord{Site: bundle.SiteID(fmt.Sprintf("shop-%d", i)), Labels: map[string]string{"odd": fmt.Sprint(i % 2)}, Key: fmt.Appendf(nil, "%032d", i), Added: noon}))
	}
	for i := range 3 {
		h.rollouts.know(rolloutHead{Rollout: api.Rollout{ID: fmt.Sprintf("r-%d", i), Started: noon.Add(time.Duration(i) * time.Hour), Phase: rollout.Completed}, sequence: uint64(i + 1)})
	}
	for range 2*defaultAudit + 10 {
		if err := h.audit(ctx, api.AuditRecord{Who: "hub", What: "test", Outcome: done}); err != nil {
			t.Fatal(err)
		}
	}
	requests := 0
	seen := map[bundle.SiteID]bool{}
	for page, err := range client.SitePages(ctx, "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		requests++
		for _, site := range page {
			seen[site.ID] = true
		}
	}
	if len(seen) != fleet || requests != 3 {
		t.Errorf("%d sites in %d pages", len(seen), requests)
	}
	for selector, want := range map[string]int{"odd=1": fleet / 2, "odd=7": 0} {
		if sites, err := client.Sites(ctx, selector); err != nil || len(sites) != want {
			t.Errorf("%s: %d sites, %v", selector, len(sites), err)
		}
	}
	for _, limit := range []int{1, 500, 501, 1203, 5000} {
		if sites, err := api.Whole(client.SitePages(ctx, "", limit)); err != nil || len(sites) != min(limit, fleet) {
			t.Errorf("limit %d: %d sites, %v", limit, len(sites), err)
		}
	}
	if listed, _ := pages[api.Rollout](t, h, "/v1/rollouts?limit=1"); len(listed) != 3 || listed[0].ID != "r-2" || listed[2].ID != "r-0" {
		t.Errorf("rollouts %+v", listed)
	}
	records, err := client.Audit(ctx, 5000)
	if err != nil || len(records) != 2*defaultAudit+10 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, record := range records {
		if record.Number != uint64(i+1) {
			t.Fatalf("record %d has number %d", i, record.Number)
		}
	}
	if records, err := client.Audit(ctx, 7); err != nil || len(records) != 7 || records[6].Number != 2*defaultAudit+10 {
		t.Errorf("%d records, %v", len(records), err)
	}
}
