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
	encoded, err := json.Marshal(twinSignature{Key: k.id, Signature: k.raw(message)})
	if err != nil {
		panic(err)
	}
	return encoded
}

// Private is the private key.
func (k *Key) Private() *ecdsa.PrivateKey { return k.private }

func (k *Key) raw(message []byte) []byte {
	sum := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		panic(err)
	}
	return signature
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

// Authority certifies identities for the twin: its public key is the twin's trusted root.
type Authority struct{ key *Key }

// NewAuthority makes an authority.
func NewAuthority() *Authority { return &Authority{NewKey()} }

// Root is the trusted root that names only this authority.
func (a *Authority) Root() []byte {
	root, err := json.Marshal(twinRoot{a.key.public})
	if err != nil {
		panic(err)
	}
	return root
}

// Sign makes a signature by the identity.
func (a *Authority) Sign(message []byte, who verify.Certified) []byte {
	encoded, err := json.Marshal(twinSignature{Key: a.key.id, Signature: a.key.raw(certificate(message, who)), Issuer: who.Issuer, Subject: who.Subject})
	if err != nil {
		panic(err)
	}
	return encoded
}

func certificate(message []byte, who verify.Certified) []byte {
	return fmt.Appendf(nil, "%q %q %x", who.Issuer, who.Subject, sha256.Sum256(message))
}

type twinRoot struct {
	Authority string `json:"authority"`
}

type twinSignature struct {
	Key       verify.KeyID `json:"key"`
	Signature []byte       `json:"signature"`
	Issuer    string       `json:"issuer,omitempty"`
	Subject   string       `json:"subject,omitempty"`
}

func readSignature(signature []byte) (s twinSignature, err error) {
	if err := json.Unmarshal(signature, &s); err != nil {
		return s, fmt.Errorf("%w: %w", verify.ErrMalformedSignature, err)
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, signature) {
		return s, verify.ErrMalformedSignature
	}
	return s, nil
}

// Identify implements verify.Signatures.
func (Twin) Identify(message, signature, trustedRoot []byte) (verify.Certified, error) {
	s, err := readSignature(signature)
	if err != nil {
		return verify.Certified{}, err
	}
	who := verify.Certified{Issuer: s.Issuer, Subject: s.Subject}
	if who == (verify.Certified{}) {
		return who, verify.ErrUnsupportedSignature
	}
	var root twinRoot
	if err := json.Unmarshal(trustedRoot, &root); err != nil {
		return verify.Certified{}, fmt.Errorf("trusted root: %w", err)
	}
	key, id, err := verify.ParseKey(root.Authority)
	if err != nil {
		return verify.Certified{}, fmt.Errorf("trusted root: %w", err)
	}
	if s.Key != id {
		return verify.Certified{}, fmt.Errorf("%w: %.80s", verify.ErrOtherAuthority, s.Key)
	}
	if sum := sha256.Sum256(certificate(message, who)); !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), sum[:], s.Signature) {
		return verify.Certified{}, verify.ErrBadSignature
	}
	return who, nil
}

// Check implements verify.Signatures.
func (Twin) Check(message, signature []byte, publicKeyPEM string) error {
	s, err := readSignature(signature)
	if err != nil {
		return err
	}
	if s.Issuer != "" || s.Subject != "" {
		return verify.ErrUnsupportedSignature
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
