package secret

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const canary = "c4n4ry-hunter2"

func identity(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func recipient(t testing.TB, site bundle.SiteID, n byte) Recipient {
	t.Helper()
	raw, err := Statement(site, identity(n))
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenStatement(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func key(t testing.TB, n byte) *Key {
	t.Helper()
	k, err := KeyOf(identity(n))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var db = Plain{Namespace: "shop", Name: "db", Data: map[string][]byte{"password": []byte(canary)}}

// Every recipient opens a secret and nobody else; the sealed form holds the value in no encoding.
func TestT16_OnlyRecipientsOpen(t *testing.T) {
	raw, err := Seal(db, []Recipient{recipient(t, "shop-1", 1), recipient(t, "shop-2", 2)})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), "password"} {
		if bytes.Contains(raw, []byte(form)) {
			t.Errorf("the sealed form holds %q", form)
		}
	}
	for n := range byte(2) {
		opened, err := key(t, n+1).Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"apiVersion":"v1","data":{"password":"` + base64.StdEncoding.EncodeToString([]byte(canary)) + `"},"kind":"Secret","metadata":{"name":"db","namespace":"shop"},"type":"Opaque"}`
		if string(opened) != want {
			t.Errorf("opened as %s, want %s", opened, want)
		}
	}
	if _, err := key(t, 3).Open(raw); !errors.Is(err, ErrNotFor) {
		t.Errorf("another site: %v, want ErrNotFor", err)
	}
	again, err := Seal(db, []Recipient{recipient(t, "shop-1", 1)})
	if err != nil || bytes.Equal(raw, again) {
		t.Errorf("sealing again gave the same bytes, or %v", err)
	}
}

// A box opens under no other name, nothing of it can be changed, and no error says a value.
func TestT02_SealedSecretsAreBoundAndWhole(t *testing.T) {
	raw, err := Seal(db, []Recipient{recipient(t, "shop-1", 1)})
	if err != nil {
		t.Fatal(err)
	}
	change := func(edit func(*object)) []byte {
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		edit(&o)
		changed, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	for what, hostile := range map[string][]byte{
		"another name":      change(func(o *object) { o.Metadata = []byte(`{"name":"other","namespace":"shop"}`) }),
		"another namespace": change(func(o *object) { o.Metadata = []byte(`{"name":"db","namespace":"public"}`) }),
		"a bit of the box":  change(func(o *object) { o.Sealed.Box[9] ^= 1 }),
		"a bit of the key": change(func(o *object) {
			for _, wrapped := range o.Sealed.Keys {
				wrapped[9] ^= 1
			}
		}),
		"no box":        change(func(o *object) { o.Sealed.Box = nil }),
		"bytes after":   append(bytes.Clone(raw), "{}"...),
		"unknown field": bytes.Replace(raw, []byte(`"kind"`), []byte(`"x":1,"kind"`), 1),
	} {
		opened, err := key(t, 1).Open(hostile)
		if err == nil || opened != nil {
			t.Errorf("%s: opened", what)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error says the value: %v", what, err)
		}
	}
}

// A statement of a sealing key is believed only as its identity signed it.
func TestT21_SealingKeysAreSignedByTheIdentity(t *testing.T) {
	raw, err := Statement("shop-1", identity(1))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := OpenStatement(raw); err != nil || r.Site != "shop-1" || !r.Identity.Equal(identity(1).Public()) {
		t.Fatalf("%v, %v", r, err)
	}
	for i := range raw {
		hostile := bytes.Clone(raw)
		hostile[i] ^= 1
		if r, err := OpenStatement(hostile); err == nil && (r.Site != "shop-1" || !r.Identity.Equal(identity(1).Public())) {
			t.Fatalf("byte %d changed and believed: %v", i, r)
		}
	}
	if _, err := OpenStatement(make([]byte, maxStatement+1)); err == nil {
		t.Error("an endless statement is read")
	}
}

// Lengths tell little, and what is too much is refused before anything is sealed.
func TestT11_SecretsAreBounded(t *testing.T) {
	to := []Recipient{recipient(t, "shop-1", 1)}
	size := func(n int) int {
		p := db
		p.Data = map[string][]byte{"password": bytes.Repeat([]byte("x"), n)}
		raw, err := Seal(p, to)
		if err != nil {
			t.Fatal(err)
		}
		return len(raw)
	}
	if size(8) != size(40) {
		t.Error("a password's length shows in the sealed length")
	}
	if largest := size(MaxData); largest > bundle.MaxObjectSize {
		t.Errorf("the largest secret has %d bytes, and an object may have %d", largest, bundle.MaxObjectSize)
	}
	for what, p := range map[string]Plain{
		"no data":   {Namespace: "a", Name: "b"},
		"bad key":   {Namespace: "a", Name: "b", Data: map[string][]byte{"a b": nil}},
		"too large": {Namespace: "a", Name: "b", Data: map[string][]byte{"a": make([]byte, MaxData+1)}},
	} {
		if _, err := Seal(p, to); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
	if _, err := Seal(db, nil); err == nil {
		t.Error("sealed for nobody")
	}
}

func FuzzOpen(f *testing.F) {
	raw, err := Seal(db, []Recipient{recipient(f, "shop-1", 1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"metadata":{"name":1}}`))
	k := key(f, 1)
	f.Fuzz(func(t *testing.T, in []byte) {
		if opened, err := k.Open(in); err == nil && !json.Valid(opened) {
			t.Errorf("opened as %q", opened)
		}
	})
}

func FuzzOpenStatement(f *testing.F) {
	raw, err := Statement("shop-1", identity(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := OpenStatement(in); err == nil && (len(r.Identity) != ed25519.PublicKeySize || len(r.Sealing) != 32) {
			t.Errorf("believed %v", r)
		}
	})
}
