package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

func TestAHubThatCannotStartSaysWhichAndWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noStore := t.TempDir()
	if err := os.WriteFile(filepath.Join(noStore, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "keys", "bus.json"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*Config)
		want []string
	}{
		"api port taken":    {func(c *Config) { c.ListenAPI = address }, []string{"api: listen " + address, "already in use"}},
		"bus port taken":    {func(c *Config) { c.ListenNATS = address }, []string{address, "already in use"}},
		"foreign address":   {func(c *Config) { c.ListenAPI = "192.0.2.1:1" }, []string{"api: listen 192.0.2.1:1"}},
		"nonsense address":  {func(c *Config) { c.ListenAPI = "nonsense" }, []string{"api: listen nonsense"}},
		"data is a file":    {func(c *Config) { c.DataDir = file }, []string{"data directory " + file, "not a directory"}},
		"store is a file":   {func(c *Config) { c.DataDir = noStore }, []string{"store", noStore, "not a directory"}},
		"damaged key":       {func(c *Config) { c.DataDir = damaged }, []string{"bus.json"}},
		"no trust":          {func(c *Config) { c.Trust = tuf.Publication{} }, []string{"trust: none is given"}},
		"external bus away": {func(c *Config) { c.External = &External{URL: "tls://" + address} }, []string{"bus", address}},
	} {
		cfg := configOf(t, t.TempDir())
		c.edit(&cfg)
		h, err := Open(context.Background(), cfg)
		if err == nil {
			h.Close()
			t.Errorf("%s: started", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

func TestASecondHubOnTheSameStoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	startHub(t, configOf(t, dir))
	if h, err := Open(context.Background(), configOf(t, dir)); err == nil {
		h.Close()
		t.Fatal("started")
	} else if !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), dir) {
		t.Errorf("%q does not say which store is in use", err)
	}
}

func TestFirstStartMakesSecretsOnceForTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, configOf(t, dir))
	first := contextOf(t, h)
	secrets := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v %v, want 0600", entry.Name(), info.Mode(), err)
		}
		secrets[entry.Name()] = readFile(t, dir, "keys", entry.Name())
	}
	if info, err := os.Stat(filepath.Join(dir, "keys")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("keys: mode %v %v, want 0700", info.Mode(), err)
	}
	h.Close()
	again := startHub(t, configOf(t, dir))
	for name, secret := range secrets {
		if readFile(t, dir, "keys", name) != secret {
			t.Errorf("%s changed at the second start", name)
		}
	}
	second := contextOf(t, again)
	if second.Token != first.Token || second.CA != first.CA || second.URL != again.URL() {
		t.Errorf("context %+v, was %+v; want the same token and where the hub is now", second.URL, first.URL)
	}
	again.Close()
	if err := os.Remove(again.ContextFile()); err != nil {
		t.Fatal(err)
	}
	third := startHub(t, configOf(t, dir))
	if _, err := os.Stat(third.ContextFile()); !errors.Is(err, os.ErrNotExist) {
		t.Error("the token was written again, after its owner took it away")
	}
	client, err := api.NewClient(api.ContextFile{URL: third.URL(), CA: first.CA, Token: first.Token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Version(context.Background()); err != nil {
		t.Errorf("the token does not work any more: %v", err)
	}
}

func TestServerCertificateIsRenewedInTime(t *testing.T) {
	ring, err := openKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := noon
	clock := func() time.Time { return now }
	open := func(names ...string) *tls.Certificate {
		t.Helper()
		a, err := openAuthority(ring, names, clock)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := a.certificate()
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	first := open("hub.example", "10.0.0.1", "::1")
	if err := first.Leaf.VerifyHostname("hub.example"); err != nil {
		t.Error(err)
	}
	if err := first.Leaf.VerifyHostname("10.0.0.1"); err != nil {
		t.Error(err)
	}
	if again := open("0:0::1", "10.0.0.1", "hub.example"); !again.Leaf.Equal(first.Leaf) {
		t.Error("renewed though nothing changed")
	}
	now = noon.Add(serverLifetime * 6 / 10)
	if again := open("hub.example", "10.0.0.1", "::1"); !again.Leaf.Equal(first.Leaf) {
		t.Error("renewed with more than a third left")
	}
	now = noon.Add(serverLifetime * 7 / 10)
	renewed := open("hub.example", "10.0.0.1", "::1")
	if renewed.Leaf.Equal(first.Leaf) || !renewed.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not renewed with less than a third left")
	}
	other := open("hub.example", "hub2.example")
	if other.Leaf.VerifyHostname("hub2.example") != nil || other.Leaf.VerifyHostname("10.0.0.1") == nil {
		t.Error("not renewed for other names")
	}
}

// Killed between any two files of the first start, the hub completes it at the next.
func TestF09_ABrokenFirstStartIsCompleted(t *testing.T) {
	dir := t.TempDir()
	ring, err := openKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	// The context file was written, the hash was not.
	if err := writeContext(filepath.Join(dir, ContextFileName), api.ContextFile{Token: "never valid"}); err != nil {
		t.Fatal(err)
	}
	keeper, written, err := ring.doorkeeper(dir, "https://hub:1", "ca")
	if err != nil || !written || keeper.admits("never valid") {
		t.Errorf("written %v, %v", written, err)
	}
	if again, written, err := ring.doorkeeper(dir, "https://hub:2", "ca"); err != nil || written || again != keeper {
		t.Errorf("second time: written %v, %v", written, err)
	}
	if !strings.Contains(readFile(t, dir, ContextFileName), "https://hub:2") {
		t.Error("the context file still says the old address")
	}
	if keeper.admits("") || (doorkeeper{}).admits("") {
		t.Error("an empty token is admitted")
	}
}
