package main

import (
	"context"
	"crypto"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/keyless"
)

func try(t *testing.T, args ...string) error {
	t.Helper()
	return run(context.Background(), args, time.Now(), os.Getenv("FAKETIME"))
}

func write(t *testing.T, path string, raw []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// repository makes a TUF repository on disk, good for ten days, and gives the path of its root.
func repository(t *testing.T, dir string) (root string) {
	holder, online := verifytest.NewKey(), verifytest.NewKey()
	draft := &author.Draft{Schema: author.DraftSchema}
	expires := time.Now().AddDate(1, 0, 0)
	var err error
	draft.NewRoot, err = author.NewRoot(nil, author.Holders{Root: []string{holder.Public()}, Threshold: 1, Online: []string{online.Public()}}, expires)
	if err != nil {
		t.Fatal(err)
	}
	targets, fleet, err := author.NewTargets(nil, verifytest.Trust(verifytest.NewKey()), expires)
	if err != nil {
		t.Fatal(err)
	}
	draft.NewTargets, draft.Fleet = targets, fleet
	must[bool](t)(draft.Sign(must[signature.Signer](t)(signature.LoadSigner(holder.Private(), crypto.SHA256))))
	newRoot, newTargets, newFleet, err := draft.Finish(tuf.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	made := must[tuf.Metadata](t)(author.Renew(tuf.Metadata{}, newRoot, newTargets, newFleet,
		must[signature.Signer](t)(signature.LoadSigner(online.Private(), crypto.SHA256)), time.Now(), 10*24*time.Hour))
	for name, raw := range map[string][]byte{tuf.Name("root", 1): made.Root, tuf.Name("targets", 1): made.Targets, tuf.Name("snapshot", 1): made.Snapshot,
		tuf.TimestampName: made.Timestamp, tuf.FleetName(made.Fleet): made.Fleet} {
		write(t, filepath.Join(dir, must[string](t)(tuf.Path(name))), raw)
	}
	return filepath.Join(dir, "metadata/1.root.json")
}

func TestTUFCommands(t *testing.T) {
	repo, local, targets := t.TempDir(), filepath.Join(t.TempDir(), "metadata"), t.TempDir()
	root := repository(t, repo)
	server := httptest.NewServer(http.FileServer(http.Dir(repo)))
	defer server.Close()
	from := []string{"--metadata-url", server.URL + "/metadata", "--metadata-dir", local}
	fetch := append(append([]string{}, from...), "--target-name", "fleet.json", "--target-dir", targets, "--target-base-url", server.URL+"/targets", "download")

	if err := try(t, append(from, "refresh")...); err == nil {
		t.Error("refreshed without init")
	}
	if err := try(t, "--metadata-dir", local, "init", root); err != nil {
		t.Fatal(err)
	}
	if err := try(t, append(from, "refresh")...); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		if _, err := os.Stat(filepath.Join(local, role+".json")); err != nil {
			t.Error(err)
		}
	}
	if err := try(t, fetch...); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(targets, "fleet.json"))
	if err != nil || !strings.Contains(string(got), "holdfast.dev/trust/v1") {
		t.Fatalf("%v: %s", err, got)
	}
	if err := os.RemoveAll(filepath.Join(repo, "targets")); err != nil {
		t.Fatal(err)
	}
	if err := try(t, fetch...); err != nil {
		t.Errorf("what is there already is fetched again: %v", err)
	}
	fetch[5] = "other.txt"
	if err := try(t, fetch...); err == nil {
		t.Error("a target that is not there")
	}
	t.Run("expired", func(t *testing.T) {
		t.Setenv("FAKETIME", "+11d")
		if err := try(t, append(from, "refresh")...); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%v", err)
		}
	})
	t.Run("ambiguous", func(t *testing.T) {
		write(t, filepath.Join(repo, "metadata/timestamp.json"), []byte(`{"signed":{},"signed":{},"signatures":[]}`))
		if err := try(t, append(from, "refresh")...); err == nil || !strings.Contains(err.Error(), "stands twice") {
			t.Errorf("%v", err)
		}
	})
}

func TestVerifyBundle(t *testing.T) {
	dir := t.TempDir()
	message := []byte("artifact")
	file := write(t, filepath.Join(dir, "artifact"), message)
	other := write(t, filepath.Join(dir, "other"), []byte("other"))

	private, public, err := sign.GenerateKeyPair([]byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	byKey := write(t, filepath.Join(dir, "key.sigstore.json"), must[[]byte](t)(sign.Sign(message, private, []byte("pw"))))
	key := write(t, filepath.Join(dir, "key.pub"), public)

	authorities := must[*keyless.Sigstore](t)(keyless.New())
	const who, issuer = "ci@fleet.example", "https://issuer.example"
	byName := write(t, filepath.Join(dir, "name.sigstore.json"), must[[]byte](t)(authorities.Sign(who, issuer, message)))
	root := write(t, filepath.Join(dir, "root.json"), must[[]byte](t)(authorities.TrustedRoot()))

	for _, c := range []struct {
		name string
		good bool
		args []string
	}{
		{"by key", true, []string{"--bundle", byKey, "--key", key, file}},
		{"by key, another file", false, []string{"--bundle", byKey, "--key", key, other}},
		{"by name", true, []string{"--bundle", byName, "--certificate-identity", who, "--certificate-oidc-issuer", issuer, "--trusted-root", root, file}},
		{"by name, another file", false, []string{"--bundle", byName, "--certificate-identity", who, "--certificate-oidc-issuer", issuer, "--trusted-root", root, other}},
		{"another name", false, []string{"--bundle", byName, "--certificate-identity", "x", "--certificate-oidc-issuer", issuer, "--trusted-root", root, file}},
		{"another issuer", false, []string{"--bundle", byName, "--certificate-identity", who, "--certificate-oidc-issuer", "x", "--trusted-root", root, file}},
		{"no root", false, []string{"--bundle", byName, "--certificate-identity", who, "--certificate-oidc-issuer", issuer, file}},
		{"no name", false, []string{"--bundle", byName, "--trusted-root", root, file}},
		{"by key where a name is wanted", false, []string{"--bundle", byKey, "--certificate-identity", who, "--certificate-oidc-issuer", issuer, "--trusted-root", root, file}},
		{"no bundle", false, []string{"--key", key, file}},
		{"unknown flag", false, []string{"--staging", "--bundle", byKey, "--key", key, file}},
	} {
		if err := try(t, append([]string{"verify-bundle"}, c.args...)...); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := try(t); err == nil {
		t.Error("no command")
	}
	if err := try(t, "sign-bundle"); err == nil {
		t.Error("unknown command")
	}
}
