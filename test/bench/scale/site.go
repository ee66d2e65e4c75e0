package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

// light is a site without a cluster: the real agent, link and verification over a store in memory and workloads that are healthy at once.
type light struct {
	stop context.CancelFunc
	done chan struct{}
}

// crowd counts what its sites have verified.
type crowd struct {
	sites []*light

	mu       sync.Mutex
	verified map[bundle.Version]int
	last     map[bundle.Version]time.Time
	failed   atomic.Pointer[error]
}

func newCrowd() *crowd {
	return &crowd{verified: map[bundle.Version]int{}, last: map[bundle.Version]time.Time{}}
}

// note counts a site that has verified a version, content and all.
func (c *crowd) note(version bundle.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified[version]++
	c.last[version] = time.Now()
}

func (c *crowd) has(version bundle.Version) (sites int, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verified[version], c.last[version]
}

func (c *crowd) close() {
	for _, s := range c.sites {
		s.stop()
	}
	for _, s := range c.sites {
		<-s.done
	}
}

// join makes a site known to the hub and starts its agent.
func (c *crowd) join(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	grant, err := hub.AddSite(ctx, api.SiteRequest{ID: id, PublicKey: public})
	if err != nil {
		return err
	}
	s, err := c.start(grant, seed)
	if err != nil {
		return fmt.Errorf("site %s: %w", id, err)
	}
	c.mu.Lock()
	c.sites = append(c.sites, s)
	c.mu.Unlock()
	return nil
}

func (c *crowd) start(grant api.SiteGrant, seed []byte) (*light, error) {
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM([]byte(grant.CA)) {
		return nil, errors.New("the grant has no CA")
	}
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(raw)
	trust, err := edge.NewBelief(grant.Trust, key, zap.NewNop())
	if err != nil {
		return nil, err
	}
	hub, err := link.Dial(link.Options{Site: grant.Site, Servers: grant.Servers, CA: ca, JWT: grant.JWT, Seed: string(seed)})
	if err != nil {
		return nil, err
	}
	agent := edge.New(edge.Options{
		Site:  &fleetsync.SiteFile{Site: grant.Site, HeartBeatSeconds: grant.HeartBeat},
		Trust: trust, Signatures: cosign.Verifier{}, Store: memstore.New(), Link: hub, Workloads: &idle{crowd: c},
		Key: key, Version: "bench", Epoch: epochOf(grant.Site), Log: zap.NewNop(),
	})
	ctx, stop := context.WithCancel(context.Background())
	s := &light{stop, make(chan struct{})}
	go func() {
		defer close(s.done)
		defer hub.Close()
		if err := agent.Run(ctx); err != nil {
			err = fmt.Errorf("site %s: %w", grant.Site, err)
			c.failed.CompareAndSwap(nil, &err)
		}
	}()
	return s, nil
}

func epochOf(site bundle.SiteID) string { return bundle.DigestOf([]byte(site)).Hex()[:32] }

// idle is the workloads of a site without a cluster: what is verified is applied and healthy at once.
type idle struct {
	crowd *crowd
	sink  func(fleetsync.Input)
}

func (w *idle) Watch(ctx context.Context, sink func(fleetsync.Input)) {
	w.sink = sink
	sink(fleetsync.ClusterSeen{Reachable: true, Version: "v1.37.1"})
	<-ctx.Done()
}

func (w *idle) Run(_ context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error)) fleetsync.Ran {
	ran := fleetsync.Ran{Name: run.Bundle.Name, Spec: run.Spec, Remove: run.Remove, Outcome: fleetsync.OutcomeApplied}
	if run.Remove {
		return ran
	}
	verified, err := load(run.Bundle.Digest)
	if err != nil {
		ran.Outcome, ran.Message = fleetsync.OutcomeFailed, err.Error()
		return ran
	}
	w.crowd.note(run.Bundle.Version)
	content := verified.Manifest().Content
	ran.Rendered, ran.Objects, ran.Changed = content.Digest, content.Objects, content.Objects
	// Health counts only after the apply that it is of: so the apply is told here, and what is returned is a repetition that changed nothing.
	w.sink(ran)
	w.sink(fleetsync.HealthSeen{Name: run.Bundle.Name, Spec: run.Spec})
	ran.Changed = 0
	return ran
}

func (w *idle) Prefetch(_ context.Context, p fleetsync.Prefetch, _ func(bundle.Digest) (verify.Verified, error), _ func(fleetsync.Prefetched)) fleetsync.Prefetched {
	return fleetsync.Prefetched{Name: p.Run.Bundle.Name, Spec: p.Run.Spec}
}

func (w *idle) Correct(fleetsync.Correct) {}
