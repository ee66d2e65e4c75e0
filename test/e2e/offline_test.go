package e2e

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestP03P04_OfflineRestart: the line is cut, the agent killed, the cluster damaged; the agent starts alone and puts everything right. What
// happened meanwhile reaches the hub once, whole and in order when the line is mended. A hub killed after that shows the same (P8).
func TestP03P04_OfflineRestart(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	const name, namespace = "offline", "offline"
	s.release(shopFolder(t, namespace, "one"), name, "1.0.0")
	at.assign(name + "@1.0.0")
	at.runs(name, "1.0.0")
	h := at.hands(namespace)

	at.Link.Cut()
	deleted := h.deleteService() // seen by a running agent
	h.greet("by hand")
	h.repaired("one", deleted)
	at.StopEdge(false)
	deleted = h.deleteService() // seen by nobody
	h.greet("by hand again")
	s.release(shopFolder(t, namespace, "two"), name, "1.1.0")
	at.assign(name + "@1.1.0")
	began := time.Now()
	at.start()
	h.repaired("one", deleted)
	t.Logf("right again %v after a start without the hub", time.Since(began).Round(10*time.Millisecond))

	at.Link.Mend()
	at.runs(name, "1.1.0")
	if now, err := h.greeting(); err != nil || now != "two" {
		t.Errorf("the greeting is %q: %v", now, err)
	}
	told := at.whole()
	corrected := map[string]int{}
	lives := 0
	for _, e := range told {
		if e.Kind == fleetsync.EventStarted {
			lives++
		}
		if e.Kind != fleetsync.EventDriftCorrected {
			continue
		}
		if !e.Offline {
			t.Errorf("corrected without a line, and told as if there had been one: %+v", e)
		}
		corrected[fmt.Sprintf("%s in life %d", e.Object, lives)]++
	}
	// The first life was killed: what it corrected in its last moment may not have been recorded. What is told is true, and told once.
	for _, object := range []string{"ConfigMap/offline/settings", "Service/offline/web"} {
		if first, second := corrected[object+" in life 1"], corrected[object+" in life 2"]; first > 1 || second != 1 {
			t.Errorf("%s was corrected once in each life, told: %v", object, corrected)
		}
	}

	before, err := s.Site(at.Name)
	if err != nil {
		t.Fatal(err)
	}
	at.StopEdge(true) // so that nothing new is reported
	last := at.whole()
	s.StopHub(false)
	if err := s.StartHub(s.context()); err != nil {
		t.Fatal(err)
	}
	after, err := s.Site(at.Name)
	if err != nil {
		t.Fatal(err)
	}
	if now := at.events(); !reflect.DeepEqual(now[:min(len(now), len(last))], last) {
		t.Errorf("the restarted hub has other events: %d, had %d", len(now), len(last))
	}
	sameView(t, before, after)
	if after.Freshness == api.Fresh && after.Connected && after.LastSeen.After(time.Now().Add(time.Second)) {
		t.Error("the restarted hub heard the site in the future")
	}
	at.unassignOffline(name)
}

// unassignOffline leaves the shared cluster as it was.
func (s *site) unassignOffline(name string) {
	s.stage.t.Helper()
	s.start()
	s.unassign(name)
}

// sameView compares what a hub said of a site before and after a restart, in what the site did not tell anew in between.
func sameView(t *testing.T, before, after api.Site) {
	t.Helper()
	for what, pair := range map[string][2]any{
		"labels":   {before.Labels, after.Labels},
		"added":    {before.Added.UTC(), after.Added.UTC()},
		"sequence": {before.Sequence, after.Sequence},
		"assigned": {before.Assigned, after.Assigned},
		"alarms":   {before.Alarms, after.Alarms},
		"epoch":    {before.Events.Epoch, after.Events.Epoch},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %+v, was %+v", what, pair[1], pair[0])
		}
	}
	if before.State == nil || after.State == nil || after.State.Sequence < before.State.Sequence || len(after.State.Bundles) != len(before.State.Bundles) {
		t.Fatalf("state: %+v, was %+v", after.State, before.State)
	}
	for i, was := range before.State.Bundles {
		if now := after.State.Bundles[i]; !reflect.DeepEqual(now, was) {
			t.Errorf("bundle %s: %+v, was %+v", was.Name, now, was)
		}
	}
}

// whole waits until the hub has every event of the site, and checks that each came once and in order (P4).
func (s *site) whole() (events []api.SiteEvent) {
	t := s.stage.t
	t.Helper()
	s.stage.eventually("all events", func() error {
		shown, err := s.stage.Site(s.Name)
		if err != nil {
			return err
		}
		if shown.State.Outbox.Next != shown.Events.Upto+1 {
			return fmt.Errorf("the hub has %d, the site made %d", shown.Events.Upto, shown.State.Outbox.Next-1)
		}
		return nil
	})
	events = s.events()
	for i, e := range events {
		if e.Sequence != uint64(i+1) || e.Kind == fleetsync.EventGap {
			t.Fatalf("event %d of %d is number %d, %s", i+1, len(events), e.Sequence, e.Kind)
		}
	}
	return events
}

func TestDriftIsOnlyReportedWherePolicySaysSo(t *testing.T) {
	t.Run("by the bundle", func(t *testing.T) {
		driftReported(t, "told-by-bundle", []string{"holdfast.yaml", "apiVersion: holdfast.dev/v1\nkind: BundleConfig\npolicy: {drift: report}\n"})
	})
	t.Run("by the operator", func(t *testing.T) { driftReported(t, "told-by-hand", nil, "--drift", "report") })
}

func driftReported(t *testing.T, name string, files []string, flags ...string) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	s.release(shopFolder(t, name, "one", files...), name, "1.0.0")
	at.assign(name+"@1.0.0", flags...)
	at.runs(name, "1.0.0")
	h := at.hands(name)
	h.greet("by hand")

	var drift []api.SiteDrift
	shown := func(count int) {
		t.Helper()
		s.eventually(fmt.Sprintf("holdfast drift to show %d", count), func() error {
			if err := s.JSON(&drift, "drift", "--site", at.Name); err != nil {
				return err
			}
			total := 0
			for _, d := range drift {
				total += d.Count
			}
			if total != count {
				return fmt.Errorf("it shows %d: %+v", total, drift)
			}
			return nil
		})
	}
	shown(1)
	d := drift[0].Drift[0]
	if d.Object != "ConfigMap/"+name+"/settings" || d.Kind != fleetsync.DriftChanged || !slices.Equal(d.Paths, []string{"/data/greeting"}) || !slices.Contains(d.Managers, "kubectl-edit") {
		t.Errorf("drift %+v", d)
	}
	const different = 8
	s.refused(different, nil, "drift", "--site", at.Name, "--exit-code")
	at.restart() // finds it again, and does not correct it either
	shown(1)
	deleted := h.deleteService()
	shown(2)
	if now, err := h.greeting(); err != nil || now != "by hand" {
		t.Errorf("the greeting is %q: %v: it was corrected", now, err)
	}
	h.greet("one")
	shown(1)
	at.tells("the end of the drift", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventDriftGone && e.Object == d.Object })

	at.assign(name+"@1.0.0", "--drift", string(bundle.DriftEnforce))
	h.repaired("one", deleted)
	shown(0)
	at.unassign(name)
}
