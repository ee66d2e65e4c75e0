// Package vault has the key of a hub: its store is encrypted with what is derived from it, and its backups are sealed to it.
//
// A key is an age identity, made once from chance. In the store's folder it lies in one small file, sealed by the first secret of a ring (internal/storekey).
//
//	V1  Who changes the ring's secret writes that file anew, in one step, and nothing else: cut off at any moment, a secret that the ring still holds opens it.
//	V2  A key that does not open with any secret of the ring is ErrWrongSecret, never another key.
//	V3  Neither String nor an error shows a key.
//
// What is sealed to a key is an age file: the age tool opens it, given the identity.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-fleet/holdfast/internal/storekey"
)

// MaxFile bounds a sealed key.
const MaxFile = 4 << 10 // bytes

const (
	schema  = "holdfast.dev/hub-key/v1"
	purpose = "hub"
)

// Key is a hub's key. The zero Key is none.
type Key struct{ identity *age.X25519Identity }

// New makes a key.
func New() (Key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return Key{}, fmt.Errorf("hub key: %w", err)
	}
	return Key{identity}, nil
}

// Parse reads what Secret gives. Its errors do not show it.
func Parse(secret string) (Key, error) {
	identity, err := age.ParseX25519Identity(strings.TrimSpace(secret))
	if err != nil {
		return Key{}, errors.New("hub key: it is no age identity (AGE-SECRET-KEY-1…)")
	}
	return Key{identity}, nil
}

// Secret is the key itself, an age identity.
func (k Key) Secret() string { return k.identity.String() }

// Name tells keys apart: the public half, to which things are sealed. Empty: there is no key.
func (k Key) Name() string {
	if k.identity == nil {
		return ""
	}
	return k.identity.Recipient().String()
}

// String is the name.
func (k Key) String() string { return k.Name() }

// Store is the text that encrypts the hub's store; empty: in the clear.
func (k Key) Store() string {
	if k.identity == nil {
		return ""
	}
	derived, err := hkdf.Key(sha256.New, []byte(k.Secret()), nil, "holdfast hub: jetstream", sha256.Size)
	if err != nil {
		panic(err) // the length is a constant that fits
	}
	return hex.EncodeToString(derived)
}

// Seal writes what only this key opens. What was written is whole after Close.
func (k Key) Seal(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, k.identity.Recipient()) }

// Open reads what was sealed. An end that is missing and a byte that was changed are errors.
func (k Key) Open(r io.Reader) (io.Reader, error) {
	opened, err := age.Decrypt(r, k.identity)
	if err != nil {
		return nil, fmt.Errorf("it does not open with the key %s: %w", k, err)
	}
	return opened, nil
}

// sealed is the file.
type sealed struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`   // of the key
	By     string `json:"by"`     // which secret of the ring it is sealed by
	Sealed []byte `json:"sealed"` // AES-256-GCM, nonce before
}

// ErrWrongSecret says that no secret of the ring opens the key.
var ErrWrongSecret = errors.New("the key is sealed by a secret that is not there")

// SealBy is the file of the key, sealed by the first secret of a ring.
func (k Key) SealBy(ring storekey.Ring) ([]byte, error) {
	if ring.Empty() {
		return nil, errors.New("hub key: there is no secret to seal it by")
	}
	secret := ring.Keys(purpose)[0]
	box, err := boxOf(secret)
	if err != nil {
		return nil, err
	}
	file := sealed{schema, k.Name(), nameOf(secret), box.Seal(nil, nil, []byte(k.Secret()), []byte(schema))}
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("hub key: encode: %w", err)
	}
	return append(raw, '\n'), nil
}

// OpenBy opens the file of a key with a ring. first says that the ring's first secret did.
func OpenBy(ring storekey.Ring, file []byte) (k Key, first bool, err error) {
	if len(file) > MaxFile {
		return k, false, fmt.Errorf("hub key: more than %d bytes", MaxFile)
	}
	var s sealed
	if err := json.Unmarshal(file, &s); err != nil || s.Schema != schema {
		return k, false, fmt.Errorf("hub key: it is no sealed key (%s)", schema)
	}
	for i, secret := range ring.Keys(purpose) {
		if nameOf(secret) != s.By {
			continue
		}
		box, err := boxOf(secret)
		if err != nil {
			return k, false, err
		}
		text, err := box.Open(nil, nil, s.Sealed, []byte(schema))
		if err != nil {
			return k, false, errors.New("hub key: it was changed: its secret does not open it")
		}
		k, err = Parse(string(text))
		if err == nil && k.Name() != s.Name {
			k, err = Key{}, errors.New("hub key: it is not the one that the file names")
		}
		return k, i == 0, err
	}
	return k, false, fmt.Errorf("hub key: %w", ErrWrongSecret)
}

func boxOf(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("hub key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// nameOf tells secrets apart and does not tell them.
func nameOf(secret []byte) string {
	sum := sha256.Sum256(append([]byte("holdfast hub key\x00"), secret...))
	return hex.EncodeToString(sum[:8])
}
