// Package light has sites without clusters: real agents with real links and real verification, over stores in memory and workloads that are healthy
// at once. Hundreds of them fit into a test, ten thousand into a process.
package light

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

// site is one agent that runs.
type site struct {
	stop context.CancelFunc
	done chan struct{}
}

// Crowd is sites, and a count of what they have verified. It may be used concurrently.
type Crowd struct {
	// Options, where not nil, changes how a site reaches its hub. It is set before the first Join.
	Options func(o *link.Options)
	// Link, where not nil, is put between a site's agent and its link. It is set before the first Join.
	Link func(site bundle.SiteID, over fleetsync.Link) fleetsync.Link
	// Workloads, where not nil, is what a site has instead of a cluster that is healthy at once. It is set before the first Join.
	Workloads func(file fleetsync.SiteFile, key ed25519.PrivateKey, store fleetsync.Store) (edge.Workloads, error)

	sites []*site

	mu       sync.Mutex
	verified map[bundle.Version]int
	last     map[bundle.Version]time.Time
	failed   atomic.Pointer[error]
}

// New is a crowd of nobody.
func New() *Crowd {
	return &Crowd{verified: map[bundle.Version]int{}, last: map[bundle.Version]time.Time{}}
}

// note counts a site that has verified a version, content and all.
func (c *Crowd) note(version bundle.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified[version]++
	c.last[version] = time.Now()
}

// Has counts the sites that have verified a version, and says when the last of them had.
func (c *Crowd) Has(version bundle.Version) (sites int, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verified[version], c.last[version]
}

// Failed is why an agent gave up, or nil.
func (c *Crowd) Failed() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close ends all agents.
func (c *Crowd) Close() {
	for _, s := range c.sites {
		s.stop()
	}
	for _, s := range c.sites {
		<-s.done
	}
}

// Join makes a site known to the hub and starts its agent.
func (c *Crowd) Join(ctx context.Context, hub *api.Client, id bundle.SiteID, labels map[string]string) error {
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
	grant, err := hub.AddSite(ctx, api.SiteRequest{ID: id, Labels: labels, PublicKey: public})
	if err != nil {
		return err
	}
	return c.Start(fleetsync.SiteFile{Site: grant.Site, Servers: grant.Servers, CA: grant.CA, JWT: grant.JWT, Seed: string(seed), HeartBeatSeconds: grant.HeartBeat, Trust: grant.Trust})
}

// Start starts the agent of a site that has its file.
func (c *Crowd) Start(file fleetsync.SiteFile) error {
	s, err := c.start(file)
	if err != nil {
		return fmt.Errorf("site %s: %w", file.Site, err)
	}
	c.mu.Lock()
	c.sites = append(c.sites, s)
	c.mu.Unlock()
	return nil
}

func (c *Crowd) start(file fleetsync.SiteFile) (*site, error) {
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM([]byte(file.CA)) {
		return nil, errors.New("the site's file has no CA")
	}
	_, raw, err := nkeys.DecodeSeed([]byte(file.Seed))
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(raw)
	trust, err := edge.NewBelief(file.Trust, key, zap.NewNop())
	if err != nil {
		return nil, err
	}
	options := link.Options{Site: file.Site, Servers: file.Servers, CA: ca, JWT: file.JWT, Seed: file.Seed}
	if c.Options != nil {
		c.Options(&options)
	}
	dialed, err := link.Dial(options)
	if err != nil {
		return nil, err
	}
	var hub fleetsync.Link = dialed
	if c.Link != nil {
		hub = c.Link(file.Site, hub)
	}
	store := memstore.New()
	var workloads edge.Workloads = &idle{crowd: c}
	if c.Workloads != nil {
		if workloads, err = c.Workloads(file, key, store); err != nil {
			return nil, err
		}
	}
	agent := edge.New(edge.Options{
		Site:  &fleetsync.SiteFile{Site: file.Site, HeartBeatSeconds: file.HeartBeatSeconds},
		Trust: trust, Signatures: cosign.Verifier{}, Store: store, Link: hub, Workloads: workloads,
		Key: key, Version: "bench", Epoch: epochOf(file), Log: zap.NewNop(),
	})
	ctx, stop := context.WithCancel(context.Background())
	s := &site{stop, make(chan struct{})}
	go func() {
		defer close(s.done)
		defer hub.Close()
		if err := agent.Run(ctx); err != nil {
			err = fmt.Errorf("site %s: %w", file.Site, err)
			c.failed.CompareAndSwap(nil, &err)
		}
	}()
	return s, nil
}

// epochOf is one for each site and device.
func epochOf(file fleetsync.SiteFile) string {
	return bundle.DigestOf([]byte(file.Site + " " + bundle.SiteID(file.Seed))).Hex()[:32]
}

// idle is the workloads of a site without a cluster: what is verified is applied and healthy at once.
type idle struct {
	crowd *Crowd
	sink  func(fleetsync.Input)
}

func (w *idle) Watch(ctx context.Context, sink func(fleetsync.Input)) {
	w.sink = sink
	sink(fleetsync.ClusterSeen{Reachable: true, Version: "v1.37.1"})
	<-ctx.Done()
}

func (w *idle) Run(_ context.Context, run fleetsync.Run, load func(bundle.Digest) (verify.Verified, error), tell func(fleetsync.Ran)) {
	ran := fleetsync.Ran{Name: run.Bundle.Name, Spec: run.Spec, Remove: run.Remove, Outcome: fleetsync.OutcomeApplied}
	if run.Remove {
		tell(ran)
		return
	}
	verified, err := load(run.Bundle.Digest)
	if err != nil {
		ran.Outcome, ran.Message = fleetsync.OutcomeFailed, err.Error()
		tell(ran)
		return
	}
	w.crowd.note(run.Bundle.Version)
	content := verified.Manifest().Content
	ran.Rendered, ran.Objects, ran.Changed = content.Digest, content.Objects, content.Objects
	tell(ran)
	w.sink(fleetsync.HealthSeen{Name: run.Bundle.Name, Spec: run.Spec})
}

func (w *idle) Prefetch(_ context.Context, p fleetsync.Prefetch, _ func(bundle.Digest) (verify.Verified, error), _ func(fleetsync.Prefetched)) fleetsync.Prefetched {
	return fleetsync.Prefetched{Name: p.Run.Bundle.Name, Spec: p.Run.Spec}
}

func (w *idle) Correct(fleetsync.Correct) {}
