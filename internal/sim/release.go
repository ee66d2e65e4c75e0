package sim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// release is one signed manifest.
type release struct {
	name      bundle.Name
	version   bundle.Version
	counter   bundle.Counter
	digest    bundle.Digest
	manifest  []byte
	signature []byte
	requires  bundle.Name
	bad       bool // never becomes healthy
	withdrawn bool
	empties   bool          // going to it or away from it is a suspicious plan
	confirm   time.Duration // it affects the line: how soon the hub is to be reached
}

// generations is how many release keys there are, one after the other.
const generations = 8

// releaseKeys are the public halves. Signatures are modelled: nobody needs the private ones.
var releaseKeys = sync.OnceValue(func() []verify.Key {
	keys := make([]verify.Key, generations)
	for i := range keys {
		x, y := elliptic.P256().ScalarBaseMult(big.NewInt(int64(i + 2)).Bytes()) //nolint:staticcheck // a key that is the same in every run
		der, err := x509.MarshalPKIXPublicKey(&ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y})
		if err != nil {
			panic(err)
		}
		if keys[i], err = verify.NewKey(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "*"); err != nil {
			panic(err)
		}
	}
	return keys
})

// signatures is the model of the mathematics: what signs is a digest over key and message.
type signatures struct{}

func sign(key verify.Key, message []byte) []byte {
	sum := sha256.Sum256(append([]byte(key.PublicKey), message...))
	return append([]byte(key.ID+" "), sum[:]...)
}

// Check implements verify.Signatures.
func (signatures) Check(message, signature []byte, publicKeyPEM string) error {
	for _, key := range releaseKeys() {
		if key.PublicKey == publicKeyPEM && bytes.Equal(signature, sign(key, message)) {
			return nil
		}
	}
	return verify.ErrOtherKey
}

// Identify implements verify.Signatures.
func (signatures) Identify(_, _, _ []byte) (verify.Certified, error) {
	return verify.Certified{}, verify.ErrUnsupportedSignature
}

// trust is what the root says in its version: the newest key may sign, those before it are revoked, and floors keep withdrawn releases away.
func trust(generation int, floors map[bundle.Name]bundle.Counter) *verify.Trust {
	t := &verify.Trust{Schema: verify.TrustSchema, Fleet: "sim", Floors: floors}
	for i, key := range releaseKeys()[:generation+1] {
		key.Revoked = i < generation
		t.Keys = append(t.Keys, key)
	}
	return t
}

var encoded sync.Map // of manifests, by what makes them different: most worlds release the same

// newRelease makes and signs one.
func newRelease(name bundle.Name, counter bundle.Counter, requires bundle.Name, generation int) release {
	r := release{name: name, version: bundle.Version(fmt.Sprintf("1.%d.0", counter)), counter: counter, requires: requires}
	type id struct {
		name, requires bundle.Name
		counter        bundle.Counter
	}
	key := id{name, requires, counter}
	raw, known := encoded.Load(key)
	if !known {
		content := []byte(fmt.Sprintf("%s %d", name, counter))
		m := &bundle.Manifest{
			Schema: bundle.Schema, Name: name, Version: r.version, Counter: counter, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
			Policy:  bundle.Policy{Prune: true, Drift: bundle.DriftEnforce},
			Content: bundle.ContentInfo{Digest: bundle.DigestOf(content), Size: int64(len(content)), Objects: 3},
		}
		if requires != "" {
			m.Requires = []bundle.Requirement{{Name: requires}}
		}
		b, err := bundle.EncodeManifest(m)
		if err != nil {
			panic(err)
		}
		raw, _ = encoded.LoadOrStore(key, b)
	}
	r.manifest = raw.([]byte)
	r.digest = bundle.DigestOf(r.manifest)
	r.signature = sign(releaseKeys()[generation], r.manifest)
	return r
}
