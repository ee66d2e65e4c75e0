package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/internal/vault"
)

// telling are words that nobody may read from a disk: sites, a bundle, what a site reported.
var telling = []string{"shop-1", "idle-3", `"name":"shop"`, "shop@1.0.0"}

// tells gives the files of a folder in which one of the words stands in the clear, and the words.
func tells(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, word := range telling {
			if bytes.Contains(raw, []byte(word)) || strings.Contains(path[len(dir):], word) {
				found = append(found, path+": "+word)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// holdings are what a stopped hub's store holds: a digest of all messages of each stream, in order.
func holdings(t *testing.T, k Keyed) string {
	t.Helper()
	store, err := OpenStopped(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	return messagesOf(t, store.client)
}

func messagesOf(t *testing.T, client *bus.Hub) string {
	t.Helper()
	var b strings.Builder
	for _, rule := range stream.Rules {
		digest, count := sha256.New(), 0
		err := client.Each(t.Context(), rule.Name, "", 1, func(m stream.Message) error {
			count++
			fmt.Fprintf(digest, "%d %s %s %d\n", m.Sequence, m.Subject, m.Time, len(m.Data))
			digest.Write(m.Data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %x\n", rule.Name, count, digest.Sum(nil)[:8])
	}
	return b.String()
}

// inClear puts a store as it was before encryption in the place of a stopped hub's.
func inClear(t *testing.T, k Keyed) {
	t.Helper()
	store, err := OpenStopped(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	made, err := store.client.Backup(t.Context(), saved, time.Now(), nil, nil)
	store.Close()
	if err != nil {
		t.Fatal(err)
	}
	o, err := k.offline()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(k.path(storeFolder)), os.Remove(k.path(StoreKeyFile))); err != nil {
		t.Fatal(err)
	}
	u := &unlocked{Keyed: k}
	if err := u.with(t.Context(), o, k.path(storeFolder), vault.Key{}, func(h *bus.Hub) error { return h.Restore(t.Context(), saved, made, nil) }); err != nil {
		t.Fatal(err)
	}
}

func copyOf(t *testing.T, dir string) Keyed {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return Keyed{Dir: to, Log: zap.NewNop()}
}

// TestT16_TheHubsStoreTellsNothing reads every byte of a store and of a backup: the key beside them is all that opens them.
func TestT16_TheHubsStoreTellsNothing(t *testing.T) {
	cfg, _, _ := furnished(t)
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	if found := tells(t, k.path(storeFolder)); len(found) != 0 {
		t.Errorf("the store tells %q", found)
	}
	if info, err := os.Stat(k.path(StoreKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the store's key: %v, %v", info, err)
	}
	held := holdings(t, k)
	store, err := OpenStopped(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	made, err := store.Backup(t.Context(), saved)
	store.Close()
	if err != nil {
		t.Fatal(err)
	}
	if found := tells(t, saved); len(found) != 0 {
		t.Errorf("the backup tells %q", found)
	}

	// Another machine that has the secret opens the backup, by the key that lies in it.
	other := Keyed{Dir: t.TempDir(), Log: k.Log}
	if err := os.CopyFS(other.path("keys"), os.DirFS(k.path("keys"))); err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), other, saved)
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), made.SealedTo) || !errors.As(err, &hint) || there(other.path(nextStore)) {
		t.Errorf("without the secret: %v", err)
	}
	other.StoreKey = "file:" + k.path(StoreKeyFile)
	if err := os.RemoveAll(other.path(storeFolder)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), other, saved); err != nil {
		t.Fatal(err)
	}
	if now := holdings(t, other); now != held {
		t.Errorf("restored:\n%s\nwas:\n%s", now, held)
	}
	if found := tells(t, other.path(storeFolder)); len(found) != 0 {
		t.Errorf("the restored store tells %q", found)
	}
}

// TestP04_AStoreInTheClearIsEncryptedWhole starts the hub on a store from before encryption, also after starts that were cut off.
func TestP04_AStoreInTheClearIsEncryptedWhole(t *testing.T) {
	cfg, shown, _ := furnished(t)
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	held := holdings(t, k)
	inClear(t, k)
	if found := tells(t, k.path(storeFolder)); len(found) < len(telling)-1 {
		t.Fatalf("in the clear, it tells only %q", found)
	}
	old := copyOf(t, k.Dir)
	// What a start leaves that was cut off while it copied.
	if err := os.CopyFS(k.path(nextStore), os.DirFS(k.path(storeFolder))); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, cfg)
	if now := picture(t, h); now != shown {
		t.Errorf("encrypted:\n%s\nwas:\n%s", now, shown)
	}
	if red := h.troubles(t.Context()); len(red) != 0 {
		t.Errorf("the hub is red: %q", red)
	}
	h.Close()
	if found := tells(t, k.path(storeFolder)); len(found) != 0 {
		t.Errorf("encrypted, it tells %q", found)
	}
	for _, left := range []string{nextStore, pastStore} {
		if there(k.path(left)) {
			t.Errorf("%s is left", left)
		}
	}

	// Cut off between the two renames, and between the second one and the end.
	for name, cut := range map[string]func(k Keyed) error{
		"between the renames": func(k Keyed) error {
			return errors.Join(os.Rename(k.path(storeFolder), k.path(nextStore)), os.Rename(old.path(storeFolder), k.path(pastStore)))
		},
		"after both": func(k Keyed) error { return os.CopyFS(k.path(pastStore), os.DirFS(k.path(storeFolder))) },
	} {
		if err := cut(k); err != nil {
			t.Fatal(err)
		}
		if now := holdings(t, k); !sameButGrown(now, held) {
			t.Errorf("%s:\n%s\nwas:\n%s", name, now, held)
		}
		if there(k.path(nextStore)) || there(k.path(pastStore)) {
			t.Errorf("%s: something is left", name)
		}
	}
}

// sameButGrown compares holdings but for the streams that every start of a hub writes.
func sameButGrown(now, was string) bool {
	a, b := strings.Split(now, "\n"), strings.Split(was, "\n")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		name, _, _ := strings.Cut(a[i], " ")
		if a[i] != b[i] && !slices.Contains([]string{stream.Rollouts, stream.Audit, stream.Trust, stream.Acks}, name) {
			return false
		}
	}
	return true
}

// TestP07_AKeyThatDoesNotFitChangesNothing has the hub refuse every key but its store's own, with a word on what to do, and open it unharmed afterwards.
func TestP07_AKeyThatDoesNotFitChangesNothing(t *testing.T) {
	cfg, shown, _ := furnished(t)
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	secret, file := k.path(StoreKeyFile), filepath.Join(k.path(storeFolder), sealedKey)
	stranger := Keyed{Dir: t.TempDir(), Log: k.Log}
	u, err := stranger.unlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u.close()
	ring, err := storekey.File(secret).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := u.key.SealBy(ring) // another store's key, sealed by this store's secret
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		raw  []byte // nil: it is gone
		says string
	}{
		"the secret is gone":          {secret, nil, "the store is encrypted, and there is no key"},
		"another secret":              {secret, storekey.Fresh().Encode(), "sealed by a secret that is not there"},
		"the sealed key is gone":      {file, nil, "its sealed key is gone"},
		"the sealed key is damaged":   {file, []byte("{}"), "no sealed key"},
		"the key of another store":    {file, foreign, "the store's key is not this one"},
		"a secret that cannot be one": {secret, []byte("short\n"), "16 to 512"},
	} {
		kept, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if c.raw == nil {
			err = os.Remove(c.path)
		} else {
			err = os.WriteFile(c.path, c.raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		h, err := Open(context.Background(), cfg)
		if err == nil {
			h.Close()
			t.Fatalf("%s: the hub starts", name)
		}
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(c.path, kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if now := picture(t, startHub(t, cfg)); now != shown {
		t.Errorf("afterwards:\n%s\nwas:\n%s", now, shown)
	}
}

// TestP04_ARotationThatIsKilledLosesNothing kills a process that changes secret and key and writes the store anew, at moments all over its life.
func TestP04_ARotationThatIsKilledLosesNothing(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_TEST_ROTATE"); dir != "" {
		if _, err := RotateKey(t.Context(), Keyed{Dir: dir}, "", true); err != nil {
			t.Fatal(err)
		}
		return
	}
	cfg, _, _ := furnished(t)
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	held := holdings(t, k)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(after time.Duration) (killed bool) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		child := exec.CommandContext(ctx, program, "-test.run=^"+t.Name()+"$") // killed with SIGKILL
		child.Env = append(os.Environ(), "HOLDFAST_TEST_ROTATE="+k.Dir)
		if after > 0 {
			defer time.AfterFunc(after, stop).Stop()
		}
		out, err := child.CombinedOutput()
		if err != nil && ctx.Err() == nil {
			t.Fatalf("%v: %s", err, out)
		}
		return err != nil
	}
	names := map[string]bool{}
	name := func() string {
		u, err := k.unlock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer u.close()
		return u.key.Name()
	}
	begun := time.Now()
	first := name()
	if rotate(0); name() == first {
		t.Fatal("the key is the same")
	}
	whole, kills := time.Since(begun), 0
	for i := range 9 {
		if rotate(whole * time.Duration(i+2) / 8) {
			kills++
		}
		if now := holdings(t, k); now != held {
			t.Fatalf("killed after %d eighths:\n%s\nwas:\n%s", i+2, now, held)
		}
		names[name()] = true
	}
	if kills == 0 {
		t.Error("every rotation ended before it was killed")
	}
	if found := tells(t, k.path(storeFolder)); len(found) != 0 {
		t.Errorf("the store tells %q", found)
	}
	ring, err := storekey.File(k.path(StoreKeyFile)).Read(t.Context())
	if err != nil || ring.Rotating() {
		t.Errorf("the last start left %s, %v", ring, err)
	}
	t.Logf("%d of 9 killed, %d keys", kills, len(names))
}

// TestABackupFromBeforeItWasSealedIsRestored has a backup in the clear, as hubs before encryption made them.
func TestABackupFromBeforeItWasSealedIsRestored(t *testing.T) {
	cfg, _, _ := furnished(t)
	k := Keyed{Dir: cfg.DataDir, Log: zap.NewNop()}
	held := holdings(t, k)
	store, err := OpenStopped(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	_, err = store.client.Backup(t.Context(), saved, time.Now(), nil, nil)
	store.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(k.path(storeFolder)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), k, saved); err != nil {
		t.Fatal(err)
	}
	if now := holdings(t, k); now != held {
		t.Errorf("restored:\n%s\nwas:\n%s", now, held)
	}
	if found := tells(t, k.path(storeFolder)); len(found) != 0 {
		t.Errorf("the store tells %q", found)
	}
}
