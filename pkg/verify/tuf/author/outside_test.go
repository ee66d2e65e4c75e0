package author_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"reflect"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// A key that never leaves its device signs what a draft gives out, and nothing else that it signed is taken for that.
func TestT10_AKeyOutsideSignsADraft(t *testing.T) {
	device, stranger, online := verifytest.NewKey(), verifytest.NewKey(), verifytest.NewKey()
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	holders := author.Holders{Root: []string{device.Public(), public(t, edPublic)}, Threshold: 2, Online: []string{online.Public()}}
	draft := first(t, holders)
	root, targets, err := draft.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	ecdsaSign := func(key crypto.PrivateKey, message []byte) []byte {
		digest := sha256.Sum256(message)
		s, err := ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	rootSig, targetsSig := ecdsaSign(device.Private(), root), ecdsaSign(device.Private(), targets)
	flipped := append([]byte{}, rootSig...)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		key  string
		give [][]byte
		err  error
	}{
		"the root's alone":   {device.Public(), [][]byte{rootSig}, author.ErrNoSignature},
		"over other bytes":   {device.Public(), [][]byte{ecdsaSign(device.Private(), append(root, ' ')), targetsSig}, author.ErrNoSignature},
		"a flipped bit":      {device.Public(), [][]byte{flipped, targetsSig}, author.ErrNoSignature},
		"by another key":     {device.Public(), [][]byte{ecdsaSign(stranger.Private(), root), targetsSig}, author.ErrNoSignature},
		"no holder":          {stranger.Public(), [][]byte{ecdsaSign(stranger.Private(), root), ecdsaSign(stranger.Private(), targets)}, author.ErrNotHolder},
		"too long":           {device.Public(), [][]byte{make([]byte, author.MaxSignature+1)}, nil},
		"none":               {device.Public(), nil, nil},
		"no key":             {"x", [][]byte{rootSig, targetsSig}, nil},
		"the hub's own keys": {online.Public(), [][]byte{ecdsaSign(online.Private(), root)}, author.ErrNotHolder},
	} {
		before := *draft
		added, err := draft.Attach(c.key, c.give...)
		if err == nil || added || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, added, err)
		}
		if !reflect.DeepEqual(*draft, before) {
			t.Errorf("%s: the draft changed", name)
		}
	}
	for _, c := range []struct {
		key     string
		give    [][]byte
		added   bool
		missing int
	}{
		{device.Public(), [][]byte{targetsSig, []byte(base64.StdEncoding.EncodeToString(rootSig) + "\n")}, true, 2},
		{device.Public(), [][]byte{rootSig, targetsSig}, false, 2},
		{public(t, edPublic), [][]byte{ed25519.Sign(edPrivate, root), ed25519.Sign(edPrivate, targets)}, true, 0},
	} {
		added, err := draft.Attach(c.key, c.give...)
		if err != nil || added != c.added {
			t.Fatalf("attach: %v, %v", added, err)
		}
		if needs, err := draft.Missing(); err != nil || len(needs) != c.missing {
			t.Fatalf("missing: %+v, %v", needs, err)
		}
	}
	made, madeTargets, _, err := draft.Finish(tuf.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	// What does not change has nothing to sign.
	next := &author.Draft{Schema: author.DraftSchema, Root: made}
	if next.NewTargets, next.Fleet, err = author.NewTargets(madeTargets, verifytest.Trust(verifytest.NewKey()), noon.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if root, targets, err := next.Payloads(); err != nil || root != nil || targets == nil {
		t.Errorf("payloads of a new trust document alone: %d and %d bytes, %v", len(root), len(targets), err)
	}
}
