// Package storekey says where the keys are that encrypt a store at rest, and how they change. It is shared by edge and hub, and knows no store.
//
// A source holds a ring: lines of printable text, each a secret of MinSecret to MaxSecret bytes. The first is the one in use; the others were in use before
// and stay for as long as a store may still need them. What encrypts is derived from a secret, so any text that nobody can guess will do.
//
//	K1  Nothing but a first start makes a key: where a store is encrypted and its source holds none, that is an error and changes nothing.
//	K2  A key is durable in its source before a store is encrypted with it, and leaves it only after the store no longer needs it. A rotation that was cut
//	    off goes on at the next start.
//	K3  Two that make a first key at the same time end with the same one.
//	K4  No secret stands in an error or a String.
//
// Sources: file:PATH (made 0600; whatever can be mounted or unsealed to a path is one: a Kubernetes Secret, a systemd credential that the TPM unseals),
// secret:NAMESPACE/NAME (a Secret that the agent reads through its cluster) and command:/PATH ARGUMENT… (a program that prints the ring, such as tpm2_unseal;
// it is the operator's own choice, run without a shell).
package storekey

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a ring.
const (
	MinSecret = 16  // bytes of a line
	MaxSecret = 512 // bytes of a line
	MaxRing   = 4   // lines
	maxText   = 4 << 10
	keySize   = 32
)

// Ring are the secrets of a store, the one in use first. The zero Ring has none.
type Ring struct{ secrets []string }

// Parse reads a ring. Its errors do not show what they are about.
func Parse(text []byte) (Ring, error) {
	if len(text) > maxText {
		return Ring{}, fmt.Errorf("store key: more than %d bytes", maxText)
	}
	var r Ring
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) < MinSecret || len(line) > MaxSecret || strings.ContainsFunc(line, unprintable) {
			return Ring{}, fmt.Errorf("store key: line %d: want %d to %d printable characters, such as base64 of random bytes", len(r.secrets)+1, MinSecret, MaxSecret)
		}
		r.secrets = append(r.secrets, line)
	}
	if len(r.secrets) > MaxRing {
		return Ring{}, fmt.Errorf("store key: %d lines: want the key in use, and at most %d from before", len(r.secrets), MaxRing-1)
	}
	return r, nil
}

func unprintable(c rune) bool { return c < ' ' || c > '~' }

// Encode is the inverse of Parse.
func (r Ring) Encode() []byte {
	if r.Empty() {
		return nil
	}
	return []byte(strings.Join(r.secrets, "\n") + "\n")
}

// Empty says that there is no secret.
func (r Ring) Empty() bool { return len(r.secrets) == 0 }

// Rotating says that there are keys from before.
func (r Ring) Rotating() bool { return len(r.secrets) > 1 }

// Keys derives a key of 32 bytes for a purpose from each secret.
func (r Ring) Keys(purpose string) [][]byte {
	keys := make([][]byte, 0, len(r.secrets))
	for _, secret := range r.secrets {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "holdfast store: "+purpose, keySize)
		if err != nil {
			panic(err) // the length is a constant that fits
		}
		keys = append(keys, key)
	}
	return keys
}

// Next is the ring with a new key in use.
func (r Ring) Next() Ring { return Fresh().Before(r) }

// Before is the ring with the keys of another one as those from before.
func (r Ring) Before(old Ring) Ring {
	secrets := append(append([]string{}, r.secrets...), old.secrets...)
	return Ring{secrets[:min(len(secrets), MaxRing)]}
}

// Settled is the ring without keys from before.
func (r Ring) Settled() Ring { return Ring{r.secrets[:min(len(r.secrets), 1)]} }

// String tells how many there are.
func (r Ring) String() string { return fmt.Sprintf("%d keys", len(r.secrets)) }

// Fresh is a ring of one new key, of 260 random bits.
func Fresh() Ring { return Ring{[]string{rand.Text() + rand.Text()}} }

// Source is a place for a ring. One goroutine at a time uses it.
type Source interface {
	// Read gives the ring, an empty one where there is none yet.
	Read(ctx context.Context) (Ring, error)
	// Write puts a ring in the place of the one that was read last, durably and in one step. Errors: ErrChanged, ErrReadOnly, or what the place says.
	Write(ctx context.Context, r Ring) error
	// String is how the flag names it.
	fmt.Stringer
}

var (
	// ErrChanged says that somebody else wrote since the last Read.
	ErrChanged = errors.New("it was changed meanwhile")
	// ErrReadOnly says that a place cannot be written by us.
	ErrReadOnly = errors.New("it cannot be written")
	// ErrLost says that a store is encrypted and the source has no key.
	ErrLost = errors.New("the store is encrypted, and there is no key")
)

// Obtain reads the ring and makes the first key where there is none and none may be missing.
func Obtain(ctx context.Context, s Source, encrypted bool) (Ring, error) {
	r, err := s.Read(ctx)
	if err != nil || !r.Empty() {
		return r, err
	}
	if encrypted {
		return r, fmt.Errorf("store key %s: %w", s, ErrLost)
	}
	if err = s.Write(ctx, Fresh()); err != nil && !errors.Is(err, ErrChanged) {
		return r, err
	}
	// Whoever was first decides (K3).
	if r, err = s.Read(ctx); err == nil && r.Empty() {
		err = fmt.Errorf("store key %s: what was written is not there", s)
	}
	return r, err
}

// Open gives the source that a flag names. secret gives Secrets; nil: there are none here.
func Open(ref string, secret func(namespace, name string) Source) (Source, error) {
	kind, rest, _ := strings.Cut(ref, ":")
	switch {
	case kind == "file" && rest != "":
		return File(rest), nil
	case kind == "command":
		return command(rest)
	case kind == "secret" && secret != nil:
		namespace, name, _ := strings.Cut(rest, "/")
		if namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("store key %.200q: want secret:namespace/name", ref)
		}
		return secret(namespace, name), nil
	case secret != nil:
		return nil, fmt.Errorf("store key %.200q: want file:PATH, secret:NAMESPACE/NAME or command:/PATH", ref)
	}
	return nil, fmt.Errorf("store key %.200q: want file:PATH or command:/PATH", ref)
}
