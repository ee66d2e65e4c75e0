package light

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/enrol/device"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// devices are clusters in memory, one a device, by the device's seed.
type devices struct {
	mu       sync.Mutex
	clusters map[string]*memcluster.Cluster
}

func (d *devices) workloads(file fleetsync.SiteFile, key ed25519.PrivateKey, store fleetsync.Store) (edge.Workloads, error) {
	sealing, err := secret.KeyOf(key)
	if err != nil {
		return nil, err
	}
	cluster := memcluster.New()
	d.mu.Lock()
	d.clusters[file.Seed] = cluster
	d.mu.Unlock()
	return edge.NewWorkloads(cluster, edge.Policy{}, store, zap.NewNop()).Opening(sealing.Open), nil
}

// password is what the Secret default/db says on a device; empty where there is none.
func (d *devices) password(seed string) string {
	d.mu.Lock()
	cluster := d.clusters[seed]
	d.mu.Unlock()
	data, _ := cluster.Body(bundle.ObjectID{Kind: "Secret", Namespace: "default", Name: "db"})["data"].(map[string]any)
	encoded, _ := data["password"].(string)
	raw, _ := base64.StdEncoding.DecodeString(encoded)
	return string(raw)
}

const oldPassword, newPassword = "c4n4ry-of-the-stolen-device", "c4n4ry-of-the-new-device"

// TestT16_T23_ReplacedHardwareGetsSecretsAnew gives a site a secret, then other hardware its place. The new device cannot open what was sealed for the old
// one, nobody seals anything for the old key any more, and after the secret was sealed again only the new device has it. What the hub's store and
// a backup of it hold is read whole: neither value is in it.
func TestT16_T23_ReplacedHardwareGetsSecretsAnew(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	bin, remove, err := fleet.Build(filepath.Join("..", ".."))
	must(t, err)
	t.Cleanup(remove)
	f, err := fleet.New(t.TempDir(), bin)
	must(t, err)
	t.Cleanup(f.Close)
	must(t, f.StartHub(t.Context()))
	boxes, crowd := &devices{clusters: map[string]*memcluster.Cluster{}}, New()
	crowd.Workloads = boxes.workloads
	t.Cleanup(crowd.Close)
	values := func(value string) string {
		file := filepath.Join(t.TempDir(), "value")
		must(t, os.WriteFile(file, []byte(value), 0o600))
		return "password=" + file
	}
	cli := func(args ...string) string {
		t.Helper()
		out, err := f.CLI(args...)
		must(t, err)
		return out
	}
	refused := func(word string, args ...string) {
		t.Helper()
		if _, err := f.CLI(args...); err == nil || !strings.Contains(err.Error(), word) {
			t.Fatalf("%v: want %q", err, word)
		}
	}
	until := func(what string, ready func() bool) {
		t.Helper()
		must(t, fleet.Until(t.Context(), 2*time.Minute, what, func() error {
			if !ready() {
				return fleet.ErrNotYet
			}
			return nil
		}))
	}
	set := []string{"secret", "set", "default/db", "--site", "shop-1", "--key", f.Key()}

	cli("token", "create", "--site-name", "fixed:shop-1", "--pre-approved", "-o", filepath.Join(f.Dir, "first.json"))
	first := enrolDevice(t, filepath.Join(f.Dir, "first.json"))
	must(t, crowd.Start(first))
	until("the site to say its sealing key", func() bool {
		shown, err := f.Site("shop-1")
		return err == nil && shown.State != nil && len(shown.State.Sealing) > 0
	})
	cli(append(set, "--from-file", values(oldPassword), "--accept-new")...)
	until("the old device to have the secret", func() bool { return boxes.password(first.Seed) == oldPassword })

	replace := exec.CommandContext(t.Context(), filepath.Join(bin, "holdfast"), "site", "replace", "shop-1", "--pre-approved", "-o", filepath.Join(f.Dir, "second.json"))
	replace.Env = f.Env()
	said, err := replace.CombinedOutput()
	must(t, err)
	if !strings.Contains(string(said), "1 secret sealed for the old hardware alone: default/db") {
		t.Errorf("site replace says %q", said)
	}
	refused("it is being replaced", append(set, "--from-file", values(newPassword), "--accept-new")...)
	second := enrolDevice(t, filepath.Join(f.Dir, "second.json"))
	refused("it has not said its sealing key yet", append(set, "--from-file", values(newPassword), "--accept-new", "--known", filepath.Join(f.Dir, "other-desk.json"))...)
	must(t, crowd.Start(second))
	until("the new device to say that it cannot open it", func() bool {
		return strings.Contains(cli("secret", "list", "--site", "shop-1"), "cannot open")
	})
	if got := boxes.password(second.Seed); got != "" {
		t.Errorf("the new device has %q", got)
	}

	refused("it was replaced: its words were", append(set, "--from-file", values(newPassword), "--accept-new")...)
	words := enrol.Fingerprint(publicOf(t, second))
	cli(append(set, "--from-file", values(newPassword), "--missing", "--accept", "shop-1="+words)...)
	until("the new device to have the secret", func() bool { return boxes.password(second.Seed) == newPassword })
	until("the hub to know", func() bool { return strings.Contains(cli("secret", "list", "--site", "shop-1"), "applied") })
	if got := boxes.password(first.Seed); got != oldPassword {
		t.Errorf("the old device has %q", got)
	}
	opensOnly(t, f, bundle.Ref{Name: "secret-default--db", Version: "1.0.0"}, first, second)
	opensOnly(t, f, bundle.Ref{Name: "secret-default--db", Version: "2.0.0"}, second, first)

	dumped(t, f)
	f.StopHub(true)
	_, dir := f.Bus()
	backup := filepath.Join(t.TempDir(), "backup")
	for _, args := range [][]string{{"backup", "--data", dir, "--to", backup}, {"restore", "--data", dir, "--from", backup, "--yes"}} {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "holdfast-hub"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	searched(t, backup)
	must(t, f.StartHub(t.Context()))
	dumped(t, f)
}

// enrolDevice lets a new device become the site that an enrolment file is for.
func enrolDevice(t *testing.T, file string) fleetsync.SiteFile {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	site, err := device.Enrol(ctx, device.Options{Home: device.Home{Dir: t.TempDir()}, File: file, HostRoot: t.TempDir(), RetryMin: 50 * time.Millisecond, RetryMax: time.Second})
	must(t, err)
	return *site
}

func keyOf(t *testing.T, file fleetsync.SiteFile) ed25519.PrivateKey {
	t.Helper()
	_, raw, err := nkeys.DecodeSeed([]byte(file.Seed))
	must(t, err)
	return ed25519.NewKeyFromSeed(raw)
}

func publicOf(t *testing.T, file fleetsync.SiteFile) ed25519.PublicKey {
	t.Helper()
	return keyOf(t, file).Public().(ed25519.PublicKey)
}

// opensOnly wants the sealed secret of a bundle open for one device and shut for the other.
func opensOnly(t *testing.T, f *fleet.Fleet, ref bundle.Ref, opens, shut fleetsync.SiteFile) {
	t.Helper()
	_, dir := f.Bus()
	hub, err := fleet.Admin(dir)
	must(t, err)
	raw, err := hub.BundleFile(t.Context(), ref)
	must(t, err)
	file, err := bundle.DecodeFile(raw)
	must(t, err)
	m, err := bundle.DecodeManifest(file.Manifest)
	must(t, err)
	content, err := wire.Decompress(file.Content, m.Content.Size)
	must(t, err)
	for _, c := range []struct {
		file fleetsync.SiteFile
		want bool
	}{{opens, true}, {shut, false}} {
		key, err := secret.KeyOf(keyOf(t, c.file))
		must(t, err)
		if _, err := key.Open(bytes.TrimSpace(content)); (err == nil) != c.want {
			t.Errorf("%s: open: %v, want it open: %v", ref, err, c.want)
		}
	}
}

// forms are how a value may lie about: as it is, in hex, and in base64 wherever it begins.
func forms() (all [][]byte) {
	for _, value := range []string{oldPassword, newPassword} {
		all = append(all, []byte(value), []byte(hex.EncodeToString([]byte(value))))
		for shift := range 3 { // without the first and last character, which depend on what is beside it
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
			all = append(all, []byte(encoded[4:len(encoded)-4]))
		}
	}
	return all
}

func clean(t *testing.T, where string, raw []byte) {
	t.Helper()
	for _, form := range forms() {
		if bytes.Contains(raw, form) {
			t.Errorf("%s holds %q", where, form)
		}
	}
}

// dumped reads every message of every stream of the running hub, and what is compressed in them, and looks for the values.
func dumped(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	evil, err := f.Evil(t.Context(), "shop-1")
	must(t, err)
	defer evil.Close()
	packed := map[string][]byte{}
	sealed := 0
	for _, rule := range stream.Rules {
		must(t, evil.Each(t.Context(), rule.Name, "", 1, func(m stream.Message) error {
			clean(t, m.Subject, m.Data)
			if rule.Name == stream.Blobs {
				cut := strings.LastIndex(m.Subject, ".")
				packed[m.Subject[:cut]] = append(packed[m.Subject[:cut]], m.Data...)
			}
			return nil
		}))
	}
	unpack, err := zstd.NewReader(nil)
	must(t, err)
	defer unpack.Close()
	for subject, raw := range packed {
		if !strings.HasPrefix(subject, "hf.blob.") {
			continue
		}
		content, err := unpack.DecodeAll(raw, nil)
		must(t, err)
		clean(t, subject, content)
		if bytes.Contains(content, []byte(`"SiteSecret"`)) {
			sealed++
		}
	}
	if sealed != 2 {
		t.Errorf("%d sealed secrets are in the store, want 2: not all of it was read", sealed)
	}
	_, dir := f.Bus()
	searched(t, dir)
	shown, err := f.Site("shop-1")
	must(t, err)
	raw, err := json.Marshal(shown)
	must(t, err)
	clean(t, "the API", raw)
}

// searched looks for the values in all files of a folder, as they lie there.
func searched(t *testing.T, dir string) {
	t.Helper()
	files := 0
	must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			files++
			clean(t, path, raw)
		}
		return err
	}))
	if files == 0 {
		t.Errorf("%s: nothing was searched", dir)
	}
}
