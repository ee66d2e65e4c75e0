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

var kinds = []error{
	verify.ErrUnknownMediaType, verify.ErrLegacySignature, verify.ErrUnsupportedSignature, verify.ErrMalformedSignature,
	verify.ErrOtherKey, verify.ErrBadSignature,
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
