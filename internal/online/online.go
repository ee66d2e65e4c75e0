// Package online is the hub's online key: one Ed25519 key that the fleet's root of trust names three times – for snapshot and timestamp, for
// what sites should run, and for what is new now. It can sign no software and no change of the root.
//
// On disk it is PEM: the private half PKCS #8 in the clear, because a hub starts without anybody who could type a password, the public half
// SubjectPublicKeyInfo. In the trust document it is a NATS user key ("U…"), as everything on the bus is named.
package online

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// MaxFile bounds a key file, in bytes.
const MaxFile = 4 << 10

// Generate makes a key pair in PEM.
func Generate() (private, public []byte, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("online key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("online key: %w", err)
	}
	public, err = EncodePublic(pub)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), public, err
}

// EncodePublic writes the public half in PEM.
func EncodePublic(public ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("online key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Decode reads the private half. The key never stands in an error.
func Decode(raw []byte) (ed25519.PrivateKey, error) {
	der, err := block(raw, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("online key: it is no PKCS #8")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("online key: %T, want Ed25519: holdfast key generate --online makes one", key)
	}
	return private, nil
}

// DecodePublic reads the public half.
func DecodePublic(raw []byte) (ed25519.PublicKey, error) {
	der, err := block(raw, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("online key: %w", err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("online key: %T, want Ed25519: holdfast key generate --online makes one", key)
	}
	return public, nil
}

func block(raw []byte, kind string) ([]byte, error) {
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("online key: %d bytes, at most %d", len(raw), MaxFile)
	}
	b, _ := pem.Decode(raw)
	if b == nil || b.Type != kind {
		return nil, fmt.Errorf("online key: want one PEM block of type %s", kind)
	}
	return b.Bytes, nil
}

// Name is the key in the words of the bus.
func Name(public ed25519.PublicKey) (string, error) {
	name, err := nkeys.Encode(nkeys.PrefixByteUser, public)
	if err != nil {
		return "", fmt.Errorf("online key: %w", err)
	}
	return string(name), nil
}

// Of names the key for every role in a trust document.
func Of(public ed25519.PublicKey) (*verify.Online, error) {
	name, err := Name(public)
	if err != nil {
		return nil, err
	}
	return &verify.Online{Assignment: []string{name}, Freshness: []string{name}}, nil
}

// Keys are those of one role. A document that names none names no hub.
func Keys(names []string) ([]ed25519.PublicKey, error) {
	if len(names) == 0 {
		return nil, errors.New("the trust document names no key of a hub")
	}
	var keys []ed25519.PublicKey
	for _, name := range names {
		raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(name))
		if err != nil {
			return nil, fmt.Errorf(`online key %.80q: want a NATS user key ("U…")`, name)
		}
		keys = append(keys, ed25519.PublicKey(raw))
	}
	return keys, nil
}

// Assignment are the keys whose signature assignments, acknowledgements and the hub's answers carry.
func Assignment(trust *verify.Trust) ([]ed25519.PublicKey, error) {
	if trust == nil || trust.Online == nil {
		return Keys(nil)
	}
	return Keys(trust.Online.Assignment)
}

// Freshness are the keys whose signature says what is new now.
func Freshness(trust *verify.Trust) ([]ed25519.PublicKey, error) {
	if trust == nil || trust.Online == nil {
		return Keys(nil)
	}
	return Keys(trust.Online.Freshness)
}
