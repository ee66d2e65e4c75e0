package verify

import (
	"errors"
	"fmt"
)

// Signatures is the mathematics of signatures. pkg/verify/cosign checks Sigstore bundles; verifytest has a twin for tests, and the
// suite that both run. Check may be called concurrently and must not touch network, files or environment.
type Signatures interface {
	// Check returns nil only if signature is by the key over exactly message. Its errors wrap one of the kinds below;
	// any other error, and a panic, is a failure of the verifier itself and refuses the manifest.
	Check(message, signature []byte, publicKeyPEM string) error
}

// The kinds of errors of Signatures.Check.
var (
	ErrUnknownMediaType     = errors.New("not a Sigstore bundle v0.3")
	ErrLegacySignature      = errors.New("signature in cosign's old format")
	ErrUnsupportedSignature = errors.New("not a signature by key over the manifest's bytes")
	ErrMalformedSignature   = errors.New("malformed signature")
	ErrOtherKey             = errors.New("signed by another key")
	ErrBadSignature         = errors.New("the signature does not fit these bytes")
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
	{ErrOtherKey, UntrustedKey},
	{ErrBadSignature, BadSignature},
}

// signers finds the keys that signed the message. It fails if there is none, or as soon as the verifier itself fails.
func (t *Trust) signers(signatures Signatures, message []byte, signed [][]byte) ([]Key, error) {
	var found []Key
	nearest, refusal := -1, (*Refusal)(nil)
	for i, key := range t.Keys {
		for _, signature := range signed {
			err := check(signatures, message, signature, key.PublicKey)
			if err == nil {
				found = append(found, t.Keys[i])
				break
			}
			rank := rankOf(err)
			if rank < 0 {
				return nil, &Refusal{Reason: VerifierFailed, Detail: "the verifier failed: " + clip(err.Error())}
			}
			if rank > nearest {
				nearest, refusal = rank, &Refusal{Reason: kinds[rank].reason, Detail: clip(err.Error())}
			}
		}
	}
	if len(found) == 0 {
		return nil, refusal
	}
	return found, nil
}

func rankOf(err error) int {
	for rank := len(kinds) - 1; rank >= 0; rank-- {
		if errors.Is(err, kinds[rank].err) {
			return rank
		}
	}
	return -1
}

func check(signatures Signatures, message, signature []byte, key string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return signatures.Check(message, signature, key)
}
