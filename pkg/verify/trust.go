package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

// TrustSchema is the schema identifier of a Trust document.
const TrustSchema = "holdfast.dev/trust/v1"

// The limits of a Trust document.
const (
	MaxTrustSize = 256 << 10 // bytes of an encoded document
	MaxKeys      = 32
	maxNames     = 64 // patterns of one key
	maxFloors    = 4096
	maxKeySize   = 4 << 10 // bytes of a public key in PEM
)

// KeyID names a public key: "sha256:" and the hex SHA-256 of its DER SubjectPublicKeyInfo.
type KeyID string

// Trust says whom a fleet believes. It is a plain value; the zero value believes nobody.
type Trust struct {
	Schema string `json:"schema"`
	// Fleet is the fleet's name: a DNS label.
	Fleet string `json:"fleet"`
	Keys  []Key  `json:"keys"`
	// Floors are the lowest counters that are still believed, by bundle name.
	Floors map[bundle.Name]bundle.Counter `json:"floors,omitempty"`
}

// Key is a release key.
type Key struct {
	ID KeyID `json:"id"`
	// PublicKey is PEM, one block of type PUBLIC KEY.
	PublicKey string `json:"publicKey"`
	// Names are the patterns of bundle names it may sign: "pos", "shop-*", "*".
	Names []string `json:"names"`
}

var namePattern = regexp.MustCompile(`^(\*|[a-z0-9][a-z0-9-]{0,62}\*?)$`)

// NewKey makes a release key of a public key in PEM that may sign the names.
func NewKey(publicKeyPEM string, names ...string) (Key, error) {
	_, id, err := ParseKey(publicKeyPEM)
	if err != nil {
		return Key{}, err
	}
	key := Key{ID: id, PublicKey: publicKeyPEM, Names: names}
	return key, key.check()
}

// May says whether the key may sign bundles of the name.
func (k Key) May(name bundle.Name) bool {
	for _, pattern := range k.Names {
		prefix, open := strings.CutSuffix(pattern, "*")
		if open && strings.HasPrefix(string(name), prefix) || pattern == string(name) {
			return true
		}
	}
	return false
}

func (k Key) check() error {
	_, id, err := ParseKey(k.PublicKey)
	if err != nil {
		return err
	}
	if id != k.ID {
		return fmt.Errorf("release key %.80q: the public key's id is %s", k.ID, id)
	}
	if len(k.Names) == 0 || len(k.Names) > maxNames {
		return fmt.Errorf("release key %s: %d name patterns, want 1 to %d", k.ID, len(k.Names), maxNames)
	}
	for _, pattern := range k.Names {
		if !namePattern.MatchString(pattern) {
			return fmt.Errorf(`release key %s: name pattern %.80q: want a bundle name, a beginning followed by "*", or "*"`, k.ID, pattern)
		}
	}
	return nil
}

// ParseKey reads a public key in PEM, of a kind that may be a release key, and gives its id.
func ParseKey(publicKeyPEM string) (crypto.PublicKey, KeyID, error) {
	if len(publicKeyPEM) > maxKeySize {
		return nil, "", fmt.Errorf("public key: %d bytes are more than the %d it may have", len(publicKeyPEM), maxKeySize)
	}
	block, rest := pem.Decode([]byte(publicKeyPEM))
	switch {
	case block == nil:
		return nil, "", errors.New("public key: not PEM")
	case block.Type != "PUBLIC KEY":
		return nil, "", fmt.Errorf("public key: PEM block %.40q, want PUBLIC KEY", block.Type)
	case strings.TrimSpace(string(rest)) != "" || !strings.HasPrefix(publicKeyPEM, "-----BEGIN ") || len(block.Headers) > 0:
		return nil, "", errors.New("public key: want one PEM block and nothing else")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("public key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, "", fmt.Errorf("public key: ECDSA on %s, want P-256", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits != 2048 && bits != 3072 && bits != 4096 {
			return nil, "", fmt.Errorf("public key: RSA of %d bits, want 2048, 3072 or 4096", bits)
		}
	default:
		return nil, "", fmt.Errorf("public key: %T is not supported, want ECDSA on P-256 or RSA", key)
	}
	sum := sha256.Sum256(block.Bytes)
	return key, KeyID("sha256:" + hex.EncodeToString(sum[:])), nil
}

// Check says what is wrong with the document. One without keys is right, and believes nobody.
func (t *Trust) Check() error {
	if t.Schema != TrustSchema {
		return fmt.Errorf("trust document: schema %.80q, want %s", t.Schema, TrustSchema)
	}
	if _, err := bundle.ParseName(t.Fleet); err != nil {
		return fmt.Errorf("trust document: fleet %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", t.Fleet)
	}
	if len(t.Keys) > MaxKeys {
		return fmt.Errorf("trust document: %d keys are more than the %d it may have", len(t.Keys), MaxKeys)
	}
	seen := map[KeyID]bool{}
	for _, key := range t.Keys {
		if err := key.check(); err != nil {
			return fmt.Errorf("trust document: %w", err)
		}
		if seen[key.ID] {
			return fmt.Errorf("trust document: release key %s stands twice", key.ID)
		}
		seen[key.ID] = true
	}
	if len(t.Floors) > maxFloors {
		return fmt.Errorf("trust document: %d floors are more than the %d it may have", len(t.Floors), maxFloors)
	}
	for name := range t.Floors {
		if _, err := bundle.ParseName(string(name)); err != nil {
			return fmt.Errorf("trust document: floors: %w", err)
		}
	}
	return nil
}

// DecodeTrust reads and checks a document of at most MaxTrustSize bytes.
func DecodeTrust(raw []byte) (*Trust, error) {
	var t Trust
	if err := strict.Decode(raw, MaxTrustSize, &t); err != nil {
		return nil, fmt.Errorf("trust document: %w", err)
	}
	if err := t.Check(); err != nil {
		return nil, err
	}
	return &t, nil
}

// EncodeTrust checks and writes a document. Equal documents give equal bytes.
func EncodeTrust(t *Trust) ([]byte, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	encodable := *t
	if encodable.Keys == nil {
		encodable.Keys = []Key{}
	}
	raw, err := json.MarshalIndent(encodable, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("trust document: encode: %w", err)
	}
	if raw = append(raw, '\n'); len(raw) > MaxTrustSize {
		return nil, fmt.Errorf("trust document: %d bytes are more than the %d it may have", len(raw), MaxTrustSize)
	}
	return raw, nil
}
