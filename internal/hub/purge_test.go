package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func TestWhatIsOverIsOverdue(t *testing.T) {
	old, young := noon.Add(-100*24*time.Hour), noon.Add(-time.Hour)
	heads := []api.Rollout{
		{ID: "back-of-aborted", Back: true, Parent: "aborted", Phase: rollout.Completed, Ended: &old, Sites: 1, Waves: []rollout.WaveProgress{{Tally: rollout.Tally{Succeeded: 1}}}},
		{ID: "back-of-young", Back: true, Parent: "young", Phase: rollout.Completed, Ended: &old, Sites: 0},
		{ID: "back-not-done", Back: true, Parent: "long-gone", Phase: rollout.Completed, Ended: &old, Sites: 2, Waves: []rollout.WaveProgress{{Tally: rollout.Tally{Succeeded: 1}}}},
		{ID: "aborted", Phase: rollout.Aborted, Ended: &old},
		{ID: "retired", Phase: rollout.Completed, Retired: true, Ended: &old},
		{ID: "newest", Phase: rollout.Completed, Ended: &old}, // returning sites catch up by it
		{ID: "young", Phase: rollout.Aborted, Ended: &young},
		{ID: "running", Phase: rollout.Running},
	}
	if got := fmt.Sprint(overdue(heads, noon.Add(-90*24*time.Hour))); got != "[aborted retired back-of-aborted]" {
		t.Error(got)
	}
}

// What is over goes with everything that was stored of it, is said before and afterwards, and the audit log still proves itself.
func TestAPurgeLeavesAWholeStore(t *testing.T) {
	d := newDistrict(t, 2, true)
	ctx := t.Context()
	d.release("1.1.0", 2, nil)
	first := d.start("1.1.0", quick)
	d.reaches(first.ID, rollout.Completed)
	d.release("1.2.0", 3, nil)
	second := d.start("1.2.0", quick)
	d.reaches(second.ID, rollout.Completed)
	d.reaches(first.ID, rollout.Completed)
	eventually(t, "the first is retired", func() bool {
		r, err := d.client.Rollout(ctx, first.ID)
		return err == nil && r.Retired
	})
	if _, err := d.h.store.Put(ctx, partSubject("nobody", first.Digest, "0"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	for range leastAudit + auditBatch + 20 {
		if err := d.h.audit(ctx, api.AuditRecord{Who: "hub", What: "test", Outcome: done}); err != nil {
			t.Fatal(err)
		}
	}
	if none, err := d.client.Foresee().Purge(ctx); err != nil || none.Changed {
		t.Fatalf("nothing is old yet: %+v, %v", none, err)
	}
	before, err := d.client.VerifyAudit(ctx)
	if err != nil || before.Broken != "" || before.Purged != 0 {
		t.Fatalf("%+v, %v", before, err)
	}

	// A year and a half later.
	d.h.cfg.Now = func() time.Time { return time.Now().Add(550 * 24 * time.Hour) }
	foreseen, err := d.client.Foresee().Purge(ctx)
	if err != nil || !foreseen.Changed || losses(foreseen, "rollout") == "" || !strings.HasPrefix(losses(foreseen, "rollout"), first.ID+" ") || strings.Contains(losses(foreseen, "rollout"), second.ID) {
		t.Fatalf("%+v, %v", foreseen, err)
	}
	if losses(foreseen, "chunks") == "" || losses(foreseen, "audit") == "" {
		t.Errorf("%+v", foreseen)
	}
	if _, err := d.client.Rollout(ctx, first.ID); err != nil {
		t.Errorf("asking purged it: %v", err)
	}
	purged, err := d.client.Purge(ctx)
	if err != nil || purged.DryRun || len(purged.Losses) != len(foreseen.Losses) {
		t.Fatalf("%+v, %v", purged, err)
	}
	if _, err := d.client.Rollout(ctx, first.ID); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("it is there: %v", err)
	}
	if list, err := d.client.Rollouts(ctx); err != nil || len(list) != 1 || list[0].ID != second.ID {
		t.Errorf("%+v, %v", list, err)
	}
	err = d.h.store.Each(ctx, stream.RolloutParts, "", 1, func(m stream.Message) error {
		if !strings.Contains(m.Subject, "."+second.ID+".") {
			return errors.New(m.Subject + " is left")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	verdict, err := d.client.VerifyAudit(ctx)
	if err != nil || verdict.Broken != "" || verdict.Purged == 0 || verdict.Records <= before.Records {
		t.Fatalf("%+v, %v", verdict, err)
	}
	records, err := d.client.Audit(ctx, 5000)
	if err != nil || records[0].Number != verdict.Purged+1 || records[len(records)-1].What != "purge" || !strings.Contains(records[len(records)-1].Detail, "rollout "+first.ID) {
		t.Errorf("%d records, the last %+v, %v", len(records), records[len(records)-1], err)
	}
	if again, err := d.client.Purge(ctx); err != nil || again.Changed {
		t.Errorf("again: %+v, %v", again, err)
	}
	// The id is free again, and what the second rollout leads is still led.
	d.release("1.3.0", 4, nil)
	third, err := d.client.StartRollout(ctx, api.RolloutRequest{ID: first.ID, Bundle: refOfShop("1.3.0"), Plan: planOf(quick)})
	if err != nil {
		t.Fatal(err)
	}
	d.reaches(third.Rollout.ID, rollout.Completed)
}

// A beginning that is gone without a purge's mark, or with another's, is damage.
func TestT27_APurgeIsNoWayToForget(t *testing.T) {
	h := startHub(t, inMemory(t))
	ctx := context.Background()
	for range 10 {
		if err := h.audit(ctx, api.AuditRecord{Who: "hub", What: "test", Outcome: done}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.store.DeleteUpTo(ctx, stream.Audit, auditSubject, 4); err != nil {
		t.Fatal(err)
	}
	if verdict, err := h.VerifyAudit(ctx); err != nil || verdict.Broken == "" {
		t.Errorf("without a mark: %+v, %v", verdict, err)
	}
	for mark, want := range map[string]bool{`{"number":4,"head":"0000","at":"2026-01-01T00:00:00Z"}`: true, `{"number":3,"head":"0000","at":"2026-01-01T00:00:00Z"}`: true} {
		if _, err := h.store.Put(ctx, auditMarkSubject, []byte(mark)); err != nil {
			t.Fatal(err)
		}
		if verdict, err := h.VerifyAudit(ctx); err != nil || (verdict.Broken != "") != want {
			t.Errorf("%s: %+v, %v", mark, verdict, err)
		}
	}
}

func TestRetentionIsBounded(t *testing.T) {
	for _, c := range []struct {
		r    Retention
		good bool
	}{{Retention{}, true}, {Retention{Rollouts: time.Hour}, false}, {Retention{Audit: time.Hour}, false}, {Retention{Rollouts: leastKept, Audit: leastKept}, true}} {
		r := c.r
		if err := r.check(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
}
