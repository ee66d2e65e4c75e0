package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// agentIs in the environment makes this test binary an agent: everything of holdfast-edge but its command line, over a cluster in the process of the
// test. It is the JSON of a mortal.
const agentIs = "HOLDFAST_TEST_AGENT"

// mortal is an agent that kills itself at a commit.
type mortal struct {
	SiteFile, Dir, Cluster string
	Commit                 int           // of its life, from 1; 0: none
	After                  bool          // the commit is durable when it dies
	Old                    bool          // it knows of no encryption
	Watched                string        // file with what the site's watchdog knows; empty: there is none
	Trial                  time.Duration // Config.trial
}

// deadly is the store of a mortal. It counts its commits in a file.
type deadly struct {
	opened
	of mortal
	mu *sync.Mutex
	n  *int
}

func (d deadly) Commit(records ...fleetsync.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.n++
	if *d.n == d.of.Commit && !d.of.After {
		die()
	}
	err := d.opened.Commit(records...)
	if err == nil && *d.n == d.of.Commit {
		die()
	}
	return errors.Join(err, os.WriteFile(filepath.Join(d.of.Dir, "commits"), []byte(strconv.Itoa(*d.n)), 0o600))
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// beAgent is main in the process of an agent.
func beAgent(words string) int {
	var m mortal
	if err := json.Unmarshal([]byte(words), &m); err != nil {
		panic(err)
	}
	log, err := zap.NewProduction()
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	counted := deadly{of: m, mu: &sync.Mutex{}, n: new(int)}
	var policy Policy
	if m.Watched != "" {
		policy.Agent.Name = "holdfast-edge"
	}
	err = Main(ctx, Config{
		watched: func(context.Context) (watchdog.Memory, error) {
			raw, err := os.ReadFile(m.Watched)
			if err != nil {
				return watchdog.Memory{}, err
			}
			return watchdog.Decode(raw)
		},
		trial: m.Trial, Policy: policy,
		SiteFile: m.SiteFile, Dir: m.Dir, Cluster: &rest.Config{Host: m.Cluster}, ReserveBytes: 1 << 20, ReconnectMax: time.Second, Log: log,
		open: func(o store.Options) (opened, error) {
			if m.Old {
				o.Key, o.Former = nil, nil
			}
			below, err := store.Open(o)
			counted.opened = below
			return counted, err
		},
		reach: func(at *rest.Config) (apply.Cluster, error) { return &distant{url: at.Host}, nil },
	})
	if err != nil {
		log.Error("the agent ended", zap.Error(err))
		return 1
	}
	return 0
}

// grounds are a hub in a process of its own, with two versions of a bundle; more is in both.
type grounds struct {
	*fleet.Fleet
	hub *api.Client
}

func newGrounds(t *testing.T, more string) *grounds {
	t.Helper()
	if testing.Short() {
		t.Skip("needs processes")
	}
	bin, remove, err := fleet.Build(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	f, err := fleet.New(t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if err := f.StartHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, v := range [][2]string{{"1.0.0", manifestOf("a", "1") + manifestOf("b", "1") + more}, {"1.1.0", manifestOf("a", "2") + manifestOf("c", "1") + more}} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(v[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Release(dir, "shop", v[0]); err != nil {
			t.Fatal(err)
		}
	}
	_, hubDir := f.Bus()
	hub, err := fleet.Admin(hubDir)
	if err != nil {
		t.Fatal(err)
	}
	return &grounds{f, hub}
}

func manifestOf(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\ndata: {k: %q}\n---\n", name, value)
}

// shop is one site of the grounds: its cluster is in the process of the test, its agent in one of its own.
type shop struct {
	site // for its cluster only
	*grounds
	id      bundle.SiteID
	of      mortal
	at      *fleet.Site
	changes atomic.Int32 // of config map a, as a watch counts them

	mu      sync.Mutex
	process *exec.Cmd
	over    bool
	killed  chan struct{} // closed when the agent killed itself
	gone    chan struct{} // closed when no agent is left
}

func (g *grounds) open(t *testing.T, id string) *shop {
	t.Helper()
	at, err := g.AddSite(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{site: site{t: t, cluster: memcluster.New()}, grounds: g, id: bundle.SiteID(id), at: at, killed: make(chan struct{}), gone: make(chan struct{})}
	s.of = mortal{SiteFile: filepath.Join(at.Dir, "site.json"), Dir: filepath.Join(at.Dir, "data"), Cluster: serve(t, s.cluster)}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	go s.cluster.Watch(ctx, apply.Place{Kind: apply.Kind{Version: "v1", Kind: "ConfigMap"}}, func(seen apply.Sighting) {
		if seen.Kind == apply.SightPresent && seen.Object.Name == "a" {
			s.changes.Add(1)
		}
	})
	return s
}

// run keeps an agent alive until the test ends: it is started again whenever it kills itself, and then lives.
func (s *shop) run(commit int, after bool) {
	s.of.Commit, s.of.After = commit, after
	s.t.Cleanup(s.close)
	s.begin()
	go func() {
		defer close(s.gone)
		for {
			err := s.process.Wait()
			var exit *exec.ExitError
			s.mu.Lock()
			over := s.over
			s.mu.Unlock()
			if over {
				return
			}
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || s.of.Commit == 0 {
				s.t.Errorf("the agent of %s ended: %v", s.id, err)
				return
			}
			close(s.killed)
			s.of.Commit = 0
			s.begin()
		}
	}()
}

func (s *shop) begin() {
	words, _ := json.Marshal(s.of)
	log, err := os.OpenFile(s.at.EdgeLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer log.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = exec.Command(os.Args[0])
	s.process.Env, s.process.Stdout, s.process.Stderr = append(os.Environ(), agentIs+"="+string(words)), log, log
	if err := s.process.Start(); err != nil {
		s.t.Error(err)
	}
}

func (s *shop) close() {
	s.mu.Lock()
	s.over = true
	_ = s.process.Process.Signal(syscall.SIGTERM)
	s.mu.Unlock()
	<-s.gone
	if s.t.Failed() {
		raw, _ := os.ReadFile(s.at.EdgeLog())
		s.t.Logf("the agent of %s:\n%s", s.id, raw[max(0, len(raw)-6000):])
	}
	_ = os.RemoveAll(s.of.Dir)
}

// commits is how many the agent of this life has made.
func (s *shop) commits() int {
	raw, _ := os.ReadFile(filepath.Join(s.of.Dir, "commits"))
	n, _ := strconv.Atoi(string(raw))
	return n
}

func (s *shop) assign(version bundle.Version) {
	s.t.Helper()
	if _, err := s.hub.Assign(s.t.Context(), api.AssignRequest{Sites: []bundle.SiteID{s.id}, Bundle: bundle.Ref{Name: "shop", Version: version}}); err != nil {
		s.t.Fatal(err)
	}
}

// story is what the hub has of the site's events, once it has all of them.
func (s *shop) story(version bundle.Version) (events []api.SiteEvent) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the hub knows all of %s", s.id), func() bool {
		site, err := s.hub.Site(s.t.Context(), s.id)
		if err != nil || site.State == nil || len(site.State.Bundles) != 1 {
			return false
		}
		b := site.State.Bundles[0]
		if b.Phase != fleetsync.PhaseCurrent || b.Current != version || site.Events.Upto+1 < site.State.Outbox.Next {
			return false
		}
		events, err = s.hub.Events(s.t.Context(), api.EventQuery{Site: s.id, Limit: 1000})
		return err == nil && len(events) > 0 && events[len(events)-1].Sequence+1 >= site.State.Outbox.Next
	})
	for i, ev := range events {
		if ev.Sequence != uint64(i+1) || ev.Kind == fleetsync.EventGap || ev.Epoch != events[0].Epoch {
			s.t.Fatalf("event %d of %s is %d %s of epoch %s", i+1, s.id, ev.Sequence, ev.Kind, ev.Epoch)
		}
	}
	return events
}

// live is everything the site goes through.
func (s *shop) live() {
	s.t.Helper()
	s.assign("1.0.0")
	eventually(s.t, "1.0.0 is applied", func() bool { return s.value("a") == "1" && s.value("b") == "1" })
	s.spoil("a")
	eventually(s.t, "the edit is undone", func() bool { return s.value("a") == "1" })
	s.assign("1.1.0")
	eventually(s.t, "1.1.0 is applied", func() bool { return s.value("a") == "2" && s.value("c") == "1" && s.value("b") == "" })
}

// whole holds what must be so after a life, however often the agent died.
func (s *shop) whole() (told map[string]int) {
	s.t.Helper()
	told = map[string]int{}
	for _, ev := range s.story("1.1.0") {
		told[strings.TrimSpace(string(ev.Kind)+" "+string(ev.Version))]++
	}
	for _, once := range []string{"BundleAccepted 1.0.0", "BundleAccepted 1.1.0", "Applied 1.0.0", "Applied 1.1.0", "Healthy 1.0.0", "Healthy 1.1.0"} {
		// The end of 1.0.0 need not have been seen by a life that was told of 1.1.0 at its start, before it had read its note.
		if n := told[once]; n > 1 || n == 0 && once != "Applied 1.0.0" && once != "Healthy 1.0.0" {
			s.t.Errorf("%s was told %d times: %v", once, n, told)
		}
	}
	if told["StoreDamaged"] > 0 || told["BundleRefused 1.0.0"]+told["BundleRefused 1.1.0"] > 0 {
		s.t.Errorf("a crash is taken for something else: %v", told)
	}
	// Made, edited by hand, put back, changed: nothing was done twice.
	if n := s.changes.Load(); n != 4 {
		s.t.Errorf("a was changed %d times", n)
	}
	return told
}

// TestF03_KilledAtEveryPersistPoint kills the agent's process before and after every commit of a life, with the real store, the real anchor and the
// real hub, and wants the next process to end where it would have ended, with nothing lost and nothing done twice.
func TestF03_KilledAtEveryPersistPoint(t *testing.T) {
	g := newGrounds(t, "")
	probe := g.open(t, "probe")
	probe.run(0, false)
	probe.live()
	probe.whole()
	commits := probe.commits()
	if commits < 15 {
		t.Fatalf("%d commits are too few for a life", commits)
	}
	var killed atomic.Int32
	t.Run("points", func(t *testing.T) {
		for n := 1; n <= commits; n++ {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s-%d-of-%d", map[bool]string{false: "before", true: "after"}[after], n, commits)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := g.open(t, name)
					s.run(n, after)
					s.live()
					if told := s.whole(); told["DriftCorrected 1.0.0"] > 1 {
						t.Errorf("%v", told)
					}
					select {
					case <-s.killed:
						killed.Add(1)
					default:
					}
				})
			}
		}
	})
	// Lives differ by a commit or two.
	if n := int(killed.Load()); n < 2*commits-12 {
		t.Errorf("only %d of %d were killed", n, 2*commits)
	}
}

// TestF02_FlappingLinkThroughAProxy breaks every connection between agent and hub after a few kilobytes or a moment. What is ordered arrives, is
// fetched and applied, and all that happened is at the hub once and in order, while the line goes on breaking.
func TestF02_FlappingLinkThroughAProxy(t *testing.T) {
	const edits = 130 // each of another object: what is edited again and again is a fight, and put back later and later
	more := ""
	for n := range edits {
		more += manifestOf(fmt.Sprintf("more-%d", n), "1")
	}
	g := newGrounds(t, more)
	for name, flaps := range map[string]fleet.Flaps{"bytes": {Bytes: 18 << 10}, "time": {After: 300 * time.Millisecond}, "both": {Bytes: 16 << 10, After: 500 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := g.open(t, "flapping-"+name)
			s.at.Link.Flap(flaps)
			s.run(0, false)
			s.assign("1.0.0")
			eventually(t, "1.0.0 is applied", func() bool {
				for n := range edits {
					if s.value(fmt.Sprintf("more-%d", n)) != "1" {
						return false
					}
				}
				return s.value("a") == "1" && s.value("b") == "1"
			})
			for n := range edits {
				object := fmt.Sprintf("more-%d", n)
				s.spoil(object)
				eventually(t, "the edit is undone", func() bool { return s.value(object) == "1" })
			}
			s.spoil("a")
			eventually(t, "the edit is undone", func() bool { return s.value("a") == "1" })
			s.assign("1.1.0")
			eventually(t, "1.1.0 is applied", func() bool { return s.value("a") == "2" && s.value("c") == "1" && s.value("b") == "" })
			told := s.whole()
			if told["DriftCorrected 1.0.0"] != edits+1 {
				t.Errorf("%d edits, and %v", edits+1, told)
			}
			if s.at.Link.Dials() < 3 {
				t.Errorf("the line broke %d times: too few to show anything", s.at.Link.Dials())
			}
			t.Logf("%d connections, %v", s.at.Link.Dials(), told)
		})
	}
}
