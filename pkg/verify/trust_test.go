package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

func encodeTrust(t testing.TB, trust *verify.Trust) string {
	t.Helper()
	raw, err := verify.EncodeTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestTrustRoundTrip(t *testing.T) {
	trust := verifytest.Trust(verifytest.NewKey(), verifytest.NewKey())
	trust.Keys[1].Names = []string{"shop-*", "pos"}
	trust.Floors = map[bundle.Name]bundle.Counter{"pos": 7}
	raw := encodeTrust(t, trust)
	again, err := verify.DecodeTrust([]byte(raw))
	if err != nil || !reflect.DeepEqual(trust, again) {
		t.Fatalf("%v\n%+v\n%+v", err, trust, again)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	if again, err = verify.DecodeTrust(compact.Bytes()); err != nil || !reflect.DeepEqual(trust, again) {
		t.Errorf("compact: %v", err)
	}
	if empty, err := verify.DecodeTrust([]byte(encodeTrust(t, verifytest.Trust()))); err != nil || len(empty.Keys) != 0 {
		t.Errorf("without keys: %v", err)
	}
}

func TestT13_TrustHasOneReading(t *testing.T) {
	key := verifytest.NewKey()
	good := strings.TrimSpace(encodeTrust(t, verifytest.Trust(key)))
	id := string(key.ID())
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, raw := range map[string]string{
		"empty":               "",
		"not an object":       "[]",
		"duplicate key":       replace(`"fleet": "test"`, `"fleet": "test", "fleet": "test"`),
		"duplicate, escaped":  replace(`"fleet": "test"`, `"fleet": "test", "\u0066leet": "evil"`),
		"case variant":        replace(`"keys"`, `"Keys"`),
		"case variant beside": replace(`"keys"`, `"KEYS": [], "keys"`),
		"kelvin sign":         replace(`"keys"`, "\"\u212aeys\""),
		"deep case variant":   replace(`"names"`, `"Names"`),
		"unknown key":         replace(`"fleet"`, `"threshold": 0, "fleet"`),
		"trailing bytes":      good + "{}",
		"trailing bracket":    good + "]",
		"byte order mark":     "\ufeff" + good,
		"NUL":                 good + "\x00",
		"invalid UTF-8":       replace("test", "t\xffst"),
		"null keys":           replace(good[strings.Index(good, "["):strings.LastIndex(good, "]")+1], "null"),
		"cut":                 good[:len(good)-1],
		"other schema":        replace("trust/v1", "trust/v2"),
		"no fleet":            replace(`"test"`, `""`),
		"wildcard fleet":      replace(`"test"`, `"*"`),
		"id of another key":   replace(id, string(verifytest.NewKey().ID())),
		"id in upper case":    replace(id, strings.ToUpper(id)),
		"no names":            replace(`"*"`, ``),
		"inner star":          replace(`"*"`, `"sh*p"`),
		"leading star":        replace(`"*"`, `"*-shop"`),
		"empty name":          replace(`"*"`, `""`),
		"two PEM blocks":      replace(`-----END PUBLIC KEY-----\n`, `-----END PUBLIC KEY-----\n`+strings.ReplaceAll(verifytest.NewKey().Public(), "\n", `\n`)),
		"words before PEM":    replace(`-----BEGIN`, `hello\n-----BEGIN`),
		"negative floor":      replace(`"fleet"`, `"floors": {"pos": -1}, "fleet"`),
		"floor too high":      replace(`"fleet"`, `"floors": {"pos": 18446744073709551616}, "fleet"`),
		"fractional floor":    replace(`"fleet"`, `"floors": {"pos": 1.5}, "fleet"`),
		"floor of a bad name": replace(`"fleet"`, `"floors": {"Pos": 1}, "fleet"`),
		"same floor twice":    replace(`"fleet"`, `"floors": {"pos": 9, "pos": 1}, "fleet"`),
		"deep":                replace(`"test"`, strings.Repeat("[", 100000)),
	} {
		t.Run(name, func(t *testing.T) {
			if trust, err := verify.DecodeTrust([]byte(raw)); err == nil {
				t.Errorf("accepted as %+v", trust)
			} else if !strings.HasPrefix(err.Error(), "trust document: ") || len(err.Error()) > 400 {
				t.Errorf("text: %v", err)
			}
		})
	}
	double := verifytest.Trust(key, key)
	if _, err := verify.EncodeTrust(double); err == nil {
		t.Error("the same key twice")
	}
}

func TestT01_WeakKeysAreNoReleaseKeys(t *testing.T) {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	for _, c := range []struct {
		name string
		key  func() (crypto.Signer, error)
		good bool
	}{
		{"P-256", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }, true},
		{"P-384", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) }, false},
		{"P-224", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P224(), rand.Reader) }, false},
		{"P-521", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) }, false},
		{"RSA 2048", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }, true},
		{"RSA 1024", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 1024) }, false},
		{"Ed25519", func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err }, false},
	} {
		der, err := x509.MarshalPKIXPublicKey(must(c.key()).Public())
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if _, err := verify.NewKey(text, "*"); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKeyMay(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no string
	}{
		{"*", "shop pos a", ""},
		{"shop", "shop", "shop-a sho shops"},
		{"shop-*", "shop-a shop-", "shop pos-shop-a"},
		{"s*", "s shop", "pos"},
	} {
		key := verify.Key{Names: []string{c.pattern}}
		for _, name := range strings.Fields(c.yes) {
			if !key.May(bundle.Name(name)) {
				t.Errorf("%s must allow %s", c.pattern, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if key.May(bundle.Name(name)) {
				t.Errorf("%s must not allow %s", c.pattern, name)
			}
		}
	}
	if (verify.Key{}).May("shop") {
		t.Error("a key without patterns may sign nothing")
	}
}

func TestCountersRoundTrip(t *testing.T) {
	counters := verify.Counters{"shop": {Counter: 1<<64 - 1, Digest: bundle.DigestOf(nil)}, "pos": {Counter: 0, Digest: bundle.DigestOf([]byte("x"))}}
	raw, err := verify.EncodeCounters(counters)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := verify.DecodeCounters(raw); err != nil || !reflect.DeepEqual(counters, again) {
		t.Fatalf("%v: %v", err, again)
	}
	digest := bundle.DigestOf(nil)
	for name, text := range map[string]string{
		"no marks":     `{"schema":"holdfast.dev/counters/v1"}`,
		"other schema": `{"schema":"holdfast.dev/counters/v2","marks":{}}`,
		"bad name":     fmt.Sprintf(`{"schema":"holdfast.dev/counters/v1","marks":{"A":{"counter":1,"digest":%q}}}`, digest),
		"bad digest":   `{"schema":"holdfast.dev/counters/v1","marks":{"a":{"counter":1,"digest":"sha256:0"}}}`,
		"twice":        fmt.Sprintf(`{"schema":"holdfast.dev/counters/v1","marks":{"a":{"counter":2,"digest":%q},"a":{"counter":1,"digest":%q}}}`, digest, digest),
		"case":         fmt.Sprintf(`{"schema":"holdfast.dev/counters/v1","marks":{"a":{"Counter":1,"digest":%q}}}`, digest),
		"trailing":     string(raw) + "0",
	} {
		if c, err := verify.DecodeCounters([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %v", name, c)
		}
	}
}

// The set is frozen: reasons cross the wire and stand in stored events.
func TestReasonsAreFrozen(t *testing.T) {
	const frozen = "[TooLarge NoTrustedKey Unsigned VerifierFailed UnknownMediaType LegacySignature UnsupportedSignature MalformedSignature " +
		"UntrustedKey BadSignature MalformedManifest KeyNotAllowed BelowFloor WrongBundle WrongTarget OlderCounter CounterReused Expired " +
		"ContentMismatch MalformedContent RevokedKey TooFewSigners KeyOutsideWindow CounterTooFar " +
		"UntrustedAuthority UntrustedIssuer UntrustedSubject NotWitnessed OutsideCertificate]"
	if got := fmt.Sprint(verify.Reasons); got != frozen {
		t.Errorf("got  %s\nwant %s", got, frozen)
	}
}

func TestTwinKeepsThePromisesOfThePort(t *testing.T) {
	a, b := verifytest.NewKey(), verifytest.NewKey()
	verifytest.Suite(t, verifytest.Twin{}, verifytest.Signer{Sign: a.Sign, Public: a.Public()}, verifytest.Signer{Sign: b.Sign, Public: b.Public()})
}

func TestTwinKeepsThePromisesAboutIdentities(t *testing.T) {
	a, b, key := verifytest.NewAuthority(), verifytest.NewAuthority(), verifytest.NewKey()
	verifytest.CertificateSuite(t, verifytest.Twin{}, verifytest.Certifier{Sign: a.Sign, Root: a.Root()},
		verifytest.Certifier{Sign: b.Sign, Root: b.Root()}, verifytest.Signer{Sign: key.Sign, Public: key.Public()})
}

func FuzzDecodeTrust(f *testing.F) {
	trust := verifytest.Trust(verifytest.NewKey())
	trust.Floors = map[bundle.Name]bundle.Counter{"pos": 7}
	f.Add([]byte(encodeTrust(f, trust)))
	trust.SigstoreRoot = verifytest.NewAuthority().Root()
	trust.Identities = []verify.Identity{{Issuer: issuer, Subject: "ci@*", Names: []string{"*"}, NotAfter: at(3)}}
	trust.Thresholds, trust.CounterEpoch = map[string]int{"pos": 2}, 3
	trust.Online = &verify.Online{Assignment: []string{"UABC"}}
	f.Add([]byte(encodeTrust(f, trust)))
	f.Add([]byte(`{"schema":"holdfast.dev/trust/v1","fleet":"a","keys":[]}`))
	f.Add([]byte(`{"schema":"holdfast.dev/trust/v1","fleet":"a","keys":[],"Keys":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		trust, err := verify.DecodeTrust(raw)
		if err != nil {
			return
		}
		encoded, err := verify.EncodeTrust(trust)
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		again, err := verify.DecodeTrust(encoded)
		if err != nil || encodeTrust(t, again) != string(encoded) {
			t.Fatalf("reads otherwise the second time: %v", err)
		}
	})
}

func FuzzDecodeCounters(f *testing.F) {
	raw, err := verify.EncodeCounters(verify.Counters{"shop": {Counter: 7, Digest: bundle.DigestOf(nil)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		counters, err := verify.DecodeCounters(raw)
		if err != nil {
			return
		}
		encoded, err := verify.EncodeCounters(counters)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := verify.DecodeCounters(encoded); err != nil || !reflect.DeepEqual(counters, again) {
			t.Fatalf("reads otherwise the second time: %v", err)
		}
	})
}
