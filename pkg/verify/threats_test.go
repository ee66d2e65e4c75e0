package verify_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// object is one ConfigMap in canonical JSON.
func object(t testing.TB, name string) bundle.Object {
	t.Helper()
	o, err := bundle.NewObject([]byte(`{"apiVersion":"v1","data":{"greeting":"hello"},"kind":"ConfigMap","metadata":{"name":"` + name + `","namespace":"shop"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func content(t testing.TB, names ...string) []byte {
	t.Helper()
	var objects []bundle.Object
	for _, name := range names {
		objects = append(objects, object(t, name))
	}
	encoded, err := bundle.EncodeContent(objects)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func wantReason(t *testing.T, err error, want verify.Reason) {
	t.Helper()
	if got := verify.ReasonOf(err); err == nil || got != want {
		t.Errorf("got %q (%v), want %s", got, err, want)
	}
}

// verifier is a verify.Signatures made of a function.
type verifier func(message, signature []byte, key string) error

func (v verifier) Check(message, signature []byte, key string) error {
	return v(message, signature, key)
}

func (v verifier) Identify(message, signature, _ []byte) (verify.Certified, error) {
	return verify.Certified{}, v(message, signature, "")
}

func failsWith(err error) verifier { return func(_, _ []byte, _ string) error { return err } }

func TestT01_OnlyATrustedSignatureIsBelieved(t *testing.T) {
	ours, stranger := verifytest.NewKey(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	trust := verifytest.Trust(ours)
	limited := verifytest.Trust(ours)
	limited.Keys[0].Names = []string{"pos", "till-*"}
	broken := verifytest.Trust(ours)
	broken.Keys[0].ID = stranger.ID()
	good := ours.Sign(manifest)

	for _, c := range []struct {
		name       string
		trust      *verify.Trust
		signatures verify.Signatures
		signed     [][]byte
		want       verify.Reason
	}{
		{"unsigned", trust, verifytest.Twin{}, nil, verify.Unsigned},
		{"stripped to an empty signature", trust, verifytest.Twin{}, [][]byte{{}}, verify.MalformedSignature},
		{"wrong key", trust, verifytest.Twin{}, [][]byte{stranger.Sign(manifest)}, verify.UntrustedKey},
		{"right key, other bytes", trust, verifytest.Twin{}, [][]byte{ours.Sign([]byte("other"))}, verify.BadSignature},
		{"the nearest reason is told", trust, verifytest.Twin{}, [][]byte{{}, ours.Sign([]byte("other")), stranger.Sign(manifest)}, verify.BadSignature},
		{"legacy format", trust, failsWith(fmt.Errorf("x: %w", verify.ErrLegacySignature)), [][]byte{good}, verify.LegacySignature},
		{"unknown media type", trust, failsWith(verify.ErrUnknownMediaType), [][]byte{good}, verify.UnknownMediaType},
		{"envelope", trust, failsWith(verify.ErrUnsupportedSignature), [][]byte{good}, verify.UnsupportedSignature},
		{"no key configured", verifytest.Trust(), verifytest.Twin{}, [][]byte{good}, verify.NoTrustedKey},
		{"no trust at all", nil, verifytest.Twin{}, [][]byte{good}, verify.NoTrustedKey},
		{"zero trust", &verify.Trust{}, verifytest.Twin{}, [][]byte{good}, verify.NoTrustedKey},
		{"trust whose key id lies", broken, verifytest.Twin{}, [][]byte{good}, verify.NoTrustedKey},
		{"no verifier", trust, nil, [][]byte{good}, verify.VerifierFailed},
		{"verifier fails", trust, failsWith(errors.New("no memory")), [][]byte{good}, verify.VerifierFailed},
		{"verifier panics", trust, verifier(func(_, _ []byte, _ string) error { panic("boom") }), [][]byte{good}, verify.VerifierFailed},
		{"verifier panics on the second signature", trust, verifier(func(m, s []byte, k string) error {
			if len(s) == 0 {
				panic("boom")
			}
			return verify.ErrBadSignature
		}), [][]byte{good, {}}, verify.VerifierFailed},
		{"key may not sign the name", limited, verifytest.Twin{}, [][]byte{good}, verify.KeyNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			signed, err := c.trust.Manifest(c.signatures, manifest, c.signed)
			wantReason(t, err, c.want)
			if signed.Valid() || signed.Manifest() != nil || signed.Key() != "" {
				t.Error("a refused manifest was given out")
			}
		})
	}

	signed, err := trust.Manifest(verifytest.Twin{}, manifest, [][]byte{{}, stranger.Sign(manifest), good})
	if err != nil {
		t.Fatal(err)
	}
	if signed.Key() != ours.ID() || signed.Digest() != bundle.DigestOf(manifest) || signed.Manifest().Ref().String() != "shop@1.4.2" || !bytes.Equal(signed.Bytes(), manifest) {
		t.Errorf("%+v", signed)
	}
}

func TestT01_SecondSignerMayHaveTheRight(t *testing.T) {
	first, second := verifytest.NewKey(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	trust := verifytest.Trust(first, second)
	trust.Keys[0].Names = []string{"pos"}
	trust.Keys[1].Names = []string{"sho*"}
	signed, err := trust.Manifest(verifytest.Twin{}, manifest, [][]byte{first.Sign(manifest), second.Sign(manifest)})
	if err != nil || signed.Key() != second.ID() {
		t.Fatalf("%v, by %s", err, signed.Key())
	}
}

func TestT01_ZeroValuesAreRefused(t *testing.T) {
	var signed verify.Signed
	var verified verify.Verified
	if signed.Valid() || verified.Valid() || verified.Manifest() != nil || verified.Objects() != nil || verified.Digest() != "" {
		t.Error("the zero value passes for something")
	}
	_, err := signed.WithContent(nil)
	for _, err := range []error{
		err, signed.Answers(verify.Asked{}), signed.For(verify.Site{}), signed.FirstApplyAt(time.Time{}), verify.Counters{}.Check(signed),
	} {
		wantReason(t, err, verify.Unsigned)
	}
	if n := len(verify.Counters{}.Advance(signed)); n != 0 {
		t.Errorf("%d counters out of nothing", n)
	}
}

func TestT02_ChangedBytes(t *testing.T) {
	key := verifytest.NewKey()
	trust := verifytest.Trust(key)
	content := content(t, "a", "b")
	manifest := verifytest.Manifest(t, content, 2)
	signature := key.Sign(manifest)

	for i := range manifest {
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			changed := bytes.Clone(manifest)
			changed[i] ^= mask
			_, err := trust.Manifest(verifytest.Twin{}, changed, [][]byte{signature})
			wantReason(t, err, verify.BadSignature)
		}
	}
	for i := range signature {
		changed := bytes.Clone(signature)
		changed[i] ^= 0x01
		if _, err := trust.Manifest(verifytest.Twin{}, manifest, [][]byte{changed}); err == nil {
			t.Errorf("signature with byte %d changed was accepted", i)
		}
	}
	signed, err := trust.Manifest(verifytest.Twin{}, manifest, [][]byte{signature})
	if err != nil {
		t.Fatal(err)
	}
	for i := range content {
		changed := bytes.Clone(content)
		changed[i] ^= 0x01
		v, err := signed.WithContent(changed)
		wantReason(t, err, verify.ContentMismatch)
		if v.Valid() || v.Objects() != nil {
			t.Fatal("changed content was given out")
		}
	}
	for _, c := range [][]byte{nil, content[:len(content)-1], append(bytes.Clone(content), '\n')} {
		_, err := signed.WithContent(c)
		wantReason(t, err, verify.ContentMismatch)
	}
	verified, err := signed.WithContent(content)
	if err != nil || !verified.Valid() || len(verified.Objects()) != 2 || !bytes.Equal(verified.Content(), content) {
		t.Fatalf("%v", err)
	}
}

func TestT02_RefusalShowsBothDigests(t *testing.T) {
	content := content(t, "a")
	signed := verifytest.Signed(t, verifytest.Manifest(t, content, 1))
	changed := bytes.Replace(content, []byte("hello"), []byte("hullo"), 1)
	_, err := signed.WithContent(changed)
	var refusal *verify.Refusal
	if !errors.As(err, &refusal) || refusal.Expected != string(bundle.DigestOf(content)) || refusal.Got != string(bundle.DigestOf(changed)) {
		t.Fatalf("%#v", err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "bundle shop@1.4.2: refused: ") || !strings.Contains(text, refusal.Got) || refusal.Hint() == "" {
		t.Error(text)
	}
}

func TestT02_SignedAndYetMalformed(t *testing.T) {
	content := content(t, "a")
	wrongCount := verifytest.Signed(t, verifytest.Manifest(t, content, 2))
	_, err := wrongCount.WithContent(content)
	wantReason(t, err, verify.MalformedContent)

	for _, by := range []int64{-1, 1} {
		wrongSize := verifytest.Signed(t, verifytest.Manifest(t, content, 1, func(m *bundle.Manifest) { m.Content.Size += by }))
		_, err := wrongSize.WithContent(content)
		wantReason(t, err, verify.ContentMismatch)
	}

	rubbish := []byte("not objects\n")
	_, err = verifytest.Signed(t, verifytest.Manifest(t, rubbish, 1)).WithContent(rubbish)
	wantReason(t, err, verify.MalformedContent)
}

// release makes a signed manifest of a counter; the seed makes manifests of the same counter differ.
func release(t testing.TB, counter bundle.Counter, seed string) verify.Signed {
	t.Helper()
	c := content(t, seed)
	return verifytest.Signed(t, verifytest.Manifest(t, c, 1, func(m *bundle.Manifest) { m.Counter = counter }))
}

func TestT03_CountersOnlyGrow(t *testing.T) {
	five, seven, sevenToo, nine := release(t, 5, "a"), release(t, 7, "b"), release(t, 7, "c"), release(t, 9, "d")
	seen := verify.Counters(nil).Advance(seven)

	for _, c := range []struct {
		name   string
		signed verify.Signed
		want   verify.Reason
	}{
		{"older", five, verify.OlderCounter},
		{"same again", seven, ""},
		{"same counter, other manifest", sevenToo, verify.CounterReused},
		{"newer", nine, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := verify.ReasonOf(seen.Check(c.signed)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if after := seen.Advance(c.signed)["shop"].Counter; after < 7 {
				t.Errorf("went back to %d", after)
			}
		})
	}
	if len(seen) != 1 || seen["shop"].Counter != 7 {
		t.Errorf("Advance changed its receiver: %v", seen)
	}
	refusal := &verify.Refusal{}
	if !errors.As(seen.Check(five), &refusal) || refusal.Expected != "counter 7 or higher" || refusal.Got != "5" {
		t.Errorf("%#v", refusal)
	}
	if err := verify.Counters(nil).Check(five); err != nil {
		t.Errorf("a site that has seen nothing: %v", err)
	}
}

func TestT03_HighestOfManyPlacesWins(t *testing.T) {
	mark := func(n bundle.Counter, seed string) verify.Mark {
		return verify.Mark{Counter: n, Digest: bundle.DigestOf([]byte(seed))}
	}
	store := verify.Counters{"shop": mark(3, "old"), "pos": mark(9, "pos")}
	anchor := verify.Counters{"shop": mark(7, "new"), "till": mark(1, "till")}
	want := verify.Counters{"shop": mark(7, "new"), "pos": mark(9, "pos"), "till": mark(1, "till")}
	for _, merged := range []verify.Counters{verify.Merge(store, anchor), verify.Merge(anchor, store), verify.Merge(verify.Merge(nil, anchor), verify.Merge(store, nil))} {
		if fmt.Sprint(merged) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", merged, want)
		}
	}
	a, b := verify.Counters{"shop": mark(7, "x")}, verify.Counters{"shop": mark(7, "y")}
	if verify.Merge(a, b)["shop"] != verify.Merge(b, a)["shop"] {
		t.Error("the order of merging matters")
	}
}

func TestT03_SecurityFloor(t *testing.T) {
	key := verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	for floor, want := range map[bundle.Counter]verify.Reason{0: "", 6: "", 7: "", 8: verify.BelowFloor} {
		trust := verifytest.Trust(key)
		trust.Floors = map[bundle.Name]bundle.Counter{"shop": floor, "pos": 1000}
		_, err := trust.Manifest(verifytest.Twin{}, manifest, [][]byte{key.Sign(manifest)})
		if verify.ReasonOf(err) != want {
			t.Errorf("floor %d: %v", floor, err)
		}
	}
}

func TestT06_OneDigestCommitsToEverything(t *testing.T) {
	one, other := content(t, "a"), content(t, "b")
	manifest := verifytest.Manifest(t, one, 1)
	signed := verifytest.Signed(t, manifest)
	digest := signed.Digest()
	for _, c := range []struct {
		name  string
		asked verify.Asked
		want  verify.Reason
	}{
		{"exactly it", verify.Asked{Name: "shop", Version: "1.4.2", Digest: digest}, ""},
		{"nothing", verify.Asked{}, verify.WrongBundle},
		{"name and version without digest", verify.Asked{Name: "shop", Version: "1.4.2"}, verify.WrongBundle},
		{"digest alone", verify.Asked{Digest: digest}, verify.WrongBundle},
		{"other digest", verify.Asked{Name: "shop", Version: "1.4.2", Digest: bundle.DigestOf(one)}, verify.WrongBundle},
		{"other name", verify.Asked{Name: "pos", Version: "1.4.2", Digest: digest}, verify.WrongBundle},
		{"other version", verify.Asked{Name: "shop", Version: "1.4.3", Digest: digest}, verify.WrongBundle},
	} {
		if got := verify.ReasonOf(signed.Answers(c.asked)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	_, err := signed.WithContent(other)
	wantReason(t, err, verify.ContentMismatch)

	key := verifytest.NewKey()
	sibling := verifytest.Manifest(t, other, 1)
	_, err = verifytest.Trust(key).Manifest(verifytest.Twin{}, manifest, [][]byte{key.Sign(sibling)})
	wantReason(t, err, verify.BadSignature)
}

func TestT07_OnlyWhatIsMeantForTheSite(t *testing.T) {
	for _, c := range []struct {
		selector, kubernetes string
		labels               map[string]string
		version              string
		want                 verify.Reason
	}{
		{"", "", nil, "", ""},
		{"region=eu", "", map[string]string{"region": "eu"}, "", ""},
		{"region=eu", "", map[string]string{"region": "us"}, "", verify.WrongTarget},
		{"region=eu", "", nil, "", verify.WrongTarget},
		{"region=eu,tier in (a,b)", "", map[string]string{"region": "eu", "tier": "b"}, "", ""},
		{"region=eu,tier in (a,b)", "", map[string]string{"region": "eu", "tier": "c"}, "", verify.WrongTarget},
		{"", ">=1.29.0 <2.0.0", nil, "v1.33.2+k3s1", ""},
		{"", ">=1.29.0 <2.0.0", nil, "v1.28.9", verify.WrongTarget},
		{"", ">=1.29.0 <2.0.0", nil, "v2.0.0", verify.WrongTarget},
		{"", "=1.33.0", nil, "v1.33.0-gke.100", ""},
		{"", ">=1.29.0", nil, "", verify.WrongTarget},
		{"", ">=1.29.0", nil, "latest", verify.WrongTarget},
	} {
		signed := verifytest.Signed(t, verifytest.Manifest(t, content(t, "a"), 1, func(m *bundle.Manifest) {
			m.Target = bundle.Target{Selector: c.selector, Kubernetes: c.kubernetes}
		}))
		err := signed.For(verify.Site{ID: "berlin-1", Labels: c.labels, Kubernetes: c.version})
		if verify.ReasonOf(err) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestExpiryStopsOnlyAFirstApply(t *testing.T) {
	expires := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	c := content(t, "a")
	signed := verifytest.Signed(t, verifytest.Manifest(t, c, 1, func(m *bundle.Manifest) { m.Expires = &expires }))
	for at, want := range map[time.Time]verify.Reason{
		expires.Add(-time.Second): "", expires: verify.Expired, expires.Add(time.Hour): verify.Expired,
	} {
		if got := verify.ReasonOf(signed.FirstApplyAt(at)); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
	if _, err := signed.WithContent(c); err != nil {
		t.Errorf("an expired bundle is still verified: %v", err)
	}
	if err := release(t, 1, "a").FirstApplyAt(expires); err != nil {
		t.Errorf("without expiry: %v", err)
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestT11_BombsCostNothing(t *testing.T) {
	key := verifytest.NewKey()
	trust := verifytest.Trust(key)
	untouched := verifier(func(_, _ []byte, _ string) error { t.Error("the verifier was asked"); return nil })
	huge := make([]byte, 512<<20)
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	signature := key.Sign(manifest)
	signed := verifytest.Signed(t, manifest)

	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"manifest", func() error { _, err := trust.Manifest(untouched, huge, [][]byte{signature}); return err }},
		{"signature", func() error { _, err := trust.Manifest(untouched, manifest, [][]byte{huge}); return err }},
		{"signatures", func() error {
			_, err := trust.Manifest(untouched, manifest, slices.Repeat([][]byte{signature}, bundle.MaxSignatures+1))
			return err
		}},
		{"content", func() error { _, err := signed.WithContent(huge); return err }},
	} {
		var err error
		bytes := allocated(func() { err = c.run() })
		wantReason(t, err, verify.TooLarge)
		if bytes > 64<<10 {
			t.Errorf("%s: %d bytes allocated", c.name, bytes)
		}
	}
	for name, run := range map[string]func() error{
		"trust":    func() error { _, err := verify.DecodeTrust(huge); return err },
		"counters": func() error { _, err := verify.DecodeCounters(huge); return err },
	} {
		var err error
		if bytes := allocated(func() { err = run() }); err == nil || bytes > 64<<10 {
			t.Errorf("%s: %v, %d bytes allocated", name, err, bytes)
		}
	}
}

func TestT11_SignedBombs(t *testing.T) {
	key := verifytest.NewKey()
	for name, manifest := range map[string][]byte{
		"deep":         bytes.Repeat([]byte("["), bundle.MaxManifestSize),
		"deep objects": bytes.Repeat([]byte(`{"a":`), bundle.MaxManifestSize/5),
		"many keys":    []byte("{" + strings.Repeat(`"a":1,`, bundle.MaxManifestSize/6-1) + "}"),
	} {
		var err error
		bytes := allocated(func() {
			_, err = verifytest.Trust(key).Manifest(verifytest.Twin{}, manifest, [][]byte{key.Sign(manifest)})
		})
		wantReason(t, err, verify.MalformedManifest)
		if bytes > 32<<20 {
			t.Errorf("%s: %d bytes allocated", name, bytes)
		}
	}
}

func TestT13_ManifestHasOneReading(t *testing.T) {
	key := verifytest.NewKey()
	good := string(verifytest.Manifest(t, content(t, "a"), 1))
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, manifest := range map[string]string{
		"duplicate key":        replace(`"name":"shop"`, `"name":"shop","name":"pos"`),
		"duplicate equal key":  replace(`"name":"shop"`, `"name":"shop","name":"shop"`),
		"case variant":         replace(`"name":`, `"Name":`),
		"case variant beside":  replace(`"name":"shop"`, `"name":"shop","NAME":"pos"`),
		"unknown key":          replace(`"name":"shop"`, `"name":"shop","url":"https://evil.example"`),
		"trailing bytes":       good + "{}",
		"trailing newline":     good + "\n",
		"leading space":        " " + good,
		"byte order mark":      "\ufeff" + good,
		"NUL after":            good + "\x00",
		"NUL in a string":      replace("shop", "sh\x00op"),
		"escaped letter":       replace("shop", `\u0073hop`),
		"invalid UTF-8":        replace("shop", "sh\xffop"),
		"number as float":      replace(`"counter":7`, `"counter":7.0`),
		"number with exponent": replace(`"counter":7`, `"counter":7e0`),
		"null":                 replace(`"counter":7`, `"counter":null`),
		"deep":                 replace(`"counter":7`, `"counter":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)),
		"array":                "[" + good + "]",
		"empty":                "",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifytest.Trust(key).Manifest(verifytest.Twin{}, []byte(manifest), [][]byte{key.Sign([]byte(manifest))})
			wantReason(t, err, verify.MalformedManifest)
		})
	}
}
