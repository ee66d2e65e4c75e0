package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

func rootOf(t *testing.T, dir string) *tuftest.Root {
	t.Helper()
	root, known := roots.Load(dir)
	if !known {
		t.Fatalf("no hub was configured in %s", dir)
	}
	return root.(*tuftest.Root)
}

func publish(client *api.Client, p tuf.Publication) (api.Trust, error) {
	raw, err := tuf.EncodePublication(p)
	if err != nil {
		return api.Trust{}, err
	}
	return client.PublishTrust(context.Background(), raw)
}

// siteSource reads the root of trust as a site does: over its own link.
type siteSource struct{ link *link.Link }

func (s siteSource) Get(ctx context.Context, name string) ([]byte, error) {
	raw, err := s.link.Get(ctx, name)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, tuf.ErrNotFound
	}
	return raw, err
}

func (s *fakeSite) refresh(have tuf.Metadata) tuf.State {
	s.t.Helper()
	state, err := tuf.Client{Source: siteSource{s.link}}.Refresh(context.Background(), have, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return state
}

func TestT09_ARevocationReachesHubAndSitesOverTheBus(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", nil)
	given, err := tuf.Decode(site.grant.Trust)
	if err != nil {
		t.Fatal(err)
	}
	before := site.refresh(given)
	if before.Versions != (tuf.Versions{Root: 1, Timestamp: 1, Snapshot: 1, Targets: 1}) {
		t.Fatalf("a new fleet has %+v", before.Versions)
	}

	root := rootOf(t, dir)
	root.Trust.Keys[0].Revoked = true
	root.Publish(false)
	shown, err := publish(client, root.Published)
	if err != nil || !shown.Changed || shown.Targets != 2 {
		t.Fatalf("%+v, %v", shown, err)
	}
	if again, err := publish(client, root.Published); err != nil || again.Changed || again.Timestamp != shown.Timestamp {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	site.await(fleetsync.LinkPoke)
	if after := site.refresh(before.Metadata); !after.Trust.Keys[0].Revoked || after.Versions.Targets != 2 {
		t.Errorf("the site has %+v", after.Versions)
	}
	_, err = client.Push(context.Background(), releaseOf(t, "2.0.0", 2, ours()).bytes(t))
	wantRefusal(t, err, http.StatusUnprocessableEntity, string(verify.RevokedKey))
	results, err := client.Assign(context.Background(), api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}})
	if err == nil {
		t.Errorf("what a revoked key signed was assigned: %+v", results)
	}

	// The hub comes back with the folder of its first day, and goes on where it was.
	h.Close()
	again := startHub(t, configOf(t, dir))
	if got := again.shownTrust(); got.Targets != 2 || got.Timestamp != shown.Timestamp {
		t.Errorf("after a restart it serves %+v", got)
	}
}

func wantRefusal(t *testing.T, err error, status int, reason string) {
	t.Helper()
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Status != status || refused.Reason != reason {
		t.Errorf("got %v, want %d %s", err, status, reason)
	}
}

func TestT10_TheHubRefusesForksHolesAndRollbacks(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	client, root := clientOf(t, h), rootOf(t, dir)
	first := root.Published
	fork := *root // the same holders sign two different second versions
	fork.Published.Roots = append([][]byte(nil), first.Roots...)
	fork.Expires = fork.Expires.Add(time.Hour)
	fork.Publish(true)
	root.RotateHolder()
	second := root.Published
	root.RotateHolder()
	third := root.Published
	stranger := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"})
	stranger.RotateHolder()
	if _, err := publish(client, second); err != nil {
		t.Fatal(err)
	}
	before := h.shownTrust()
	for name, c := range map[string]struct {
		given  tuf.Publication
		reason string
	}{
		"a hole":                     {tuf.Publication{Roots: append(append([][]byte(nil), third.Roots[:2]...), versioned(t, root, 2)), Targets: third.Targets, Fleet: third.Fleet}, "TrustHole"},
		"a fork of the root":         {fork.Published, "TrustFork"},
		"another fleet":              {stranger.Published, "TrustFork"},
		"an older trust document":    {tuf.Publication{Roots: third.Roots, Targets: first.Targets, Fleet: first.Fleet}, "TrustRollback"},
		"another trust document":     {tuf.Publication{Roots: second.Roots, Targets: fork.Published.Targets, Fleet: fork.Published.Fleet}, "TrustFork"},
		"old holders' document":      {tuf.Publication{Roots: second.Roots, Targets: mixed(t, second.Targets, third.Targets), Fleet: third.Fleet}, "TrustFork"},
		"a document that is swapped": {tuf.Publication{Roots: third.Roots, Targets: third.Targets, Fleet: bytes.Replace(third.Fleet, []byte(`"test"`), []byte(`"evil"`), 1)}, "TrustRefused"},
		"signatures cut off":         {tuf.Publication{Roots: [][]byte{third.Roots[0], third.Roots[1], unsigned(t, third.Roots[2])}, Targets: third.Targets, Fleet: third.Fleet}, "TrustRefused"},
	} {
		_, err := publish(client, c.given)
		t.Log(name, err)
		wantRefusal(t, err, http.StatusUnprocessableEntity, c.reason)
		if after := h.shownTrust(); after != before {
			t.Errorf("%s: something changed: %+v, was %+v", name, after, before)
		}
	}
	_, err := client.PublishTrust(context.Background(), []byte(`{"schema":"x"}`))
	wantRefusal(t, err, http.StatusBadRequest, "Malformed")
	if shown, err := publish(client, third); err != nil || shown.Root != 3 {
		t.Errorf("untouched: %+v, %v", shown, err)
	}
}

// versioned is the root after the next one.
func versioned(t *testing.T, root *tuftest.Root, _ int) []byte {
	t.Helper()
	later := *root
	later.Published.Roots = append([][]byte(nil), root.Published.Roots...)
	later.Publish(true)
	return later.Published.Roots[len(later.Published.Roots)-1]
}

// mixed keeps the version of old targets with the signatures of newer ones.
func mixed(t *testing.T, old, newer []byte) []byte {
	t.Helper()
	mixed := bytes.Replace(old, []byte(`"signatures"`), []byte(`"signatures" `), 1)
	if bytes.Equal(mixed, old) || bytes.Equal(mixed, newer) {
		t.Fatal("nothing was mixed")
	}
	return mixed
}

func unsigned(t *testing.T, raw []byte) []byte {
	t.Helper()
	i := bytes.Index(raw, []byte(`"signatures"`))
	j := bytes.IndexByte(raw[i:], ']')
	if i < 0 || j < 0 {
		t.Fatal("no signatures")
	}
	return append(append(append([]byte(nil), raw[:i]...), `"signatures": [`...), raw[i+j:]...)
}

func TestT08_TheHubsKeyIsRotatedByTheRoot(t *testing.T) {
	dir := t.TempDir()
	cfg := configOf(t, dir)
	root := rootOf(t, dir)
	h := startHub(t, cfg)
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site := addSite(t, client, "shop-1", nil)
	if _, err := client.Assign(context.Background(), api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}); err != nil {
		t.Fatal(err)
	}
	assigned := site.assignment()
	stolen := root.Online
	root.RotateOnline()
	root.Publish(true)
	_, err := publish(client, root.Published)
	wantRefusal(t, err, http.StatusUnprocessableEntity, "NotTheHubsKey") // it could not sign any more

	h.Close()
	cfg.Online = []ed25519.PrivateKey{stolen, root.Online}
	h = startHub(t, cfg)
	client = clientOf(t, h)
	if h.signing().public.Equal(root.Online.Public()) {
		t.Fatal("it signs with a key that nothing names yet")
	}
	if _, err := publish(client, root.Published); err != nil {
		t.Fatal(err)
	}
	sealed, err := h.store.Get(context.Background(), fleetsync.DesiredSubject("shop-1"))
	if err != nil {
		t.Fatal(err)
	}
	var now fleetsync.Assignment
	if err := fleetsync.Open(fleetsync.TypeAssignment, sealed.Data, root.Online.Public().(ed25519.PublicKey), &now); err != nil {
		t.Fatalf("the assignment is not signed anew: %v", err)
	}
	if now.Sequence != assigned.Sequence || len(now.Bundles) != 1 {
		t.Errorf("it became %+v", now)
	}
	// Without the old key it starts again, and gives nothing to do up.
	h.Close()
	cfg.Online = []ed25519.PrivateKey{root.Online}
	h = startHub(t, cfg)
	if shown, known := h.view.Site(time.Now(), "shop-1"); !known || shown.Sequence != assigned.Sequence {
		t.Errorf("after the rotation: %+v", shown)
	}
}

func TestT05_TheTimestampIsRenewedBeforeItExpires(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	cfg.TrustLife = 3 * time.Second
	h := startHub(t, cfg)
	first := h.shownTrust()
	eventually(t, "the timestamp is renewed", func() bool { return h.shownTrust().Timestamp > first.Timestamp+1 })
	if now := h.root.state.Load(); now.Stamp.Before(time.Now()) || now.Versions.Targets != first.Targets {
		t.Errorf("%+v", now.Versions)
	}
}
