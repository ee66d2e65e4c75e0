package e2e

import (
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

// evilHub is whoever has everything the hub has: its keys, its place on the bus, and no scruples.
type evilHub struct {
	*bus.Hub
	at       *site
	key      ed25519.PrivateKey
	sequence uint64 // of the last assignment
}

func newEvilHub(at *site) *evilHub {
	t := at.stage.t
	t.Helper()
	address, dir := at.stage.Bus()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var keys bus.Keys
	if err := json.Unmarshal(read("bus.json"), &keys); err != nil {
		t.Fatal(err)
	}
	credentials, err := keys.HubUser()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(at.stage.OnlineKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := online.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(read("ca.pem"))
	client, err := bus.ConnectHub(at.stage.context(), bus.HubOptions{URL: "tls://" + address, Credentials: credentials, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	shown, err := at.stage.Site(at.Name)
	if err != nil {
		t.Fatal(err)
	}
	return &evilHub{Hub: client, at: at, key: key, sequence: shown.Sequence}
}

// publish puts a bundle on the bus as a hub does after verifying it, without verifying it, and gives its order for a site.
func (e *evilHub) publish(f *bundle.File, name bundle.Name, version bundle.Version, content bundle.Digest) fleetsync.AssignedBundle {
	t, ctx := e.at.stage.t, e.at.stage.context()
	t.Helper()
	chunks := bundle.Chunks(f.Content)
	for n, chunk := range chunks {
		_, err := e.Put(ctx, fleetsync.BlobSubject(content, n), chunk)
		if err != nil && !errors.Is(err, stream.ErrExists) { // content that is there stays as it is
			t.Fatal(err)
		}
	}
	offer := fleetsync.Offer{Manifest: f.Manifest, Signatures: f.Signatures, Full: fleetsync.Blob{Size: int64(len(f.Content)), Chunks: len(chunks)}}
	raw, err := json.Marshal(offer)
	if err != nil {
		t.Fatal(err)
	}
	digest := bundle.DigestOf(f.Manifest)
	if _, err := e.Create(ctx, fleetsync.BundleSubject(digest), raw); err != nil {
		t.Fatal(err)
	}
	return fleetsync.AssignedBundle{Name: name, Version: version, Digest: digest}
}

// order assigns bundles to the site.
func (e *evilHub) order(bundles ...fleetsync.AssignedBundle) {
	e.at.stage.t.Helper()
	e.sequence++
	e.say(fleetsync.Assignment{Site: bundle.SiteID(e.at.Name), Sequence: e.sequence, Issued: time.Now().UTC(), Bundles: bundles}, e.key)
}

// say leaves a signed assignment where the site looks.
func (e *evilHub) say(a fleetsync.Assignment, key ed25519.PrivateKey) {
	t, ctx := e.at.stage.t, e.at.stage.context()
	t.Helper()
	sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, a, key)
	if err == nil {
		_, err = e.Put(ctx, fleetsync.DesiredSubject(bundle.SiteID(e.at.Name)), sealed)
	}
	if err == nil {
		err = e.Poke(bundle.SiteID(e.at.Name))
	}
	if err != nil {
		t.Fatal(err)
	}
}
