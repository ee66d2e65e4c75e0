package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

// releaseKey is a release key in cosign's own format.
type releaseKey struct{ private, public []byte }

func newReleaseKey() releaseKey {
	private, public, err := sign.GenerateKeyPair(nil)
	if err != nil {
		panic(err)
	}
	return releaseKey{private, public}
}

// Unlocking a key takes cosign a fifth of a second, so the tests share two.
var (
	ours    = sync.OnceValue(newReleaseKey)
	foreign = sync.OnceValue(newReleaseKey)
)

// roots are the roots of trust of the hubs, by data directory: a hub that starts again has the one it had.
var roots sync.Map

// configOf is a hub on free loopback ports that believes our release key.
func configOf(t *testing.T, dir string) Config {
	t.Helper()
	key, err := verify.NewKey(string(ours().public), "*")
	if err != nil {
		t.Fatal(err)
	}
	made, known := roots.Load(dir)
	if !known {
		made, _ = roots.LoadOrStore(dir, tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", Keys: []verify.Key{key}}))
	}
	root := made.(*tuftest.Root)
	return Config{
		DataDir: dir, ListenNATS: "127.0.0.1:0", ListenAPI: "127.0.0.1:0", HeartBeat: time.Minute,
		Trust: root.Published, Online: []ed25519.PrivateKey{root.Online}, Signatures: cosign.Verifier{},
		Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), around: contract(t),
	}
}

func startHub(t *testing.T, cfg Config) *Hub {
	t.Helper()
	h, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// clientOf is what an operator has: the context file and nothing else.
func clientOf(t *testing.T, h *Hub) *api.Client {
	t.Helper()
	client, err := api.NewClient(contextOf(t, h))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func contextOf(t *testing.T, h *Hub) api.ContextFile {
	t.Helper()
	raw, err := os.ReadFile(h.ContextFile())
	if err != nil {
		t.Fatal(err)
	}
	var target api.ContextFile
	if err := json.Unmarshal(raw, &target); err != nil {
		t.Fatal(err)
	}
	return target
}

// contentOf is one ConfigMap that holds the text, and enough besides that a delta is worth having.
func contentOf(t *testing.T, text string) []byte {
	t.Helper()
	data := map[string]any{"text": text}
	for i := range 60 {
		data[fmt.Sprintf("line-%02d", i)] = bundle.DigestOf(fmt.Append(nil, i))
	}
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "shop"}, "data": data})
	if err != nil {
		t.Fatal(err)
	}
	value, err := bundle.DecodeValue(raw, len(raw))
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := bundle.Canonical(value)
	if err != nil {
		t.Fatal(err)
	}
	object, err := bundle.NewObject(canonical)
	if err != nil {
		t.Fatal(err)
	}
	content, err := bundle.EncodeContent([]bundle.Object{object})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// release is a bundle file in parts, so that tests can take it apart.
type release struct {
	file    bundle.File
	content []byte
}

func releaseOf(t *testing.T, version bundle.Version, counter bundle.Counter, key releaseKey, edits ...func(*bundle.Manifest)) release {
	t.Helper()
	return releaseWith(t, contentOf(t, "text of "+string(version)), version, counter, key, edits...)
}

func releaseWith(t *testing.T, content []byte, version bundle.Version, counter bundle.Counter, key releaseKey, edits ...func(*bundle.Manifest)) release {
	t.Helper()
	m := &bundle.Manifest{
		Schema: bundle.Schema, Name: "shop", Version: version, Counter: counter, Created: noon,
		Policy:  bundle.Policy{Prune: true, Drift: bundle.DriftEnforce},
		Content: bundle.ContentInfo{Digest: bundle.DigestOf(content), Size: int64(len(content)), Objects: 1},
	}
	for _, edit := range edits {
		edit(m)
	}
	manifest, err := bundle.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := wire.Compress(content)
	if err != nil {
		t.Fatal(err)
	}
	r := release{bundle.File{Manifest: manifest, Content: packed}, content}
	if key.private != nil {
		signature, err := sign.Sign(manifest, key.private, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.file.Signatures = [][]byte{signature}
	}
	return r
}

func (r release) bytes(t *testing.T) []byte {
	t.Helper()
	raw, err := bundle.EncodeFile(&r.file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func push(t *testing.T, client *api.Client, r release) api.Bundle {
	t.Helper()
	pushed, err := client.Push(context.Background(), r.bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	return pushed
}

// fakeSite is a site's side of the bus, driven by the test.
type fakeSite struct {
	t     *testing.T
	id    bundle.SiteID
	grant api.SiteGrant
	key   ed25519.PrivateKey
	hub   ed25519.PublicKey
	link  *link.Link
}

func addSite(t *testing.T, client *api.Client, id bundle.SiteID, labels map[string]string) *fakeSite {
	t.Helper()
	seed, name, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	grant, err := client.AddSite(context.Background(), api.SiteRequest{ID: id, Labels: labels, PublicKey: name})
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	site := &fakeSite{t: t, id: id, grant: grant, key: ed25519.NewKeyFromSeed(raw), hub: hubKeyOf(t, grant.Trust)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(grant.CA))
	site.link, err = link.Dial(link.Options{
		Site: id, Servers: grant.Servers, CA: roots, JWT: grant.JWT, Seed: seed, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { site.link.Close() })
	site.await(fleetsync.LinkUp)
	return site
}

// hubKeyOf is the key that a root of trust names for the hub.
func hubKeyOf(t *testing.T, trust []byte) ed25519.PublicKey {
	t.Helper()
	metadata, err := tuf.Decode(trust)
	if err != nil {
		t.Fatal(err)
	}
	state, err := tuf.Load(metadata)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := online.Assignment(state.Trust)
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

func (s *fakeSite) await(kind fleetsync.NoticeKind) {
	s.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case notice := <-s.link.Notices():
			if notice.Kind == kind {
				return
			}
		case <-limit:
			s.t.Fatalf("site %s: no notice %s", s.id, kind)
		}
	}
}

func (s *fakeSite) report(kind, subject string, payload any) {
	s.t.Helper()
	if err := s.link.Report(context.Background(), subject, sealed(s.t, kind, payload, s.key)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fakeSite) assignment() fleetsync.Assignment {
	s.t.Helper()
	raw, err := s.link.Get(context.Background(), fleetsync.DesiredSubject(s.id))
	if err != nil {
		s.t.Fatal(err)
	}
	var assignment fleetsync.Assignment
	if err := fleetsync.Open(fleetsync.TypeAssignment, raw, s.hub, &assignment); err != nil {
		s.t.Fatal(err)
	}
	return assignment
}

// acked is how far the site is told that its events are safe; 0 while it is told nothing.
func (s *fakeSite) acked() uint64 { return s.ack().Upto }

// ack is what the site is told of its events.
func (s *fakeSite) ack() (ack fleetsync.Ack) {
	raw, err := s.link.Get(context.Background(), fleetsync.AckSubject(s.id))
	if err != nil {
		return ack
	}
	if err := fleetsync.Open(fleetsync.TypeAck, raw, s.hub, &ack); err != nil {
		s.t.Errorf("acknowledgement: %v", err)
	}
	return ack
}

// eventually waits for a condition and says what was missing.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// stored counts the messages of a stream.
func stored(t *testing.T, h *Hub, name string) (subjects []string) {
	t.Helper()
	err := h.store.Each(context.Background(), name, "", 1, func(m stream.Message) error {
		subjects = append(subjects, m.Subject)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact(slices.Sorted(slices.Values(subjects)))
}

func readFile(t *testing.T, elements ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
