package cosign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	artifact "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

// The limits of a signature by certificate. The public Sigstore needs one entry, one timestamp and about 30 hashes.
const (
	maxEntries    = 4
	maxTimestamps = 4
	maxHashes     = 64
)

type certificate struct {
	RawBytes string `json:"rawBytes"`
}

type logEntry struct {
	LogIndex          string            `json:"logIndex"`
	LogID             logID             `json:"logId"`
	KindVersion       kindVersion       `json:"kindVersion"`
	IntegratedTime    string            `json:"integratedTime"`
	InclusionPromise  *inclusionPromise `json:"inclusionPromise"`
	InclusionProof    *inclusionProof   `json:"inclusionProof"`
	CanonicalizedBody string            `json:"canonicalizedBody"`
}

type logID struct {
	KeyID string `json:"keyId"`
}

type kindVersion struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

type inclusionPromise struct {
	SignedEntryTimestamp string `json:"signedEntryTimestamp"`
}

type inclusionProof struct {
	LogIndex   string     `json:"logIndex"`
	RootHash   string     `json:"rootHash"`
	TreeSize   string     `json:"treeSize"`
	Hashes     []string   `json:"hashes"`
	Checkpoint checkpoint `json:"checkpoint"`
}

type checkpoint struct {
	Envelope string `json:"envelope"`
}

type timestamps struct {
	RFC3161 []timestamp `json:"rfc3161Timestamps"`
}

type timestamp struct {
	SignedTimestamp string `json:"signedTimestamp"`
}

// Identify implements verify.Signatures: it says who signed exactly message by certificate.
func (Verifier) Identify(message, sig, trustedRoot []byte) (who verify.Certified, err error) {
	defer func() {
		if p := recover(); p != nil {
			who, err = verify.Certified{}, fmt.Errorf("cosign: panic: %.200v", p)
		}
	}()
	if err := recognise(sig); err != nil {
		return verify.Certified{}, err
	}
	e, err := decode(sig)
	if err != nil {
		return verify.Certified{}, err
	}
	if m := e.VerificationMaterial; m.Certificate == nil || m.PublicKey != nil {
		return verify.Certified{}, fmt.Errorf("%w: it is by a public key, want one by a certificate", verify.ErrUnsupportedSignature)
	}
	built, err := e.certified()
	if err != nil {
		return verify.Certified{}, err
	}
	material, verifier, err := witnesses(trustedRoot)
	if err != nil {
		return verify.Certified{}, fmt.Errorf("cosign: trusted root: %w", err)
	}
	// Any identity passes here, because the trust document's patterns are matched by package verify, which knows what they mean.
	policy := artifact.NewPolicy(artifact.WithArtifact(bytes.NewReader(message)), artifact.WithoutIdentitiesUnsafe())
	result, err := verifier.Verify(built, policy)
	if err != nil {
		return verify.Certified{}, fmt.Errorf("%w: %w", kindOf(built, material, message), err)
	}
	summary := result.Signature.Certificate
	if summary == nil || summary.Issuer == "" || summary.SubjectAlternativeName == "" {
		return verify.Certified{}, fmt.Errorf("%w: its certificate names nobody", verify.ErrBadSignature)
	}
	return verify.Certified{Issuer: summary.Issuer, Subject: summary.SubjectAlternativeName}, nil
}

// witnesses makes a verifier that wants the word of everyone the root names: an authority, a log if there are logs, a certificate
// transparency log if there are such, and always somebody who saw the time. It looks at no clock.
func witnesses(trustedRoot []byte) (*root.TrustedRoot, *artifact.Verifier, error) {
	if len(trustedRoot) > verify.MaxTrustSize {
		return nil, nil, fmt.Errorf("%d bytes are more than the %d it may have", len(trustedRoot), verify.MaxTrustSize)
	}
	var shape map[string]json.RawMessage
	if err := strict.Decode(trustedRoot, verify.MaxTrustSize, &shape); err != nil {
		return nil, nil, err
	}
	material, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return nil, nil, err
	}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return nil, nil, errors.New("it names no certificate authority")
	}
	options := []artifact.VerifierOption{artifact.WithObserverTimestamps(1)}
	if len(material.RekorLogs()) > 0 {
		options = append(options, artifact.WithTransparencyLog(1))
	}
	if len(material.CTLogs()) > 0 {
		options = append(options, artifact.WithSignedCertificateTimestamps(1))
	}
	verifier, err := artifact.NewVerifier(material, options...)
	return material, verifier, err
}

// kindOf says which part of a signature that was refused is wrong, so that a person learns what to do. It believes nothing.
func kindOf(built *sigstore.Bundle, material *root.TrustedRoot, message []byte) error {
	content, err := built.VerificationContent()
	if err != nil {
		return verify.ErrBadSignature
	}
	leaf := content.Certificate()
	// Certificates above it may be younger or older than one end of its time.
	_, early := artifact.VerifyLeafCertificate(leaf.NotBefore, leaf, material)
	_, late := artifact.VerifyLeafCertificate(leaf.NotAfter, leaf, material)
	if early != nil && late != nil {
		return verify.ErrOtherAuthority
	}
	signed, err := built.SignatureContent()
	if err != nil || artifact.VerifySignatureWithArtifacts(signed, content, material, []io.Reader{bytes.NewReader(message)}) != nil {
		return verify.ErrBadSignature
	}
	entries, err := built.TlogEntries()
	if err != nil {
		return verify.ErrBadSignature
	}
	for _, entry := range entries {
		if at := entry.IntegratedTime(); !at.IsZero() && (at.Before(leaf.NotBefore) || at.After(leaf.NotAfter)) {
			return verify.ErrOutsideCertificate
		}
	}
	stamps, _, err := artifact.VerifySignedTimestamp(built, material)
	if err != nil {
		return verify.ErrBadSignature
	}
	for _, stamp := range stamps {
		if stamp.Time.Before(leaf.NotBefore) || stamp.Time.After(leaf.NotAfter) {
			return verify.ErrOutsideCertificate
		}
	}
	return verify.ErrNotWitnessed
}

// certified builds a bundle with a certificate anew.
func (e *envelope) certified() (*sigstore.Bundle, error) {
	digest, signed, err := e.MessageSignature.bytes()
	if err != nil {
		return nil, err
	}
	var r reader
	var leaf certificate
	var entries []logEntry
	var seen timestamps
	r.decode("certificate", e.VerificationMaterial.Certificate, &leaf)
	r.decode("log entries", e.VerificationMaterial.LogEntries, &entries)
	r.decode("timestamps", e.VerificationMaterial.Timestamps, &seen)
	r.atMost("log entries", len(entries), maxEntries)
	r.atMost("timestamps", len(seen.RFC3161), maxTimestamps)
	if r.err != nil {
		return nil, malformed(r.err)
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: r.base64("certificate", leaf.RawBytes)}},
		TimestampVerificationData: &protobundle.TimestampVerificationData{},
	}
	for _, entry := range entries {
		material.TlogEntries = append(material.TlogEntries, r.entry(entry))
	}
	for _, stamp := range seen.RFC3161 {
		material.TimestampVerificationData.Rfc3161Timestamps = append(material.TimestampVerificationData.Rfc3161Timestamps,
			&protocommon.RFC3161SignedTimestamp{SignedTimestamp: r.base64("timestamp", stamp.SignedTimestamp)})
	}
	if r.err != nil {
		return nil, malformed(r.err)
	}
	built, err := sigstore.NewBundle(&protobundle.Bundle{MediaType: MediaType, VerificationMaterial: material,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: signatureOf(digest, signed)}})
	if err != nil {
		return nil, malformed(err)
	}
	return built, nil
}

// reader reads fields of a bundle and remembers the first that was wrong.
type reader struct{ err error }

func (r *reader) fail(what string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (r *reader) decode(what string, raw json.RawMessage, into any) {
	if raw != nil {
		r.fail(what, strict.Decode(raw, bundle.MaxSignatureSize, into))
	}
}

func (r *reader) atMost(what string, n, limit int) {
	if n > limit {
		r.fail(what, fmt.Errorf("%d are more than the %d there may be", n, limit))
	}
}

func (r *reader) base64(what, s string) []byte {
	b, err := decodeBase64(s)
	r.fail(what, err)
	return b
}

// number takes only the form in which protobuf writes 64-bit numbers.
func (r *reader) number(what, s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		r.fail(what, fmt.Errorf("%.30q is not a number", s))
	}
	return n
}

func (r *reader) entry(e logEntry) *protorekor.TransparencyLogEntry {
	entry := &protorekor.TransparencyLogEntry{
		LogIndex:          r.number("log index", orZero(e.LogIndex)),
		LogId:             &protocommon.LogId{KeyId: r.base64("log id", e.LogID.KeyID)},
		KindVersion:       &protorekor.KindVersion{Kind: e.KindVersion.Kind, Version: e.KindVersion.Version},
		IntegratedTime:    r.number("integrated time", orZero(e.IntegratedTime)),
		CanonicalizedBody: r.base64("log entry", e.CanonicalizedBody),
	}
	if promise := e.InclusionPromise; promise != nil {
		entry.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: r.base64("inclusion promise", promise.SignedEntryTimestamp)}
	}
	if proof := e.InclusionProof; proof != nil {
		r.atMost("hashes of an inclusion proof", len(proof.Hashes), maxHashes)
		entry.InclusionProof = &protorekor.InclusionProof{LogIndex: r.number("inclusion proof", orZero(proof.LogIndex)),
			RootHash: r.base64("inclusion proof", proof.RootHash), TreeSize: r.number("inclusion proof", orZero(proof.TreeSize)),
			Checkpoint: &protorekor.Checkpoint{Envelope: proof.Checkpoint.Envelope}}
		for _, hash := range proof.Hashes {
			entry.InclusionProof.Hashes = append(entry.InclusionProof.Hashes, r.base64("inclusion proof", hash))
		}
	}
	return entry
}

// orZero reads what protobuf leaves out.
func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}
