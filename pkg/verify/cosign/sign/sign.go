// Package sign makes keys and signatures that the cosign tool understands, and the other way round. It belongs to the desk: decrypting a key
// takes a fifth of a second and 64 MiB by design, so edge and hub verify only.
package sign

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	adapter "github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

// maxKeySize is the most bytes a private key file may have.
const maxKeySize = 64 << 10

// ErrPassword says that the password does not open the key.
var ErrPassword = errors.New("wrong password")

// GenerateKeyPair makes an ECDSA P-256 key as `cosign generate-key-pair` does: the private key encrypted by the password (which may be empty)
// in PEM of type ENCRYPTED SIGSTORE PRIVATE KEY, the public key in PEM.
func GenerateKeyPair(password []byte) (privateKey, publicKey []byte, err error) {
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	return pair.PrivateBytes, pair.PublicBytes, nil
}

// ReadKey reads a private key file. References to keys elsewhere, such as awskms://…, are refused: cosign would fetch from, or run a program
// for, whatever they name.
func ReadKey(reference string) ([]byte, error) {
	if scheme, _, found := strings.Cut(reference, "://"); found {
		return nil, fmt.Errorf("key %.120q: %s keys are not supported, only files", reference, scheme)
	}
	file, err := os.Open(reference)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer file.Close()
	key, err := io.ReadAll(io.LimitReader(file, maxKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if _, err := decode(key); err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}
	return key, nil
}

// decode says what a private key file holds, without opening it.
func decode(key []byte) (*pem.Block, error) {
	if len(key) > maxKeySize {
		return nil, fmt.Errorf("more than the %d bytes a key may have", maxKeySize)
	}
	block, _ := pem.Decode(key)
	switch {
	case block == nil:
		return nil, errors.New("not PEM")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("it is the public key, want the private key")
	case block.Type != cosign.SigstorePrivateKeyPemType && block.Type != cosign.CosignPrivateKeyPemType:
		return nil, fmt.Errorf("PEM block %.40q, want one made by cosign generate-key-pair or import-key-pair", block.Type)
	}
	return block, nil
}

// open decrypts a private key. It takes about 200 ms and 64 MiB.
func open(key, password []byte) (signature.SignerVerifier, error) {
	if _, err := decode(key); err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, err := cosign.LoadPrivateKey(key, password, nil)
	if err != nil && strings.Contains(err.Error(), "decryption failed") {
		return nil, fmt.Errorf("private key: %w", ErrPassword)
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return signer, nil
}

// Open decrypts a private key for signatures other than over manifests: those of the root of trust. It takes about 200 ms and 64 MiB.
func Open(key, password []byte) (signature.Signer, error) { return open(key, password) }

// PublicKey is the public half of a private key, in PEM.
func PublicKey(key, password []byte) ([]byte, error) {
	signer, err := open(key, password)
	if err != nil {
		return nil, err
	}
	return publicPEM(signer)
}

func publicPEM(signer signature.SignerVerifier) ([]byte, error) {
	public, err := signer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	encoded, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return encoded, nil
}

// Sign signs a manifest with a private key in cosign's format and gives a Sigstore bundle v0.3. What it returns has been verified.
func Sign(manifest, key, password []byte) ([]byte, error) {
	if len(manifest) > bundle.MaxManifestSize {
		return nil, fmt.Errorf("sign: %d bytes are more than the %d a manifest may have", len(manifest), bundle.MaxManifestSize)
	}
	signer, err := open(key, password)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	public, err := publicPEM(signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	_, id, err := verify.ParseKey(string(public))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	signed, err := signer.SignMessage(bytes.NewReader(manifest))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	encoded, err := encode(manifest, signed, id)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := (adapter.Verifier{}).Check(manifest, encoded, string(public)); err != nil {
		return nil, fmt.Errorf("sign: the new signature does not verify: %w", err)
	}
	return encoded, nil
}

// encode writes the bundle by hand: protojson writes other white space in each build.
func encode(manifest, signed []byte, id verify.KeyID) ([]byte, error) {
	digest := sha256.Sum256(manifest)
	type object map[string]any
	return json.Marshal(object{
		"mediaType":            adapter.MediaType,
		"verificationMaterial": object{"publicKey": object{"hint": adapter.Hint(id)}},
		"messageSignature": object{
			"messageDigest": object{"algorithm": adapter.DigestAlgorithm, "digest": base64.StdEncoding.EncodeToString(digest[:])},
			"signature":     base64.StdEncoding.EncodeToString(signed),
		},
	})
}
