package verify

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Signed is a manifest that a release key signed. Only Trust.Manifest makes one; methods of the zero value refuse.
// It says nothing yet about content, site, counters or time.
type Signed struct {
	manifest *bundle.Manifest
	raw      []byte
	digest   bundle.Digest
	keys     []KeyID
}

// Manifest believes a manifest if it is within its limits, signed over exactly its bytes by a release key that may sign its name, strictly
// well-formed, and not below its security floor. It looks for these in this order; any error is a *Refusal.
// The manifest's bytes are kept and must not be changed.
func (t *Trust) Manifest(signatures Signatures, manifest []byte, signed [][]byte) (result Signed, err error) {
	if err := checkSizes(manifest, signed); err != nil {
		return Signed{}, err
	}
	if err := t.ready(signatures); err != nil {
		return Signed{}, err
	}
	if len(signed) == 0 {
		return Signed{}, &Refusal{Reason: Unsigned, Detail: "the manifest has no signature"}
	}
	keys, err := t.signers(signatures, manifest, signed)
	if err != nil {
		return Signed{}, err
	}
	m, err := decodeManifest(manifest)
	if err != nil {
		return Signed{}, err
	}
	s := Signed{manifest: m, raw: manifest, digest: bundle.DigestOf(manifest)}
	for _, key := range keys {
		if key.May(m.Name) {
			s.keys = append(s.keys, key.ID)
		}
	}
	if len(s.keys) == 0 {
		return Signed{}, s.refuse(KeyNotAllowed, "the key that signed it may not sign this name",
			strings.Join(keys[0].Names, " "), fmt.Sprintf("%s by %s", m.Name, keys[0].ID))
	}
	if floor := t.Floors[m.Name]; m.Counter < floor {
		return Signed{}, s.refuse(BelowFloor, "its counter is below the fleet's security floor",
			"counter "+format(floor)+" or higher", format(m.Counter))
	}
	return s, nil
}

func checkSizes(manifest []byte, signed [][]byte) error {
	if len(manifest) > bundle.MaxManifestSize {
		return tooLarge("manifest", len(manifest), bundle.MaxManifestSize, "bytes")
	}
	if len(signed) > bundle.MaxSignatures {
		return tooLarge("signatures", len(signed), bundle.MaxSignatures, "signatures")
	}
	for _, signature := range signed {
		if len(signature) > bundle.MaxSignatureSize {
			return tooLarge("signature", len(signature), bundle.MaxSignatureSize, "bytes")
		}
	}
	return nil
}

func tooLarge(what string, size, limit int, unit string) *Refusal {
	return &Refusal{Reason: TooLarge, Detail: what + " too large", Expected: fmt.Sprintf("at most %d %s", limit, unit), Got: strconv.Itoa(size)}
}

// ready refuses a Trust that can believe nothing, whoever made it.
func (t *Trust) ready(signatures Signatures) error {
	switch {
	case t == nil || len(t.Keys) == 0:
		return &Refusal{Reason: NoTrustedKey, Detail: "no release key is configured, so nothing can be believed"}
	case signatures == nil:
		return &Refusal{Reason: VerifierFailed, Detail: "there is no verifier"}
	}
	if err := t.Check(); err != nil {
		return &Refusal{Reason: NoTrustedKey, Detail: "the trust document is not valid: " + clip(err.Error())}
	}
	return nil
}

func decodeManifest(raw []byte) (m *bundle.Manifest, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, &Refusal{Reason: VerifierFailed, Detail: fmt.Sprintf("decoding the manifest failed: panic: %.100v", p)}
		}
	}()
	m, err = bundle.DecodeManifest(raw)
	if err != nil {
		return nil, &Refusal{Reason: MalformedManifest, Detail: clip(err.Error())}
	}
	return m, nil
}

// Valid says that it is not the zero value.
func (s Signed) Valid() bool { return s.manifest != nil && len(s.keys) > 0 }

// Manifest is a copy of the manifest, or nil of the zero value. What the copy points to is shared and must not be changed.
func (s Signed) Manifest() *bundle.Manifest {
	if !s.Valid() {
		return nil
	}
	m := *s.manifest
	return &m
}

// Bytes are the exact bytes that were signed. They must not be changed.
func (s Signed) Bytes() []byte { return s.raw }

// Digest is the digest of the bytes that were signed.
func (s Signed) Digest() bundle.Digest { return s.digest }

// Key is the first release key that signed it and may.
func (s Signed) Key() KeyID {
	if !s.Valid() {
		return ""
	}
	return s.keys[0]
}

// Asked is what somebody wanted to have.
type Asked struct {
	Name    bundle.Name
	Version bundle.Version
	Digest  bundle.Digest // of the manifest
}

// Answers refuses a manifest that is not exactly what was asked for. Name, version and digest must all be given.
func (s Signed) Answers(asked Asked) error {
	if !s.Valid() {
		return notVerified()
	}
	m := s.manifest
	if s.digest != asked.Digest {
		return s.refuse(WrongBundle, "not the manifest that was asked for", "digest "+text(asked.Digest), string(s.digest))
	}
	if m.Name != asked.Name || m.Version != asked.Version {
		return s.refuse(WrongBundle, "not the bundle that was asked for", bundle.Ref{Name: asked.Name, Version: asked.Version}.String(), m.Ref().String())
	}
	return nil
}

// FirstApplyAt refuses a manifest that has expired. It is asked before a first apply and never again.
func (s Signed) FirstApplyAt(now time.Time) error {
	if !s.Valid() {
		return notVerified()
	}
	if expires := s.manifest.Expires; expires != nil && !now.Before(*expires) {
		return s.refuse(Expired, "too late for a first apply",
			"an apply before "+expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func (s Signed) refuse(reason Reason, detail, expected, got string) *Refusal {
	return &Refusal{Reason: reason, Subject: "bundle " + s.manifest.Ref().String(), Detail: detail, Expected: expected, Got: got}
}

func notVerified() *Refusal {
	return &Refusal{Reason: Unsigned, Detail: "it was never verified"}
}

func format(c bundle.Counter) string { return strconv.FormatUint(uint64(c), 10) }

func text(d bundle.Digest) string {
	if d == "" {
		return "none"
	}
	return clip(string(d))
}
