// Package verifytest has what tests of and around verify need: a twin of the port verify.Signatures that signs with real keys and no outside
// library, the suite that the twin and the real adapter both pass, and bundles that are really verified.
package verifytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Key is a release key that lives in memory.
type Key struct {
	private *ecdsa.PrivateKey
	public  string
	id      verify.KeyID
}

// NewKey makes a key.
func NewKey() *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		panic(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	_, id, err := verify.ParseKey(public)
	if err != nil {
		panic(err)
	}
	return &Key{private, public, id}
}

// Public is the public key in PEM.
func (k *Key) Public() string { return k.public }

// ID names the key.
func (k *Key) ID() verify.KeyID { return k.id }

// Sign makes a signature that Twin understands.
func (k *Key) Sign(message []byte) []byte {
	sum := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		panic(err)
	}
	encoded, err := json.Marshal(twinSignature{k.id, signature})
	if err != nil {
		panic(err)
	}
	return encoded
}

// Trust is a fleet "test" whose release keys may sign every name.
func Trust(keys ...*Key) *verify.Trust {
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"}
	for _, key := range keys {
		trust.Keys = append(trust.Keys, verify.Key{ID: key.id, PublicKey: key.public, Names: []string{"*"}})
	}
	return trust
}

// Twin is the in-memory twin of the cosign adapter.
type Twin struct{}

var _ verify.Signatures = Twin{}

type twinSignature struct {
	Key       verify.KeyID `json:"key"`
	Signature []byte       `json:"signature"`
}

// Check implements verify.Signatures.
func (Twin) Check(message, signature []byte, publicKeyPEM string) error {
	var s twinSignature
	if err := json.Unmarshal(signature, &s); err != nil {
		return fmt.Errorf("%w: %w", verify.ErrMalformedSignature, err)
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, signature) {
		return verify.ErrMalformedSignature
	}
	key, id, err := verify.ParseKey(publicKeyPEM)
	if err != nil {
		return err
	}
	if s.Key != id {
		return fmt.Errorf("%w: %.80s", verify.ErrOtherKey, s.Key)
	}
	public, ok := key.(*ecdsa.PublicKey)
	sum := sha256.Sum256(message)
	if !ok || !ecdsa.VerifyASN1(public, sum[:], s.Signature) {
		return verify.ErrBadSignature
	}
	return nil
}
