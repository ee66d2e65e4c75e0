// Package keyless is a certificate authority, a transparency log and a timestamp authority that live in a test's memory: what a person or a
// pipeline needs to sign by identity. Its output is ordinary Sigstore JSON that the cosign tool accepts offline.
package keyless

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"
)

// Sigstore is one set of authorities.
type Sigstore struct{ authorities *ca.VirtualSigstore }

// New makes authorities with fresh keys.
func New() (*Sigstore, error) {
	authorities, err := ca.NewVirtualSigstore()
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return &Sigstore{authorities}, nil
}

// TrustedRoot is the trusted_root.json that names these authorities. VirtualSigstore gives its log an id in hex, which would not survive JSON, so it
// is made anew here.
func (s *Sigstore) TrustedRoot() ([]byte, error) {
	logs := map[string]*root.TransparencyLog{}
	for _, l := range s.authorities.RekorLogs() {
		der, err := x509.MarshalPKIXPublicKey(l.PublicKey)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(der)
		logs[hex.EncodeToString(id[:])] = &root.TransparencyLog{
			BaseURL: "https://rekor.localhost", ID: id[:], HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
			PublicKey: l.PublicKey, ValidityPeriodStart: time.Now().Add(-time.Hour), ValidityPeriodEnd: time.Now().Add(time.Hour),
		}
	}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.authorities.FulcioCertificateAuthorities(), nil, s.authorities.TimestampingAuthorities(), logs)
	if err != nil {
		return nil, err
	}
	return json.Marshal(tr)
}

// Sign makes a Sigstore bundle v0.3 by the identity: certificate, log entry with promise and proof, timestamp.
func (s *Sigstore) Sign(subject, issuer string, message []byte) ([]byte, error) {
	entity, err := s.authorities.Sign(subject, issuer, message)
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return s.export(entity, nil)
}

// SignLate is Sign with a log that saw the signature an hour after the certificate had ended, and nobody else who saw the time.
func (s *Sigstore) SignLate(subject, issuer string, message []byte) ([]byte, error) {
	entity, err := s.authorities.Sign(subject, issuer, message)
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return s.export(entity, func(leaf *x509.Certificate, material *protobundle.VerificationMaterial) {
		material.TimestampVerificationData = nil
		for _, entry := range material.TlogEntries {
			entry.IntegratedTime = leaf.NotAfter.Add(time.Hour).Unix()
		}
	})
}

// SignUnlogged is Sign with nothing of the log, as if the signer had left it out.
func (s *Sigstore) SignUnlogged(subject, issuer string, message []byte) ([]byte, error) {
	entity, err := s.authorities.Sign(subject, issuer, message)
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return s.export(entity, func(_ *x509.Certificate, material *protobundle.VerificationMaterial) { material.TlogEntries = nil })
}

// export writes a bundle; edit, where not nil, changes what vouches for it before the log gives its promise.
func (s *Sigstore) export(e *ca.TestEntity, edit func(*x509.Certificate, *protobundle.VerificationMaterial)) ([]byte, error) {
	content, err := e.VerificationContent()
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}},
		TimestampVerificationData: &protobundle.TimestampVerificationData{},
	}
	stamps, err := e.Timestamps()
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	for _, stamp := range stamps {
		material.TimestampVerificationData.Rfc3161Timestamps = append(material.TimestampVerificationData.Rfc3161Timestamps,
			&protocommon.RFC3161SignedTimestamp{SignedTimestamp: stamp})
	}
	entries, err := e.TlogEntries()
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	for _, entry := range entries {
		material.TlogEntries = append(material.TlogEntries, entry.TransparencyLogEntry())
	}
	if edit != nil {
		edit(content.Certificate(), material)
	}
	for _, entry := range material.TlogEntries {
		if err := s.complete(entry); err != nil {
			return nil, fmt.Errorf("keyless: %w", err)
		}
	}
	signed, err := e.SignatureContent()
	if err != nil {
		return nil, fmt.Errorf("keyless: %w", err)
	}
	return protojson.Marshal(&protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", VerificationMaterial: material,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: signed.MessageSignatureContent().Digest()},
			Signature:     signed.Signature()}},
	})
}

// complete adds what VirtualSigstore keeps to itself: kind, proof of inclusion and the log's promise.
func (s *Sigstore) complete(entry *protorekor.TransparencyLogEntry) error {
	if entry.InclusionProof == nil {
		proof, err := s.proof(entry.CanonicalizedBody)
		if err != nil {
			return err
		}
		entry.InclusionProof = proof
	}
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal(entry.CanonicalizedBody, &kind); err != nil {
		return err
	}
	entry.KindVersion = &protorekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion}
	promise, err := s.authorities.RekorSignPayload(tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(entry.CanonicalizedBody),
		IntegratedTime: entry.IntegratedTime, LogIndex: entry.LogIndex, LogID: hex.EncodeToString(entry.LogId.KeyId)})
	if err != nil {
		return err
	}
	entry.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: promise}
	return nil
}

func (s *Sigstore) proof(body []byte) (*protorekor.InclusionProof, error) {
	p, err := s.authorities.GetInclusionProof(body)
	if err != nil {
		return nil, err
	}
	root, err := hex.DecodeString(*p.RootHash)
	if err != nil {
		return nil, err
	}
	proof := &protorekor.InclusionProof{LogIndex: *p.LogIndex, RootHash: root, TreeSize: *p.TreeSize,
		Checkpoint: &protorekor.Checkpoint{Envelope: *p.Checkpoint}}
	for _, encoded := range p.Hashes {
		hash, err := hex.DecodeString(encoded)
		if err != nil {
			return nil, err
		}
		proof.Hashes = append(proof.Hashes, hash)
	}
	return proof, nil
}
