package verifytest

import (
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Manifest is a valid manifest of shop@1.4.2, counter 7, that commits to the content. Edits change it before it is encoded.
func Manifest(t testing.TB, content []byte, objects int, edits ...func(*bundle.Manifest)) []byte {
	t.Helper()
	m := &bundle.Manifest{
		Schema:  bundle.Schema,
		Name:    "shop",
		Version: "1.4.2",
		Counter: 7,
		Created: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Policy:  bundle.Policy{Prune: true, Drift: bundle.DriftEnforce},
		Content: bundle.ContentInfo{Digest: bundle.DigestOf(content), Size: int64(len(content)), Objects: objects},
	}
	for _, edit := range edits {
		edit(m)
	}
	raw, err := bundle.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Signed signs a manifest by a fresh key and verifies it.
func Signed(t testing.TB, manifest []byte) verify.Signed {
	t.Helper()
	key := NewKey()
	signed, err := Trust(key).Manifest(Twin{}, manifest, [][]byte{key.Sign(manifest)})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Verified makes a verified bundle of objects. Edits change its manifest before it is signed.
func Verified(t testing.TB, objects []bundle.Object, edits ...func(*bundle.Manifest)) verify.Verified {
	t.Helper()
	content, err := bundle.EncodeContent(objects)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := Signed(t, Manifest(t, content, len(objects), edits...)).WithContent(content)
	if err != nil {
		t.Fatal(err)
	}
	return verified
}
