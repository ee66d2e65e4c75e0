package device

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

// rotatable is a hub whose online key was rotated times times after before was done with the hub of before. It keeps its address.
func rotatable(t *testing.T, times int, before func(client *api.Client)) *hub.Hub {
	t.Helper()
	root := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"})
	var cfg hub.Config
	h, client := startHub(t, func(c *hub.Config) {
		c.Trust, c.Online, c.CredentialLife = root.Published, []ed25519.PrivateKey{root.Online}, time.Second
		cfg = *c
	})
	before(client)
	cfg.ListenAPI, cfg.ListenNATS = strings.TrimPrefix(h.URL(), "https://"), strings.TrimPrefix(h.Servers()[0], "tls://")
	h.Close()
	for range times {
		old := root.Online
		root.RotateOnline()
		root.Publish(true)
		cfg.Trust, cfg.Online = root.Published, []ed25519.PrivateKey{old, root.Online}
		h, err := hub.Open(t.Context(), cfg)
		must(t, err)
		h.Close()
	}
	cfg.Online = []ed25519.PrivateKey{root.Online}
	h, err := hub.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

// A token made before the hub's key was rotated, twice, still makes a site, which believes the key of now from the start.
func TestP06_AnOldTokenOutlivesARotationOfTheHubsKey(t *testing.T) {
	var file enrol.File
	rotatable(t, 2, func(client *api.Client) { file = grantOf(t, client, api.TokenRequest{PreApproved: true}) })
	site, err := Enrol(t.Context(), device(t, file, "shop-1"))
	must(t, err)
	was, err := hubKeys(file.Trust)
	must(t, err)
	now, err := hubKeys(site.Trust)
	must(t, err)
	if now[0].Equal(was[0]) {
		t.Error("the site believes the key of before")
	}
	await(t, linkOf(t, site, nil), fleetsync.LinkUp)
}

// A site that was away while the key was rotated and whose credential ran out comes back by itself.
func TestP06_ASiteThatMissedTheRotationIsRenewed(t *testing.T) {
	var site *fleetsync.SiteFile
	rotatable(t, 2, func(client *api.Client) {
		var err error
		site, err = Enrol(t.Context(), device(t, grantOf(t, client, api.TokenRequest{PreApproved: true}), "shop-1"))
		must(t, err)
	})
	life, err := enrol.LifeOf(site.JWT)
	must(t, err)
	eventually(t, "the credential has expired", func() bool { return time.Now().After(life.Expires.Add(1500 * time.Millisecond)) })
	believes := beliefOf(t, site)
	var l *link.Link
	ready := make(chan struct{})
	keeper, err := NewKeeper(Home{Dir: t.TempDir()}, *site, believes, func(jwt string) { <-ready; l.Renew(jwt) }, nil, nil)
	must(t, err)
	keeper.retryMin, keeper.restMin = 10*time.Millisecond, time.Millisecond
	l = linkOf(t, site, keeper.Refused)
	close(ready)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keeper.Run(ctx) }()
	await(t, l, fleetsync.LinkUp)
	cancel()
	<-ended
}

// Another fleet's hub behind the pinned address cannot prove its key, however it answers.
func TestT21_ARotationThatTheOfflineKeysDidNotSignIsRefused(t *testing.T) {
	_, client := startHub(t, nil)
	_, rogue := startHub(t, nil)
	file, theirs := grantOf(t, client, api.TokenRequest{PreApproved: true}), grantOf(t, rogue, api.TokenRequest{PreApproved: true})
	theirs.Trust = file.Trust
	disbelieves(t, device(t, theirs, "shop-1"), "not signed by the hub")
}
