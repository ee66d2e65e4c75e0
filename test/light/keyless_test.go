package light

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/test/fleet"
	"github.com/holdfast-fleet/holdfast/test/keyless"
)

// keylessFleet is a real hub that knows one identity, and a site.
type keylessFleet struct {
	*fleet.Fleet
	t     *testing.T
	hub   *api.Client
	crowd *Crowd
}

const (
	keylessSite    = "shop-001"
	keylessIssuer  = "https://issuer.example"
	keylessSubject = "release@ci.example"
)

// newKeylessFleet adds the identity and its authorities to the root of trust of a running fleet, as its owners do.
func newKeylessFleet(t *testing.T, authorities *keyless.Sigstore) *keylessFleet {
	t.Helper()
	f, hub := startFleet(t)
	k := &keylessFleet{f, t, hub, New()}
	t.Cleanup(k.crowd.Close)
	must(t, k.crowd.Join(t.Context(), hub, keylessSite, nil))
	root, err := authorities.TrustedRoot()
	must(t, err)
	file := filepath.Join(f.Dir, "trusted_root.json")
	must(t, os.WriteFile(file, root, 0o600))
	k.cli("key", "add", "--issuer", keylessIssuer, "--subject", keylessSubject, "--names", "shop", "--sigstore-root", file, "--dir", f.Dir)
	holders, err := filepath.Glob(filepath.Join(f.Dir, "root*.key"))
	must(t, err)
	for _, holder := range holders {
		k.cli("root", "sign", filepath.Join(f.Dir, "draft.json"), "--key", holder)
	}
	k.cli("root", "publish", "--dir", f.Dir)
	k.until("the site to know the identity", func() error {
		site, err := hub.Site(t.Context(), keylessSite)
		if err == nil && (site.State == nil || site.State.Trust.Targets != 2) {
			err = fleet.ErrNotYet
		}
		return err
	})
	return k
}

func (k *keylessFleet) cli(args ...string) {
	k.t.Helper()
	_, err := k.CLI(args...)
	must(k.t, err)
}

func (k *keylessFleet) until(what string, ready func() error) {
	k.t.Helper()
	must(k.t, fleet.Until(k.t.Context(), 2*time.Minute, what, ready))
}

// release builds a bundle and attaches what sign makes of its manifest, as somebody does who signs with the cosign tool.
func (k *keylessFleet) release(version string, counter int, sign func(manifest []byte) ([]byte, error)) (file string) {
	k.t.Helper()
	file = filepath.Join(k.Dir, "shop-"+version+".hfb")
	manifest, signature := filepath.Join(k.Dir, "manifest.json"), filepath.Join(k.Dir, "manifest.sigstore.json")
	k.cli("bundle", "build", filepath.Join("..", "..", "deploy", "examples", "shop"), "--name", "shop", "--version", version, "--counter", strconv.Itoa(counter), "-o", file)
	k.cli("bundle", "extract", file, "--manifest", manifest)
	raw, err := os.ReadFile(manifest)
	must(k.t, err)
	signed, err := sign(raw)
	must(k.t, err)
	must(k.t, os.WriteFile(signature, signed, 0o600))
	k.cli("bundle", "attach", file, "--signature", signature)
	return file
}

// runs waits until the site has verified and applied a version and said so.
func (k *keylessFleet) runs(version string) {
	k.t.Helper()
	k.until("the site to run "+version, func() error { return k.Runs(keylessSite, "shop", version) })
}

// TestT01_KeylessBundlesThroughHubAndSite signs by identity with authorities of the test and no key at all: the hub takes it, the site fetches,
// verifies and applies it without reaching anybody but the hub. What is wrong in one thing is refused for that thing by the hub, and by the site
// when a hub without scruples serves it all the same; nothing changes and each refusal is on record.
func TestT01_KeylessBundlesThroughHubAndSite(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	ours, err := keyless.New()
	must(t, err)
	foreign, err := keyless.New()
	must(t, err)
	k := newKeylessFleet(t, ours)
	by := func(s *keyless.Sigstore, subject, issuer string) func([]byte) ([]byte, error) {
		return func(manifest []byte) ([]byte, error) { return s.Sign(subject, issuer, manifest) }
	}
	k.cli("bundle", "push", k.release("1.0.0", 1, by(ours, keylessSubject, keylessIssuer)))
	k.cli("assign", keylessSite, "shop@1.0.0")
	k.runs("1.0.0")

	evil, err := k.Evil(t.Context(), keylessSite)
	must(t, err)
	t.Cleanup(evil.Close)
	for i, c := range []struct {
		what string
		sign func([]byte) ([]byte, error)
		want verify.Reason
	}{
		{"wrong issuer", by(ours, keylessSubject, "https://other.example"), verify.UntrustedIssuer},
		{"wrong subject", by(ours, "evil@ci.example", keylessIssuer), verify.UntrustedSubject},
		{"signed after its certificate had ended", func(manifest []byte) ([]byte, error) {
			return ours.SignLate(keylessSubject, keylessIssuer, manifest)
		}, verify.OutsideCertificate},
		{"not in the log", func(manifest []byte) ([]byte, error) {
			return ours.SignUnlogged(keylessSubject, keylessIssuer, manifest)
		}, verify.NotWitnessed},
		{"authorities of somebody else", by(foreign, keylessSubject, keylessIssuer), verify.UntrustedAuthority},
		{"signature over another manifest", func([]byte) ([]byte, error) {
			return ours.Sign(keylessSubject, keylessIssuer, []byte("another manifest"))
		}, verify.BadSignature},
	} {
		version := fmt.Sprintf("2.0.%d", i)
		raw, err := os.ReadFile(k.release(version, 2, c.sign))
		must(t, err)
		var refused *api.Error
		if _, err := k.hub.Push(t.Context(), raw); !errors.As(err, &refused) || refused.Reason != string(c.want) {
			t.Errorf("%s: the hub says %v, want %s", c.what, err, c.want)
		}
		f, err := bundle.DecodeFile(raw)
		must(t, err)
		m, err := bundle.DecodeManifest(f.Manifest)
		must(t, err)
		order, err := evil.Publish(t.Context(), f, "shop", bundle.Version(version), m.Content.Digest)
		must(t, err)
		must(t, evil.Order(t.Context(), order))
		k.refusedBySite(c.what, order.Digest, c.want)
		if verified, _ := k.crowd.Has(bundle.Version(version)); verified != 0 {
			t.Errorf("%s: it was applied", c.what)
		}
	}
	k.untouched(6)

	// What is rightly signed is taken, whoever offers it.
	k.cli("bundle", "push", k.release("3.0.0", 3, by(ours, keylessSubject, keylessIssuer)))
	k.until("the hub to be heard again", func() error {
		if _, err := k.CLI("assign", keylessSite, "shop@3.0.0"); err != nil {
			return err
		}
		return k.Runs(keylessSite, "shop", "3.0.0")
	})
	must(t, k.crowd.Failed())
}

func (k *keylessFleet) refusedBySite(what string, digest bundle.Digest, want verify.Reason) {
	k.t.Helper()
	k.until("the site to refuse "+what, func() error {
		events, err := k.hub.Events(k.t.Context(), api.EventQuery{Site: keylessSite, Limit: 1000})
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Kind != fleetsync.EventRefused || e.Digest != digest {
				continue
			}
			if e.Reason != string(want) || e.Message == "" {
				k.t.Errorf("%s: the site says %s: %s, want %s", what, e.Reason, e.Message, want)
			}
			return nil
		}
		return fleet.ErrNotYet
	})
}

// untouched wants 1.0.0 in the catalog alone and at the site, and so many refused pushes in the audit log.
func (k *keylessFleet) untouched(refused int) {
	k.t.Helper()
	bundles, err := k.hub.Bundles(k.t.Context())
	must(k.t, err)
	if len(bundles) != 1 {
		k.t.Errorf("the catalog has %d bundles, want one", len(bundles))
	}
	site, err := k.hub.Site(k.t.Context(), keylessSite)
	must(k.t, err)
	if len(site.State.Bundles) != 1 || site.State.Bundles[0].Current != "1.0.0" {
		k.t.Errorf("the site has %+v, want shop 1.0.0", site.State.Bundles)
	}
	records, err := k.hub.Audit(k.t.Context(), 1000)
	must(k.t, err)
	for _, r := range records {
		if r.What == "bundle push" && r.Outcome != "done" {
			refused--
		}
	}
	if refused != 0 {
		k.t.Errorf("%d refused pushes are not in the audit log", refused)
	}
}
