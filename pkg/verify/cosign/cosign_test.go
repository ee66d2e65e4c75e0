package cosign_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

var message = []byte(`{"schema":"holdfast.dev/bundle/v1","name":"shop"}`)

type keyPair struct{ private, public []byte }

// One pair serves all tests: making and opening a key takes 200 ms by design.
var pair = sync.OnceValue(func() keyPair {
	private, public, err := sign.GenerateKeyPair([]byte("pw"))
	if err != nil {
		panic(err)
	}
	return keyPair{private, public}
})

var signature = sync.OnceValue(func() []byte {
	signed, err := sign.Sign(message, pair().private, []byte("pw"))
	if err != nil {
		panic(err)
	}
	return signed
})

func TestAdapterKeepsThePromisesOfThePort(t *testing.T) {
	signer := func(keys keyPair) verifytest.Signer {
		return verifytest.Signer{Public: string(keys.public), Sign: func(message []byte) []byte {
			signed, err := sign.Sign(message, keys.private, []byte("pw"))
			if err != nil {
				t.Fatal(err)
			}
			return signed
		}}
	}
	private, public, err := sign.GenerateKeyPair([]byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	verifytest.Suite(t, cosign.Verifier{}, signer(pair()), signer(keyPair{private, public}))
}

// edit replaces in our own signature and fails if there is nothing to replace.
func edit(t *testing.T, old, with string) string {
	t.Helper()
	s := string(signature())
	if !strings.Contains(s, old) {
		t.Fatalf("%q is not in %s", old, s)
	}
	return strings.Replace(s, old, with, 1)
}

func TestT01_OtherFormsOfSignatures(t *testing.T) {
	const envelope = `"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA"}]}`
	bare := base64.StdEncoding.EncodeToString([]byte("0E\x02 some signature in DER"))
	hint := `{"hint":`
	for _, c := range []struct {
		name, signature string
		want            error
	}{
		{"empty", "", verify.ErrMalformedSignature},
		{"rubbish", "rubbish!", verify.ErrMalformedSignature},
		{"bare signature", bare + "\n", verify.ErrLegacySignature},
		{"legacy bundle", `{"base64Signature":"` + bare + `"}`, verify.ErrLegacySignature},
		{"legacy bundle with everything", `{"base64Signature":"` + bare + `","cert":"","rekorBundle":{"SignedEntryTimestamp":"","Payload":{}}}`, verify.ErrLegacySignature},
		{"legacy bundle in disguise", edit(t, `{"`, `{"base64Signature":"`+bare+`","`), verify.ErrLegacySignature},
		{"no media type", `{}`, verify.ErrUnknownMediaType},
		{"media type of a wrong type", edit(t, `"`+cosign.MediaType+`"`, `7`), verify.ErrUnknownMediaType},
		{"v0.1", edit(t, cosign.MediaType, "application/vnd.dev.sigstore.bundle+json;version=0.1"), verify.ErrUnknownMediaType},
		{"v0.2", edit(t, cosign.MediaType, "application/vnd.dev.sigstore.bundle+json;version=0.2"), verify.ErrUnknownMediaType},
		{"v0.3 in the old spelling", edit(t, cosign.MediaType, "application/vnd.dev.sigstore.bundle+json;version=0.3"), verify.ErrUnknownMediaType},
		{"v0.4", edit(t, "v0.3", "v0.4"), verify.ErrUnknownMediaType},
		{"v0.3.1", edit(t, "v0.3", "v0.3.1"), verify.ErrUnknownMediaType},
		{"upper case", edit(t, cosign.MediaType, strings.ToUpper(cosign.MediaType)), verify.ErrUnknownMediaType},
		{"envelope", `{"mediaType":"` + cosign.MediaType + `","verificationMaterial":{"publicKey":{"hint":""}},` + envelope + `}`, verify.ErrUnsupportedSignature},
		{"envelope beside", edit(t, `{"`, `{`+envelope+`,"`), verify.ErrUnsupportedSignature},
		{"certificate", edit(t, `"publicKey":{`, `"certificate":{"rawBytes":"AAAA"},"publicKey":{`), verify.ErrUnsupportedSignature},
		{"certificate chain", edit(t, `"publicKey":{`, `"x509CertificateChain":{"certificates":[]},"publicKey":{`), verify.ErrUnsupportedSignature},
		{"no public key", strings.Replace(edit(t, hint, `{"nothing":`), `"publicKey":{"nothing":`, `"x":{"x":`, 1), verify.ErrMalformedSignature},
		{"no verification material", `{"mediaType":"` + cosign.MediaType + `","messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AAAA"},"signature":"AAAA"}}`, verify.ErrMalformedSignature},
		{"no message signature", `{"mediaType":"` + cosign.MediaType + `","verificationMaterial":{"publicKey":{"hint":""}}}`, verify.ErrMalformedSignature},
		{"unknown digest algorithm", edit(t, "SHA2_256", "SHA1"), verify.ErrMalformedSignature},
		{"unspecified digest algorithm", edit(t, "SHA2_256", "HASH_ALGORITHM_UNSPECIFIED"), verify.ErrMalformedSignature},
		{"digest of another algorithm", edit(t, "SHA2_256", "SHA2_384"), verify.ErrMalformedSignature},
		{"hint of another key", edit(t, `"hint":"`, `"hint":"x`), verify.ErrOtherKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := cosign.Verifier{}.Check(message, []byte(c.signature), string(pair().public))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestWhatIsTolerated(t *testing.T) {
	for name, s := range map[string]string{
		"no hint":            edit(t, `"hint":"`+hintOf(t)+`"`, ``),
		"empty hint":         edit(t, hintOf(t), ``),
		"white space":        " " + strings.ReplaceAll(string(signature()), `":`, "\" :\n\t") + "\r\n",
		"log entries":        edit(t, `"publicKey"`, `"tlogEntries":[{"logIndex":"7","anything":[{}]}],"publicKey"`),
		"timestamps":         edit(t, `"publicKey"`, `"timestampVerificationData":{"rfc3161Timestamps":[]},"publicKey"`),
		"escapes in strings": edit(t, "SHA2_256", `\u0053HA2_256`),
	} {
		if err := (cosign.Verifier{}).Check(message, []byte(s), string(pair().public)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hintOf(t *testing.T) string {
	t.Helper()
	_, id, err := verify.ParseKey(string(pair().public))
	if err != nil {
		t.Fatal(err)
	}
	return cosign.Hint(id)
}

func TestT13_SignatureHasOneReading(t *testing.T) {
	good := string(signature())
	_, value, _ := strings.Cut(good, `"signature":"`)
	value, _, _ = strings.Cut(value, `"`)
	for name, s := range map[string]string{
		"duplicate key":             edit(t, `"mediaType"`, `"mediaType":"`+cosign.MediaType+`","mediaType"`),
		"duplicate, escaped":        edit(t, `"mediaType"`, `"mediaTyp\u0065":"x","mediaType"`),
		"duplicate inside":          edit(t, `"signature"`, `"signature":"AAAA","signature"`),
		"case variant":              edit(t, `"mediaType"`, `"MediaType"`),
		"case variant beside":       edit(t, `"mediaType"`, `"MEDIATYPE":"x","mediaType"`),
		"protobuf name":             edit(t, `"messageSignature"`, `"message_signature"`),
		"protobuf name beside":      edit(t, `"messageSignature"`, `"message_signature":{},"messageSignature"`),
		"unknown key":               edit(t, `"mediaType"`, `"url":"https://evil.example","mediaType"`),
		"unknown key inside":        edit(t, `"hint"`, `"rawBytes":"AAAA","hint"`),
		"null":                      edit(t, `"publicKey"`, `"certificate":null,"publicKey"`),
		"number for an enumeration": edit(t, `"SHA2_256"`, `1`),
		"base64 for URLs":           edit(t, value, "_-8="),
		"line break in base64":      edit(t, value, value[:8]+`\n`+value[8:]),
		"base64 without padding":    edit(t, value, "AAA"),
		"byte order mark":           "\ufeff" + good,
		"NUL after":                 good + "\x00",
		"second document":           good + good,
		"array":                     "[" + good + "]",
		"invalid UTF-8":             edit(t, "SHA2", "SHA\xff"),
		"deep log entries":          edit(t, `"publicKey"`, `"tlogEntries":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,"publicKey"`),
		"duplicate in log entries":  edit(t, `"publicKey"`, `"tlogEntries":[{"a":1,"a":2}],"publicKey"`),
	} {
		t.Run(name, func(t *testing.T) {
			want := verify.ErrMalformedSignature
			if name == "case variant" {
				want = verify.ErrUnknownMediaType
			}
			if err := (cosign.Verifier{}).Check(message, []byte(s), string(pair().public)); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestT11_SignatureBombs(t *testing.T) {
	for name, s := range map[string][]byte{
		"huge":     make([]byte, 256<<20),
		"deep":     bytes.Repeat([]byte("["), bundle.MaxSignatureSize),
		"objects":  bytes.Repeat([]byte(`{"a":`), bundle.MaxSignatureSize/5),
		"many log": []byte(edit(t, `"publicKey"`, `"tlogEntries":[`+strings.Repeat(`{},`, 20000)+`{}],"publicKey"`)),
		"long":     []byte(edit(t, `"hint":"`, `"hint":"`+strings.Repeat("A", 60000))),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := cosign.Verifier{}.Check(message, s, string(pair().public))
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if name != "many log" && err == nil || allocated > 8<<20 {
			t.Errorf("%s: %v, %d bytes allocated", name, err, allocated)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// The whole way: manifest, real signature, content.
func TestT02_EachByteThroughCosign(t *testing.T) {
	content := []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}` + "\n")
	manifest := verifytest.Manifest(t, content, 1)
	signed, err := sign.Sign(manifest, pair().private, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := verify.NewKey(string(pair().public), "shop")
	if err != nil {
		t.Fatal(err)
	}
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", Keys: []verify.Key{key}}
	believed, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{signed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := believed.WithContent(content); err != nil {
		t.Fatal(err)
	}
	for i := range manifest {
		changed := bytes.Clone(manifest)
		changed[i] ^= 1
		if _, err := trust.Manifest(cosign.Verifier{}, changed, [][]byte{signed}); verify.ReasonOf(err) != verify.BadSignature {
			t.Fatalf("manifest byte %d: %v", i, err)
		}
	}
	for i := range signed {
		changed := bytes.Clone(signed)
		changed[i] ^= 1
		if _, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{changed}); verify.ReasonOf(err) == "" || verify.ReasonOf(err) == verify.VerifierFailed {
			t.Fatalf("signature byte %d: %v", i, err)
		}
	}
	for i := range content {
		changed := bytes.Clone(content)
		changed[i] ^= 1
		if _, err := believed.WithContent(changed); verify.ReasonOf(err) != verify.ContentMismatch {
			t.Fatalf("content byte %d: %v", i, err)
		}
	}
}

// The edge must not carry key providers and signing: 13 MB of binary, and programs run by key reference.
func TestT30_VerifyingImportsNoKeyProviders(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for _, unwanted := range []string{
		"github.com/sigstore/cosign/v2/pkg/signature", "github.com/sigstore/cosign/v2/cmd", "github.com/sigstore/sigstore/pkg/signature/kms",
		"github.com/aws/", "cloud.google.com/", "github.com/Azure/azure-sdk",
	} {
		for _, imported := range strings.Fields(string(out)) {
			if strings.HasPrefix(imported, unwanted) {
				t.Errorf("imports %s", imported)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(signature())
	f.Add([]byte(`{"base64Signature":"AAAA"}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":""}},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AAAA"},"signature":"AAAA"}}`))
	public := string(pair().public)
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"}
	key, err := verify.NewKey(public, "*")
	if err != nil {
		f.Fatal(err)
	}
	trust.Keys = []verify.Key{key}
	f.Fuzz(func(t *testing.T, s []byte) {
		// Nobody signed these bytes, so whatever the fuzzer finds must be refused, and never because the verifier failed.
		_, err := trust.Manifest(cosign.Verifier{}, []byte("nobody signed this"), [][]byte{s})
		if reason := verify.ReasonOf(err); reason == "" || reason == verify.VerifierFailed {
			t.Fatalf("%v", err)
		}
	})
}

func ExampleVerifier() {
	private, public, err := sign.GenerateKeyPair([]byte("secret"))
	if err != nil {
		panic(err)
	}
	signed, err := sign.Sign([]byte("manifest"), private, []byte("secret"))
	if err != nil {
		panic(err)
	}
	fmt.Println(cosign.Verifier{}.Check([]byte("manifest"), signed, string(public)))
	// Output: <nil>
}
