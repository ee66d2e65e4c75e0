package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Evil is whoever has everything the hub has: its keys, its place on the bus, and no scruples. It gives orders to one site.
type Evil struct {
	*bus.Hub
	Site     bundle.SiteID
	Key      ed25519.PrivateKey
	Sequence uint64 // of the last assignment
}

// Evil steals the running hub's keys. It is to be closed.
func (f *Fleet) Evil(ctx context.Context, site string) (*Evil, error) {
	address, dir := f.Bus()
	raw, err := os.ReadFile(filepath.Join(dir, "keys", "bus.json"))
	if err != nil {
		return nil, err
	}
	var keys bus.Keys
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	credentials, err := keys.HubUser()
	if err != nil {
		return nil, err
	}
	if raw, err = os.ReadFile(f.OnlineKey()); err != nil {
		return nil, err
	}
	key, err := online.Decode(raw)
	if err != nil {
		return nil, err
	}
	if raw, err = os.ReadFile(filepath.Join(dir, "keys", "ca.pem")); err != nil {
		return nil, err
	}
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(raw)
	shown, err := f.Site(site)
	if err != nil {
		return nil, err
	}
	client, err := bus.ConnectHub(ctx, bus.HubOptions{URL: "tls://" + address, Credentials: credentials, CA: ca})
	if err != nil {
		return nil, err
	}
	return &Evil{Hub: client, Site: bundle.SiteID(site), Key: key, Sequence: shown.Sequence}, nil
}

// Publish puts a bundle on the bus as a hub does after verifying it, without verifying it, and gives its order for a site.
func (e *Evil) Publish(ctx context.Context, f *bundle.File, name bundle.Name, version bundle.Version, content bundle.Digest) (fleetsync.AssignedBundle, error) {
	digest := bundle.DigestOf(f.Manifest)
	order := fleetsync.AssignedBundle{Name: name, Version: version, Digest: digest}
	chunks := bundle.Chunks(f.Content)
	for n, chunk := range chunks {
		_, err := e.Put(ctx, fleetsync.BlobSubject(content, n), chunk)
		if err != nil && !errors.Is(err, stream.ErrExists) { // content that is there stays as it is
			return order, err
		}
	}
	offer := fleetsync.Offer{Manifest: f.Manifest, Signatures: f.Signatures, Full: fleetsync.Blob{Size: int64(len(f.Content)), Chunks: len(chunks)}}
	raw, err := json.Marshal(offer)
	if err != nil {
		return order, err
	}
	_, err = e.Create(ctx, fleetsync.BundleSubject(digest), raw)
	return order, err
}

// Order assigns bundles to the site.
func (e *Evil) Order(ctx context.Context, bundles ...fleetsync.AssignedBundle) error {
	e.Sequence++
	return e.Say(ctx, fleetsync.Assignment{Site: e.Site, Sequence: e.Sequence, Issued: time.Now().UTC(), Bundles: bundles}, e.Key)
}

// Say leaves a signed assignment where the site looks.
func (e *Evil) Say(ctx context.Context, a fleetsync.Assignment, key ed25519.PrivateKey) error {
	sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, a, key)
	if err != nil {
		return err
	}
	if _, err := e.Put(ctx, fleetsync.DesiredSubject(e.Site), sealed); err != nil {
		return err
	}
	return e.Poke(e.Site)
}
