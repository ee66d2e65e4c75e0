package verify

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Signatures is the mathematics of signatures. pkg/verify/cosign checks Sigstore bundles; verifytest has a twin for tests, and the
// suite that both run. It may be used concurrently and must not touch network, files, environment or clock.
//
// The errors of both wrap one of the kinds below; any other error, and a panic, is a failure of the verifier itself and refuses the manifest.
type Signatures interface {
	// Check returns nil only if signature is by the key over exactly message.
	Check(message, signature []byte, publicKeyPEM string) error
	// Identify says who signed exactly message by certificate, if everything the trusted root (Sigstore's trusted_root.json) names vouches
	// for it: authority, transparency log, and the time of signing. A signature by key is ErrUnsupportedSignature.
	Identify(message, signature, trustedRoot []byte) (Certified, error)
}

// The kinds of errors of Signatures.
var (
	ErrUnknownMediaType     = errors.New("not a Sigstore bundle v0.3")
	ErrLegacySignature      = errors.New("signature in cosign's old format")
	ErrUnsupportedSignature = errors.New("not the kind of signature that is wanted")
	ErrMalformedSignature   = errors.New("malformed signature")
	ErrOtherKey             = errors.New("signed by another key")
	ErrBadSignature         = errors.New("the signature does not fit these bytes")
	// Of Identify alone.
	ErrOtherAuthority     = errors.New("certified by an authority that the fleet's trusted root does not name")
	ErrNotWitnessed       = errors.New("no witness that the fleet's trusted root names vouches for it")
	ErrOutsideCertificate = errors.New("signed at a time for which its certificate is not valid")

	errOtherIssuer  = errors.New("signed by somebody whom another issuer knows")
	errOtherSubject = errors.New("signed by another identity")
)

// kinds lists the errors from farthest from success to nearest: the nearest is what a person is told.
var kinds = []struct {
	err    error
	reason Reason
}{
	{ErrUnknownMediaType, UnknownMediaType},
	{ErrLegacySignature, LegacySignature},
	{ErrUnsupportedSignature, UnsupportedSignature},
	{ErrMalformedSignature, MalformedSignature},
	{ErrOtherAuthority, UntrustedAuthority},
	{ErrOtherKey, UntrustedKey},
	{errOtherIssuer, UntrustedIssuer},
	{errOtherSubject, UntrustedSubject},
	{ErrBadSignature, BadSignature},
	{ErrNotWitnessed, NotWitnessed},
	{ErrOutsideCertificate, OutsideCertificate},
}

// signer is a key or an identity that signed, with what the trust document lets it do. One identity may have several.
type signer struct {
	id                  KeyID
	names               []string
	notBefore, notAfter *time.Time
	revoked             bool
}

func (s signer) may(name bundle.Name) bool { return Key{Names: s.names}.May(name) }

// mayAt says whether it may sign something new at the time. The bounds belong to the window.
func (s signer) mayAt(now time.Time) bool {
	return !s.revoked && (s.notBefore == nil || !now.Before(*s.notBefore)) && (s.notAfter == nil || !now.After(*s.notAfter))
}

// count is how many of them are different.
func count(signers []signer) int {
	different := map[KeyID]bool{}
	for _, s := range signers {
		different[s.id] = true
	}
	return len(different)
}

// nearest remembers the refusal that was nearest to success.
type nearest struct {
	rank    int
	refusal *Refusal
}

// note fails only if the verifier itself did.
func (n *nearest) note(err error) error {
	rank := rankOf(err)
	if rank < 0 {
		return &Refusal{Reason: VerifierFailed, Detail: "the verifier failed: " + clip(err.Error())}
	}
	if n.refusal == nil || rank > n.rank {
		n.rank, n.refusal = rank, &Refusal{Reason: kinds[rank].reason, Detail: clip(err.Error())}
	}
	return nil
}

// signers finds who signed the message. It fails if there is nobody, or as soon as the verifier itself fails.
func (t *Trust) signers(signatures Signatures, message []byte, signed [][]byte) ([]signer, error) {
	var found []signer
	var near nearest
	for _, key := range t.Keys {
		for _, signature := range signed {
			_, err := guarded(func() (Certified, error) { return Certified{}, signatures.Check(message, signature, key.PublicKey) })
			if err == nil {
				found = append(found, signer{key.ID, key.Names, key.NotBefore, key.NotAfter, key.Revoked})
				break
			}
			if err := near.note(err); err != nil {
				return nil, err
			}
		}
	}
	if len(t.Identities) > 0 {
		certified, err := t.certified(signatures, message, signed, &near)
		if err != nil {
			return nil, err
		}
		found = append(found, certified...)
	}
	if len(found) == 0 {
		return nil, near.refusal
	}
	return found, nil
}

// certified finds the identities that signed.
func (t *Trust) certified(signatures Signatures, message []byte, signed [][]byte, near *nearest) ([]signer, error) {
	var found []signer
	for _, signature := range signed {
		who, err := guarded(func() (Certified, error) { return signatures.Identify(message, signature, t.SigstoreRoot) })
		if err == nil {
			known := len(found)
			for _, i := range t.Identities {
				if i.Is(who) {
					found = append(found, signer{who.ID(), i.Names, i.NotBefore, i.NotAfter, i.Revoked})
				}
			}
			if len(found) > known {
				continue
			}
			err = t.stranger(who)
		}
		if err := near.note(err); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// stranger is why an identity that signed is none of the fleet's.
func (t *Trust) stranger(who Certified) error {
	if slices.ContainsFunc(t.Identities, func(i Identity) bool { return i.Issuer == who.Issuer }) {
		return fmt.Errorf("%w: %.200s", errOtherSubject, who.ID())
	}
	return fmt.Errorf("%w: %.200s", errOtherIssuer, who.ID())
}

func rankOf(err error) int {
	for rank := len(kinds) - 1; rank >= 0; rank-- {
		if errors.Is(err, kinds[rank].err) {
			return rank
		}
	}
	return -1
}

// guarded makes a panic of the verifier an error.
func guarded(ask func() (Certified, error)) (who Certified, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return ask()
}
