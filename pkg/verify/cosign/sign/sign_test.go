package sign_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
)

func TestKeyPair(t *testing.T) {
	private, public, err := sign.GenerateKeyPair([]byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(private, []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")) {
		t.Errorf("private key begins %.60q", private)
	}
	if again, err := sign.PublicKey(private, []byte("pw")); err != nil || !bytes.Equal(again, public) {
		t.Errorf("%v: %s", err, again)
	}
	for _, password := range []string{"", "pW", "pw "} {
		if _, err := sign.Sign(nil, private, []byte(password)); !errors.Is(err, sign.ErrPassword) || strings.Contains(err.Error(), "pW") {
			t.Errorf("password %q: %v", password, err)
		}
	}
	if _, err := sign.Sign(make([]byte, bundle.MaxManifestSize+1), private, []byte("pw")); err == nil {
		t.Error("signed a manifest that nobody would believe")
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	_, public, err := sign.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"":             "not PEM",
		string(public): "it is the public key, want the private key",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n":                                       "want one made by cosign",
		"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n": "private key",
		strings.Repeat("x", 1<<20): "more than the 65536 bytes",
	} {
		if _, err := sign.Sign([]byte("m"), []byte(key), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", key, err)
		}
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	private, _, err := sign.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "cosign.key")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := sign.ReadKey(path); err != nil || !bytes.Equal(key, private) {
		t.Error(err)
	}
	// A program that a reference would run must not be run.
	ran := filepath.Join(dir, "ran")
	if err := os.WriteFile(filepath.Join(dir, "sigstore-kms-evil"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, reference := range []string{"evil://x", "awskms:///alias/x", "https://evil.example/cosign.key", "env://COSIGN_KEY", "k8s://ns/key", "file://" + path} {
		if _, err := sign.ReadKey(reference); err == nil || !strings.Contains(err.Error(), "only files") {
			t.Errorf("%s: %v", reference, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a key reference ran a program")
	}
	if _, err := sign.ReadKey(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
