package author_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func signer(t testing.TB, key crypto.PrivateKey) signature.Signer {
	t.Helper()
	s, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func public(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// first is an unsigned draft of a first root.
func first(t testing.TB, holders author.Holders) *author.Draft {
	t.Helper()
	root, err := author.NewRoot(nil, holders, noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	targets, fleet, err := author.NewTargets(nil, verifytest.Trust(verifytest.NewKey()), noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return &author.Draft{Schema: author.DraftSchema, NewRoot: root, NewTargets: targets, Fleet: fleet}
}

func TestT10_WhoMayHoldTheRoot(t *testing.T) {
	a, b, online := verifytest.NewKey().Public(), verifytest.NewKey().Public(), verifytest.NewKey().Public()
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	padded, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for range author.MaxKeys + 1 {
		many = append(many, verifytest.NewKey().Public())
	}
	for name, c := range map[string]struct {
		holders author.Holders
		good    bool
	}{
		"two of two":           {author.Holders{Root: []string{a, b}, Threshold: 2, Online: []string{online}}, true},
		"Ed25519":              {author.Holders{Root: []string{public(t, edwards)}, Threshold: 1, Online: []string{online}}, true},
		"threshold 0":          {author.Holders{Root: []string{a, b}, Online: []string{online}}, false},
		"threshold below 0":    {author.Holders{Root: []string{a, b}, Threshold: -1, Online: []string{online}}, false},
		"threshold above":      {author.Holders{Root: []string{a, b}, Threshold: 3, Online: []string{online}}, false},
		"the same key twice":   {author.Holders{Root: []string{a, a}, Threshold: 2, Online: []string{online}}, false},
		"the hub holds a root": {author.Holders{Root: []string{a, online}, Threshold: 2, Online: []string{online}}, false},
		"nobody":               {author.Holders{Threshold: 1, Online: []string{online}}, false},
		"nobody online":        {author.Holders{Root: []string{a}, Threshold: 1}, false},
		"too many":             {author.Holders{Root: many, Threshold: 1, Online: []string{online}}, false},
		"P-384":                {author.Holders{Root: []string{public(t, large.Public())}, Threshold: 1, Online: []string{online}}, false},
		"RSA":                  {author.Holders{Root: []string{public(t, padded.Public())}, Threshold: 1, Online: []string{online}}, false},
		"garbage":              {author.Holders{Root: []string{"x"}, Threshold: 1, Online: []string{online}}, false},
	} {
		if _, err := author.NewRoot(nil, c.holders, noon); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDraftGoesFromHolderToHolder(t *testing.T) {
	a, b, c, stranger, online := verifytest.NewKey(), verifytest.NewKey(), verifytest.NewKey(), verifytest.NewKey(), verifytest.NewKey()
	draft := first(t, author.Holders{Root: []string{a.Public(), b.Public(), c.Public()}, Threshold: 2, Online: []string{online.Public()}})
	for _, step := range []struct {
		key     *verifytest.Key
		added   bool
		missing int
		err     error
	}{
		{stranger, false, 2, author.ErrNotHolder}, {online, false, 2, author.ErrNotHolder}, {a, true, 2, nil}, {a, false, 2, nil}, {c, true, 0, nil}, {b, true, 0, nil},
	} {
		added, err := draft.Sign(signer(t, step.key.Private()))
		if added != step.added || !errors.Is(err, step.err) {
			t.Fatalf("signed: %v, %v", added, err)
		}
		raw, err := draft.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if draft, err = author.DecodeDraft(raw); err != nil {
			t.Fatal(err)
		}
		needs, err := draft.Missing()
		if err != nil || len(needs) != step.missing {
			t.Fatalf("missing: %+v, %v", needs, err)
		}
		if _, _, _, err := draft.Finish(tuf.Metadata{}); (err == nil) != (step.missing == 0) {
			t.Fatalf("finish: %v", err)
		}
	}
	root, targets, fleet, err := draft.Finish(tuf.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := author.Renew(tuf.Metadata{}, root, targets, fleet, signer(t, online.Private()), noon, time.Hour); err != nil {
		t.Error(err)
	}
	if _, err := author.Renew(tuf.Metadata{}, root, targets, fleet, signer(t, stranger.Private()), noon, time.Hour); !errors.Is(err, tuf.ErrUnsigned) {
		t.Errorf("by another online key: %v", err)
	}
	if _, _, _, err := draft.Finish(tuf.Metadata{Root: root, Targets: targets, Fleet: fleet}); err == nil {
		t.Error("a first root over another")
	}
}

func TestT10_WhatIsSignedIsWhatIsShown(t *testing.T) {
	a, online := verifytest.NewKey(), verifytest.NewKey()
	good := first(t, author.Holders{Root: []string{a.Public()}, Threshold: 1, Online: []string{online.Public()}})
	other := first(t, author.Holders{Root: []string{a.Public()}, Threshold: 1, Online: []string{online.Public()}})
	for name, edit := range map[string]func(*author.Draft){
		"another trust document":         func(d *author.Draft) { d.Fleet = other.Fleet },
		"no trust document":              func(d *author.Draft) { d.Fleet = nil },
		"nothing to sign":                func(d *author.Draft) { d.NewRoot, d.NewTargets = nil, nil },
		"targets without any root":       func(d *author.Draft) { d.NewRoot = nil },
		"a root that does not follow":    func(d *author.Draft) { d.Root = d.NewRoot },
		"targets in the place of a root": func(d *author.Draft) { d.NewRoot = d.NewTargets },
		"another schema":                 func(d *author.Draft) { d.Schema += "x" },
		"a root without roles":           func(d *author.Draft) { d.NewRoot = []byte(`{"signed":{"_type":"root","roles":{}},"signatures":[]}`) },
		"a second target": func(d *author.Draft) {
			d.NewTargets = bytes.Replace(d.NewTargets, []byte(`"targets": {`), []byte(`"targets": {"x": {"length": 1, "hashes": {"sha256": "00"}},`), 1)
		},
	} {
		draft := *good
		edit(&draft)
		if raw, err := draft.Encode(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, err := author.DecodeDraft(raw); err == nil {
			t.Errorf("%s: read", name)
		}
		if added, err := draft.Sign(signer(t, a.Private())); err == nil || added {
			t.Errorf("%s: signed", name)
		}
	}
	raw, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"duplicate key": strings.Replace(string(raw), `"schema"`, `"schema": "x", "schema"`, 1),
		"unknown key":   strings.Replace(string(raw), `"schema"`, `"x": 1, "schema"`, 1),
		"trailing":      string(raw) + "{}",
		"too large":     string(raw) + strings.Repeat(" ", author.MaxDraft),
	} {
		if _, err := author.DecodeDraft([]byte(text)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzDecodeDraft(f *testing.F) {
	a := verifytest.NewKey()
	raw, err := first(f, author.Holders{Root: []string{a.Public()}, Threshold: 1, Online: []string{verifytest.NewKey().Public()}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		draft, err := author.DecodeDraft(raw)
		if err != nil {
			return
		}
		if _, err := draft.Missing(); err != nil {
			t.Logf("%v", err)
		}
		if _, _, _, err := draft.Finish(tuf.Metadata{}); err == nil {
			t.Fatal("finished without a signature")
		}
	})
}
