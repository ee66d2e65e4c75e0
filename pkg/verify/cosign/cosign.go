// Package cosign checks Sigstore bundles with cosign's library: the adapter of verify.Signatures.
//
// # What is accepted
//
// One form only: a Sigstore bundle of media type application/vnd.dev.sigstore.bundle.v0.3+json that holds a message signature. By a public
// key it is what `cosign sign-blob --key KEY --new-bundle-format` and package sign write:
//
//	{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
//	 "verificationMaterial": {"publicKey": {"hint": BASE64(SHA-256(key in DER))}},
//	 "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": BASE64}, "signature": BASE64}}
//
// Entries of a transparency log and timestamps may be there and are not looked at. By an identity it is what `cosign sign-blob
// --new-bundle-format` writes: a certificate instead of the key, the entry of a transparency log, timestamps. Everything else is refused, by its
// own kind of error: cosign's legacy bundle (it has known bypasses), DSSE envelopes, certificate chains.
//
// # Guarantees
//
//   - G1 The bundle is read once, strictly, by this package (at most 64 KiB, depth 16, no duplicate, unknown or differently cased key, no
//     null, nothing after it, base64 in its one canonical form), and cosign gets a bundle built anew from what was read.
//   - G2 The key is given by the caller. A hint, where there is one, must name that key; it never chooses one. The digest in the bundle must be
//     the message's.
//   - G3 No network, no files, no environment, no HOME, no clock: trusted material is given and empty, nothing is looked up.
//   - G4 A panic in the libraries is an error.
//   - G5 An identity is believed only with the word of everyone the given trusted root names: a certificate authority, a transparency log where it
//     names logs, a certificate transparency log where it names such, and always a log or a timestamp authority that saw when it was signed.
//     The certificate is judged at that time, never at the present.
package cosign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	artifact "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

// MediaType is the media type of the signatures that are accepted and made.
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// DigestAlgorithm is the only digest algorithm, in Sigstore's words. The tool's verify-blob assumes it too, unless told otherwise.
const DigestAlgorithm = "SHA2_256"

// Verifier is a verify.Signatures. The zero value is ready; it may be used concurrently.
type Verifier struct{}

var _ verify.Signatures = Verifier{}

// Check returns nil only if sig is a Sigstore bundle v0.3 with a signature by the key over exactly message.
func (Verifier) Check(message, sig []byte, publicKeyPEM string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cosign: panic: %.200v", p)
		}
	}()
	parsed, err := parse(sig)
	if err != nil {
		return err
	}
	key, id, err := verify.ParseKey(publicKeyPEM)
	if err != nil {
		return fmt.Errorf("cosign: %w", err)
	}
	if err := parsed.names(id); err != nil {
		return err
	}
	return parsed.check(message, key)
}

// envelope is the one form of a bundle that is accepted. What is a json.RawMessage is refused where it is there, or read by Identify alone.
type envelope struct {
	MediaType            string            `json:"mediaType"`
	VerificationMaterial material          `json:"verificationMaterial"`
	MessageSignature     *messageSignature `json:"messageSignature"`
	DSSE                 json.RawMessage   `json:"dsseEnvelope"`
}

type material struct {
	PublicKey   *publicKey      `json:"publicKey"`
	Certificate json.RawMessage `json:"certificate"`
	Chain       json.RawMessage `json:"x509CertificateChain"`
	LogEntries  json.RawMessage `json:"tlogEntries"`
	Timestamps  json.RawMessage `json:"timestampVerificationData"`
}

type publicKey struct {
	Hint string `json:"hint"`
}

type messageSignature struct {
	MessageDigest messageDigest `json:"messageDigest"`
	Signature     string        `json:"signature"`
}

type messageDigest struct {
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

// parsed is what a bundle says.
type parsed struct {
	hint      string
	digest    []byte // SHA-256
	signature []byte
}

func parse(sig []byte) (*parsed, error) {
	if err := recognise(sig); err != nil {
		return nil, err
	}
	e, err := decode(sig)
	if err != nil {
		return nil, err
	}
	if e.VerificationMaterial.Certificate != nil {
		return nil, fmt.Errorf("%w: it is by a certificate, want one by a public key", verify.ErrUnsupportedSignature)
	}
	digest, signed, err := e.MessageSignature.bytes()
	if err != nil {
		return nil, err
	}
	return &parsed{hint: e.VerificationMaterial.PublicKey.Hint, digest: digest, signature: signed}, nil
}

// WellFormed says that a signature is a Sigstore bundle v0.3 by key or by certificate, whoever made it and whatever it is over. Errors are those of Check.
func WellFormed(sig []byte) error {
	if err := recognise(sig); err != nil {
		return err
	}
	e, err := decode(sig)
	switch {
	case err != nil:
		return err
	case e.VerificationMaterial.Certificate != nil:
		_, err = e.certified()
	default:
		_, _, err = e.MessageSignature.bytes()
	}
	return err
}

// decode reads a bundle with a message signature by either a public key or a certificate.
func decode(sig []byte) (*envelope, error) {
	var e envelope
	if err := strict.Decode(sig, bundle.MaxSignatureSize, &e); err != nil {
		return nil, malformed(err)
	}
	m := e.VerificationMaterial
	switch {
	case e.DSSE != nil:
		return nil, fmt.Errorf("%w: it holds a DSSE envelope", verify.ErrUnsupportedSignature)
	case m.Chain != nil:
		return nil, fmt.Errorf("%w: it is by a certificate chain, want one certificate or a public key", verify.ErrUnsupportedSignature)
	case m.PublicKey == nil && m.Certificate == nil:
		return nil, malformed(errors.New("no public key and no certificate in the verification material"))
	case e.MessageSignature == nil:
		return nil, malformed(errors.New("no message signature"))
	}
	if algorithm := e.MessageSignature.MessageDigest.Algorithm; algorithm != DigestAlgorithm {
		return nil, malformed(fmt.Errorf("digest algorithm %.40q, want %s", algorithm, DigestAlgorithm))
	}
	return &e, nil
}

func (m *messageSignature) bytes() (digest, signature []byte, err error) {
	if digest, err = decodeBase64(m.MessageDigest.Digest); err != nil {
		return nil, nil, malformed(fmt.Errorf("digest: %w", err))
	}
	if signature, err = decodeBase64(m.Signature); err != nil {
		return nil, nil, malformed(fmt.Errorf("signature: %w", err))
	}
	return digest, signature, nil
}

func signatureOf(digest, signature []byte) *protocommon.MessageSignature {
	return &protocommon.MessageSignature{
		MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest},
		Signature:     signature}
}

// recognise tells other forms of signatures from damaged ones, so that a person learns what to do. It believes nothing.
func recognise(sig []byte) error {
	if len(sig) > bundle.MaxSignatureSize {
		return malformed(fmt.Errorf("%d bytes are more than the %d it may have", len(sig), bundle.MaxSignatureSize))
	}
	var form map[string]json.RawMessage
	if err := strict.Decode(sig, bundle.MaxSignatureSize, &form); err != nil {
		if _, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(sig))); err == nil && len(sig) > 0 {
			return fmt.Errorf("%w: it is a bare base64 signature", verify.ErrLegacySignature)
		}
		return malformed(err)
	}
	if _, legacy := form["base64Signature"]; legacy {
		return fmt.Errorf("%w: it is a bundle with base64Signature", verify.ErrLegacySignature)
	}
	var mediaType string
	if err := json.Unmarshal(form["mediaType"], &mediaType); err != nil {
		return fmt.Errorf("%w: it has no media type", verify.ErrUnknownMediaType)
	}
	if mediaType != MediaType {
		return fmt.Errorf("%w: media type %.80q", verify.ErrUnknownMediaType, mediaType)
	}
	return nil
}

// decodeBase64 takes only the canonical form: encoding/base64 skips line breaks and forgives padding bits.
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not canonical base64")
	}
	if len(b) == 0 {
		return nil, errors.New("empty")
	}
	return b, nil
}

func malformed(err error) error { return fmt.Errorf("%w: %w", verify.ErrMalformedSignature, err) }

// names refuses a hint to another key.
func (p *parsed) names(id verify.KeyID) error {
	if p.hint == "" || p.hint == Hint(id) {
		return nil
	}
	named := fmt.Sprintf("%.80q", p.hint)
	if sum, err := base64.StdEncoding.DecodeString(p.hint); err == nil && len(sum) == 32 {
		named = "sha256:" + hex.EncodeToString(sum)
	}
	return fmt.Errorf("%w: %s", verify.ErrOtherKey, named)
}

// Hint is how a Sigstore bundle names the key.
func Hint(id verify.KeyID) string {
	sum, err := hex.DecodeString(strings.TrimPrefix(string(id), "sha256:"))
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// check lets cosign verify the signature.
func (p *parsed) check(message []byte, key crypto.PublicKey) error {
	verifier, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return fmt.Errorf("cosign: load the key: %w", err)
	}
	built, err := sigstore.NewBundle(&protobundle.Bundle{
		MediaType: MediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{
			PublicKey: &protocommon.PublicKeyIdentifier{Hint: p.hint}}},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: signatureOf(p.digest, p.signature)},
	})
	if err != nil {
		return malformed(err)
	}
	// Trusted material must be given, or cosign looks for some; with a key it may be empty.
	options := &cosign.CheckOpts{SigVerifier: verifier, IgnoreTlog: true, Offline: true, NewBundleFormat: true,
		TrustedMaterial: &root.BaseTrustedMaterial{}}
	if _, err := cosign.VerifyNewBundle(context.Background(), options, artifact.WithArtifact(bytes.NewReader(message)), built); err != nil {
		return fmt.Errorf("%w: %w", verify.ErrBadSignature, err)
	}
	return nil
}
