package verifytest

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Signer makes signatures of the form an adapter understands.
type Signer struct {
	Sign   func(message []byte) []byte
	Public string // PEM
}

// Suite is what every verify.Signatures promises. a and b are different keys.
func Suite(t *testing.T, subject verify.Signatures, a, b Signer) {
	message := []byte(`{"schema":"holdfast.dev/bundle/v1","name":"shop"}`)
	signature := a.Sign(message)

	t.Run("accepts a signature over exactly the message", func(t *testing.T) {
		if err := subject.Check(message, signature, a.Public); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("refuses every changed byte of the message", func(t *testing.T) {
		for i := range message {
			refused(t, subject.Check(flip(message, i), signature, a.Public), verify.ErrBadSignature)
		}
		refused(t, subject.Check(message[:len(message)-1], signature, a.Public), verify.ErrBadSignature)
		refused(t, subject.Check(append(bytes.Clone(message), '\n'), signature, a.Public), verify.ErrBadSignature)
		refused(t, subject.Check(nil, signature, a.Public), verify.ErrBadSignature)
	})
	t.Run("refuses every changed byte of the signature", func(t *testing.T) {
		for i := range signature {
			refused(t, subject.Check(message, flip(signature, i), a.Public))
		}
		for i := range signature {
			refused(t, subject.Check(message, signature[:i], a.Public))
		}
		refused(t, subject.Check(message, append(bytes.Clone(signature), '{'), a.Public), verify.ErrMalformedSignature)
	})
	t.Run("tells another key from a bad signature", func(t *testing.T) {
		refused(t, subject.Check(message, signature, b.Public), verify.ErrOtherKey)
		refused(t, subject.Check(message, b.Sign(message), a.Public), verify.ErrOtherKey)
	})
	t.Run("a key that cannot be read is the verifier's failure", func(t *testing.T) {
		for _, key := range []string{"", "garbage", a.Public + a.Public, a.Public[:len(a.Public)/2]} {
			err := subject.Check(message, signature, key)
			if err == nil || isKind(err) {
				t.Errorf("key %.30q: %v", key, err)
			}
		}
	})
	t.Run("may be used concurrently", func(t *testing.T) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if err := subject.Check(message, signature, a.Public); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

// Certifier makes signatures by identities of the form an adapter understands.
type Certifier struct {
	Sign func(message []byte, who verify.Certified) []byte
	Root []byte
}

// CertificateSuite is what every verify.Signatures promises about identities. a and b are different authorities, key is a signature by key.
func CertificateSuite(t *testing.T, subject verify.Signatures, a, b Certifier, key Signer) {
	message := []byte(`{"schema":"holdfast.dev/bundle/v1","name":"shop"}`)
	who := verify.Certified{Issuer: "https://issuer.example", Subject: "builder@fleet.example"}
	signature := a.Sign(message, who)

	t.Run("says who signed", func(t *testing.T) {
		if got, err := subject.Identify(message, signature, a.Root); err != nil || got != who {
			t.Fatalf("%v, %v", got, err)
		}
	})
	nobody := func(t *testing.T, message, signature, root []byte, want ...error) {
		t.Helper()
		got, err := subject.Identify(message, signature, root)
		refused(t, err, want...)
		if got != (verify.Certified{}) {
			t.Errorf("an error, and yet %v", got)
		}
	}
	t.Run("refuses other messages", func(t *testing.T) {
		for _, i := range []int{0, len(message) / 2, len(message) - 1} {
			nobody(t, flip(message, i), signature, a.Root, verify.ErrBadSignature)
		}
		nobody(t, nil, signature, a.Root, verify.ErrBadSignature)
	})
	t.Run("refuses a cut signature", func(t *testing.T) {
		for i := 0; i < len(signature); i += 1 + len(signature)/50 {
			nobody(t, message, signature[:i], a.Root)
		}
	})
	t.Run("refuses another authority", func(t *testing.T) {
		nobody(t, message, signature, b.Root, verify.ErrOtherAuthority)
		nobody(t, message, b.Sign(message, who), a.Root, verify.ErrOtherAuthority)
	})
	t.Run("keeps keys and identities apart", func(t *testing.T) {
		nobody(t, message, key.Sign(message), a.Root, verify.ErrUnsupportedSignature)
		refused(t, subject.Check(message, signature, key.Public), verify.ErrUnsupportedSignature)
	})
	t.Run("a root that cannot be read is the verifier's failure", func(t *testing.T) {
		for _, root := range []string{"", "garbage", "[]", string(a.Root[:len(a.Root)/2])} {
			if got, err := subject.Identify(message, signature, []byte(root)); err == nil || isKind(err) || got != (verify.Certified{}) {
				t.Errorf("root %.30q: %v, %v", root, got, err)
			}
		}
	})
}

var kinds = []error{
	verify.ErrUnknownMediaType, verify.ErrLegacySignature, verify.ErrUnsupportedSignature, verify.ErrMalformedSignature,
	verify.ErrOtherKey, verify.ErrBadSignature, verify.ErrOtherAuthority, verify.ErrNotWitnessed, verify.ErrOutsideCertificate,
}

func isKind(err error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// refused wants an error of one of the kinds; of the given kind, if one is given.
func refused(t *testing.T, err error, want ...error) {
	t.Helper()
	switch {
	case err == nil:
		t.Error("accepted")
	case !isKind(err):
		t.Errorf("not of a kind the port knows: %v", err)
	case len(want) > 0 && !errors.Is(err, want[0]):
		t.Errorf("got %v, want %v", err, want[0])
	}
}

func flip(b []byte, i int) []byte {
	flipped := bytes.Clone(b)
	flipped[i] ^= 0x01
	return flipped
}
