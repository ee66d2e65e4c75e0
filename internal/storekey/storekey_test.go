package storekey

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const secret = "correct-horse-battery-staple"

func TestRingsAreReadAndRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		secret:                         secret + "\n",
		"\n" + secret + "  \r\n\n":     secret + "\n",
		secret + "\nanother-" + secret: secret + "\nanother-" + secret + "\n",
	} {
		r, err := Parse([]byte(text))
		if err != nil || string(r.Encode()) != want {
			t.Errorf("%q: %q, %v", text, r.Encode(), err)
		}
	}
	for name, text := range map[string]string{
		"short": "too-short-a-key", "long": strings.Repeat("k", MaxSecret+1), "binary": secret + "\x00\x01", "umlaut": secret + "ä",
		"lines": strings.Repeat(secret+"\n", MaxRing+1), "bomb": strings.Repeat("k\n", maxText),
	} {
		if _, err := Parse([]byte(text)); err == nil || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreDerivedForTheirPurpose(t *testing.T) {
	old, _ := Parse([]byte(secret))
	next := old.Next()
	if !next.Rotating() || old.Rotating() || !bytes.Equal(next.Keys("a")[1], old.Keys("a")[0]) || bytes.Equal(old.Keys("a")[0], old.Keys("b")[0]) {
		t.Error("keys do not follow their secrets")
	}
	if settled := next.Settled(); settled.Rotating() || !bytes.Equal(settled.Keys("a")[0], next.Keys("a")[0]) {
		t.Error("the settled ring has another key")
	}
}

// T16: a ring does not show itself.
func TestT16_SecretsDoNotShow(t *testing.T) {
	old, _ := Parse([]byte(secret))
	if strings.Contains(old.String(), "horse") {
		t.Error(old.String())
	}
	s, err := Open("command:/bin/false --password "+secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context()); err == nil || strings.Contains(err.Error(), "horse") {
		t.Errorf("%v", err)
	}
}

func TestFirstKeyIsMadeOnceAndNeverForAnEncryptedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.key")
	if _, err := Obtain(t.Context(), File(path), true); !errors.Is(err, ErrLost) {
		t.Fatalf("a lost key: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a key was made for a store that has another one")
	}
	var racing sync.WaitGroup
	rings := make([]string, 8)
	for i := range rings {
		racing.Go(func() {
			r, err := Obtain(context.Background(), File(path), false)
			if err != nil {
				t.Error(err)
			}
			rings[i] = string(r.Encode())
		})
	}
	racing.Wait()
	for _, r := range rings {
		if r == "" || r != rings[0] {
			t.Fatal("two that were first at the same time have different keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFilesAreReplacedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.key")
	s := File(path)
	first, err := Obtain(t.Context(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), first.Next()); err != nil {
		t.Fatal(err)
	}
	if r, err := File(path).Read(t.Context()); err != nil || !r.Rotating() {
		t.Errorf("%s, %v", r, err)
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Obtain(t.Context(), s, false); err == nil {
		t.Error("an emptied file is taken for none")
	}
}

// A stand-in for what unseals from a TPM: it prints the ring.
func TestProgramsPrintTheRing(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "unseal")
	write := func(body string) Source {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := Open("command:"+script+" 0x81000000", nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := write(`[ "$1" = 0x81000000 ] && echo ` + secret)
	r, err := s.Read(t.Context())
	if err != nil || string(r.Encode()) != secret+"\n" {
		t.Errorf("%v", err)
	}
	if err := s.Write(t.Context(), r.Next()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
	for name, body := range map[string]string{"nothing": "true", "failure": "echo " + secret + "; exit 3", "endless": "yes " + secret + " | head -c 100000"} {
		if r, err := write(body).Read(t.Context()); err == nil || !r.Empty() {
			t.Errorf("%s is taken for a key", name)
		}
	}
}

func TestReferencesThatMeanNothingAreRefused(t *testing.T) {
	secrets := func(string, string) Source { return File("x") }
	for _, ref := range []string{"", "file:", "file", "command:", "command:unseal", "secret:", "secret:a", "secret:a/b/c", "vault:x", "/etc/key"} {
		if _, err := Open(ref, secrets); err == nil {
			t.Errorf("%q is a source", ref)
		}
	}
	if _, err := Open("secret:a/b", nil); err == nil {
		t.Error("a Secret without a cluster")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(secret))
	f.Add([]byte("\r\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(r.Encode())
		if err != nil || !bytes.Equal(again.Encode(), r.Encode()) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
