package cosign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/keyless"
)

var builder = verify.Certified{Issuer: "https://issuer.example", Subject: "builder@fleet.example"}

type authorities struct {
	*keyless.Sigstore
	root []byte
}

func newAuthorities() authorities {
	s, err := keyless.New()
	if err != nil {
		panic(err)
	}
	root, err := s.TrustedRoot()
	if err != nil {
		panic(err)
	}
	return authorities{s, root}
}

// One set of authorities and one signature serve all tests.
var ours = sync.OnceValue(newAuthorities)

var byBuilder = sync.OnceValue(func() []byte { return ours().sign(message, builder) })

func (a authorities) sign(message []byte, who verify.Certified) []byte {
	signed, err := a.Sign(who.Subject, who.Issuer, message)
	if err != nil {
		panic(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, signed); err != nil {
		panic(err)
	}
	return compact.Bytes()
}

func TestAdapterKeepsThePromisesAboutIdentities(t *testing.T) {
	other := newAuthorities()
	verifytest.CertificateSuite(t, cosign.Verifier{}, verifytest.Certifier{Sign: ours().sign, Root: ours().root},
		verifytest.Certifier{Sign: other.sign, Root: other.root},
		verifytest.Signer{Public: string(pair().public), Sign: func(message []byte) []byte {
			signed, err := sign.Sign(message, pair().private, []byte("pw"))
			if err != nil {
				t.Fatal(err)
			}
			return signed
		}})
}

// document is a signature or a root as a tree that tests change.
type document map[string]any

func read(t *testing.T, raw []byte) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d document) in(path ...any) map[string]any {
	var at any = map[string]any(d)
	for _, step := range path {
		switch step := step.(type) {
		case string:
			at = at.(map[string]any)[step]
		case int:
			at = at.([]any)[step]
		}
	}
	return at.(map[string]any)
}

func (d document) write(t *testing.T) []byte {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestT01_EveryWitnessIsNeeded(t *testing.T) {
	evil := read(t, ours().sign([]byte("other"), verify.Certified{Issuer: builder.Issuer, Subject: "evil@fleet.example"}))
	material, entry := []any{"verificationMaterial"}, []any{"verificationMaterial", "tlogEntries", 0}
	for _, c := range []struct {
		name string
		edit func(signature, root document)
		want error // nil: believed
	}{
		{"untouched", func(_, _ document) {}, nil},
		{"without timestamps, the log saw the time", func(s, _ document) { delete(s.in(material...), "timestampVerificationData") }, nil},
		{"without log entries", func(s, _ document) { delete(s.in(material...), "tlogEntries") }, verify.ErrNotWitnessed},
		{"empty log entries", func(s, _ document) { s.in(material...)["tlogEntries"] = []any{} }, verify.ErrNotWitnessed},
		{"entry without promise and proof", func(s, _ document) {
			delete(s.in(entry...), "inclusionPromise")
			delete(s.in(entry...), "inclusionProof")
		}, verify.ErrMalformedSignature},
		{"the log entry of another signature", func(s, _ document) {
			s.in(material...)["tlogEntries"] = evil.in(material...)["tlogEntries"]
		}, verify.ErrNotWitnessed},
		{"the certificate of another", func(s, _ document) { s.in(material...)["certificate"] = evil.in(material...)["certificate"] }, verify.ErrBadSignature},
		{"the timestamp of another signature", func(s, _ document) {
			delete(s.in(entry...), "inclusionPromise")
			s.in(material...)["timestampVerificationData"] = evil.in(material...)["timestampVerificationData"]
		}, verify.ErrNotWitnessed},
		{"signed at another time than certified", func(s, _ document) { s.in(entry...)["integratedTime"] = "1000000000" }, verify.ErrOutsideCertificate},
		{"a root without this log", func(_, r document) { r["tlogs"] = read(t, newAuthorities().root)["tlogs"] }, verify.ErrNotWitnessed},
		{"a root without logs needs a timestamp", func(s, r document) {
			delete(r, "tlogs")
			delete(s.in(material...), "tlogEntries")
		}, nil},
		{"neither logs nor timestamps", func(s, r document) {
			delete(r, "tlogs")
			delete(s.in(material...), "timestampVerificationData")
		}, verify.ErrNotWitnessed},
		{"a root with a certificate log wants its word", func(_, r document) { r["ctlogs"] = r["tlogs"] }, verify.ErrNotWitnessed},
	} {
		t.Run(c.name, func(t *testing.T) {
			signature, root := read(t, byBuilder()), read(t, ours().root)
			c.edit(signature, root)
			who, err := cosign.Verifier{}.Identify(message, signature.write(t), root.write(t))
			if !errors.Is(err, c.want) || (err == nil) != (who == builder) {
				t.Errorf("%v, %v; want %v", who, err, c.want)
			}
		})
	}
	root := read(t, ours().root)
	delete(root, "certificateAuthorities")
	if _, err := (cosign.Verifier{}).Identify(message, byBuilder(), root.write(t)); err == nil || errors.Is(err, verify.ErrBadSignature) {
		t.Errorf("a root without authorities: %v", err)
	}
}

func TestT13_CertificateHasOneReading(t *testing.T) {
	good := string(byBuilder())
	for name, edit := range map[string][2]string{
		"duplicate key":         {`"rawBytes":`, `"rawBytes":"AAAA","rawBytes":`},
		"protobuf's other case": {`"tlogEntries"`, `"tlog_entries"`},
		"case variant":          {`"logIndex"`, `"LogIndex"`},
		"unknown key":           {`"kindVersion"`, `"x":1,"kindVersion"`},
		"number, not a string":  {`"integratedTime":"`, `"integratedTime":1,"x":"`},
		"signed number":         {`"integratedTime":"`, `"integratedTime":"+`},
		"leading zero":          {`"integratedTime":"`, `"integratedTime":"0`},
		"null":                  {`"timestampVerificationData":{`, `"dsseEnvelope":null,"timestampVerificationData":{`},
		"base64 with a space":   {`"rawBytes":"`, `"rawBytes":" `},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, edit[0], edit[1], 1)
			if changed == good {
				t.Fatalf("%q is not in %s", edit[0], good)
			}
			if _, err := (cosign.Verifier{}).Identify(message, []byte(changed), ours().root); !errors.Is(err, verify.ErrMalformedSignature) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestT01_KeylessBundleFromEndToEnd(t *testing.T) {
	manifest := verifytest.Manifest(t, []byte("x"), 1)
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", SigstoreRoot: ours().root,
		Identities: []verify.Identity{{Issuer: builder.Issuer, Subject: "builder@*", Names: []string{"shop"}}}}
	raw, err := verify.EncodeTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	if trust, err = verify.DecodeTrust(raw); err != nil { // the root survives the document
		t.Fatal(err)
	}
	signed, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{ours().sign(manifest, builder)})
	if err != nil || signed.Key() != builder.ID() {
		t.Fatalf("%v, %s", err, signed.Key())
	}
	evil := verify.Certified{Issuer: builder.Issuer, Subject: "evil@fleet.example"}
	if _, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{ours().sign(manifest, evil)}); verify.ReasonOf(err) != verify.UntrustedSubject {
		t.Errorf("another identity of the same authority: %v", err)
	}
	other := newAuthorities()
	if _, err := trust.Manifest(cosign.Verifier{}, manifest, [][]byte{other.sign(manifest, builder)}); verify.ReasonOf(err) != verify.UntrustedAuthority {
		t.Errorf("another authority: %v", err)
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add(byBuilder())
	f.Add(signature())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"AAAA"},"tlogEntries":[{}]},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AAAA"},"signature":"AAAA"}}`))
	root := ours().root
	f.Fuzz(func(t *testing.T, s []byte) {
		_, err := cosign.Verifier{}.Identify([]byte("nobody signed this"), s, root)
		if err == nil || strings.Contains(err.Error(), "panic") {
			t.Fatalf("%v", err)
		}
	})
}
