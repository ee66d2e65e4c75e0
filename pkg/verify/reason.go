package verify

import (
	"errors"
	"strings"
)

// Reason says why something was refused. The set crosses the wire and is frozen: reasons are added, never changed.
type Reason string

// The reasons.
const (
	TooLarge             Reason = "TooLarge"             // manifest, signature or content exceeds its limit
	NoTrustedKey         Reason = "NoTrustedKey"         // no release key is configured, so nothing can be believed
	Unsigned             Reason = "Unsigned"             // there is no signature
	VerifierFailed       Reason = "VerifierFailed"       // the verifier itself failed, for example by a panic
	UnknownMediaType     Reason = "UnknownMediaType"     // the signature is not a Sigstore bundle v0.3
	LegacySignature      Reason = "LegacySignature"      // the signature is in cosign's old format
	UnsupportedSignature Reason = "UnsupportedSignature" // a DSSE envelope, or a certificate where no identity may sign
	MalformedSignature   Reason = "MalformedSignature"   // the signature cannot be read
	UntrustedKey         Reason = "UntrustedKey"         // signed by a key that is not among the release keys
	BadSignature         Reason = "BadSignature"         // the signature does not fit the manifest's bytes
	MalformedManifest    Reason = "MalformedManifest"    // rightly signed, and yet not a manifest
	KeyNotAllowed        Reason = "KeyNotAllowed"        // signed by a release key that may not sign this name
	BelowFloor           Reason = "BelowFloor"           // counter below the fleet's security floor
	WrongBundle          Reason = "WrongBundle"          // another name, version or digest than asked for
	WrongTarget          Reason = "WrongTarget"          // not meant for this site
	OlderCounter         Reason = "OlderCounter"         // a newer release was accepted before
	CounterReused        Reason = "CounterReused"        // another manifest was accepted under the same counter
	Expired              Reason = "Expired"              // too late for a first apply
	ContentMismatch      Reason = "ContentMismatch"      // not the content that the manifest commits to
	MalformedContent     Reason = "MalformedContent"     // the content the manifest commits to cannot be read
	RevokedKey           Reason = "RevokedKey"           // signed only by keys that were revoked
	TooFewSigners        Reason = "TooFewSigners"        // fewer different signers than the name needs
	KeyOutsideWindow     Reason = "KeyOutsideWindow"     // too few signers whose keys may sign something new now
	CounterTooFar        Reason = "CounterTooFar"        // so far above the last counter that few could follow it
	UntrustedAuthority   Reason = "UntrustedAuthority"   // certified by an authority that the trusted root does not name
	UntrustedIssuer      Reason = "UntrustedIssuer"      // the signer is known by an issuer that no identity names
	UntrustedSubject     Reason = "UntrustedSubject"     // the issuer is right, and knows the signer by a subject that no identity names
	NotWitnessed         Reason = "NotWitnessed"         // no log, or nobody who saw the time, that the trusted root names vouches for it
	OutsideCertificate   Reason = "OutsideCertificate"   // signed at a time for which its certificate is not valid
)

// Reasons are all reasons.
var Reasons = []Reason{
	TooLarge, NoTrustedKey, Unsigned, VerifierFailed, UnknownMediaType, LegacySignature, UnsupportedSignature, MalformedSignature,
	UntrustedKey, BadSignature, MalformedManifest, KeyNotAllowed, BelowFloor, WrongBundle, WrongTarget, OlderCounter, CounterReused,
	Expired, ContentMismatch, MalformedContent, RevokedKey, TooFewSigners, KeyOutsideWindow, CounterTooFar,
	UntrustedAuthority, UntrustedIssuer, UntrustedSubject, NotWitnessed, OutsideCertificate,
}

// Refusal is the error of everything in this package that decides what to believe. Its parts never hold a secret.
type Refusal struct {
	Reason Reason
	// Subject is what was refused: "bundle shop@1.4.2", or "bundle" where its name could not be believed.
	Subject string
	Detail  string
	// Expected and Got are the evidence, where there is any: digests, counters, keys.
	Expected, Got string
}

// Error is "bundle shop@1.4.2: refused: what is wrong (expected …, got …)".
func (r *Refusal) Error() string {
	subject := r.Subject
	if subject == "" {
		subject = "bundle"
	}
	text := subject + ": refused: " + r.Detail
	switch {
	case r.Expected != "" && r.Got != "":
		text += " (expected " + r.Expected + ", got " + r.Got + ")"
	case r.Expected != "":
		text += " (expected " + r.Expected + ")"
	case r.Got != "":
		text += " (got " + r.Got + ")"
	}
	return text
}

// Hint says what a person can do about it, or nothing.
func (r *Refusal) Hint() string { return hints[r.Reason] }

var hints = map[Reason]string{
	NoTrustedKey:         "add a release key to the fleet's trust document",
	Unsigned:             "sign it: holdfast bundle sign FILE --key cosign.key",
	UnknownMediaType:     "sign it as a Sigstore bundle v0.3: cosign sign-blob --new-bundle-format",
	LegacySignature:      "sign it again with cosign sign-blob --new-bundle-format",
	UnsupportedSignature: "sign it with a release key: cosign sign-blob --key KEY --new-bundle-format",
	UntrustedKey:         "sign it with a release key of this fleet, or add this key to the fleet's trust document",
	BadSignature:         "it was changed after it was signed, or damaged on the way: fetch it again from where it was built",
	KeyNotAllowed:        "sign it with a key that may sign this name",
	BelowFloor:           "publish it again under a higher counter, if it is really wanted",
	OlderCounter:         "to go back, publish the old content under a higher counter",
	CounterReused:        "publish it again under a higher counter",
	Expired:              "publish it again with a later expiry",
	RevokedKey:           "sign it with a release key that is not revoked",
	TooFewSigners:        "let another release key sign it too: holdfast bundle sign FILE --key K",
	KeyOutsideWindow:     "sign it with a release key that is in its time, or give the key a later one: holdfast key rotate",
	CounterTooFar:        "publish it under a counter nearer to the last one, or raise the fleet's counter epoch",
	UntrustedAuthority:   "sign it with the Sigstore whose trusted_root.json the fleet has: holdfast key add --sigstore-root changes it",
	UntrustedIssuer:      "sign it as an identity of this fleet, or add this one: holdfast key add --issuer I --subject S",
	UntrustedSubject:     "sign it as an identity of this fleet, or add this one: holdfast key add --issuer I --subject S",
	NotWitnessed:         "sign it again with log and timestamp: cosign sign-blob --new-bundle-format --bundle FILE",
	OutsideCertificate:   "sign it again: a certificate is good for minutes",
	ContentMismatch:      "it was changed after it was signed, or damaged on the way: fetch it again from where it was built",
}

// ReasonOf is the reason of a refusal anywhere in err's chain, or nothing.
func ReasonOf(err error) Reason {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

// clip bounds foreign text that goes into an error.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
