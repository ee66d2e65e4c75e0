package edge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/anchor"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

// Config is what an agent is started with.
type Config struct {
	SiteFile     string
	Dir          string // store and anchor; made where it is missing
	Cluster      *rest.Config
	ReserveBytes int64         // free space the store leaves; 0 is the store's default
	ReconnectMax time.Duration // longest pause before another try to reach the hub; 0 is five minutes
	Log          *zap.Logger
}

// maxSiteFile bounds a site file, in bytes.
const maxSiteFile = 1 << 20

// hinted is an error with a hint for whoever started the agent.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }

// Main runs an agent until ctx ends.
func Main(ctx context.Context, c Config) error {
	site, err := readSiteFile(c.SiteFile)
	if err != nil {
		return hinted{fmt.Errorf("site file %s: %w", c.SiteFile, err), "make one at the desk: holdfast site add NAME -o NAME.site.json"}
	}
	trust, err := verify.DecodeTrust(site.Trust)
	if err != nil {
		return fmt.Errorf("site file %s: trust: %w", c.SiteFile, err)
	}
	keys, err := keysOf(site)
	if err != nil {
		return fmt.Errorf("site file %s: %w", c.SiteFile, err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM([]byte(site.CA)) {
		return fmt.Errorf("site file %s: ca: no certificate in it", c.SiteFile)
	}
	memory, err := remember(c)
	if err != nil {
		return err
	}
	defer memory.close(c.Log)
	cluster, err := kube.Connect(c.Cluster)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	link, err := link.Dial(link.Options{Site: site.Site, Servers: site.Servers, CA: ca, JWT: site.JWT, Seed: site.Seed, Log: c.Log, RetryMax: c.ReconnectMax})
	if err != nil {
		return fmt.Errorf("site file %s: %w", c.SiteFile, err)
	}
	defer func() { _ = link.Close() }()
	c.Log.Info("holdfast-edge", zap.String("version", buildinfo.Version()), zap.String("site", string(site.Site)), zap.String("cluster", c.Cluster.Host))
	return New(Options{
		Site: site, Trust: trust, Signatures: cosign.Verifier{}, Store: memory.store, Link: link,
		Workloads: NewWorkloads(cluster, memory.store, c.Log), Marks: memory.anchored.Counters, SaveMarks: memory.saveMarks,
		Damage: memory.damage, Keys: keys, Version: buildinfo.Version(), Epoch: newEpoch(), Log: c.Log,
	}).Run(ctx)
}

func readSiteFile(name string) (*fleetsync.SiteFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSiteFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxSiteFile {
		return nil, fmt.Errorf("more than %d bytes", maxSiteFile)
	}
	var site fleetsync.SiteFile
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&site); err != nil {
		return nil, err
	}
	if site.Schema != fleetsync.SiteFileSchema {
		return nil, fmt.Errorf("schema %.80q: want %s", site.Schema, fleetsync.SiteFileSchema)
	}
	return &site, nil
}

// keysOf takes the Ed25519 keys out of their NATS encodings.
func keysOf(site *fleetsync.SiteFile) (Keys, error) {
	_, seed, err := nkeys.DecodeSeed([]byte(site.Seed))
	if err != nil {
		return Keys{}, fmt.Errorf("seed: %w", err)
	}
	hub, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(site.HubKey))
	if err != nil {
		return Keys{}, fmt.Errorf("hubKey: %w", err)
	}
	return Keys{Site: ed25519.NewKeyFromSeed(seed), Hub: ed25519.PublicKey(hub)}, nil
}

func newEpoch() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// memory is the store with the anchor beside it.
type memory struct {
	store    *store.Store
	anchor   *anchor.File
	anchored anchor.Anchor
	damage   string // of an earlier store that was set aside
}

// remember opens store and anchor. A damaged store is set aside and a new one begun: the workloads are left alone, the counters come from
// the anchor, everything else from the hub.
func remember(c Config) (*memory, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, hinted{fmt.Errorf("data folder: %w", err), "--data must name a folder this user may write to"}
	}
	file, err := anchor.Open(c.Dir)
	if err != nil {
		return nil, err
	}
	m := &memory{anchor: file}
	m.anchored, err = file.Load()
	if err != nil {
		if !errors.Is(err, anchor.ErrDamaged) {
			return nil, err
		}
		m.damage = err.Error()
	}
	options := store.Options{Dir: filepath.Join(c.Dir, "store"), Log: c.Log, ReserveBytes: c.ReserveBytes, WantHead: m.anchored.StoreHead}
	m.store, err = store.Open(options)
	var damaged *store.Damaged
	if errors.As(err, &damaged) {
		aside, moveErr := store.SetAside(options.Dir)
		if moveErr != nil {
			return nil, errors.Join(err, moveErr)
		}
		m.damage = fmt.Sprintf("%v: set aside as %s, beginning anew", err, aside)
		c.Log.Error("the store is damaged", zap.String("what", m.damage))
		options.WantHead = ""
		m.store, err = store.Open(options)
	}
	if errors.Is(err, store.ErrInUse) {
		return nil, hinted{err, "another holdfast-edge runs on this folder; one site has one agent"}
	}
	return m, err
}

// saveMarks writes the counters, and how far the store has come, beside the store.
func (m *memory) saveMarks(marks verify.Counters) error {
	m.anchored.Counters, m.anchored.StoreHead = marks, m.store.Head()
	return m.anchor.Save(m.anchored)
}

func (m *memory) close(log *zap.Logger) {
	if err := m.saveMarks(m.anchored.Counters); err != nil {
		log.Warn("anchor", zap.Error(err))
	}
	if err := m.store.Close(); err != nil {
		log.Warn("store", zap.Error(err))
	}
	_ = m.anchor.Close()
}
