// Package secret seals Kubernetes Secrets for sites, so that nobody between the desk and the site can read them. It has no I/O.
//
// A site's sealing key is made of its identity key, so it is kept and sealed at rest as that is, and there is no second file to lose: other hardware with
// another identity has another sealing key. The site says its public half in a Statement signed by its identity; whoever seals compares the identity's
// fingerprint words with those that were seen when the site was approved.
//
// A sealed secret is an object of a bundle like any other, of the kind SiteSecret:
//
//	{"apiVersion": "holdfast.dev/v1", "kind": "SiteSecret", "metadata": {"namespace": "shop", "name": "db"},
//	 "sealed": {"box": "…", "keys": {"<recipient>": "…"}}}
//
// box is the Secret's type and data, encrypted (AES-256-GCM) with a key of its own, and keys has that key for each recipient (RFC 9180, DHKEM(X25519),
// HKDF-SHA256, AES-256-GCM). Recipients are named by a hash of their sealing key.
//
//	S1  Only the sealing keys of the recipients open it. What is signed, stored, carried, compared and reported is the sealed form.
//	S2  The box belongs to one namespace and name: it opens under no other.
//	S3  Lengths are rounded up to 256 bytes. Errors name what is wrong and never a value.
//	S4  Who may write it, that it is not older than what the site had, and that it is taken back when somebody changes it, are the bundle's promises.
package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Limits.
const (
	// MaxData is the most bytes that the values of one secret may have together, as in Kubernetes.
	MaxData = 1 << 20
	// MaxRecipients is the most sites that one sealed secret may be for.
	MaxRecipients = 500

	maxStatement = 2 << 10
	maxKeys      = 256 // of a secret's data
	padding      = 256
	keySize      = 32
)

const (
	context       = "holdfast.dev/site-secret/v1"
	typeStatement = "sealing-key/v1"
)

// Key opens what was sealed for a site.
type Key struct {
	private hpke.PrivateKey
	public  []byte
}

// KeyOf makes the sealing key of a site's identity.
func KeyOf(identity ed25519.PrivateKey) (*Key, error) {
	raw, err := hkdf.Key(sha256.New, identity.Seed(), nil, context+" sealing key", keySize)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	curve, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	private, err := hpke.NewDHKEMPrivateKey(curve)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	return &Key{private, curve.PublicKey().Bytes()}, nil
}

// Recipient is whom a secret can be sealed for.
type Recipient struct {
	Site     bundle.SiteID     `json:"site"`
	Identity ed25519.PublicKey `json:"identity"`
	Sealing  []byte            `json:"sealing"` // X25519
}

// Statement says a site's sealing key, signed by its identity.
func Statement(site bundle.SiteID, identity ed25519.PrivateKey) ([]byte, error) {
	key, err := KeyOf(identity)
	if err != nil {
		return nil, err
	}
	return fleetsync.Seal(typeStatement, Recipient{site, identity.Public().(ed25519.PublicKey), key.public}, identity)
}

// OpenStatement reads a statement: it is signed by the identity it names. Whether that is the site's is for the reader to know.
func OpenStatement(raw []byte) (Recipient, error) {
	if len(raw) > maxStatement {
		return Recipient{}, fmt.Errorf("sealing key: %d bytes are more than a statement may have (%d)", len(raw), maxStatement)
	}
	var envelope fleetsync.Envelope
	var r Recipient
	if err := decode(raw, &envelope); err != nil {
		return Recipient{}, fmt.Errorf("sealing key: %w", err)
	}
	if err := decode(envelope.Payload, &r); err != nil {
		return Recipient{}, fmt.Errorf("sealing key: %w", err)
	}
	if err := fleetsync.Open(typeStatement, raw, r.Identity, new(Recipient)); err != nil {
		return Recipient{}, fmt.Errorf("sealing key: %w", err)
	}
	if _, err := bundle.ParseSiteID(string(r.Site)); err != nil {
		return Recipient{}, fmt.Errorf("sealing key: %w", err)
	}
	if _, err := ecdh.X25519().NewPublicKey(r.Sealing); err != nil {
		return Recipient{}, fmt.Errorf("sealing key: %w", err)
	}
	return r, nil
}

// Plain is a secret before it is sealed.
type Plain struct {
	Namespace, Name string
	Type            string // empty: Opaque
	Data            map[string][]byte
}

type payload struct {
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

// object is a SiteSecret.
type object struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   json.RawMessage `json:"metadata"`
	Sealed     sealed          `json:"sealed"`
}

type sealed struct {
	Box  []byte            `json:"box"`
	Keys map[string][]byte `json:"keys"`
}

func (p Plain) check() error {
	size := 0
	for key, value := range p.Data {
		size += len(value)
		if key == "" || len(key) > 253 || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			return fmt.Errorf("key %.80q: want letters, digits, -, _ and ., at most 253", key)
		}
	}
	switch {
	case len(p.Data) == 0 || len(p.Data) > maxKeys:
		return fmt.Errorf("%d keys, want 1 to %d", len(p.Data), maxKeys)
	case size > MaxData:
		return fmt.Errorf("%d bytes of values are more than a Secret may have (%d)", size, MaxData)
	}
	return nil
}

// Seal gives the SiteSecret, in JSON, that each of the recipients can open and nobody else.
func Seal(p Plain, to []Recipient) ([]byte, error) {
	subject := fmt.Sprintf("secret %s/%s", p.Namespace, p.Name)
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if len(to) == 0 || len(to) > MaxRecipients {
		return nil, fmt.Errorf("%s: %d recipients, want 1 to %d", subject, len(to), MaxRecipients)
	}
	if p.Type == "" {
		p.Type = "Opaque"
	}
	plain, err := json.Marshal(payload{p.Type, p.Data})
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", subject, err)
	}
	plain = append(plain, bytes.Repeat([]byte{' '}, (padding-len(plain)%padding)%padding)...)
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	aead, err := boxOf(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	info := infoOf(p.Namespace, p.Name)
	// The key is used once, so the nonce may be the same each time.
	out := sealed{aead.Seal(nil, make([]byte, aead.NonceSize()), plain, info), map[string][]byte{}}
	for _, r := range to {
		curve, err := ecdh.X25519().NewPublicKey(r.Sealing)
		if err != nil {
			return nil, fmt.Errorf("%s: site %s: %w", subject, r.Site, err)
		}
		public, err := hpke.NewDHKEMPublicKey(curve)
		if err != nil {
			return nil, fmt.Errorf("%s: site %s: %w", subject, r.Site, err)
		}
		if out.Keys[nameOf(r.Sealing)], err = hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, key); err != nil {
			return nil, fmt.Errorf("%s: site %s: %w", subject, r.Site, err)
		}
	}
	metadata, err := json.Marshal(map[string]string{"name": p.Name, "namespace": p.Namespace})
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", subject, err)
	}
	return json.Marshal(object{"holdfast.dev/v1", "SiteSecret", metadata, out})
}

// ErrNotFor says that a secret was not sealed for this site's key.
var ErrNotFor = errors.New("it was not sealed for this site's present key")

// Open makes the Kubernetes Secret, in JSON, of a SiteSecret. Metadata stays as it is.
func (k *Key) Open(raw []byte) ([]byte, error) {
	if len(raw) > bundle.MaxObjectSize {
		return nil, fmt.Errorf("sealed secret: %d bytes are more than an object may have (%d)", len(raw), bundle.MaxObjectSize)
	}
	var in object
	var at struct{ Name, Namespace string }
	if err := decode(raw, &in); err != nil {
		return nil, fmt.Errorf("sealed secret: %w", err)
	}
	if err := json.Unmarshal(in.Metadata, &at); err != nil {
		return nil, fmt.Errorf("sealed secret: metadata: %w", err)
	}
	subject := fmt.Sprintf("sealed secret %.253s/%.253s", at.Namespace, at.Name)
	wrapped, ours := in.Sealed.Keys[nameOf(k.public)]
	if !ours {
		return nil, fmt.Errorf("%s: %w", subject, ErrNotFor)
	}
	info := infoOf(at.Namespace, at.Name)
	key, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, wrapped)
	if err != nil {
		return nil, fmt.Errorf("%s: its key cannot be opened: damaged, or sealed under another name", subject)
	}
	aead, err := boxOf(key)
	if err != nil {
		return nil, fmt.Errorf("%s: its key is none", subject)
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), in.Sealed.Box, info)
	if err != nil {
		return nil, fmt.Errorf("%s: its box cannot be opened: damaged, or another's", subject)
	}
	var p payload
	// What a decoder says may quote what it read.
	if err := decode(plain, &p); err != nil || (Plain{Data: p.Data}).check() != nil {
		return nil, fmt.Errorf("%s: what is in its box is not the data of a Secret", subject)
	}
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": in.Metadata, "type": p.Type, "data": p.Data})
}

func boxOf(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, errors.New("not the key of a box")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// infoOf binds what is sealed to where it belongs. Neither name can hold a line's end.
func infoOf(namespace, name string) []byte { return []byte(context + "\n" + namespace + "\n" + name) }

func nameOf(sealing []byte) string {
	sum := sha256.Sum256(sealing)
	return hex.EncodeToString(sum[:8])
}

// decode refuses unknown fields and anything after the value. Callers have bounded the size.
func decode(raw []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after it")
	}
	return nil
}
