package edge

import (
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// The health of an apply means nothing to who does not know that it ended, and is not told again: so nothing is watched before.
func TestP06_AnApplyIsKnownToHaveEndedBeforeItsHealth(t *testing.T) {
	v := verifytest.Verified(t, []bundle.Object{configMap("a", "1")}, func(m *bundle.Manifest) {
		m.Name, m.Policy = "shop", bundle.Policy{Prune: true, Drift: bundle.DriftEnforce}
	})
	w := NewWorkloads(memcluster.New(), Policy{Protected: DefaultProtected()}, memstore.New(), zap.NewNop())
	watched := func() bool { _, watched := w.watcher.Inventory("shop"); return watched }
	run := fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: "shop", Version: v.Manifest().Version, Digest: v.Digest()}, Spec: "1"}
	told := 0
	for range 2 { // applied, and found applied after a restart
		w.Run(t.Context(), run, func(bundle.Digest) (verify.Verified, error) { return v, nil }, func(ran fleetsync.Ran) {
			told++
			if ran.Outcome != fleetsync.OutcomeApplied || watched() {
				t.Errorf("%+v is told, watched: %v", ran, watched())
			}
		})
		if !watched() {
			t.Error("what was applied is not watched")
		}
		w.watcher.Drop("shop")
	}
	if told != 2 {
		t.Errorf("two runs were told %d times", told)
	}
}
