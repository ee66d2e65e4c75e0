package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// nowhere keeps the pods of the shop from being scheduled.
const nowhere = `    spec: {nodeSelector: {is: nowhere}, containers:`

// TestR13_CanaryFailsAndReverts: a version that cannot become healthy is offered to one canary. The site goes back by itself, the rollout pauses and
// says why, and nobody else was offered it. The fixed version goes out in waves while a site is dark, which gets it when it comes back.
func TestR13_CanaryFailsAndReverts(t *testing.T) {
	canary := ownCluster(t, cluster.Options{Name: "canary"})
	other := cluster.ForTest(t, cluster.Options{Name: "other"})
	s := newStage(t)
	s.StopHub(true)
	s.HubFlags = []string{"--heartbeat", "2s"}
	if err := s.StartHub(s.context()); err != nil {
		t.Fatal(err)
	}
	first, second := s.site("shop-1", canary), s.site("shop-2", other)
	const name, namespace = "till", "till"
	s.release(shopFolder(t, namespace, "one"), name, "1.0.0")
	s.cli("assign", "--all", name+"@1.0.0")
	first.runs(name, "1.0.0")
	second.runs(name, "1.0.0")

	broken := strings.Replace(fmt.Sprintf(shop, namespace, "two"), "    spec: {containers:", nowhere, 1)
	impatient := "apiVersion: holdfast.dev/v1\nkind: BundleConfig\npolicy: {healthTimeoutSeconds: 5}\n"
	s.release(folder(t, "shop.yaml", broken, "holdfast.yaml", impatient), name, "1.1.0")
	plan := filepath.Join(s.Dir, "plan.yaml")
	spec := `{apiVersion: holdfast.dev/v1, kind: RolloutPlan, metadata: {name: retail}, spec: {waves: [
  {name: canary, sites: {names: [shop-1]}, soak: 0s}, {name: rest, sites: {all: true}, soak: 0s}]}}`
	if err := os.WriteFile(plan, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cli("rollout", "start", name+"@1.1.0", "--plan", plan, "--yes")
	s.refused(9, []string{"is Paused: wave canary: 1 site failed, at most 0 may: shop-1"}, "rollout", "watch", "till-1-1-0", "--timeout", patience.String())
	var e rollout.Explanation
	s.eventually("the canary to be back at its last good version", func() error {
		if err := s.JSON(&e, "rollout", "explain", "till-1-1-0"); err != nil {
			return err
		}
		if len(e.Sites) != 1 || e.Sites[0].Site != "shop-1" || e.Sites[0].Outcome != rollout.Reverted {
			return fmt.Errorf("sites %+v", e.Sites)
		}
		return nil
	})
	if greeting, err := first.hands(namespace).greeting(); err != nil || greeting != "one" {
		t.Errorf("the canary greets with %q: %v", greeting, err)
	}
	if status, err := second.status(name); err != nil || status.Desired != "1.0.0" {
		t.Errorf("the other site was offered %s: %v", status.Desired, err)
	}

	s.cli("rollout", "abort", "till-1-1-0", "--why", "1.1.1 is better", "--yes")
	s.release(shopFolder(t, namespace, "two"), name, "1.1.1")
	second.Link.Cut()
	s.eventually("the hub to miss shop-2", func() error {
		site, err := s.Site("shop-2")
		if err == nil && site.Freshness != api.Stale {
			err = fleet.ErrNotYet
		}
		return err
	})
	s.cli("rollout", "start", name+"@1.1.1", "--plan", plan, "--yes")
	first.runs(name, "1.1.1")
	s.eventually("shop-1 to be done", func() error {
		if err := s.JSON(&e, "rollout", "explain", "till-1-1-1"); err != nil {
			return err
		}
		if e.Waves[0].State != "passed" {
			return fmt.Errorf("wave canary is %s: %v", e.Waves[0].State, e.Holds)
		}
		return nil
	})
	second.Link.Mend()
	second.runs(name, "1.1.1")
	s.cli("rollout", "watch", "till-1-1-1", "--timeout", patience.String())
}
