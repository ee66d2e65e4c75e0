// Command edge measures what issue 4 promises of a site's line and disk: a real hub in a process of its own, a real agent with a real store in this one,
// and between them a line that counts and can be cut. The site has no cluster: what happens there is told to the agent by this program.
//
//   - Idle: bytes of TLS on the line in both directions during whole heartbeats, scaled to a day. A line that is cut and
//     mended is counted beside it: each answered heartbeat puts off the look for lost pokes, so an idle site makes none. TCP and IP headers are not in it; packets are few. Writes: what the kernel counts as written by this process in the same time.
//   - Catching up: the line is cut, 10,000 events are recorded, the line is mended; from the first connection until the hub's API shows the site's
//     snapshot, and until it has every event.
//   - Half a year away: the outbox of a site under trouble, simulated (internal/sim.Away), with the default bounds.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/sim"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

const (
	site   = bundle.SiteID("shop-1")
	events = 10_000
	quota  = 64 << 20
)

func main() {
	out := flag.String("out", "", "write the figures here, as one flat JSON object")
	beats := flag.Int("beats", 1, "whole heartbeats during which an idle site is watched")
	bin := flag.String("bin", "bin", "folder of the programs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *bin, *out, *beats); err != nil {
		fmt.Fprintf(os.Stderr, "error: edge: %v\n", err)
		os.Exit(1)
	}
}

// stand is one hub, one line and one site.
type stand struct {
	dir   string
	fleet *fleet.Fleet
	hub   *api.Client
	line  *fleet.Link
	sink  chan func(fleetsync.Input)
	tell  func(fleetsync.Input)
	beat  time.Duration
	table figures.Figures
}

func measure(ctx context.Context, bin, out string, beats int) error {
	dir, err := os.MkdirTemp("", "holdfast-edge-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &stand{dir: dir, sink: make(chan func(fleetsync.Input), 1)}
	if s.fleet, err = fleet.New(dir, bin); err != nil {
		return err
	}
	defer s.fleet.Close()
	if err := s.fleet.StartHub(ctx); err != nil {
		return err
	}
	if s.hub, err = fleet.Admin(filepath.Join(s.dir, "hub")); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	agent, closeAgent, err := s.agent(ctx)
	if err != nil {
		stop()
		return err
	}
	go func() { ended <- agent.Run(running) }()
	defer func() {
		stop()
		<-ended
		closeAgent()
	}()
	s.tell = <-s.sink
	for _, step := range []func(context.Context) error{
		s.settle, func(ctx context.Context) error { return s.idle(ctx, beats) }, s.catchUp, s.away,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fmt.Print(s.table.Table())
	if out == "" {
		return nil
	}
	return s.table.Write(out)
}

// agent makes the site and its agent; the line is between them and the hub.
func (s *stand) agent(ctx context.Context) (*edge.Agent, func(), error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, nil, err
	}
	public, _ := pair.PublicKey()
	seed, err := pair.Seed()
	if err != nil {
		return nil, nil, err
	}
	grant, err := s.hub.AddSite(ctx, api.SiteRequest{ID: site, PublicKey: public})
	if err != nil {
		return nil, nil, err
	}
	s.beat = time.Duration(grant.HeartBeat) * time.Second
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM([]byte(grant.CA))
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, nil, err
	}
	key := ed25519.NewKeyFromSeed(raw)
	trust, err := edge.NewBelief(grant.Trust, key, zap.NewNop())
	if err != nil {
		return nil, nil, err
	}
	if s.line, err = fleet.NewLink(strings.TrimPrefix(grant.Servers[0], "tls://")); err != nil {
		return nil, nil, err
	}
	bus, err := link.Dial(link.Options{
		Site: site, Servers: []string{"tls://" + s.line.Addr()}, CA: ca, JWT: grant.JWT, Seed: string(seed), RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond,
	})
	if err != nil {
		return nil, nil, err
	}
	disk, err := store.Open(store.Options{Dir: filepath.Join(s.dir, "edge"), ReserveBytes: 1 << 20})
	if err != nil {
		return nil, nil, err
	}
	return edge.New(edge.Options{
			Site: &fleetsync.SiteFile{Site: site, HeartBeatSeconds: grant.HeartBeat}, Trust: trust, Signatures: cosign.Verifier{}, Store: disk, Link: bus, Workloads: s,
			Key: key, Version: "bench", Epoch: bundle.DigestOf(seed).Hex()[:32], Log: zap.NewNop(),
		}), func() {
			_ = bus.Close()
			_ = disk.Close()
		}, nil
}

// The cluster that is not there.

// Watch hands the agent's ear to the program.
func (s *stand) Watch(ctx context.Context, sink func(fleetsync.Input)) {
	sink(fleetsync.ClusterSeen{Reachable: true, Version: "v1.37.1"})
	s.sink <- sink
	<-ctx.Done()
}

// Run is never asked for: nothing is assigned.
func (s *stand) Run(_ context.Context, _ fleetsync.Run, _ func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran)) {
	tell(fleetsync.Ran{Outcome: fleetsync.OutcomeFailed})
}

// Prefetch neither.
func (s *stand) Prefetch(_ context.Context, p fleetsync.Prefetch, _ func(bundle.Digest) (verify.Verified, error), _ func(fleetsync.Prefetched)) fleetsync.Prefetched {
	return fleetsync.Prefetched{Name: p.Run.Bundle.Name, Spec: p.Run.Spec}
}

// Correct is never asked for either.
func (s *stand) Correct(fleetsync.Correct) {}

// patience is how long a step may take.
const patience = 5 * time.Minute

func (s *stand) until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return errors.New("did not come to pass: " + what)
		case <-ticker.C:
		}
	}
	return nil
}

// shown is what the hub shows of the site.
func (s *stand) shown(ctx context.Context) api.Site {
	shown, _ := s.hub.Site(ctx, site) // a hub that does not answer shows nothing
	return shown
}

// exact says whether the hub's snapshot knows of all events up to one, and whether it has them.
func exact(shown api.Site, made uint64) (state, all bool) {
	return shown.State != nil && shown.State.Outbox.Next > made, shown.Events.Upto >= made
}

// settle waits until the hub has everything and the line has been quiet for a while.
func (s *stand) settle(ctx context.Context) error {
	quiet, last := time.Now(), int64(0)
	return s.until(ctx, "the site settles", func() bool {
		down, up := s.line.Bytes()
		if down+up != last {
			quiet, last = time.Now(), down+up
		}
		shown := s.shown(ctx)
		return time.Since(quiet) > 5*time.Second && shown.State != nil && shown.State.Outbox.Acked+1 == shown.State.Outbox.Next
	})
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stand) idle(ctx context.Context, beats int) error {
	watched := time.Duration(beats) * s.beat
	downBefore, upBefore := s.line.Bytes()
	written, err := writtenBytes()
	if err != nil {
		return err
	}
	if err := pause(ctx, watched); err != nil {
		return err
	}
	down, up := s.line.Bytes()
	after, err := writtenBytes()
	if err != nil {
		return err
	}
	days := float64(24*time.Hour) / float64(watched)
	lookBefore, lookUpBefore := s.line.Bytes()
	s.line.Cut()
	s.line.Mend()
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	lookDown, lookUp := s.line.Bytes()
	look := float64(lookDown - lookBefore + lookUp - lookUpBefore)
	s.table.Put("idle_bytes_per_day", float64(down-downBefore+up-upBefore)*days, "B", figures.AtMost(250_000))
	s.table.Note("idle_bytes_down_per_day", float64(down-downBefore)*days, "B")
	s.table.Note("idle_bytes_up_per_day", float64(up-upBefore)*days, "B")
	s.table.Note("reconnect_bytes", look, "B")
	s.table.Note("idle_watched_seconds", watched.Seconds(), "s")
	s.table.Put("writes_per_day_mib", float64(after-written)*days/(1<<20), "MiB", figures.AtMost(50))
	return nil
}

// writtenBytes is what the kernel counts as written to disks by this process.
func writtenBytes() (int64, error) {
	raw, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		}
	}
	return 0, errors.New("/proc/self/io does not say what was written")
}

func (s *stand) catchUp(ctx context.Context) error {
	before := s.shown(ctx).State.Outbox.Next - 1
	s.line.Cut()
	for n := range events {
		s.tell(fleetsync.ClusterSeen{Reachable: n%2 == 1, Version: "v1.37.1", Message: fmt.Sprintf("dial tcp 10.0.0.1:6443: connect: connection refused (%d)", n)})
	}
	if err := pause(ctx, 10*time.Second); err != nil { // they are recorded
		return err
	}
	dials := s.line.Dials()
	s.line.Mend()
	if err := s.until(ctx, "the agent connects", func() bool { return s.line.Dials() > dials }); err != nil {
		return err
	}
	began, made := time.Now(), before+events
	var stateAfter time.Duration
	err := s.until(ctx, "the hub has every event", func() bool {
		state, all := exact(s.shown(ctx), made)
		if state && stateAfter == 0 {
			stateAfter = time.Since(began)
		}
		return state && all
	})
	shown := s.shown(ctx)
	s.table.Put("catchup_state_seconds", stateAfter.Seconds(), "s", figures.AtMost(2))
	s.table.Put("catchup_10k_events_seconds", time.Since(began).Seconds(), "s", figures.AtMost(30))
	lost := float64(0)
	if shown.State != nil {
		lost = float64(shown.State.Outbox.Dropped)
	}
	if shown.Events.Upto < made {
		lost += float64(made - shown.Events.Upto)
	}
	s.table.Put("events_lost", lost, "events", figures.AtMost(0))
	return err
}

func (s *stand) away(context.Context) error {
	got, err := sim.Away{Days: 180, EditsHour: 30}.Run()
	if err != nil {
		return err
	}
	s.table.Put("outbox_bytes_180_days", float64(got.MostBytes), "B", figures.AtMost(quota))
	s.table.Note("outbox_dropped_180_days", float64(got.Dropped), "events")
	return nil
}
