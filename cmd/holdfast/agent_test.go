package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// runAgents is "agents SITEFILE… [fails SITE VERSION]": beside the script, each site says hello, and answers every assignment with what an agent says
// whose cluster becomes healthy at once, or reverts where the version's first attempt fails. They end with the script.
func runAgents(ts *testscript.TestScript, neg bool, args []string) {
	var fails bundle.Version
	var where bundle.SiteID
	if n := len(args); n > 3 && args[n-3] == "fails" {
		where, fails, args = bundle.SiteID(args[n-2]), bundle.Version(args[n-1]), args[:n-3]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: agents SITEFILE… [fails SITE VERSION]")
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	ts.Defer(func() {
		stop()
		running.Wait()
	})
	for _, file := range args {
		a := newAgent(ts, file)
		if a.site.Site == where {
			a.fails = fails
		}
		running.Go(func() {
			defer a.link.Close()
			a.run(ctx)
		})
	}
}

type agent struct {
	site  fleetsync.SiteFile
	key   ed25519.PrivateKey
	hub   []ed25519.PublicKey
	link  *link.Link
	fails bundle.Version

	state fleetsync.State
}

func newAgent(ts *testscript.TestScript, file string) *agent {
	a := &agent{}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &a.site))
	_, seed, err := nkeys.DecodeSeed([]byte(a.site.Seed))
	ts.Check(err)
	a.key = ed25519.NewKeyFromSeed(seed)
	a.hub = hubKeys(ts, a.site)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.site.CA))
	a.link, err = link.Dial(link.Options{Site: a.site.Site, Servers: a.site.Servers, CA: roots, JWT: a.site.JWT, Seed: a.site.Seed})
	ts.Check(err)
	a.state = fleetsync.State{
		Site: a.site.Site, Epoch: "0123456789abcdef0123456789abcdef", Started: time.Now().UTC(), Agent: "test", Cluster: fleetsync.ClusterStatus{Reachable: true},
		Bundles: []fleetsync.BundleStatus{},
	}
	a.state.Sealing, err = secret.Statement(a.site.Site, a.key)
	ts.Check(err)
	return a
}

func (a *agent) run(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.link.Notices():
			a.look(ctx)
		case at := <-ticker.C:
			hello := fleetsync.Hello{Site: a.site.Site, Epoch: a.state.Epoch, At: at.UTC(), State: a.state.Sequence}
			if sealed, err := fleetsync.Seal(fleetsync.TypeHello, hello, a.key); err == nil {
				_ = a.link.Hello(ctx, fleetsync.HelloSubject(a.site.Site), sealed)
			}
		}
	}
}

func (a *agent) look(ctx context.Context) {
	raw, err := a.link.Get(ctx, fleetsync.DesiredSubject(a.site.Site))
	var wanted fleetsync.Assignment
	if err != nil || fleetsync.OpenBy(fleetsync.TypeAssignment, raw, a.hub, &wanted) != nil || wanted.Sequence <= a.state.Assignment {
		return
	}
	a.state.Assignment = wanted.Sequence
	before := a.state.Bundles
	a.state.Bundles = []fleetsync.BundleStatus{}
	for i, b := range wanted.Bundles {
		status := fleetsync.BundleStatus{Name: b.Name, Desired: b.Version, Digest: b.Digest, Current: b.Version, CurrentDigest: b.Digest, Phase: fleetsync.PhaseCurrent}
		if b.Version == a.fails && i < len(before) && b.Rollout != nil && b.Rollout.Attempt == 1 {
			status.Current, status.CurrentDigest = before[i].Current, before[i].CurrentDigest
			status.Phase, status.Reason = fleetsync.PhaseReverted, "Unhealthy"
		}
		a.state.Bundles = append(a.state.Bundles, status)
	}
	a.state.Sequence++
	a.state.At = time.Now().UTC()
	if sealed, err := fleetsync.Seal(fleetsync.TypeState, a.state, a.key); err == nil {
		_ = a.link.Report(ctx, fleetsync.StateSubject(a.site.Site), sealed)
	}
}
