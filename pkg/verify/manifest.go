package verify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Signed is a manifest that a release key signed. Only Trust.Manifest makes one; methods of the zero value refuse.
// It says nothing yet about content, site, counters or time.
type Signed struct {
	manifest  *bundle.Manifest
	raw       []byte
	digest    bundle.Digest
	signers   []signer // that may sign the name
	threshold int      // how many different ones a first acceptance needs
	epoch     uint64
	accepted  bool
}

// Manifest believes a manifest that may be new: it is within its limits, signed over exactly its bytes by as many different release keys
// and identities that may sign its name and are not revoked as the name needs, strictly well-formed, and not below its security floor. It
// looks for these in this order; any error is a *Refusal. The manifest's bytes are kept and must not be changed.
func (t *Trust) Manifest(signatures Signatures, manifest []byte, signed [][]byte) (Signed, error) {
	s, err := t.signed(signatures, manifest, signed)
	if err != nil {
		return Signed{}, err
	}
	name, valid := s.manifest.Name, []signer(nil)
	for _, signer := range s.signers {
		if !signer.revoked {
			valid = append(valid, signer)
		}
	}
	if len(valid) == 0 {
		return Signed{}, s.refuse(RevokedKey, "the key that signed it was revoked", "", string(s.signers[0].id))
	}
	s.signers = valid
	if signers := count(valid); signers < s.threshold {
		return Signed{}, s.refuse(TooFewSigners, "too few have signed it", fmt.Sprintf("%d different signers of %s", s.threshold, name), strconv.Itoa(signers))
	}
	if floor := t.Floors[name]; s.manifest.Counter < floor {
		return Signed{}, s.refuse(BelowFloor, "its counter is below the fleet's security floor",
			"counter "+format(floor)+" or higher", format(s.manifest.Counter))
	}
	return s, nil
}

// Accepted believes a manifest again that this site accepted before and has in its memory as mark. A key that was revoked, a threshold or
// a floor that was raised since, and a window that closed, do not stop what runs; so none of them is looked at. That a known key or
// identity signed exactly these bytes still is. Any error is a *Refusal.
func (t *Trust) Accepted(signatures Signatures, manifest []byte, signed [][]byte, mark Mark) (Signed, error) {
	s, err := t.signed(signatures, manifest, signed)
	if err != nil {
		return Signed{}, err
	}
	if s.digest != mark.Digest || s.manifest.Counter != mark.Counter {
		return Signed{}, s.refuse(WrongBundle, "not the manifest that was accepted", "digest "+text(mark.Digest), string(s.digest))
	}
	s.accepted = true
	return s, nil
}

// signed believes that somebody the document knows, revoked or not, signed exactly these bytes and may sign the name in them.
func (t *Trust) signed(signatures Signatures, manifest []byte, signed [][]byte) (Signed, error) {
	if err := checkSizes(manifest, signed); err != nil {
		return Signed{}, err
	}
	if err := t.ready(signatures); err != nil {
		return Signed{}, err
	}
	if len(signed) == 0 {
		return Signed{}, &Refusal{Reason: Unsigned, Detail: "the manifest has no signature"}
	}
	signers, err := t.signers(signatures, manifest, signed)
	if err != nil {
		return Signed{}, err
	}
	m, err := decodeManifest(manifest)
	if err != nil {
		return Signed{}, err
	}
	s := Signed{manifest: m, raw: manifest, digest: bundle.DigestOf(manifest), threshold: t.Threshold(m.Name), epoch: t.CounterEpoch}
	for _, signer := range signers {
		if signer.may(m.Name) {
			s.signers = append(s.signers, signer)
		}
	}
	if len(s.signers) == 0 {
		return Signed{}, s.refuse(KeyNotAllowed, "the key that signed it may not sign this name",
			strings.Join(signers[0].names, " "), fmt.Sprintf("%s by %s", m.Name, signers[0].id))
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
	case t == nil || len(t.Keys)+len(t.Identities) == 0:
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
func (s Signed) Valid() bool { return s.manifest != nil && len(s.signers) > 0 }

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

// Key is the first release key or identity that signed it and may.
func (s Signed) Key() KeyID {
	if !s.Valid() {
		return ""
	}
	return s.signers[0].id
}

// Signers are all different release keys and identities that signed it and may.
func (s Signed) Signers() []KeyID {
	var ids []KeyID
	for _, signer := range s.signers {
		if !slices.Contains(ids, signer.id) {
			ids = append(ids, signer.id)
		}
	}
	return ids
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

// FirstApplyAt refuses a manifest that has expired, and one that too few signed whose keys may sign something new at that time. It is asked
// with the trusted time before a first acceptance or apply, and never again: what Trust.Accepted gives has passed its keys' windows.
func (s Signed) FirstApplyAt(now time.Time) error {
	if !s.Valid() {
		return notVerified()
	}
	if expires := s.manifest.Expires; expires != nil && !now.Before(*expires) {
		return s.refuse(Expired, "too late for a first apply",
			"an apply before "+expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if s.accepted {
		return nil
	}
	var inTime []signer
	for _, signer := range s.signers {
		if signer.mayAt(now) {
			inTime = append(inTime, signer)
		}
	}
	if signers := count(inTime); signers < s.threshold {
		return s.refuse(KeyOutsideWindow, "too few have signed it whose keys are in their time",
			fmt.Sprintf("%d different signers", s.threshold), fmt.Sprintf("%d at %s", signers, now.UTC().Format(time.RFC3339)))
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
