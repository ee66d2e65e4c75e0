package light

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// TestF19_RootRotatedTwentyTimesWhileAway lets a real agent lose its line to a real hub, rotates the root keys twenty times meanwhile, revokes the release
// key with the last, and mends the line: the agent walks the chain by itself.
func TestF19_RootRotatedTwentyTimesWhileAway(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty publications")
	}
	const rotations = 20
	_, public, err := sign.GenerateKeyPair(nil)
	must(t, err)
	key, err := verify.NewKey(string(public), "*")
	must(t, err)
	root := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", Keys: []verify.Key{key}})
	h, err := hub.Open(t.Context(), hub.Config{DataDir: t.TempDir(), ListenNATS: "127.0.0.1:0", ListenAPI: "127.0.0.1:0",
		Trust: root.Published, Online: []ed25519.PrivateKey{root.Online}, Signatures: cosign.Verifier{}, HeartBeat: time.Second})
	must(t, err)
	t.Cleanup(h.Close)
	raw, err := os.ReadFile(h.ContextFile())
	must(t, err)
	var target api.ContextFile
	must(t, json.Unmarshal(raw, &target))
	client, err := api.NewClient(target)
	must(t, err)

	line, err := fleet.NewLink(strings.TrimPrefix(h.Servers()[0], "tls://"))
	must(t, err)
	t.Cleanup(line.Close)
	crowd := New()
	crowd.Options = func(o *link.Options) { o.Servers, o.RetryMax = []string{"tls://" + line.Addr()}, time.Second }
	t.Cleanup(crowd.Close)
	must(t, crowd.Join(t.Context(), client, "shop-1", nil))
	believes := func(version uint64) {
		t.Helper()
		must(t, fleet.Until(t.Context(), 2*time.Minute, "the site to believe the root", func() error {
			site, err := client.Site(t.Context(), "shop-1")
			if err == nil && (site.State == nil || site.State.Trust.Root != version || site.State.Trust.Error != "") {
				err = fleet.ErrNotYet
			}
			return err
		}))
	}
	believes(1)
	line.Cut()
	for n := range rotations {
		if n == rotations-1 {
			root.Trust.Keys[0].Revoked = true
		}
		root.RotateHolder()
		published, err := tuf.EncodePublication(root.Published)
		must(t, err)
		shown, err := client.PublishTrust(t.Context(), published)
		must(t, err)
		if int(shown.Root) != n+2 {
			t.Fatalf("the hub serves root %d after %d rotations", shown.Root, n+1)
		}
	}
	if site, err := client.Site(t.Context(), "shop-1"); err != nil || site.State.Trust.Root != 1 {
		t.Fatalf("the site is not away: %+v, %v", site.State.Trust, err)
	}
	line.Mend()
	believes(rotations + 1)
	must(t, crowd.Failed())
}
