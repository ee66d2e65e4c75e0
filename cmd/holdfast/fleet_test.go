package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"os"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/internal/online"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

type hubKey struct{}

// runHub is "hub start TRUST" and "hub stop": a real hub on free loopback ports, in the test's process. HOLDFAST_CONTEXT names it.
func runHub(ts *testscript.TestScript, neg bool, args []string) {
	running, _ := ts.Value(hubKey{}).(**hub.Hub)
	switch {
	case neg || len(args) == 0 || running == nil:
		ts.Fatalf("usage: hub start TRUST | hub stop")
	case args[0] == "stop":
		(*running).Close()
	case args[0] == "start" && len(args) == 2:
		trust, err := tuf.ReadRepository(os.DirFS(ts.MkAbs(args[1] + "/tuf")))
		ts.Check(err)
		key, err := online.Decode([]byte(ts.ReadFile(args[1] + "/online.key")))
		ts.Check(err)
		h, err := hub.Open(context.Background(), hub.Config{
			DataDir: ts.MkAbs("hub"), ListenNATS: "127.0.0.1:0", ListenAPI: "127.0.0.1:0", Trust: trust, Online: []ed25519.PrivateKey{key}, Signatures: cosign.Verifier{}, HeartBeat: 30 * time.Second,
		})
		ts.Check(err)
		ts.Defer(h.Close)
		*running = h
		ts.Setenv("HOLDFAST_CONTEXT", h.ContextFile())
	default:
		ts.Fatalf("usage: hub start TRUST | hub stop")
	}
}

// report is "report SITEFILE PHASE": over a real link, with the site's own key, it says what an agent would say that is in the
// phase with all it was assigned, and tells its first event; so it works once a site. A phase of Drifted is Current with one object that is not corrected.
// The link stays until the script ends: a site that hangs up is missed as soon as the hub asks the bus who is there.
func report(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: report SITEFILE PHASE")
	}
	var site fleetsync.SiteFile
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &site))
	_, seed, err := nkeys.DecodeSeed([]byte(site.Seed))
	ts.Check(err)
	key := ed25519.NewKeyFromSeed(seed)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(site.CA))
	link, err := link.Dial(link.Options{Site: site.Site, Servers: site.Servers, CA: roots, JWT: site.JWT, Seed: site.Seed})
	ts.Check(err)
	ts.Defer(func() { link.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for notice := range link.Notices() {
		if notice.Kind == fleetsync.LinkUp {
			break
		}
	}
	signers := hubKeys(ts, site)
	sealed, err := link.Get(ctx, fleetsync.DesiredSubject(site.Site))
	ts.Check(err)
	var wanted fleetsync.Assignment
	ts.Check(fleetsync.OpenBy(fleetsync.TypeAssignment, sealed, signers, &wanted))
	state, batch := reportOf(wanted, args[1], time.Now())
	for subject, message := range map[string]struct {
		kind  string
		value any
	}{
		fleetsync.StateSubject(site.Site): {fleetsync.TypeState, state},
		fleetsync.EventSubject(site.Site): {fleetsync.TypeEvents, batch},
	} {
		sealed, err := fleetsync.Seal(message.kind, message.value, key)
		ts.Check(err)
		ts.Check(link.Report(ctx, subject, sealed))
	}
}

// hubKeys are the hub's keys that a site believes.
func hubKeys(ts *testscript.TestScript, site fleetsync.SiteFile) []ed25519.PublicKey {
	metadata, err := tuf.Decode(site.Trust)
	ts.Check(err)
	root, err := tuf.Load(metadata)
	ts.Check(err)
	keys, err := online.Assignment(root.Trust)
	ts.Check(err)
	return keys
}

func reportOf(wanted fleetsync.Assignment, phase string, now time.Time) (fleetsync.State, fleetsync.EventBatch) {
	now = now.UTC()
	epoch := "0123456789abcdef0123456789abcdef"
	state := fleetsync.State{
		Site: wanted.Site, Epoch: epoch, Sequence: wanted.Sequence, At: now, Started: now.Add(-time.Hour), Agent: "test", Assignment: wanted.Sequence,
		Cluster: fleetsync.ClusterStatus{Reachable: true, Version: "v1.34.0", Since: now.Add(-time.Hour)}, Bundles: []fleetsync.BundleStatus{},
		Outbox: fleetsync.OutboxStatus{Next: 2},
	}
	event := fleetsync.Event{Sequence: 1, At: now, Kind: fleetsync.EventAssigned, Message: phase}
	for _, b := range wanted.Bundles {
		status := fleetsync.BundleStatus{
			Name: b.Name, Desired: b.Version, Digest: b.Digest, Current: b.Version, CurrentDigest: b.Digest, Phase: fleetsync.Phase(phase), Since: now, Objects: 17,
		}
		if phase == "Drifted" {
			status.Phase, status.DriftCount = fleetsync.PhaseCurrent, 1
			status.Drift = []fleetsync.Drift{{Object: "ConfigMap/shop/shop", Kind: fleetsync.DriftChanged, Paths: []string{"/data/CURRENCY"}, At: now}}
		}
		event.Bundle, event.Version, event.Digest = b.Name, b.Version, b.Digest
		state.Bundles = append(state.Bundles, status)
	}
	return state, fleetsync.EventBatch{Site: wanted.Site, Epoch: epoch, Events: []fleetsync.Event{event}}
}

// forge is "forge CONTEXTFILE": it puts another token into the file.
func forge(ts *testscript.TestScript, _ bool, args []string) {
	var target api.ContextFile
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &target))
	target.Token = "guessed"
	raw, err := json.Marshal(target)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o600))
}
