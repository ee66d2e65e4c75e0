package hub

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// carriedReport is a report by hand as a site makes it.
func carriedReport(t *testing.T, site bundle.SiteID, state, events []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	add, err := fleetsync.WriteCarried(&file, site)
	if err := errors.Join(err, add(fleetsync.CarriedState, state), add(fleetsync.CarriedEvents, events)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestT18_AReportByHandIsCheckedAsFromTheBus(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	site, other := addSite(t, client, "shop-1", nil), addSite(t, client, "shop-2", nil)
	state := fleetsync.State{Site: "shop-1", Epoch: "a", Sequence: 5, At: time.Now()}
	seal := func(s *fakeSite, kind string, payload any) []byte { return sealed(t, kind, payload, s.key) }
	snapshot, events := seal(site, fleetsync.TypeState, state), seal(site, fleetsync.TypeEvents, batch("shop-1", "a", 1, 3))
	foreign := state
	foreign.Site = "shop-2"
	for what, file := range map[string][]byte{
		"a snapshot by another site":   carriedReport(t, "shop-1", seal(other, fleetsync.TypeState, state), events),
		"a snapshot of another site":   carriedReport(t, "shop-1", seal(site, fleetsync.TypeState, foreign), events),
		"events by another site":       carriedReport(t, "shop-1", snapshot, seal(other, fleetsync.TypeEvents, batch("shop-1", "a", 1, 3))),
		"events as a snapshot":         carriedReport(t, "shop-1", events, snapshot),
		"a site that nobody knows":     carriedReport(t, "shop-3", snapshot, events),
		"a file that ends too early":   carriedReport(t, "shop-1", snapshot, events)[:300],
		"what is no file of this kind": []byte("PK\x03\x04"),
	} {
		if taken, err := client.Report(ctx, file); err == nil {
			t.Errorf("%s was taken: %+v", what, taken)
		}
	}
	file := carriedReport(t, "shop-1", snapshot, events)
	for range 2 { // twice: each event counts once
		taken, err := client.Report(ctx, file)
		if err != nil || taken.Site != "shop-1" || taken.Events != 3 {
			t.Fatalf("%+v, %v", taken, err)
		}
		eventually(t, "3 is acknowledged", func() bool { return site.acked() == 3 })
	}
	seen, err := client.Events(ctx, api.EventQuery{Site: "shop-1"})
	if err != nil || len(seen) != 3 {
		t.Errorf("%d events, %v", len(seen), err)
	}
	eventually(t, "the snapshot is shown", func() bool {
		shown, err := client.Site(ctx, "shop-1")
		return err == nil && shown.State != nil && shown.State.Sequence == 5
	})
	// What the hub has is newer than what was carried: it stays.
	state.Sequence = 9
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	eventually(t, "9 is shown", func() bool {
		shown, err := client.Site(ctx, "shop-1")
		return err == nil && shown.State.Sequence == 9
	})
	if taken, err := client.Report(ctx, file); err != nil || taken.State != 0 {
		t.Errorf("%+v, %v", taken, err)
	}
}

func TestP06_TheHubGivesAnAssignmentToBeCarried(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	site := addSite(t, client, "shop-1", nil)
	if _, err := client.Assignment(ctx, "shop-1"); err == nil {
		t.Error("there is no assignment, and it was given")
	}
	if _, _, err := h.reassignSite(ctx, "shop-1", func(current fleetsync.Assignment, record SiteRecord) (fleetsync.Assignment, bool, error) {
		return successor(current, record, []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf(nil)}}, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	given, err := client.Assignment(ctx, "shop-1")
	var a fleetsync.Assignment
	if err := errors.Join(err, fleetsync.Open(fleetsync.TypeAssignment, given.Sealed, site.hub, &a)); err != nil || a.Sequence != 1 || given.Sequence != 1 || len(given.Bundles) != 1 {
		t.Errorf("%+v, %v", given, err)
	} // Whoever has any root of this fleet gets to the newest with what is in the file.
	files := map[string][]byte{}
	for _, file := range given.Trust {
		files[file.Name] = file.Data
	}
	newest := h.root.state.Load()
	followed, err := tuf.Client{Source: tuf.Shelf{Files: files}}.Refresh(ctx, tuf.Metadata{Root: files[tuf.Name("root", 1)]}, time.Now())
	if err != nil || followed.Versions != newest.Versions || followed.Trust == nil {
		t.Errorf("%+v, %v", followed.Versions, err)
	}
}
