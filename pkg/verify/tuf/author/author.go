// Package author makes and signs the metadata of package tuf. It belongs to the desk, where the offline keys are, and to the hub, whose online
// key signs snapshot and timestamp alone.
//
// # The draft
//
// A [Draft] is one change on its way through the hands of several key holders: a file that each of them reads ([Draft.Review]), signs
// ([Draft.Sign]) and passes on, until nothing is [Draft.Missing]. It holds the root that is trusted now, and what is new: a root, targets with
// their trust document, or both. Signing adds a signature and changes nothing else.
//
// # Guarantees
//
//   - R1 Versions follow each other: a new file has its predecessor's version and one.
//   - R2 Only keys that hold the role, before or after the change, may sign it; each once.
//   - R3 The document that is signed is the document that is read: fleet.json's bytes are made anew from what Review shows.
//   - R4 Nothing is published that package tuf would not accept as the next thing after what is trusted.
package author

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// MaxKeys is the most keys a role may have.
const MaxKeys = 16

// Holders are the keys that hold the roles, as PEM of type PUBLIC KEY: ECDSA on P-256 or Ed25519.
type Holders struct {
	Root      []string // root and targets
	Threshold int      // how many of Root must sign
	Online    []string // snapshot and timestamp; any one of them signs
}

// NewRoot makes the next root after previous, or the first one after nil. Nobody has signed it yet.
func NewRoot(previous []byte, holders Holders, expires time.Time) ([]byte, error) {
	if err := holders.Check(); err != nil {
		return nil, err
	}
	root := metadata.Root(second(expires))
	if previous != nil {
		last, err := metadata.Root().FromBytes(previous)
		if err != nil {
			return nil, fmt.Errorf("root: previous: %w", err)
		}
		root.Signed.Version = last.Signed.Version + 1
	}
	for role, keys := range map[string][]string{metadata.ROOT: holders.Root, metadata.TARGETS: holders.Root,
		metadata.SNAPSHOT: holders.Online, metadata.TIMESTAMP: holders.Online} {
		root.Signed.Roles[role].Threshold = 1
		if role == metadata.ROOT || role == metadata.TARGETS {
			root.Signed.Roles[role].Threshold = holders.Threshold
		}
		for _, text := range keys {
			key, err := parseKey(text)
			if err != nil {
				return nil, err
			}
			if err := root.Signed.AddKey(key, role); err != nil {
				return nil, fmt.Errorf("root: %w", err)
			}
		}
	}
	return encode(root)
}

// Check says what is wrong with the holders.
func (h Holders) Check() error {
	for role, keys := range map[string][]string{"root": h.Root, "online": h.Online} {
		if len(keys) < 1 || len(keys) > MaxKeys {
			return fmt.Errorf("root: %d %s keys, want 1 to %d", len(keys), role, MaxKeys)
		}
		seen := map[string]bool{}
		for _, text := range keys {
			key, err := parseKey(text)
			if err != nil {
				return err
			}
			if seen[key.Value.PublicKey] {
				return fmt.Errorf("root: one %s key stands twice", role)
			}
			seen[key.Value.PublicKey] = true
		}
	}
	for _, online := range h.Online {
		for _, offline := range h.Root {
			if sameKey(online, offline) {
				return errors.New("root: one key is both a root key and the hub's online key")
			}
		}
	}
	if h.Threshold < 1 || h.Threshold > len(h.Root) {
		return fmt.Errorf("root: threshold %d, want 1 to %d, the number of root keys", h.Threshold, len(h.Root))
	}
	return nil
}

func sameKey(a, b string) bool {
	x, errX := parseKey(a)
	y, errY := parseKey(b)
	return errX == nil && errY == nil && x.Value.PublicKey == y.Value.PublicKey
}

func parseKey(text string) (*metadata.Key, error) {
	public, err := parsePublic(text)
	if err != nil {
		return nil, err
	}
	return keyOf(public)
}

func parsePublic(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("root key: want one PEM block of type PUBLIC KEY")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	return public, nil
}

// keyOf takes the kinds of keys whose signatures TUF and cosign agree on: not RSA, which TUF wants with another padding.
func keyOf(public crypto.PublicKey) (*metadata.Key, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("root key: ECDSA on %s, want P-256", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("root key: %T is not supported, want ECDSA on P-256 or Ed25519", public)
	}
	return metadata.KeyFromPublicKey(public)
}

// HoldersOf reads who holds the roles of a root.
func HoldersOf(root []byte) (Holders, error) {
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		return Holders{}, fmt.Errorf("root: %w", err)
	}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		if m.Signed.Roles[role] == nil {
			return Holders{}, fmt.Errorf("root: nobody holds the role %s", role)
		}
	}
	h := Holders{Threshold: m.Signed.Roles[metadata.ROOT].Threshold}
	for role, into := range map[string]*[]string{metadata.ROOT: &h.Root, metadata.TIMESTAMP: &h.Online} {
		for _, id := range m.Signed.Roles[role].KeyIDs {
			text, err := pemOf(m.Signed.Keys[id])
			if err != nil {
				return Holders{}, err
			}
			*into = append(*into, text)
		}
	}
	return h, nil
}

func pemOf(key *metadata.Key) (string, error) {
	if key == nil {
		return "", errors.New("root: a role names a key that is not there")
	}
	public, err := key.ToPublicKey()
	if err != nil {
		return "", fmt.Errorf("root: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("root: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// NewTargets makes the next targets after previous, or the first ones after nil, and the bytes of the trust document they commit to.
func NewTargets(previous []byte, trust *verify.Trust, expires time.Time) (targets, fleet []byte, err error) {
	if fleet, err = verify.EncodeTrust(trust); err != nil {
		return nil, nil, err
	}
	next := metadata.Targets(second(expires))
	if previous != nil {
		last, err := metadata.Targets().FromBytes(previous)
		if err != nil {
			return nil, nil, fmt.Errorf("targets: previous: %w", err)
		}
		next.Signed.Version = last.Signed.Version + 1
	}
	file, err := metadata.TargetFile().FromBytes(tuf.FleetFile, fleet, "sha256")
	if err != nil {
		return nil, nil, fmt.Errorf("targets: %w", err)
	}
	next.Signed.Targets[tuf.FleetFile] = file
	targets, err = encode(next)
	return targets, fleet, err
}

// Renew makes and signs the snapshot and the timestamp for the newest root and targets, by the hub's online key. previous are the metadata that
// were published last, or the zero value. Life is how long they are good. The result has been verified.
func Renew(previous tuf.Metadata, root, targets, fleet []byte, online signature.Signer, now time.Time, life time.Duration) (tuf.Metadata, error) {
	t, err := metadata.Targets().FromBytes(targets)
	if err != nil {
		return tuf.Metadata{}, fmt.Errorf("targets: %w", err)
	}
	expires := second(now.Add(life))
	snapshot, timestamp := metadata.Snapshot(expires), metadata.Timestamp(expires)
	if previous.Snapshot != nil {
		last, err := metadata.Snapshot().FromBytes(previous.Snapshot)
		if err != nil {
			return tuf.Metadata{}, fmt.Errorf("snapshot: previous: %w", err)
		}
		snapshot.Signed.Version = last.Signed.Version + 1
	}
	if previous.Timestamp != nil {
		last, err := metadata.Timestamp().FromBytes(previous.Timestamp)
		if err != nil {
			return tuf.Metadata{}, fmt.Errorf("timestamp: previous: %w", err)
		}
		timestamp.Signed.Version = last.Signed.Version + 1
	}
	snapshot.Signed.Meta["targets.json"] = metaOf(targets, t.Signed.Version)
	signedSnapshot, err := sign(snapshot, online)
	if err != nil {
		return tuf.Metadata{}, fmt.Errorf("snapshot: %w", err)
	}
	timestamp.Signed.Meta["snapshot.json"] = metaOf(signedSnapshot, snapshot.Signed.Version)
	signedTimestamp, err := sign(timestamp, online)
	if err != nil {
		return tuf.Metadata{}, fmt.Errorf("timestamp: %w", err)
	}
	made := tuf.Metadata{Root: root, Timestamp: signedTimestamp, Snapshot: signedSnapshot, Targets: targets, Fleet: fleet}
	if _, err := tuf.Load(made); err != nil {
		return tuf.Metadata{}, err
	}
	return made, nil
}

func metaOf(raw []byte, version int64) *metadata.MetaFiles {
	file := metadata.MetaFile(version)
	file.Length = int64(len(raw))
	if target, err := metadata.TargetFile().FromBytes("", raw, "sha256"); err == nil {
		file.Hashes = target.Hashes
	}
	return file
}

func sign[T metadata.Roles](m *metadata.Metadata[T], signer signature.Signer) ([]byte, error) {
	if _, err := m.Sign(signer); err != nil {
		return nil, err
	}
	return encode(m)
}

func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	raw, err := m.ToBytes(true)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(raw, '\n'), nil
}

// second is the precision of TUF's times.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// IDOf names a public key as holdfast does everywhere: by the SHA-256 of its DER.
func IDOf(text string) (verify.KeyID, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return "", errors.New("root key: want one PEM block of type PUBLIC KEY")
	}
	return verify.KeyID(bundle.DigestOf(block.Bytes)), nil
}
