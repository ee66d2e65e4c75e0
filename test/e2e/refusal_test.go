package e2e

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// workshop builds bundles that are wrong in one way.
type workshop struct {
	*stage
	namespace string
	foreign   string // key of somebody else
}

func newWorkshop(s *stage, namespace string) workshop {
	foreign := filepath.Join(s.Dir, "foreign")
	s.cli("key", "generate", "--out", foreign)
	return workshop{s, namespace, foreign + ".key"}
}

// build makes a bundle file, signed by the key unless that is empty.
func (w workshop) build(name, version string, counter int, key string, flags ...string) string {
	w.t.Helper()
	return w.buildFrom(shopFolder(w.t, w.namespace, "evil"), name, version, counter, key, flags...)
}

func (w workshop) buildFrom(dir, name, version string, counter int, key string, flags ...string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), fmt.Sprintf("%s-%s.hfb", name, version))
	w.cli(append([]string{"bundle", "build", dir, "--name", name, "--version", version, "--counter", strconv.Itoa(counter), "-o", file}, flags...)...)
	if key != "" {
		w.cli("bundle", "sign", file, "--key", key)
	}
	return file
}

func (w workshop) read(file string) *bundle.File {
	w.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := bundle.DecodeFile(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// contentOf is the digest the manifest commits to.
func (w workshop) contentOf(f *bundle.File) bundle.Digest {
	w.t.Helper()
	m, err := bundle.DecodeManifest(f.Manifest)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Content.Digest
}

// tampered has one word of its manifest changed after signing.
func (w workshop) tampered(file, from, to string) *bundle.File {
	w.t.Helper()
	f := w.read(file)
	changed := bytes.Replace(f.Manifest, []byte(from), []byte(to), 1)
	if bytes.Equal(changed, f.Manifest) {
		w.t.Fatalf("the manifest has no %q", from)
	}
	f.Manifest = changed
	return f
}

// swapped has other content than was signed, of the same size.
func (w workshop) swapped(file string) *bundle.File {
	w.t.Helper()
	f := w.read(file)
	m, err := bundle.DecodeManifest(f.Manifest)
	if err != nil {
		w.t.Fatal(err)
	}
	content, err := wire.Decompress(f.Content, m.Content.Size)
	if err != nil {
		w.t.Fatal(err)
	}
	other := bytes.Replace(content, []byte("evil"), []byte("vile"), 1)
	if bytes.Equal(other, content) {
		w.t.Fatal("nothing to swap")
	}
	if f.Content, err = wire.Compress(other); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w workshop) write(f *bundle.File) string {
	w.t.Helper()
	raw, err := bundle.EncodeFile(f)
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.t.TempDir(), "wrong.hfb")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// refusedByHub is exit code 3 of holdfast, frozen for scripts.
const refusedByHub = 3

func TestT01_T02_T03_HubRefusesWhatIsNotReleased(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	w := newWorkshop(s, "refusal-hub")
	s.release(shopFolder(t, w.namespace, "one"), "shop", "1.0.0")
	s.release(shopFolder(t, w.namespace, "two"), "shop", "1.1.0") // counter 2
	for name, c := range map[string]struct {
		file  string
		words []string
	}{
		"unsigned":      {w.build("shop", "2.0.0", 3, ""), []string{"shop", "no signature", "hint: sign it"}},
		"foreign":       {w.build("shop", "2.0.1", 3, w.foreign), []string{"signed by another key", "hint: sign it with a release key"}},
		"tampered":      {w.write(w.tampered(w.build("shop", "2.0.2", 3, s.Key()), "2.0.2", "2.0.9")), []string{"signature", "fit"}},
		"swapped":       {w.write(w.swapped(w.build("shop", "2.0.3", 3, s.Key()))), []string{"2.0.3", "content", "expected sha256:"}},
		"older":         {w.build("shop", "0.9.0", 1, s.Key()), []string{"0.9.0", "counter", "hint: to go back"}},
		"reused number": {w.build("shop", "2.0.4", 2, s.Key()), []string{"2.0.4", "counter"}},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *s
			inner.t = t
			inner.refused(refusedByHub, c.words, "bundle", "push", c.file)
		})
	}
	var catalog []api.Bundle
	if err := s.JSON(&catalog, "bundle", "list"); err != nil || len(catalog) != 2 {
		t.Errorf("the catalog has %d bundles, want the 2 that were released: %v", len(catalog), err)
	}
}

// TestT01_T02_T03_T08_SiteRefusesWhatAnEvilHubOffers: the hub's own checks are out of the way; P2 says that nothing changes at the site.
func TestT01_T02_T03_T08_SiteRefusesWhatAnEvilHubOffers(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	w := newWorkshop(s, "refusal-edge")
	s.release(shopFolder(t, w.namespace, "one"), "evil-shop", "1.0.0")
	at.assign("evil-shop@1.0.0")
	at.runs("evil-shop", "1.0.0")
	s.release(shopFolder(t, w.namespace, "two"), "evil-shop", "1.1.0") // counter 2
	at.assign("evil-shop@1.1.0")
	at.runs("evil-shop", "1.1.0")
	before := at.settled().of("evil-shop")

	evil := newEvilHub(at)
	var catalog []api.Bundle
	if err := s.JSON(&catalog, "bundle", "list"); err != nil {
		t.Fatal(err)
	}
	offered := func(version string, f *bundle.File) fleetsync.AssignedBundle {
		content := bundle.DigestOf([]byte("none"))
		if m, err := bundle.DecodeManifest(f.Manifest); err == nil {
			content = m.Content.Digest
		}
		return evil.publish(f, "evil-shop", bundle.Version(version), content)
	}
	elsewhere := folder(t, "shop.yaml", fmt.Sprintf(shop, w.namespace, "evil"),
		"holdfast.yaml", "apiVersion: holdfast.dev/v1\nkind: BundleConfig\ntarget: {selector: region=moon}\n")
	for _, c := range []struct {
		what  string
		order fleetsync.AssignedBundle
		want  verify.Reason
	}{
		{"unsigned", offered("2.0.0", w.read(w.build("evil-shop", "2.0.0", 3, ""))), verify.Unsigned},
		{"signed by somebody else", offered("2.0.1", w.read(w.build("evil-shop", "2.0.1", 3, w.foreign))), verify.UntrustedKey},
		{"manifest changed", offered("2.0.9", w.tampered(w.build("evil-shop", "2.0.2", 3, s.Key()), "2.0.2", "2.0.9")), verify.BadSignature},
		{"older release", fleetsync.AssignedBundle{Name: "evil-shop", Version: "1.0.0", Digest: digestOf(t, catalog, "1.0.0")}, verify.OlderCounter},
		{"number used twice", offered("2.0.4", w.read(w.build("evil-shop", "2.0.4", 2, s.Key()))), verify.CounterReused},
		{"meant for others", offered("2.0.5", w.read(w.buildFrom(elsewhere, "evil-shop", "2.0.5", 3, s.Key()))), verify.WrongTarget},
		{"expired", offered("2.0.6", w.read(w.build("evil-shop", "2.0.6", 3, s.Key(), "--expires", "2020-01-01T00:00:00Z"))), verify.Expired},
		{"another bundle under this name", offered("2.0.7", w.read(w.build("other", "2.0.7", 3, s.Key()))), verify.WrongBundle},
		{"content swapped", offered("2.0.3", w.swapped(w.buildFrom(shopFolder(t, w.namespace, "evil again"), "evil-shop", "2.0.3", 3, s.Key()))), verify.ContentMismatch},
	} {
		evil.order(c.order)
		told := at.tells(c.what, func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventRefused && e.Digest == c.order.Digest })
		if told.Reason != string(c.want) || told.Message == "" {
			t.Errorf("%s: refused as %s: %s, want %s", c.what, told.Reason, told.Message, c.want)
		}
	}
	before.unchanged(t, at.settled().of("evil-shop"), "refused bundles")
	evil.forge(t)
	before.unchanged(t, at.settled().of("evil-shop"), "forged orders")

	// What was good before is still kept right, and what is released is taken, whoever offers it.
	h := at.hands(w.namespace)
	deleted := h.deleteService()
	h.greet("by hand")
	h.repaired("two", deleted)
	evil.order(offered("4.0.0", w.read(w.buildFrom(shopFolder(t, w.namespace, "four"), "evil-shop", "4.0.0", 4, s.Key()))))
	at.tells("the next release", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventHealthy && e.Version == "4.0.0" })
}

func digestOf(t *testing.T, catalog []api.Bundle, version string) bundle.Digest {
	t.Helper()
	for _, b := range catalog {
		if string(b.Version) == version {
			return b.Digest
		}
	}
	t.Fatalf("the catalog has no version %s", version)
	return ""
}

// forge sends orders that are no orders: each is refused with an event that says why.
func (e *evilHub) forge(t *testing.T) {
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mine := fleetsync.Assignment{Site: bundle.SiteID(e.at.Name), Sequence: e.Sequence + 1, Bundles: []fleetsync.AssignedBundle{}}
	theirs, older := mine, mine
	theirs.Site, older.Sequence = "other-store", 1
	for _, c := range []struct {
		what string
		a    fleetsync.Assignment
		key  ed25519.PrivateKey
		word string
	}{
		{"signed by a stranger", mine, stranger, "not by the expected key"},
		{"for another site", theirs, e.Key, "it is for site other-store"},
		{"older than the last", older, e.Key, "is older than"},
	} {
		e.say(c.a, c.key)
		e.at.tells("an order "+c.what, func(ev api.SiteEvent) bool {
			return ev.Kind == fleetsync.EventAssignRefused && strings.Contains(ev.Message, c.word)
		})
	}
}
