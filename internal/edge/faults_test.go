package edge

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// life is everything a site goes through, told by the versions it is to have. What it needs of the hub is there from the beginning, so that only the commits decide where it is.
type life struct {
	*desk
	*site
	one, two *published
}

func newLife(t *testing.T) *life {
	d := newDesk(t)
	l := &life{desk: d, site: newSite(d)}
	l.one = d.publish("1.0.0", 1, append(noise(300<<10, 0), configMap("a", "1"), configMap("b", "1")))
	l.two = d.make("1.1.0", 2, append(noise(300<<10, 1), configMap("a", "2"), configMap("c", "1")))
	return l
}

// steps bring the site where it ends: 1.1.0, drift corrected.
func (l *life) steps() []func() {
	return []func(){
		func() {
			l.assign(l.one)
			l.whole("1.0.0 is applied", func() bool { return l.value("a") == "1" && l.value("b") == "1" })
		},
		func() { l.spoil("a"); l.whole("the edit is undone", func() bool { return l.value("a") == "1" }) },
		func() {
			l.desk.mu.Lock()
			pushed := l.desk.sequence > 1
			l.desk.mu.Unlock()
			if !pushed {
				(&fetching{desk: l.desk}).withDelta(l.one, l.two, nil)
				l.push(l.two)
			}
			l.assign(l.two)
			l.whole("1.1.0 is applied", func() bool { return l.value("a") == "2" && l.value("c") == "1" && l.value("b") == "" })
		},
		func() {
			l.spoil("c")
			l.whole("the second edit is undone", func() bool { return l.value("c") == "1" })
			l.current("1.1.0")
		},
	}
}

func (l *life) whole(what string, ok func() bool) {
	l.desk.t.Helper()
	eventually(l.desk.t, what, ok)
}

// complete wants every event of the disk at the hub, in order and without a hole.
func (l *life) complete() {
	l.desk.t.Helper()
	eventually(l.desk.t, "the hub has all events", func() bool {
		l.desk.mu.Lock()
		defer l.desk.mu.Unlock()
		ack, ok := l.ingest.Ack()
		return ok && ack.Upto+1 == l.state.Outbox.Next
	})
	l.desk.mu.Lock()
	defer l.desk.mu.Unlock()
	for i, ev := range l.events {
		if ev.Sequence != uint64(i+1) || ev.Kind == fleetsync.EventGap {
			l.desk.t.Fatalf("event %d is %d %s", i+1, ev.Sequence, ev.Kind)
		}
	}
}

// Whatever commit the agent dies at, before it or after it, the next life ends where it would have ended, and the hub knows everything.
func TestF03_KilledAtEveryCommit(t *testing.T) {
	probe := newLife(t)
	probe.start()
	for _, step := range probe.steps() {
		step()
	}
	probe.complete()
	commits := probe.disk.Commits()
	if commits < 20 {
		t.Fatalf("%d commits are too few for a life", commits)
	}
	for _, outcome := range []memstore.Outcome{memstore.NotDone, memstore.DoneButFailed} {
		for n := 1; n <= commits; n++ {
			if testing.Short() && n%5 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s at %d of %d", map[memstore.Outcome]string{memstore.NotDone: "before", memstore.DoneButFailed: "after"}[outcome], n, commits), func(t *testing.T) {
				t.Parallel()
				killedAt(t, n, outcome)
			})
		}
	}
}

func killedAt(t *testing.T, n int, outcome memstore.Outcome) {
	l := newLife(t)
	dead := make(chan struct{})
	var died atomic.Bool
	l.disk.Fail(func(commit int, _ []fleetsync.Record) memstore.Outcome {
		if commit == n {
			died.Store(true)
			close(dead)
			return outcome
		}
		return memstore.Done
	})
	l.start()
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		select {
		case <-dead: // the store takes nothing more from this life, whatever it still does
			l.restart()
		case <-t.Context().Done():
		}
	}()
	for _, step := range l.steps() {
		step()
	}
	if died.Load() {
		<-restarted
	}
	l.complete()
	if got := l.value("a"); got != "2" || l.value("b") != "" || l.value("c") != "1" {
		t.Errorf("a is %q, b %q, c %q", got, l.value("b"), l.value("c"))
	}
	if damage := l.told(fleetsync.EventStoreDamaged); len(damage) > 0 {
		t.Errorf("a crash is taken for damage: %+v", damage)
	}
	if l.marks["shop"].Counter != 2 {
		t.Errorf("counters beside the store: %v", l.marks)
	}
}

// Nothing is applied before the intent to do so is durable.
func TestF03_NothingBeforeItsRecord(t *testing.T) {
	l := newLife(t)
	l.disk.Fail(func(_ int, records []fleetsync.Record) memstore.Outcome {
		if slices.ContainsFunc(records, func(r fleetsync.Record) bool { return strings.Contains(string(r.Value), `"intent":`) }) {
			return memstore.Full
		}
		return memstore.Done
	})
	l.start()
	l.assign(l.one)
	l.whole("the hub knows that the store takes no intent", func() bool { return strings.Contains(l.seen().Store, "storageDegraded") })
	requests := l.cluster.Requests()
	l.whole("the store was tried again", func() bool { return l.disk.Commits() > 0 && strings.Contains(l.seen().Store, "storageDegraded") })
	if l.value("a") != "" || l.value("b") != "" {
		t.Errorf("a is %q, b is %q after %d requests, and no intent is durable", l.value("a"), l.value("b"), requests)
	}
	l.disk.Fail(nil)
	l.current("1.0.0")
	l.complete()
}

// A full disk: the hub is told, drift is corrected, a new version is not taken; when there is room again the site catches up by itself.
func TestF05_FullDisk(t *testing.T) {
	l := newLife(t)
	l.start()
	l.steps()[0]()
	var full atomic.Bool
	full.Store(true)
	l.disk.Fail(func(int, []fleetsync.Record) memstore.Outcome {
		if full.Load() {
			return memstore.Full
		}
		return memstore.Done
	})
	l.spoil("a")
	l.whole("the edit is undone", func() bool { return l.value("a") == "1" })
	l.whole("the hub knows", func() bool { return strings.Contains(l.seen().Store, "storageDegraded") })
	l.push(l.two)
	l.assign(l.two)
	l.spoil("b")
	l.whole("another edit is undone", func() bool { return l.value("b") == "1" })
	if l.value("a") != "1" || l.status("shop").Desired != "1.0.0" {
		t.Errorf("a is %s, wanted is %s", l.value("a"), l.status("shop").Desired)
	}
	full.Store(false)
	l.current("1.1.0")
	l.complete()
	if l.seen().Store != "" || len(l.told(fleetsync.EventStoreDegraded)) != 1 || len(l.told(fleetsync.EventStoreRecovered)) != 1 || len(l.told(fleetsync.EventDriftCorrected)) != 2 {
		t.Errorf("store %q, events %+v", l.seen().Store, l.events)
	}
}

// A restart on a full disk, without a hub: what was in force is watched and corrected.
func TestF05P03_RestartOnAFullDisk(t *testing.T) {
	l := newLife(t)
	l.start()
	l.steps()[0]()
	l.halt()
	l.bus.Cut(shop1)
	l.disk.Fail(func(int, []fleetsync.Record) memstore.Outcome { return memstore.Full })
	l.spoil("a")
	l.cluster.Remove(mapID("b"))
	l.start()
	l.whole("all is put back", func() bool { return l.value("a") == "1" && l.value("b") == "1" })
	l.disk.Fail(nil)
	l.bus.Mend(shop1)
	l.complete()
}

// The same in the middle of an apply, whose intent and inventory are recorded and whose end is not.
func TestF05F03_RestartInAnApplyOnAFullDisk(t *testing.T) {
	l := newLife(t)
	inventories := 0
	failed := make(chan struct{})
	l.disk.Fail(func(_ int, records []fleetsync.Record) memstore.Outcome {
		if strings.HasPrefix(records[0].Key, prefixInventory) {
			if inventories++; inventories == 2 {
				close(failed)
				return memstore.NotDone
			}
		}
		return memstore.Done
	})
	l.start()
	l.assign(l.one)
	<-failed
	l.halt()
	l.bus.Cut(shop1)
	l.disk.Fail(func(int, []fleetsync.Record) memstore.Outcome { return memstore.Full })
	l.spoil("a")
	l.cluster.Remove(mapID("b"))
	l.start()
	l.whole("all is put back", func() bool { return l.value("a") == "1" && l.value("b") == "1" })
	l.spoil("a")
	l.whole("and again", func() bool { return l.value("a") == "1" })
	l.disk.Fail(nil)
	l.bus.Mend(shop1)
	l.current("1.0.0")
	l.complete()
}

// headless gives a store in memory a head.
type headless struct{ *memstore.Store }

func (headless) Head() string { return "" }

// A store that fails for good is opened again in the same life, as soon as the disk takes writes; until then drift is corrected.
func TestF06_StoreOpenedAgain(t *testing.T) {
	for name, outcome := range map[string]memstore.Outcome{"not done": memstore.NotDone, "done but failed": memstore.DoneButFailed} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			var broken atomic.Bool
			var openings atomic.Int32
			again, err := newReopening(func(string) (opened, error) {
				openings.Add(1)
				return headless{l.disk.Open()}, nil
			}, "", func() error {
				if broken.Load() {
					return errors.New("read-only file system")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			l.site.store = again
			l.start()
			l.steps()[0]()
			broken.Store(true)
			l.disk.FailNth(l.disk.Commits()+1, outcome)
			l.spoil("a")
			l.whole("the edit is undone", func() bool { return l.value("a") == "1" })
			l.whole("the hub knows", func() bool { return l.seen().Store != "" })
			l.spoil("a")
			l.whole("and once more", func() bool { return l.value("a") == "1" })
			if openings.Load() != 1 {
				t.Error("the store was closed while the disk takes no writes")
			}
			broken.Store(false)
			for _, step := range l.steps()[2:] {
				step()
			}
			l.complete()
			if openings.Load() != 2 || len(l.told(fleetsync.EventDriftCorrected)) != 3 {
				t.Errorf("opened %d times, %d corrections told", openings.Load(), len(l.told(fleetsync.EventDriftCorrected)))
			}
		})
	}
}

// Content that was changed in the store while the agent was down is not applied: it is reported, and fetched again when the hub is there.
func TestT02P01_TamperedStoreAtRestart(t *testing.T) {
	for name, prefix := range map[string]string{"content": prefixBlob, "offer": prefixOffer} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			l.start()
			l.steps()[0]()
			l.halt()
			tamper(t, l.disk.Open(), prefix, func(v []byte) []byte { v[len(v)/2] ^= 1; return v })
			l.bus.Cut(shop1)
			requests := l.cluster.Requests()
			l.start()
			l.whole("it is noticed", func() bool { return l.stored(fleetsync.EventStoreDamaged) })
			if l.value("a") != "1" || l.cluster.Requests() > requests+10 {
				t.Errorf("a is %q after %d requests", l.value("a"), l.cluster.Requests()-requests)
			}
			l.bus.Mend(shop1)
			l.spoil("a")
			l.whole("it is kept right again", func() bool { return l.value("a") == "1" })
			l.complete()
			if n := len(l.told(fleetsync.EventStoreDamaged)); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

// stored says that an event of a kind is in the log of this life.
func (l *life) stored(kind fleetsync.EventKind) bool {
	found := false
	_ = l.now.Scan(fleetsync.EventPrefix, func(_ string, value []byte) error {
		found = found || strings.Contains(string(value), string(kind))
		return nil
	})
	return found
}

// F07: a store that is gone begins a new epoch. Workloads are untouched and taken over again.
func TestF07_StoreGone(t *testing.T) {
	for name, c := range map[string]struct {
		store, anchor bool
		older         fleetsync.Phase
	}{
		"store":   {store: true, older: fleetsync.PhaseRefused},
		"anchor":  {anchor: true, older: fleetsync.PhaseRefused},
		"both":    {store: true, anchor: true, older: fleetsync.PhaseCurrent}, // nothing is left that knows better: the third place is not built yet
		"neither": {older: fleetsync.PhaseRefused},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			l.start()
			for _, step := range l.steps() {
				step()
			}
			l.halt()
			uid := l.uid("c")
			if c.store {
				l.disk = memstore.NewDisk()
				l.damage = "set aside"
			}
			if c.anchor {
				l.marks = verify.Counters{}
			}
			l.start()
			l.spoil("c")
			l.whole("it is kept right again", func() bool { return l.value("c") == "1" })
			l.current("1.1.0")
			if l.uid("c") != uid || l.value("b") != "" {
				t.Error("workloads were touched")
			}
			if got := len(l.told(fleetsync.EventStoreDamaged)); (got == 1) != c.store {
				t.Errorf("damage told %d times", got)
			}
			l.assign(l.one)
			l.whole("an older one is refused", l.phase(fleetsync.PhaseRefused, "1.0.0"))
			l.spoil("c")
			l.whole("and the newer one kept right", func() bool { return l.value("c") == "1" })
		})
	}
}

// Counters are kept twice: a hub that serves an older release to a site that lost one of them is refused. With both gone nothing at the site knows
// better; the third place, in the cluster, is not built yet.
func TestT03_OlderReleaseAfterALoss(t *testing.T) {
	for name, c := range map[string]struct {
		store, anchor bool
		want          fleetsync.Phase
		value         string
	}{
		"store":  {store: true, want: fleetsync.PhaseRefused, value: "2"},
		"anchor": {anchor: true, want: fleetsync.PhaseRefused, value: "2"},
		"both":   {store: true, anchor: true, want: fleetsync.PhaseCurrent, value: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			l.start()
			for _, step := range l.steps() {
				step()
			}
			l.halt()
			if c.store {
				l.disk = memstore.NewDisk()
			}
			if c.anchor {
				l.marks = verify.Counters{}
			}
			l.assign(l.one)
			l.start()
			l.whole("it is decided", l.phase(c.want, "1.0.0"))
			if l.value("a") != c.value {
				t.Errorf("a is %s", l.value("a"))
			}
		})
	}
}

func (l *life) uid(name string) string {
	seen, err := l.cluster.Look(l.desk.t.Context(), apply.Ref{ObjectID: mapID(name), Version: "v1"}, apply.ViewMetadata)
	if err != nil {
		l.desk.t.Fatal(err)
	}
	return seen.UID
}

// F21: a cluster that is away is told, and nothing waits out its pause when it is back.
func TestF21_ClusterAway(t *testing.T) {
	l := newLife(t)
	var away atomic.Bool
	away.Store(true)
	l.cluster.Fail(func(memcluster.Call) error {
		if away.Load() {
			return &apply.ServerError{Class: apply.Passing, Words: "connection refused"}
		}
		return nil
	})
	l.start()
	l.assign(l.one)
	l.whole("the hub knows", func() bool {
		s := l.seen()
		return !s.Cluster.Reachable && s.Cluster.Message == "connection refused" && l.status("shop").Phase != ""
	})
	away.Store(false)
	l.current("1.0.0")
	if !l.seen().Cluster.Reachable {
		t.Error("the hub thinks it is still away")
	}
}

// What an agent began has ended when Run returns.
func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		d := newDesk(t)
		s := newSite(d)
		for n := range 3 {
			s.start()
			d.assign(d.publish(bundle.Version(fmt.Sprintf("1.%d.0", n)), bundle.Counter(n+1), []bundle.Object{configMap("a", fmt.Sprint(n))}))
			d.current(bundle.Version(fmt.Sprintf("1.%d.0", n)))
			s.halt()
		}
	}()
	eventually(t, "all goroutines but the desk's have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// Retain keeps everything a kept bundle needs, and nothing else, whatever is shared, half there or coming.
func TestRetainKeepsWhatIsNeeded(t *testing.T) {
	x := newFetching(t)
	contents := [][]bundle.Object{{configMap("a", "1")}, {configMap("a", "2")}, noise(600<<10, 1)}
	var all []*published
	for n := range 6 { // content is shared between versions
		all = append(all, x.publish(bundle.Version(fmt.Sprintf("1.%d.0", n)), bundle.Counter(n+1), contents[n%3]))
	}
	rapid.Check(t, func(r *rapid.T) {
		x.store = memstore.New()
		x.f.contents.store = x.store
		stored := rapid.SliceOfDistinct(rapid.IntRange(0, 5), rapid.ID[int]).Draw(r, "stored")
		kept := rapid.SliceOfDistinct(rapid.IntRange(0, 5), rapid.ID[int]).Draw(r, "kept")
		for _, n := range stored {
			x.must(all[n])
		}
		half := rapid.IntRange(0, 5).Draw(r, "half there")
		if !slices.Contains(stored, half) && !slices.ContainsFunc(stored, func(n int) bool { return n%3 == half%3 }) {
			if err := errors.Join(x.f.contents.forget(prefixComplete+all[half].assigned.Digest.Hex()), x.f.contents.putChunks(deltaKey(all[0].info.Digest, all[half].info.Digest), []byte("coming"))); err != nil {
				r.Fatal(err)
			}
		}
		keep := map[bundle.Digest]bool{}
		for _, n := range kept {
			keep[all[n].assigned.Digest] = true
		}
		if err := x.f.contents.retain(keep); err != nil {
			r.Fatal(err)
		}
		left, err := x.f.contents.offers()
		if err != nil {
			r.Fatal(err)
		}
		for _, n := range stored {
			_, err := x.f.contents.load(all[n].assigned.Digest)
			if isKept := slices.Contains(kept, n); isKept != (err == nil) || isKept != left[all[n].assigned.Digest] {
				r.Fatalf("bundle %d: kept %v, load: %v, offers %v", n, isKept, err, slices.Collect(maps.Keys(left)))
			}
		}
		if len(kept) == 0 {
			_ = x.store.Scan("", func(key string, _ []byte) error { r.Fatalf("left: %s", key); return nil })
		}
	})
}

const canary = "canary-7f3a9c"

// T16: what is secret at a site stands in no log, state or event.
func TestT16_SecretsStaySecret(t *testing.T) {
	l := newLife(t)
	secret := func(value string) bundle.Object {
		return object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"default"},"stringData":{"password":%q}}`, value))
	}
	l.start()
	l.assign(l.publish("2.0.0", 3, []bundle.Object{secret(canary), configMap("a", "1")}))
	l.current("2.0.0")
	id := bundle.ObjectID{Kind: "Secret", Namespace: "default", Name: "s"}
	if err := l.cluster.Edit(id, "kubectl-edit", func(body map[string]any) { body["stringData"].(map[string]any)["password"] = canary + "-changed" }); err != nil {
		t.Fatal(err)
	}
	l.whole("the edit is undone", func() bool { return len(l.told(fleetsync.EventDriftCorrected)) == 1 })
	respected := l.publish("2.1.0", 4, []bundle.Object{secret(canary + "-new"), configMap("a", canary)}, func(m *bundle.Manifest) { m.Policy.Drift = bundle.DriftRespect })
	l.assign(respected)
	l.current("2.1.0")
	if err := l.cluster.Edit(id, "kubectl-edit", func(body map[string]any) { body["stringData"].(map[string]any)["password"] = canary + "-respected" }); err != nil {
		t.Fatal(err)
	}
	l.whole("the change is told and left", func() bool { return len(l.told(fleetsync.EventDriftFound)) == 1 })
	if drift := l.status("shop").Drift; len(drift) > 1 || l.cluster.Body(id)["stringData"].(map[string]any)["password"] != canary+"-respected" {
		t.Errorf("drift %+v", drift)
	}
	l.desk.mu.Lock()
	sinks := fmt.Sprintf("%+v\n%+v", l.desk.state, l.events)
	l.desk.mu.Unlock()
	for _, entry := range l.logs.All() {
		sinks += fmt.Sprintf("%s %v\n", entry.Message, entry.ContextMap())
	}
	if strings.Contains(sinks, canary) {
		t.Errorf("the secret is in\n%s", sinks)
	}
}

// T29: what is asked of the world while a bundle full of addresses is taken are subjects of the bus, by digest.
func TestT29_NothingIsFetchedByAddress(t *testing.T) {
	l := newLife(t)
	l.start()
	l.assign(l.publish("2.0.0", 3, []bundle.Object{object(`{"apiVersion":"v1","data":{"f":"file:///etc/passwd","u":"http://169.254.169.254/latest"},"kind":"ConfigMap","metadata":{"annotations":{"source":"https://example.com/x.yaml"},"name":"a","namespace":"default"}}`)}))
	l.current("2.0.0")
	for _, subject := range l.gets("") {
		if !strings.HasPrefix(subject, "hf.") || strings.Contains(subject, "example") {
			t.Errorf("asked for %s", subject)
		}
	}
}
