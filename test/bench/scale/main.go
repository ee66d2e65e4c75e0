// Command scale measures one hub with many sites on this machine: the hub as a real process, the sites as real agents with real links, real
// verification and no cluster, all in this one. For each size of fleet it
//
//   - adds the sites and lets them connect,
//   - publishes a bundle to all and waits until every site has verified it, and until the hub has every site's word that it is healthy,
//   - leaves the hub alone and reads what it needs,
//   - kills the hub, starts it again, publishes the next version, and waits until all sites are back, in sync and have said so.
//
// Hub and sites share the machine's cores: *_ms_per_site says what processor time a release takes of each, and publish_over_floor how much that is over the
// bare signatures, synced writes and verifications. The last size counts for the goals; growth_* compares it with the first, as a ratio of what each costs a
// site: 1 is linear. decide_* are the benchmarks of the rollout engine.
//
// With -profiles the hub serves profiles on a unix socket, and those of hub and sites are written for each step.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
	"github.com/holdfast-fleet/holdfast/test/fleet"
	"github.com/holdfast-fleet/holdfast/test/light"
)

type options struct {
	out, bin string
	sizes    string
	idle     time.Duration
	profiles string
	window   time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "", "write the figures here, as one flat JSON object")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	flag.StringVar(&o.sizes, "sites", "1000,10000", "sizes of the fleet, the last one counts")
	flag.DurationVar(&o.idle, "idle", 30*time.Second, "how long the hub is watched while nothing happens")
	flag.StringVar(&o.profiles, "profiles", "", "write profiles of hub and sites into this folder")
	flag.DurationVar(&o.window, "window", 10*time.Second, "how long a step's processor profile takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "error: scale: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var sizes []int
	for word := range strings.SplitSeq(o.sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 100_000 {
			return fmt.Errorf("-sites %q: want numbers from 1 to 100000, joined by commas", o.sizes)
		}
		sizes = append(sizes, n)
	}
	s := &scale{options: o, began: time.Now(), measured: map[int]map[string]float64{}}
	for _, n := range sizes {
		if err := s.measure(ctx, n); err != nil {
			fmt.Print(s.figures(sizes).Table())
			return fmt.Errorf("%d sites: %w", n, err)
		}
	}
	f := s.figures(sizes)
	took, err := decide()
	if err != nil {
		return err
	}
	f.Put("decide_ms_10k", took["decide_ms_10k"], "ms", figures.AtMost(20))
	f.Note("decide_first_ms_10k", took["decide_first_ms_10k"], "ms")
	f.Note("decide_idle_ms_10k", took["decide_idle_ms_10k"], "ms")
	f.Note("machine_cores", float64(runtime.NumCPU()), "cores")
	f.Note("bench_seconds", time.Since(s.began).Seconds(), "s")
	fmt.Print(f.Table())
	return f.Write(o.out)
}

// scale is what was measured, by size of the fleet.
type scale struct {
	options
	began    time.Time
	measured map[int]map[string]float64
}

// goals are those of issue 5, for the largest fleet.
var goals = []struct {
	measure, unit string
	goal          figures.Goal
	grows         bool
}{
	{"publish_to_all_verified_seconds", "s", figures.AtMost(20), true},
	{"publish_to_all_reported_seconds", "s", figures.Goal{}, true},
	{"reconnect_storm_seconds", "s", figures.AtMost(120), true},
	{"hub_rss_mib", "MiB", figures.AtMost(1500), true},
	{"hub_rss_peak_mib", "MiB", figures.Goal{}, false},
	{"hub_cpu_idle_percent", "% of a core", figures.Goal{}, true},
	{"api_drops", "requests", figures.AtMost(0), false},
	{"sites_lost", "sites", figures.AtMost(0), false},
	{"join_seconds", "s", figures.Goal{}, true},
	{"hub_start_seconds", "s", figures.Goal{}, true},
	{"publish_hub_ms_per_site", "ms of processor", figures.Goal{}, true},
	{"publish_sites_ms_per_site", "ms of processor", figures.Goal{}, true},
	{"floor_ms_per_site", "ms of processor", figures.Goal{}, false},
	{"publish_over_floor", "× the floor", figures.Goal{}, false},
}

func (s *scale) figures(sizes []int) *figures.Figures {
	f := &figures.Figures{}
	first, last := sizes[0], sizes[len(sizes)-1]
	for _, g := range goals {
		if value, ok := s.measured[last][g.measure]; ok {
			f.Put(g.measure, value, g.unit, g.goal)
		}
	}
	f.Note("sites", float64(last), "sites")
	if first == last {
		return f
	}
	for _, g := range goals {
		small, large := s.measured[first][g.measure], s.measured[last][g.measure]
		if g.grows && small > 0 && large > 0 {
			ratio := large / small
			if !strings.HasSuffix(g.measure, "_per_site") {
				ratio /= float64(last) / float64(first)
			}
			f.Note("growth_"+g.measure, ratio, fmt.Sprintf("× linear, from %d", first))
		}
	}
	return f
}

func (s *scale) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// patience is how long a whole fleet may take for one step.
const patience = 15 * time.Minute

// stand is one fleet.
type stand struct {
	*scale
	n     int
	fleet *fleet.Fleet
	hub   *api.Client
	crowd *light.Crowd
	// socket is where the hub gives profiles; empty: none are taken.
	socket    string
	profiling sync.WaitGroup
}

func (s *scale) measure(ctx context.Context, n int) error {
	dir, err := os.MkdirTemp("", "holdfast-scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st := &stand{scale: s, n: n, crowd: light.New()}
	s.measured[n] = map[string]float64{}
	if st.fleet, err = fleet.New(dir, s.bin); err != nil {
		return err
	}
	st.fleet.StartPatience = patience
	if s.profiles != "" {
		st.socket = filepath.Join(dir, "profiles")
		st.fleet.HubFlags = []string{"--profile-socket", st.socket}
	}
	defer st.fleet.Close()
	defer st.crowd.Close()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"open", st.open}, {"join", st.join}, {"publish", st.publish}, {"idle", st.idleHub}, {"storm", st.storm}} {
		if err := st.costed(ctx, step.name, step.do); err != nil {
			return err
		}
		if err := st.crowd.Failed(); err != nil {
			return err
		}
	}
	return st.drops()
}

func (st *stand) put(measure string, value float64) {
	st.measured[st.n][measure] = value
	st.tell("%d sites: %s %.2f", st.n, measure, value)
}

func (st *stand) open(ctx context.Context) error {
	if err := st.fleet.StartHub(ctx); err != nil {
		return err
	}
	var err error
	st.hub, err = fleet.Admin(filepath.Join(st.fleet.Dir, "hub"))
	return err
}

// joiners is how many sites are added at a time.
const joiners = 16

func (st *stand) join(ctx context.Context) error {
	began := time.Now()
	ids := make(chan bundle.SiteID)
	var working sync.WaitGroup
	failures := make(chan error, joiners)
	for range joiners {
		working.Go(func() {
			for id := range ids {
				if err := st.crowd.Join(ctx, st.hub, id, nil); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < st.n && err == nil; i++ {
		select {
		case ids <- bundle.SiteID(fmt.Sprintf("shop-%05d", i)):
		case err = <-failures:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	close(ids)
	working.Wait()
	if err == nil && len(failures) > 0 {
		err = <-failures
	}
	if err != nil {
		return err
	}
	st.put("join_seconds", time.Since(began).Seconds())
	return nil
}

// publish measures the way to every site of a site's first bundle.
func (st *stand) publish(ctx context.Context) error {
	const version = "1.0.0"
	file, err := st.fleet.Release("deploy/examples/shop", "shop", version)
	if err != nil {
		return err
	}
	if err := st.floor(file); err != nil {
		return err
	}
	hub, sites := st.used()
	began := time.Now()
	if err := st.assign(ctx, version); err != nil {
		return err
	}
	last, err := st.verified(ctx, version)
	if err != nil {
		return err
	}
	st.put("publish_to_all_verified_seconds", last.Sub(began).Seconds())
	if err := st.reported(ctx, version); err != nil {
		return err
	}
	st.put("publish_to_all_reported_seconds", time.Since(began).Seconds())
	hubAfter, sitesAfter := st.used()
	hub, sites = hubAfter-hub, sitesAfter-sites
	st.put("publish_hub_ms_per_site", float64(hub.Microseconds())/1000/float64(st.n))
	st.put("publish_sites_ms_per_site", float64(sites.Microseconds())/1000/float64(st.n))
	st.put("publish_over_floor", (hub+sites).Seconds()*1000/float64(st.n)/st.measured[st.n]["floor_ms_per_site"])
	return nil
}

// assign asks the hub to have all sites run a version.
func (st *stand) assign(ctx context.Context, version bundle.Version) error {
	ids := make([]bundle.SiteID, st.n)
	for i := range ids {
		ids[i] = bundle.SiteID(fmt.Sprintf("shop-%05d", i))
	}
	for some := range slices.Chunk(ids, 1000) {
		results, err := st.hub.Assign(ctx, api.AssignRequest{Sites: some, Bundle: bundle.Ref{Name: "shop", Version: version}})
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Error != nil {
				return &api.Error{Problem: *r.Error}
			}
		}
	}
	return nil
}

func (st *stand) verified(ctx context.Context, version bundle.Version) (last time.Time, err error) {
	err = fleet.Until(ctx, patience, "all sites to verify "+string(version), func() error {
		var sites int
		if sites, last = st.crowd.Has(version); sites < st.n {
			return fmt.Errorf("%d of %d have", sites, st.n)
		}
		return nil
	})
	return last, err
}

// reported waits until the hub says of every site that it runs the version and said so lately.
func (st *stand) reported(ctx context.Context, version bundle.Version) error {
	return fleet.Until(ctx, patience, "the hub to know that all sites run "+string(version), func() error {
		b, err := st.hub.Bundle(ctx, bundle.Ref{Name: "shop", Version: version})
		if err != nil {
			return err
		}
		if b.Current < st.n {
			return fmt.Errorf("it knows of %d of %d", b.Current, st.n)
		}
		return nil
	})
}

func (st *stand) idleHub(ctx context.Context) error {
	// What the last step left behind is worked off first.
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	before, err := cpu(st.fleet.HubPID())
	if err != nil {
		return err
	}
	if err := pause(ctx, st.idle); err != nil {
		return err
	}
	after, err := cpu(st.fleet.HubPID())
	if err != nil {
		return err
	}
	st.put("hub_cpu_idle_percent", 100*(after-before).Seconds()/st.idle.Seconds())
	return st.memory()
}

func (st *stand) memory() error {
	used, err := fleet.Memory(st.fleet.HubPID())
	if err != nil {
		return err
	}
	st.put("hub_rss_mib", max(used["Rss"], st.measured[st.n]["hub_rss_mib"]))
	st.put("hub_rss_peak_mib", max(used["VmHWM"], st.measured[st.n]["hub_rss_peak_mib"]))
	return nil
}

// storm kills the hub and counts from its next start until every site is back, runs the next version, and the hub knows.
func (st *stand) storm(ctx context.Context) error {
	const version = "1.1.0"
	if _, err := st.fleet.Release("deploy/examples/shop", "shop", version); err != nil {
		return err
	}
	st.fleet.StopHub(false)
	began := time.Now()
	st.profile("start")
	if err := st.fleet.StartHub(ctx); err != nil {
		return err
	}
	st.put("hub_start_seconds", time.Since(began).Seconds())
	if err := st.assign(ctx, version); err != nil {
		return err
	}
	err := st.reported(ctx, version)
	if err != nil && ctx.Err() != nil {
		return err
	}
	st.put("reconnect_storm_seconds", time.Since(began).Seconds())
	sites, _ := st.crowd.Has(version)
	st.put("sites_lost", float64(st.n-sites))
	return errors.Join(err, st.memory())
}

// drops counts the requests that the bus dropped because too many waited: it says so in the hub's log and nowhere else.
func (st *stand) drops() error {
	log, err := os.ReadFile(filepath.Join(st.fleet.Dir, "hub.log"))
	if err != nil {
		return err
	}
	dropped := 0
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("API queue limit reached")) {
			dropped++
		}
	}
	st.put("api_drops", float64(dropped))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// costed does a step and says what processor time hub and sites took meanwhile.
func (st *stand) costed(ctx context.Context, name string, step func(context.Context) error) error {
	hub, sites := st.used()
	if name == "publish" || name == "idle" {
		st.profile(name)
	}
	err := step(ctx)
	hubAfter, sitesAfter := st.used()
	if hubAfter < hub {
		hub = 0 // it is another process
	}
	st.put(name+"_hub_cpu_seconds", (hubAfter - hub).Seconds())
	st.put(name+"_sites_cpu_seconds", (sitesAfter - sites).Seconds())
	st.profiling.Wait()
	return errors.Join(err, st.heap(name))
}

// used is the processor time of the hub and of this process, 0 for one that does not run.
func (st *stand) used() (hub, sites time.Duration) {
	if st.hub != nil {
		hub, _ = cpu(st.fleet.HubPID())
	}
	sites, _ = cpu(os.Getpid())
	return hub, sites
}

// cpu is the time that a process has used, by Linux's count in hundredths of a second.
func cpu(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	words := strings.Fields(string(rest))
	if len(words) < 13 {
		return 0, errors.New("/proc: stat of another kind")
	}
	user, err := strconv.Atoi(words[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(words[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
