package cosign_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/cosigntool"
)

// minimalRoot is all that the tool wants to have when it verifies with a key.
const minimalRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// desk is a folder in which the real tool works, without network, without HOME and in a hostile environment.
type desk struct {
	t    *testing.T
	tool string
	dir  string
}

func newDesk(t *testing.T) *desk {
	d := &desk{t, cosigntool.Binary(t), t.TempDir()}
	d.write("manifest", verifytest.Manifest(t, bytes.Repeat([]byte("x"), 100), 1))
	d.write("root.json", []byte(minimalRoot))
	return d
}

func (d *desk) write(name string, content []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) read(name string) []byte {
	d.t.Helper()
	content, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return content
}

func (d *desk) run(arguments ...string) error {
	command := exec.Command(d.tool, arguments...)
	command.Dir = d.dir
	command.Env = append(hostile("http://127.0.0.1:1", "/nonexistent"), "COSIGN_PASSWORD=pw", "TUF_ROOT=/nonexistent")
	if namespacesWork() {
		withoutNetwork(command)
	}
	out, err := command.CombinedOutput()
	d.t.Logf("cosign %s: %v\n%s", strings.Join(arguments, " "), err, out)
	return err
}

func (d *desk) must(arguments ...string) {
	d.t.Helper()
	if err := d.run(arguments...); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) signByTool(key string) []byte {
	d.t.Helper()
	d.must("sign-blob", "--yes", "--key", key, "--tlog-upload=false", "--new-bundle-format", "--bundle", "tool.json", "manifest")
	return d.read("tool.json")
}

func (d *desk) verifyByTool(public, signature string) error {
	return d.run("verify-blob", "--new-bundle-format", "--key", public, "--trusted-root", "root.json", "--insecure-ignore-tlog", "--bundle", signature, "manifest")
}

func TestInterop_ToolSignsHoldfastVerifies(t *testing.T) {
	d := newDesk(t)
	d.must("generate-key-pair")
	signed := d.signByTool("cosign.key")
	manifest, public := d.read("manifest"), d.read("cosign.pub")

	key, err := verify.NewKey(string(public), "shop")
	if err != nil {
		t.Fatal(err)
	}
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", Keys: []verify.Key{key}}
	believed, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{signed})
	if err != nil || believed.Digest() != bundle.DigestOf(manifest) {
		t.Fatal(err)
	}
	tampered := bytes.Replace(manifest, []byte("1.4.2"), []byte("1.4.3"), 1)
	if _, err := trust.Manifest(cosign.Verifier{}, tampered, [][]byte{signed}); verify.ReasonOf(err) != verify.BadSignature {
		t.Error(err)
	}
	if _, err := verifytest.Trust(verifytest.NewKey()).Manifest(cosign.Verifier{}, manifest, [][]byte{signed}); verify.ReasonOf(err) != verify.UntrustedKey {
		t.Error(err)
	}

	byUs, err := sign.Sign(manifest, d.read("cosign.key"), []byte("pw"))
	if err != nil {
		t.Fatalf("the tool's key: %v", err)
	}
	if err := (cosign.Verifier{}).Check(manifest, byUs, string(public)); err != nil {
		t.Error(err)
	}
}

func TestInterop_HoldfastSignsToolVerifies(t *testing.T) {
	d := newDesk(t)
	private, public, err := sign.GenerateKeyPair([]byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	d.write("holdfast.key", private)
	d.write("holdfast.pub", public)
	manifest := d.read("manifest")
	signed, err := sign.Sign(manifest, private, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	d.write("holdfast.json", signed)
	if err := d.verifyByTool("holdfast.pub", "holdfast.json"); err != nil {
		t.Error("the tool refuses what Holdfast signed")
	}
	if err := (cosign.Verifier{}).Check(manifest, d.signByTool("holdfast.key"), string(public)); err != nil {
		t.Errorf("the tool with Holdfast's key: %v", err)
	}
	d.write("manifest", bytes.Replace(manifest, []byte("1.4.2"), []byte("1.4.3"), 1))
	if err := d.verifyByTool("holdfast.pub", "holdfast.json"); err == nil {
		t.Error("the tool accepts a tampered manifest")
	}
}

func TestT01_WhatElseTheToolWrites(t *testing.T) {
	d := newDesk(t)
	d.must("generate-key-pair")
	d.must("sign-blob", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--bundle", "legacy.json", "--output-signature", "bare.sig", "manifest")
	d.write("predicate.json", []byte(`{"revision":7}`))
	d.must("attest-blob", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--new-bundle-format", "--type", "https://example.org/x", "--predicate", "predicate.json", "--bundle", "attestation.json", "manifest")
	for name, want := range map[string]error{
		"legacy.json": verify.ErrLegacySignature, "bare.sig": verify.ErrLegacySignature, "attestation.json": verify.ErrUnsupportedSignature,
	} {
		if err := (cosign.Verifier{}).Check(d.read("manifest"), d.read(name), string(d.read("cosign.pub"))); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func TestInterop_ImportedKey(t *testing.T) {
	d := newDesk(t)
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d.write("rsa.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	d.must("import-key-pair", "--key", "rsa.pem", "--output-key-prefix", "rsa")
	manifest, public := d.read("manifest"), string(d.read("rsa.pub"))
	if err := (cosign.Verifier{}).Check(manifest, d.signByTool("rsa.key"), public); err != nil {
		t.Errorf("the tool signed: %v", err)
	}
	signed, err := sign.Sign(manifest, d.read("rsa.key"), []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	d.write("holdfast.json", signed)
	if err := d.verifyByTool("rsa.pub", "holdfast.json"); err != nil {
		t.Error("the tool refuses what Holdfast signed")
	}
}

// The authorities of our tests are like the real ones: the tool believes what they vouch for, and refuses what we refuse.
func TestInterop_ToolVerifiesIdentities(t *testing.T) {
	d := newDesk(t)
	d.write("authorities.json", ours().root)
	d.write("identity.json", ours().sign(d.read("manifest"), builder))
	tool := func(subject string) error {
		return d.run("verify-blob", "--bundle", "identity.json", "--new-bundle-format", "--trusted-root", "authorities.json", "--insecure-ignore-sct",
			"--certificate-identity", subject, "--certificate-oidc-issuer", builder.Issuer, "manifest")
	}
	if err := tool(builder.Subject); err != nil {
		t.Error(err)
	}
	if err := tool("evil@fleet.example"); err == nil {
		t.Error("the tool takes another identity")
	}
	if who, err := (cosign.Verifier{}).Identify(d.read("manifest"), d.read("identity.json"), ours().root); err != nil || who != builder {
		t.Errorf("%v, %v", who, err)
	}
}
