package hub

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var (
	_ Bus = (*bus.Hub)(nil)
	_ Bus = (*membus.Bus)(nil)
)

// The bus is a server of its own with the configuration the hub's keys make; hub and site meet there.
func TestAHubOnAnExternalBus(t *testing.T) {
	dir := t.TempDir()
	if config, err := BusConfig(dir, ""); err != nil || !strings.Contains(config, "resolver_preload") {
		t.Fatalf("configuration %q, %v", config, err)
	}
	ring, err := openKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.busKeys()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := openKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := configOf(t, dir)
	authority, err := openAuthority(elsewhere, certificateNames(nil), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := bus.StartServer(bus.ServerOptions{DataDir: t.TempDir(), Listen: "127.0.0.1:0", TLS: authority.tls(), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	cfg.External = &External{URL: server.URL(), CA: authority.caPEM}
	h := startHub(t, cfg)
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	if len(site.grant.Servers) != 1 || site.grant.Servers[0] != server.URL() {
		t.Errorf("the site is sent to %q, the bus is at %s", site.grant.Servers, server.URL())
	}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 2))
	eventually(t, "2 is acknowledged", func() bool { return site.acked() == 2 })
	client = clientOf(t, h)
	if version, err := client.Version(t.Context()); err != nil || len(version.Warnings) != 0 {
		t.Errorf("warnings %+v, %v", version, err)
	}
	begun := time.Now()
	bad := addSite(t, client, "shop-bad", nil)
	if _, err := client.RevokeSite(t.Context(), "shop-bad", "stolen"); err != nil {
		t.Errorf("T23: revoke: %v", err)
	}
	bad.await(fleetsync.LinkDown)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("T23: cut after %s", took)
	}
	h.Close()

	// Credentials of a file, as of a cluster that somebody else keeps.
	credentials, err := keys.HubUser()
	if err != nil {
		t.Fatal(err)
	}
	cfg.External.Credentials, cfg.External.Keys = &credentials, &keys
	again := startHub(t, cfg)
	if shown := siteAsShown(t, clientOf(t, again), "shop-1"); shown.Events.Upto != 2 {
		t.Errorf("after a restart events up to %d, want 2", shown.Events.Upto)
	}
	again.Close()
	// Without the system account the hub serves, and says what it cannot do.
	cfg.External.System = &credentials
	mute := startHub(t, cfg)
	if _, err := clientOf(t, mute).RevokeSite(t.Context(), "shop-1", "stolen"); err == nil {
		t.Error("T23: a revocation that reached no server is called done")
	}
	if version, err := clientOf(t, mute).Version(t.Context()); err != nil || len(version.Warnings) != 1 || !strings.Contains(version.Warnings[0], "revocation: ") {
		t.Errorf("warnings %+v, %v", version, err)
	}
	mute.Close()
	cfg.External.CA = []byte("no certificate")
	if h, err := Open(context.Background(), cfg); err == nil {
		h.Close()
		t.Error("started with a CA file that is none")
	}
}
