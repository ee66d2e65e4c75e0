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
	"slices"
	"strings"
	"time"

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
	// MaxIdentities is the most identities a document may have.
	MaxIdentities = 32
	maxIdentity   = 1 << 10 // bytes of an issuer or a subject
	maxThresholds = 256
	maxOnline     = 8 // keys of one role
)

// KeyID names a signer. Of a public key it is "sha256:" and the hex SHA-256 of its DER SubjectPublicKeyInfo; of an identity "identity:",
// its subject, " by " and its issuer.
type KeyID string

// Trust says whom a fleet believes. It is a plain value; the zero value believes nobody.
type Trust struct {
	Schema string `json:"schema"`
	// Fleet is the fleet's name: a DNS label.
	Fleet string `json:"fleet"`
	Keys  []Key  `json:"keys"`
	// Identities may sign like keys, by certificates of the authorities in SigstoreRoot.
	Identities []Identity `json:"identities,omitempty"`
	// SigstoreRoot is a Sigstore trusted root (trusted_root.json): authorities, logs and timestamp authorities. Identities need it.
	SigstoreRoot json.RawMessage `json:"sigstoreRoot,omitempty"`
	// Thresholds say how many different signers a bundle needs, by pattern of its name. The highest that matches counts; it is 1 where none does.
	Thresholds map[string]int `json:"thresholds,omitempty"`
	// Floors are the lowest counters that are still believed, by bundle name.
	Floors map[bundle.Name]bundle.Counter `json:"floors,omitempty"`
	// CounterEpoch makes counters begin anew when it is raised: marks of lower epochs bind nobody any more.
	CounterEpoch uint64 `json:"counterEpoch,omitempty"`
	// Online names the hub's own keys. They can sign no software.
	Online *Online `json:"online,omitempty"`
}

// Online names the keys that the hub holds itself, in the words of the protocol that uses them (pkg/sync).
type Online struct {
	Assignment []string `json:"assignment,omitempty"` // say what a site should run
	Freshness  []string `json:"freshness,omitempty"`  // say what is new now
}

// Key is a release key.
type Key struct {
	ID KeyID `json:"id"`
	// PublicKey is PEM, one block of type PUBLIC KEY.
	PublicKey string `json:"publicKey"`
	// Names are the patterns of bundle names it may sign: "pos", "shop-*", "*".
	Names []string `json:"names"`
	// NotBefore and NotAfter, in UTC, bound when what it signed may be accepted for the first time.
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
	// Revoked keys sign nothing new. What a site accepted before stays believed there: see Trust.Accepted.
	Revoked bool `json:"revoked,omitempty"`
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
	return slices.ContainsFunc(k.Names, func(pattern string) bool { return matches(pattern, name) })
}

func matches(pattern string, name bundle.Name) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return open && strings.HasPrefix(string(name), prefix) || pattern == string(name)
}

// Threshold is how many different signers a bundle of the name needs.
func (t *Trust) Threshold(name bundle.Name) int {
	highest := 1
	for pattern, signers := range t.Thresholds {
		if matches(pattern, name) {
			highest = max(highest, signers)
		}
	}
	return highest
}

func (k Key) check() error {
	_, id, err := ParseKey(k.PublicKey)
	if err != nil {
		return err
	}
	if id != k.ID {
		return fmt.Errorf("release key %.80q: the public key's id is %s", k.ID, id)
	}
	return checkRights("release key "+string(k.ID), k.Names, k.NotBefore, k.NotAfter)
}

// checkRights looks at what keys and identities have in common.
func checkRights(subject string, names []string, notBefore, notAfter *time.Time) error {
	if len(names) == 0 || len(names) > maxNames {
		return fmt.Errorf("%s: %d name patterns, want 1 to %d", subject, len(names), maxNames)
	}
	for _, pattern := range names {
		if !namePattern.MatchString(pattern) {
			return fmt.Errorf(`%s: name pattern %.80q: want a bundle name, a beginning followed by "*", or "*"`, subject, pattern)
		}
	}
	for _, at := range []*time.Time{notBefore, notAfter} {
		if at != nil && (at.Location() != time.UTC || !at.Equal(at.Truncate(time.Second))) {
			return fmt.Errorf("%s: time %s: want whole seconds in UTC", subject, at.Format(time.RFC3339Nano))
		}
	}
	if notBefore != nil && notAfter != nil && !notBefore.Before(*notAfter) {
		return fmt.Errorf("%s: notAfter is not later than notBefore", subject)
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
	if err := t.checkIdentities(); err != nil {
		return fmt.Errorf("trust document: %w", err)
	}
	if err := t.checkThresholds(); err != nil {
		return fmt.Errorf("trust document: %w", err)
	}
	if err := t.Online.check(); err != nil {
		return fmt.Errorf("trust document: %w", err)
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

func (t *Trust) checkThresholds() error {
	if len(t.Thresholds) > maxThresholds {
		return fmt.Errorf("%d thresholds are more than the %d it may have", len(t.Thresholds), maxThresholds)
	}
	for pattern, signers := range t.Thresholds {
		if !namePattern.MatchString(pattern) {
			return fmt.Errorf(`thresholds: name pattern %.80q: want a bundle name, a beginning followed by "*", or "*"`, pattern)
		}
		if signers < 1 || signers > bundle.MaxSignatures {
			return fmt.Errorf("thresholds: %s: %d signers, want 1 to %d", pattern, signers, bundle.MaxSignatures)
		}
	}
	return nil
}

func (o *Online) check() error {
	if o == nil {
		return nil
	}
	for role, keys := range map[string][]string{"assignment": o.Assignment, "freshness": o.Freshness} {
		if len(keys) > maxOnline {
			return fmt.Errorf("online: %d %s keys are more than the %d it may have", len(keys), role, maxOnline)
		}
		for _, key := range keys {
			if key == "" || len(key) > maxKeySize {
				return fmt.Errorf("online: %s key of %d bytes, want 1 to %d", role, len(key), maxKeySize)
			}
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
