package edge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// Keys of the root of trust in the store: its record in chunks, written in one commit.
const prefixTrust = "trust/"

// maxFormer bounds the hub keys of before that are remembered.
const maxFormer = 16

// Belief is whom a site believes: the newest root of trust it has seen. It may be used by many goroutines.
//
//	B1  It is verified whenever it is read from the store, and the record's seal shows that this site wrote it: a root that somebody else put
//	    there is not believed.
//	B2  It is durable before it counts, in one commit. A refresh that fails changes nothing but what it proved on its way.
//	B3  What is stored never goes below what the site's own file says.
type Belief struct {
	seal seal
	log  *zap.Logger

	refreshing sync.Mutex // one refresh at a time

	mu     sync.RWMutex
	state  tuf.State
	keys   []ed25519.PublicKey // of the hub, now
	former []string            // names of the hub's keys before
}

// trustRecord is what the store holds.
type trustRecord struct {
	Metadata json.RawMessage `json:"metadata"` // tuf.Encode
	Former   []string        `json:"former,omitempty"`
}

// NewBelief believes metadata that came with the site's file.
func NewBelief(raw []byte, site ed25519.PrivateKey, log *zap.Logger) (*Belief, error) {
	metadata, err := tuf.Decode(raw)
	if err != nil {
		return nil, err
	}
	state, err := tuf.Load(metadata)
	if err != nil {
		return nil, err
	}
	if state.Trust == nil {
		return nil, errors.New("trust metadata: there is only a root: want timestamp, snapshot, targets and fleet, too")
	}
	b := &Belief{seal: sealOf(site), log: log}
	return b, b.take(state)
}

// fixed believes a document for ever.
func fixed(trust *verify.Trust, hub ...ed25519.PublicKey) *Belief {
	return &Belief{state: tuf.State{Trust: trust}, keys: hub, log: zap.NewNop()}
}

// Document is the newest trust document.
func (b *Belief) Document() *verify.Trust {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.state.Trust
}

// HubKeys are the keys whose signature new assignments carry, and those that carried it before.
func (b *Belief) HubKeys() (now, former []ed25519.PublicKey) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.former) > 0 {
		former, _ = online.Keys(b.former) // they were checked when they were taken
	}
	return b.keys, former
}

// Status is the root of trust by its versions; an error is what the last look for a newer one failed of.
func (b *Belief) Status(err error) fleetsync.TrustStatus {
	b.mu.RLock()
	defer b.mu.RUnlock()
	status := fleetsync.TrustStatus{Root: uint64(b.state.Versions.Root), Targets: uint64(b.state.Versions.Targets), Expires: b.state.Expires}
	if err != nil {
		status.Error = err.Error()
	}
	return status
}

// take makes a state count.
func (b *Belief) take(state tuf.State) error {
	keys, err := online.Assignment(state.Trust)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.former = former(b.former, b.state.Trust, state.Trust)
	b.state, b.keys = state, keys
	return nil
}

// former adds the keys that were named before and are not named any more, the newest last.
func former(known []string, before, now *verify.Trust) []string {
	if before == nil || before.Online == nil {
		return known
	}
	for _, name := range before.Online.Assignment {
		if !slices.Contains(now.Online.Assignment, name) && !slices.Contains(known, name) {
			known = append(slices.Clone(known), name)
		}
	}
	return known[max(0, len(known)-maxFormer):]
}

// Restore takes what the store holds where it is newer, and gives words for what is not believed of it.
func (b *Belief) Restore(store fleetsync.Store) (unbelieved string, err error) {
	raw, _, err := joined(store, prefixTrust, tuf.MaxStored*2)
	if err != nil || len(raw) == 0 {
		return "", err
	}
	var record trustRecord
	err = b.seal.open("trust", raw, &record)
	if err == nil {
		err = b.adopt(record)
	}
	if err != nil {
		return fmt.Sprintf("stored root of trust: %v: beginning with the one of the site's file", err), nil
	}
	return "", nil
}

func (b *Belief) adopt(record trustRecord) error {
	metadata, err := tuf.Decode(record.Metadata)
	if err != nil {
		return err
	}
	state, err := tuf.Load(metadata)
	if err != nil {
		return err
	}
	if state.Trust == nil {
		return errors.New("there is no trust document in it")
	}
	b.mu.Lock()
	b.former = record.Former
	ours := b.state.Versions
	b.mu.Unlock()
	if state.Versions.Root < ours.Root || state.Versions.Root == ours.Root && state.Versions.Targets < ours.Targets {
		return nil // the site was given a newer file
	}
	return b.take(state)
}

// persist makes a state durable.
func (b *Belief) persist(store fleetsync.Store, state tuf.State) error {
	metadata, err := tuf.Encode(state.Metadata)
	if err != nil {
		return err
	}
	b.mu.RLock()
	before := b.state.Trust
	names := former(b.former, before, state.Trust)
	b.mu.RUnlock()
	raw, err := b.seal.close("trust", trustRecord{metadata, names})
	if err != nil {
		return err
	}
	var records []fleetsync.Record
	for chunk := range slices.Chunk(raw, bundle.ChunkSize) {
		records = append(records, fleetsync.Record{Key: chunkKey(prefixTrust, len(records)), Value: chunk})
	}
	written := chunkKey(prefixTrust, len(records))
	err = store.Scan(prefixTrust, func(key string, _ []byte) error {
		if key >= written {
			records = append(records, fleetsync.Record{Key: key})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return store.Commit(records...)
}

// trustOnLink is the hub's stream TRUST as a tuf.Source.
type trustOnLink struct{ link fleetsync.Link }

// Get implements tuf.Source.
func (t trustOnLink) Get(ctx context.Context, name string) ([]byte, error) {
	raw, err := t.link.Get(ctx, name)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", name, tuf.ErrNotFound)
	}
	return raw, err
}

// RefreshFrom is Refresh from files that came by hand, however long they were on the way (tuf.Client.Carried).
func (b *Belief) RefreshFrom(ctx context.Context, files map[string][]byte, store fleetsync.Store, now time.Time) (fleetsync.Trusted, error) {
	b.refreshing.Lock()
	defer b.refreshing.Unlock()
	err := b.refresh(ctx, tuf.Client{Source: tuf.Shelf{Files: files}, Carried: true}, store, now)
	keys, _ := b.HubKeys()
	return fleetsync.Trusted{HubKeys: keys, Trust: b.Status(err)}, err
}

// Refresh looks for a newer root of trust and makes it count. An error that is about the link is not told as one about trust.
func (b *Belief) Refresh(ctx context.Context, link fleetsync.Link, store fleetsync.Store, now time.Time) fleetsync.Trusted {
	b.refreshing.Lock()
	defer b.refreshing.Unlock()
	err := b.refresh(ctx, tuf.Client{Source: trustOnLink{link}}, store, now)
	if err != nil {
		b.log.Warn("looking for a newer root of trust failed: the one there is goes on counting", zap.Error(err))
	}
	if errors.Is(err, fleetsync.ErrNoLink) || ctx.Err() != nil {
		err = nil
	}
	keys, _ := b.HubKeys()
	return fleetsync.Trusted{HubKeys: keys, Trust: b.Status(err)}
}

func (b *Belief) refresh(ctx context.Context, client tuf.Client, store fleetsync.Store, now time.Time) error {
	b.mu.RLock()
	have := b.state
	b.mu.RUnlock()
	if have.Metadata.Root == nil {
		return nil // it is fixed
	}
	if client.Unchanged(ctx, have, now) {
		return nil
	}
	state, err := client.Refresh(ctx, have.Metadata, now)
	for errors.Is(err, tuf.ErrChainTooLong) && ctx.Err() == nil {
		state, err = client.Refresh(ctx, state.Metadata, now)
	}
	if state.Trust == nil || same(state.Metadata, have.Metadata) {
		return err
	}
	if _, keyless := online.Assignment(state.Trust); keyless != nil {
		return errors.Join(err, keyless)
	}
	if stored := b.persist(store, state); stored != nil {
		return errors.Join(err, fmt.Errorf("trust metadata: not stored: %w", stored))
	}
	// Commit point: a restart believes it, too.
	return errors.Join(err, b.take(state))
}

// lasting is a Belief for device.Keeper: what it learns where there is no link counts and is stored like what is learned over one.
type lasting struct {
	*Belief
	store fleetsync.Store
}

// Follow implements device.Believer. Time is left out, as it is for a device: with the link back it is looked at again.
func (b lasting) Follow(ctx context.Context, from tuf.Source) error {
	b.refreshing.Lock()
	defer b.refreshing.Unlock()
	return b.refresh(ctx, tuf.Client{Source: from}, b.store, time.Time{})
}

func same(a, b tuf.Metadata) bool {
	return bytes.Equal(a.Root, b.Root) && bytes.Equal(a.Timestamp, b.Timestamp) && bytes.Equal(a.Snapshot, b.Snapshot) && bytes.Equal(a.Targets, b.Targets)
}

// seal marks what this site itself wrote, with a key made of the site's. Whoever can write the site's files but not read its key can neither
// make a record nor change one; an older record put back is found out by the site's note in the cluster.
type seal struct{ key []byte }

func sealOf(site ed25519.PrivateKey) seal {
	mac := hmac.New(sha256.New, site.Seed())
	mac.Write([]byte("holdfast.dev/site-seal/v1"))
	return seal{mac.Sum(nil)}
}

// of is a key for another use.
func (s seal) of(use string) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte("holdfast.dev/site-seal/v1/" + use))
	return mac.Sum(nil)
}

type sealed struct {
	Body json.RawMessage `json:"body"`
	MAC  []byte          `json:"mac"`
}

func (s seal) mac(kind string, body []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	fmt.Fprintf(mac, "%s\n%d\n", kind, len(body))
	mac.Write(body)
	return mac.Sum(nil)
}

// close encodes and marks a value of a kind.
func (s seal) close(kind string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", kind, err)
	}
	return json.Marshal(sealed{body, s.mac(kind, body)})
}

var errSeal = errors.New("it was not written by this site, or was changed since")

// open decodes a value that this site marked.
func (s seal) open(kind string, raw []byte, value any) error {
	var in sealed
	if err := json.Unmarshal(raw, &in); err != nil {
		return errSeal
	}
	var body bytes.Buffer
	if json.Compact(&body, in.Body) != nil || !hmac.Equal(in.MAC, s.mac(kind, body.Bytes())) {
		return errSeal
	}
	return json.Unmarshal(in.Body, value)
}
