// Package tuftest makes fleets' roots of trust for tests.
package tuftest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// Root is a root of trust with all its private keys: two of three sign it.
type Root struct {
	tb        testing.TB
	Trust     *verify.Trust
	Online    ed25519.PrivateKey
	Published tuf.Publication
	Expires   time.Time
	holders   []*ecdsa.PrivateKey
	served    tuf.Metadata // the newest that Metadata made
}

// New makes and publishes a root of trust with a document, into which it writes the hub's online key.
func New(tb testing.TB, trust *verify.Trust) *Root {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	r := &Root{tb: tb, Trust: trust, Online: key, Expires: time.Now().Add(10 * 365 * 24 * time.Hour)}
	r.must(err)
	for range 3 {
		r.holders = append(r.holders, r.holder())
	}
	r.nameOnline()
	r.Publish(true)
	return r
}

func (r *Root) must(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatal(err)
	}
}

func (r *Root) holder() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err)
	return key
}

func (r *Root) nameOnline() {
	r.tb.Helper()
	names, err := online.Of(r.Online.Public().(ed25519.PublicKey))
	r.must(err)
	r.Trust.Online = names
}

// RotateOnline gives the hub another key. The change is published by Publish(true).
func (r *Root) RotateOnline() {
	r.tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	r.must(err)
	r.Online = key
	r.nameOnline()
}

// RotateHolder gives the place of the first root key to a new one and publishes that.
func (r *Root) RotateHolder() { r.RotateHolders(1) }

// RotateHolders does so several times; the trust document is published with the last root alone.
func (r *Root) RotateHolders(times int) {
	r.tb.Helper()
	for range times - 1 {
		old := r.holders
		r.holders = append(slices.Clone(old[1:]), r.holder())
		root, err := author.NewRoot(r.Published.Roots[len(r.Published.Roots)-1], r.roles(), r.Expires)
		r.must(err)
		m, err := metadata.Root().FromBytes(root)
		r.must(err)
		for _, key := range []*ecdsa.PrivateKey{old[0], old[1], r.holders[2]} { // two of each root
			s, err := signature.LoadSigner(key, crypto.SHA256)
			r.must(err)
			_, err = m.Sign(s)
			r.must(err)
		}
		raw, err := m.ToBytes(false)
		r.must(err)
		r.Published.Roots = append(slices.Clone(r.Published.Roots), raw)
	}
	old := r.holders
	r.holders = append(slices.Clone(old[1:]), r.holder())
	r.publish(true, old)
}

// roles are who holds which role.
func (r *Root) roles() author.Holders {
	holders := author.Holders{Threshold: 2, Online: []string{r.pem(r.Online.Public())}}
	for _, key := range r.holders {
		holders.Root = append(holders.Root, r.pem(key.Public()))
	}
	return holders
}

// Publish signs and publishes the document as it is now, and with it a new root if newRoot is true.
func (r *Root) Publish(newRoot bool) {
	r.tb.Helper()
	r.publish(newRoot, nil)
}

func (r *Root) publish(newRoot bool, alsoBy []*ecdsa.PrivateKey) {
	r.tb.Helper()
	var before tuf.Metadata
	if n := len(r.Published.Roots); n > 0 {
		before = tuf.Metadata{Root: r.Published.Roots[n-1], Targets: r.Published.Targets, Fleet: r.Published.Fleet}
	}
	draft := &author.Draft{Schema: author.DraftSchema, Root: before.Root}
	var err error
	if newRoot {
		draft.NewRoot, err = author.NewRoot(before.Root, r.roles(), r.Expires)
		r.must(err)
	}
	draft.NewTargets, draft.Fleet, err = author.NewTargets(before.Targets, r.Trust, r.Expires)
	r.must(err)
	signers := slices.Clone(r.holders)
	for _, key := range alsoBy {
		if !slices.Contains(signers, key) {
			signers = append(signers, key)
		}
	}
	for _, key := range signers {
		s, err := signature.LoadSigner(key, crypto.SHA256)
		r.must(err)
		_, err = draft.Sign(s)
		r.must(err)
	}
	root, targets, fleet, err := draft.Finish(before)
	r.must(err)
	if newRoot {
		r.Published.Roots = append(slices.Clone(r.Published.Roots), root)
	}
	r.Published.Targets, r.Published.Fleet = targets, fleet
}

func (r *Root) pem(public crypto.PublicKey) string {
	r.tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	r.must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Folder writes the root of trust and its online key as holdfast init does.
func (r *Root) Folder() string {
	r.tb.Helper()
	dir := r.tb.TempDir()
	r.must(Write(dir, r.Published, r.Online))
	return dir
}

// Write writes what is published and an online key into a folder as holdfast init does.
func Write(dir string, p tuf.Publication, key ed25519.PrivateKey) error {
	targets, err := tuf.TargetsVersion(p.Targets)
	if err != nil {
		return err
	}
	files := map[string][]byte{tuf.Name("targets", targets): p.Targets, tuf.FleetName(p.Fleet): p.Fleet}
	for _, root := range p.Roots {
		version, err := tuf.RootVersion(root)
		if err != nil {
			return err
		}
		files[tuf.Name("root", version)] = root
	}
	for name, raw := range files {
		in, err := tuf.Path(name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "tuf", in)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "online.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// Metadata is what a hub with the online key gives sites at a time, good for life.
func (r *Root) Metadata(now time.Time, life time.Duration) tuf.Metadata {
	r.tb.Helper()
	s, err := signature.LoadSigner(r.Online, crypto.SHA256)
	r.must(err)
	made, err := author.Renew(r.served, r.Published.Roots[len(r.Published.Roots)-1], r.Published.Targets, r.Published.Fleet, s, now, life)
	r.must(err)
	r.served = made
	return made
}
