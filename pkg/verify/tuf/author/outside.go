package author

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// MaxSignature is the most bytes a signature made outside may have, in base64 or not.
const MaxSignature = 4 << 10

// ErrNoSignature says that none of the signatures is by the key over a part of the draft that it has to sign.
var ErrNoSignature = errors.New("no signature by this key over it, or over a part of it")

// Payloads gives the exact bytes that signatures of a draft are over, for keys that only their device or service can use. Each is nil where that part stays.
func (d *Draft) Payloads() (root, targets []byte, err error) {
	if _, err := d.Review(); err != nil {
		return nil, nil, err
	}
	if d.NewRoot != nil {
		if root, err = payload(metadata.Root(), d.NewRoot); err != nil {
			return nil, nil, fmt.Errorf("draft: root: %w", err)
		}
	}
	if d.NewTargets != nil {
		if targets, err = payload(metadata.Targets(), d.NewTargets); err != nil {
			return nil, nil, fmt.Errorf("draft: targets: %w", err)
		}
	}
	return root, targets, nil
}

// payload is the signed part in canonical JSON, as TUF wants it (OLPC canonical JSON).
func payload[T metadata.Roles](m *metadata.Metadata[T], raw []byte) ([]byte, error) {
	m, err := m.FromBytes(raw)
	if err != nil {
		return nil, err
	}
	return cjson.EncodeCanonical(m.Signed)
}

// Attach adds signatures over the payloads that a key made elsewhere: ECDSA in DER over SHA-256, or Ed25519, each as it is or in base64, in any order.
// It must be given all that the key has not signed yet. It says whether anything was added, and adds nothing with an error, such as ErrNoSignature.
func (d *Draft) Attach(public string, signatures ...[]byte) (added bool, err error) {
	key, err := parsePublic(public)
	if err != nil {
		return false, err
	}
	made := &outside{key: key}
	for _, s := range signatures {
		if len(s) > MaxSignature {
			return false, fmt.Errorf("signature: more than %d bytes", MaxSignature)
		}
		made.signatures = append(made.signatures, s)
		if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(s))); err == nil {
			made.signatures = append(made.signatures, plain)
		}
	}
	if len(made.signatures) == 0 {
		return false, errors.New("signature: none is given")
	}
	whole := *d
	added, err = whole.Sign(made)
	if made.lacking { // go-tuf does not pass on why a signer failed
		return false, fmt.Errorf("draft: %w", ErrNoSignature)
	}
	if err != nil {
		return false, err
	}
	*d = whole
	return added, nil
}

// outside signs with what was signed before, elsewhere.
type outside struct {
	key        crypto.PublicKey
	signatures [][]byte
	lacking    bool
}

func (o *outside) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return o.key, nil
}

func (o *outside) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	verifier, err := signature.LoadVerifier(o.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	for _, s := range o.signatures {
		if verifier.VerifySignature(bytes.NewReader(s), bytes.NewReader(raw)) == nil {
			return s, nil
		}
	}
	o.lacking = true
	return nil, ErrNoSignature
}
