package hub

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/online"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

// TestF11_AnotherMachineBecomesTheHub has nothing of the old machine but its recovery file and a backup. The site comes back by itself and goes on.
func TestF11_AnotherMachineBecomesTheHub(t *testing.T) {
	cfg, shown, site := furnished(t)
	fleet := t.TempDir()
	if err := tuftest.Write(fleet, cfg.Trust, cfg.Online[0]); err != nil {
		t.Fatal(err)
	}
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	online1, err := os.ReadFile(filepath.Join(fleet, "online.key"))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := k.Recovery(t.Context(), os.DirFS(published(fleet)), [][]byte{online1})
	if err != nil {
		t.Fatal(err)
	}
	file, err := saved.Encode()
	if err != nil {
		t.Fatal(err)
	}
	store, err := OpenStopped(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	_, err = store.Backup(t.Context(), backup)
	store.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		t.Fatal(err)
	}

	read, err := DecodeRecovery(file)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "fleet")
	other := Keyed{Dir: filepath.Join(t.TempDir(), "data"), Log: k.Log}
	for range 2 { // the second time as after one that was cut off
		if err := read.Install(t.Context(), other, trust); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Restore(t.Context(), other, backup); err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = other.Dir
	if cfg.Trust, err = tuf.ReadRepository(os.DirFS(filepath.Join(trust, "tuf"))); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(trust, "online.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := online.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Online = []ed25519.PrivateKey{key}
	h := startHub(t, cfg)
	if now := picture(t, h); now != shown {
		t.Fatalf("restored:\n%s\nbacked up:\n%s", now, shown)
	}
	site.await(fleetsync.LinkUp)
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 41, 42))
	eventually(t, "the site goes on", func() bool { return site.acked() == 42 })
	if _, err := clientOf(t, h).Site(t.Context(), "shop-1"); err != nil {
		t.Errorf("the admin's context: %v", err)
	}

	// Another hub's directory is left as it is.
	strange := Keyed{Dir: t.TempDir(), Log: k.Log}
	u, err := strange.unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u.close()
	if err := read.Install(t.Context(), strange, trust); err == nil || !strings.Contains(err.Error(), "another hub's") || there(strange.path("keys")) {
		t.Errorf("into another hub's: %v", err)
	}
	if err := os.WriteFile(filepath.Join(trust, "online.key"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read.Install(t.Context(), Keyed{Dir: t.TempDir(), Log: k.Log}, trust); err == nil || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("over another key: %v", err)
	}
}

func published(fleet string) string {
	if there(filepath.Join(fleet, "tuf")) {
		return filepath.Join(fleet, "tuf")
	}
	return fleet
}

func FuzzDecodeRecovery(f *testing.F) {
	f.Add([]byte(`{"schema":"holdfast.dev/hub-recovery/v1","data":{"keys/../../x":""},"trust":{"../x":""},"online":[""],"hubKey":"AGE-SECRET-KEY-1"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := DecodeRecovery(raw)
		if err != nil {
			if len(r.HubKey) > 40 && bytes.Contains([]byte(err.Error()), []byte(r.HubKey)) {
				t.Error("an error shows the key")
			}
			return
		}
		for name := range r.Trust {
			if !filepath.IsLocal(name) {
				t.Errorf("%q leaves the folder", name)
			}
		}
		for name := range r.Data {
			if !filepath.IsLocal(name) {
				t.Errorf("%q leaves the folder", name)
			}
		}
	})
}
