package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

// Config is what an agent is started with.
type Config struct {
	SiteFile     string
	Enrol        string // enrolment file, instead of a site file: the device becomes a site, or is one already
	KeyFile      string // seals the device's key; empty: it is kept as it is
	HostRoot     string // where the machine's root file system is, for its serial number and id; empty is /
	Node         string // the node this agent is on; empty: the only one
	Dir          string // store and anchor; made where it is missing
	StoreKey     string // where the store's key is; empty: Keyed says
	Namespace    string // of the agent's pod; empty: it runs in none
	Deployment   string // namespace/name of the agent's own: Kubernetes Events beside it say what it does; empty: none
	Note         string // namespace/name of the ConfigMap that keeps the site's note; empty: NoteName says
	Cluster      *rest.Config
	Policy       Policy
	FirstApply   fleetsync.FirstApply
	ReserveBytes int64         // free space the store leaves; 0 is the store's default
	ReconnectMax time.Duration // longest pause before another try to reach the hub; 0 is five minutes
	Metered      bool          // the line to the hub costs by the byte
	MetricsAt    string        // host:port of the metrics; empty: none
	Proxy        *proxy.Proxy  // on the way to the hub; nil: none
	Log          *zap.Logger

	open  func(store.Options) (opened, error)       // nil: store.Open
	reach func(*rest.Config) (apply.Cluster, error) // nil: kube.Connect
	// watched is what the site's watchdog knows, nil: readWatchdog; trial is how long an agent runs before its trial can be over, 0: trialLeast.
	watched func(context.Context) (watchdog.Memory, error)
	trial   time.Duration
}

func (c Config) keyed() Keyed {
	return Keyed{Dir: c.Dir, StoreKey: c.StoreKey, Namespace: c.Namespace, Log: c.Log, Cluster: func() (*kube.Conn, error) { return kube.Connect(c.Cluster) }}
}

// hinted is an error with a hint for whoever started the agent.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }

// filled has the parts that a test may replace.
func (c Config) filled() Config {
	if c.reach == nil {
		c.reach = func(at *rest.Config) (apply.Cluster, error) { return kube.Connect(at) }
	}
	if c.watched == nil {
		c.watched = c.readWatchdog
	}
	c.trial = cmp.Or(c.trial, trialLeast)
	return c
}

// Main runs an agent until ctx ends.
func Main(ctx context.Context, c Config) error {
	c = c.filled()
	who, err := become(ctx, c)
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return hinted{fmt.Errorf("data folder: %w", err), "--data must name a folder this user may write to"}
	}
	source, ring, err := c.keyed().obtain(ctx, c.StoreKey)
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	var later storekey.Ring // for a store that is encrypted when the trial is over
	if c.onTrial(ctx) {
		c.Log.Info("the store stays in the clear until the watchdog has judged this agent: the one before could not open it encrypted")
		later, ring = ring, storekey.Ring{}
	}
	memory, err := remember(c, ring, sealOf(who.key))
	if err != nil {
		return err
	}
	if err := settle(ctx, source, ring); err != nil {
		c.Log.Warn("the key from before stays beside the new one: the store does not need it", zap.Error(err))
	}
	around, leave, err := c.surround(ctx, who)
	if err != nil {
		memory.close(c.Log)
		return err
	}
	defer leave()
	c.Log.Info("holdfast-edge", zap.String("version", buildinfo.Version()), zap.String("site", string(who.file.Site)), zap.String("cluster", c.Cluster.Host))
	return c.lives(ctx, around, memory, later)
}

// surroundings are what an agent has besides its memory, for all its lives.
type surroundings struct {
	who      *identity
	cluster  apply.Cluster
	metrics  *Metrics   // nil: none
	announce *announcer // nil: none
}

// surround starts what is beside the agent, until leave is called or ctx ends.
func (c Config) surround(ctx context.Context, who *identity) (s surroundings, leave func(), err error) {
	s.who, leave = who, func() {}
	if s.cluster, err = c.reach(c.Cluster); err != nil {
		return s, leave, hinted{fmt.Errorf("cluster: %w", err), "--kubeconfig must name a file with an address and credentials of this site's cluster"}
	}
	if c.Deployment != "" {
		conn, err := kube.Connect(c.Cluster)
		if err != nil {
			return s, leave, fmt.Errorf("cluster: %w", err)
		}
		s.announce = newAnnouncer()
		namespace, name, _ := strings.Cut(c.Deployment, "/")
		go s.announce.run(ctx, who.file.Site, kube.Event{Namespace: namespace, Deployment: name}, conn.CreateEvent, c.Log)
	}
	if c.MetricsAt != "" {
		s.metrics = NewMetrics(c.Dir)
		at, stop, err := s.metrics.serve(c.MetricsAt)
		if err != nil {
			return s, leave, err
		}
		leave = stop
		c.Log.Info("metrics", zap.String("at", at))
	}
	return s, leave, nil
}

// lives is one life after another, each with what the one before left: after a store that holds what cannot be believed, and, where later has a key, with the
// store encrypted once the watchdog's trial is over. It closes the memory.
func (c Config) lives(ctx context.Context, s surroundings, m *memory, later storekey.Ring) error {
	defer func() {
		if m != nil {
			m.close(c.Log)
		}
	}()
	for {
		over, err := c.life(ctx, s, m, !later.Empty())
		var bad *unreadable
		switch {
		case ctx.Err() != nil:
			return err
		case errors.As(err, &bad):
			m.damage = ""
			if err := m.setAside(bad); err != nil {
				return err
			}
		case !over:
			return err
		default: // as at a start: what the agent knows is in its store, and it goes on from there
			m.close(c.Log)
			if m, err = remember(c, later, sealOf(s.who.key)); err != nil {
				return err
			}
			later = storekey.Ring{}
			c.Log.Info("the watchdog's trial of this agent is over", zap.Bool("storeEncrypted", store.Encrypted(c.keyed().store())))
		}
	}
}

// life is one life; where the agent is on trial it ends when that is over.
func (c Config) life(ctx context.Context, s surroundings, m *memory, onTrial bool) (over bool, err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	judged := make(chan bool, 1)
	if onTrial {
		go func() {
			judged <- c.trialOver(ctx)
			end()
		}()
	} else {
		judged <- false
	}
	err = live(ctx, c, s, m)
	end()
	return <-judged, err
}

// live is the agent with one store: until ctx ends, or until the store turns out to hold what cannot be believed.
func live(ctx context.Context, c Config, s surroundings, m *memory) error {
	who, site := s.who, s.who.file
	unbelieved, err := who.trust.Restore(m.store)
	if err != nil {
		return &unreadable{err}
	}
	if unbelieved != "" {
		m.damaged(unbelieved)
	}
	hub, disconnect, err := connect(ctx, c, who, m.store)
	if err != nil {
		return fmt.Errorf("site %s: %w", site.Site, err)
	}
	defer disconnect()
	notebook, err := c.notebook(s.cluster, site.Site)
	if err != nil {
		return err
	}
	sealing, err := secret.KeyOf(who.key)
	if err != nil {
		return err
	}
	return New(Options{
		Site: site, Trust: who.trust, Signatures: cosign.Verifier{}, Store: m.store, Link: hub,
		Workloads: s.metrics.measured(NewWorkloads(s.cluster, c.Policy, m.store, c.Log).Opening(sealing.Open)), Metrics: s.metrics, Marks: m.anchored.Counters, SaveMarks: m.saveMarks,
		Announce: s.announce.tell, Notebook: notebook, Damage: m.damage, Key: who.key, FirstApply: c.FirstApply, Metered: c.Metered, Dir: c.Dir, Version: buildinfo.Version(), Epoch: newEpoch(), Log: c.Log,
		// Applying takes several times the memory that keeping does, and the runtime by itself would hold on to it.
		Rest: debug.FreeOSMemory,
	}).Run(ctx)
}

func newEpoch() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
