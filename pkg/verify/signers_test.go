package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(hours int) *time.Time {
	t := noon.Add(time.Duration(hours) * time.Hour)
	return &t
}

func believe(trust *verify.Trust, manifest []byte, signatures ...[]byte) (verify.Signed, error) {
	return trust.Manifest(verifytest.Twin{}, manifest, signatures)
}

func TestT04_CountersMakeBoundedSteps(t *testing.T) {
	first := verifytest.Signed(t, verifytest.Manifest(t, content(t, "first"), 1))
	seen := verify.Counters(nil).Advance(first) // counter 7
	top := verify.Counters{"shop": {Counter: 1<<64 - 10, Digest: bundle.DigestOf(nil)}}
	for _, c := range []struct {
		name    string
		seen    verify.Counters
		counter bundle.Counter
		want    verify.Reason
	}{
		{"next", seen, 8, ""},
		{"largest step", seen, 7 + verify.MaxStep, ""},
		{"one too far", seen, 8 + verify.MaxStep, verify.CounterTooFar},
		{"to the end", seen, 1 << 53, verify.CounterTooFar},
		{"first release", nil, verify.MaxFirst, ""},
		{"first release too far", nil, verify.MaxFirst + 1, verify.CounterTooFar},
		{"first release at the end", nil, 1 << 53, verify.CounterTooFar},
		{"near the end", verify.Counters{"shop": {Counter: 1<<53 - 10}}, 1<<53 - 1, ""},
		{"no overflow", top, 5, verify.OlderCounter},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.seen.Check(release(t, c.counter, "other")); verify.ReasonOf(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// signedIn makes a release under a trust document of the counter epoch.
func signedIn(t *testing.T, epoch uint64, counter bundle.Counter, seed string) verify.Signed {
	t.Helper()
	key := verifytest.NewKey()
	trust := verifytest.Trust(key)
	trust.CounterEpoch = epoch
	manifest := verifytest.Manifest(t, content(t, seed), 1, func(m *bundle.Manifest) { m.Counter = counter })
	signed, err := believe(trust, manifest, key.Sign(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestT04_EpochResetThroughTheRoot(t *testing.T) {
	poisoned := verify.Counters(nil).Advance(signedIn(t, 0, verify.MaxFirst, "evil"))
	sane := signedIn(t, 0, 9, "sane")
	if err := poisoned.Check(sane); verify.ReasonOf(err) != verify.OlderCounter {
		t.Fatalf("before the reset: %v", err)
	}
	sane = signedIn(t, 1, 9, "sane")
	if err := poisoned.Check(sane); err != nil {
		t.Fatalf("after the reset: %v", err)
	}
	reset := poisoned.Advance(sane)
	if reset["shop"] != sane.Mark() || reset["shop"].Epoch != 1 {
		t.Fatalf("the mark did not follow: %v", reset)
	}
	for name, c := range map[string]struct {
		signed verify.Signed
		want   verify.Reason
	}{
		"an older trust document must not undo it": {signedIn(t, 0, verify.MaxFirst, "x"), verify.OlderCounter},
		"counters go on in the new epoch":          {signedIn(t, 1, 10, "y"), ""},
		"and only up":                              {signedIn(t, 1, 8, "z"), verify.OlderCounter},
		"a new epoch is bounded too":               {signedIn(t, 2, verify.MaxFirst+1, "w"), verify.CounterTooFar},
	} {
		if err := reset.Check(c.signed); verify.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A restored disk that still has the old mark must not bring it back.
	for _, merged := range []verify.Counters{verify.Merge(poisoned, reset), verify.Merge(reset, poisoned)} {
		if merged["shop"] != sane.Mark() {
			t.Errorf("merged: %v", merged)
		}
	}
	raw, err := verify.EncodeCounters(reset)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := verify.DecodeCounters(raw); err != nil || again["shop"] != sane.Mark() {
		t.Errorf("stored and read: %v, %v", again, err)
	}
}

func TestT09_ThresholdOfDifferentSigners(t *testing.T) {
	a, b, c := verifytest.NewKey(), verifytest.NewKey(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	for _, k := range []struct {
		name       string
		thresholds map[string]int
		signatures [][]byte
		want       verify.Reason
	}{
		{"one is enough for other names", map[string]int{"pos": 2}, [][]byte{a.Sign(manifest)}, ""},
		{"two needed, one came", map[string]int{"shop": 2}, [][]byte{a.Sign(manifest)}, verify.TooFewSigners},
		{"the same key twice is one", map[string]int{"shop": 2}, [][]byte{a.Sign(manifest), a.Sign(manifest)}, verify.TooFewSigners},
		{"two needed, two came", map[string]int{"shop": 2}, [][]byte{a.Sign(manifest), b.Sign(manifest)}, ""},
		{"a key that may not sign the name does not count", map[string]int{"shop": 2}, [][]byte{a.Sign(manifest), c.Sign(manifest)}, verify.TooFewSigners},
		{"the highest pattern counts", map[string]int{"*": 1, "sh*": 2, "shop": 1}, [][]byte{b.Sign(manifest)}, verify.TooFewSigners},
	} {
		t.Run(k.name, func(t *testing.T) {
			trust := verifytest.Trust(a, b, c)
			trust.Keys[2].Names = []string{"pos"}
			trust.Thresholds = k.thresholds
			signed, err := believe(trust, manifest, k.signatures...)
			if verify.ReasonOf(err) != k.want {
				t.Fatalf("got %v, want %q", err, k.want)
			}
			if err == nil && len(signed.Signers()) < trust.Threshold("shop") {
				t.Errorf("signers: %v", signed.Signers())
			}
		})
	}
}

func TestT09_RevokedKeySignsNothingNewAndStopsNothing(t *testing.T) {
	stolen, ours := verifytest.NewKey(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	signature := stolen.Sign(manifest)
	before, err := believe(verifytest.Trust(stolen, ours), manifest, signature)
	if err != nil {
		t.Fatal(err)
	}
	after := verifytest.Trust(stolen, ours)
	after.Keys[0].Revoked = true
	after.Floors = map[bundle.Name]bundle.Counter{"shop": 8}
	after.Thresholds = map[string]int{"shop": 2}
	evil := verifytest.Manifest(t, content(t, "evil"), 1, func(m *bundle.Manifest) { m.Counter = 9 })

	for name, c := range map[string]struct {
		manifest   []byte
		signatures [][]byte
		mark       verify.Mark
		accepted   verify.Reason
		fresh      verify.Reason
	}{
		"what runs goes on":                  {manifest, [][]byte{signature}, before.Mark(), "", verify.RevokedKey},
		"what the thief signs does not":      {evil, [][]byte{stolen.Sign(evil)}, before.Mark(), verify.WrongBundle, verify.RevokedKey},
		"nor what was never accepted":        {manifest, [][]byte{signature}, verify.Mark{}, verify.WrongBundle, verify.RevokedKey},
		"nor does a revoked key help others": {evil, [][]byte{stolen.Sign(evil), ours.Sign(evil)}, before.Mark(), verify.WrongBundle, verify.TooFewSigners},
		"nor without a signature":            {manifest, nil, before.Mark(), verify.Unsigned, verify.Unsigned},
		"nor by a stranger":                  {manifest, [][]byte{verifytest.NewKey().Sign(manifest)}, before.Mark(), verify.UntrustedKey, verify.UntrustedKey},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := after.Accepted(verifytest.Twin{}, c.manifest, c.signatures, c.mark)
			if verify.ReasonOf(err) != c.accepted {
				t.Errorf("accepted before: got %v, want %q", err, c.accepted)
			}
			if err == nil && signed.FirstApplyAt(noon) != nil {
				t.Errorf("first apply of what was accepted: %v", signed.FirstApplyAt(noon))
			}
			if _, err := believe(after, c.manifest, c.signatures...); verify.ReasonOf(err) != c.fresh {
				t.Errorf("new: got %v, want %q", err, c.fresh)
			}
		})
	}
}

func TestT09_KeysHaveTheirTime(t *testing.T) {
	a, b := verifytest.NewKey(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	trust := verifytest.Trust(a, b)
	trust.Keys[0].NotBefore, trust.Keys[0].NotAfter = at(0), at(2)
	trust.Keys[1].NotBefore = at(1)
	for _, c := range []struct {
		threshold, hours int
		signers          []*verifytest.Key
		want             verify.Reason
	}{
		{1, -1, []*verifytest.Key{a}, verify.KeyOutsideWindow},
		{1, 0, []*verifytest.Key{a}, ""},
		{1, 2, []*verifytest.Key{a}, ""},
		{1, 3, []*verifytest.Key{a}, verify.KeyOutsideWindow},
		{1, 3, []*verifytest.Key{a, b}, ""},
		{2, 0, []*verifytest.Key{a, b}, verify.KeyOutsideWindow},
		{2, 1, []*verifytest.Key{a, b}, ""},
		{2, 3, []*verifytest.Key{a, b}, verify.KeyOutsideWindow},
	} {
		trust.Thresholds = map[string]int{"*": c.threshold}
		var signatures [][]byte
		for _, key := range c.signers {
			signatures = append(signatures, key.Sign(manifest))
		}
		signed, err := believe(trust, manifest, signatures...)
		if err != nil {
			t.Fatal(err)
		}
		if err := signed.FirstApplyAt(*at(c.hours)); verify.ReasonOf(err) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
		// Accepted once, a window that closed says nothing any more.
		again, err := trust.Accepted(verifytest.Twin{}, manifest, signatures, signed.Mark())
		if err != nil || again.FirstApplyAt(*at(100)) != nil {
			t.Errorf("accepted before: %v", err)
		}
	}
}

const issuer = "https://issuer.example"

func TestT01_IdentitiesSignLikeKeys(t *testing.T) {
	authority, key := verifytest.NewAuthority(), verifytest.NewKey()
	manifest := verifytest.Manifest(t, content(t, "a"), 1)
	by := func(subject string) []byte {
		return authority.Sign(manifest, verify.Certified{Issuer: issuer, Subject: subject})
	}
	base := func() *verify.Trust {
		trust := verifytest.Trust(key)
		trust.SigstoreRoot = authority.Root()
		trust.Identities = []verify.Identity{{Issuer: issuer, Subject: "ci@fleet.example", Names: []string{"shop"}}}
		return trust
	}
	for _, c := range []struct {
		name       string
		edit       func(*verify.Trust)
		signatures [][]byte
		want       verify.Reason
	}{
		{"by the identity", nil, [][]byte{by("ci@fleet.example")}, ""},
		{"by somebody else the authority knows", nil, [][]byte{by("evil@fleet.example")}, verify.UntrustedSubject},
		{"by another case of the subject", nil, [][]byte{by("CI@fleet.example")}, verify.UntrustedSubject},
		{"by a longer subject", nil, [][]byte{by("ci@fleet.example.evil")}, verify.UntrustedSubject},
		{"known by another issuer", func(t *verify.Trust) { t.Identities[0].Issuer += "/" }, [][]byte{by("ci@fleet.example")}, verify.UntrustedIssuer},
		{"certified by another authority", func(t *verify.Trust) { t.SigstoreRoot = verifytest.NewAuthority().Root() }, [][]byte{by("ci@fleet.example")}, verify.UntrustedAuthority},
		{"for another name", func(t *verify.Trust) { t.Identities[0].Names = []string{"pos"} }, [][]byte{by("ci@fleet.example")}, verify.KeyNotAllowed},
		{"revoked", func(t *verify.Trust) { t.Identities[0].Revoked = true }, [][]byte{by("ci@fleet.example")}, verify.RevokedKey},
		{"no identities", func(t *verify.Trust) { t.Identities = nil }, [][]byte{by("ci@fleet.example")}, verify.UnsupportedSignature},
		{"only identities", func(t *verify.Trust) { t.Keys = nil }, [][]byte{by("ci@fleet.example")}, ""},
		{"a key beside it", nil, [][]byte{key.Sign(manifest)}, ""},
		{"identity and key are two", func(t *verify.Trust) { t.Thresholds = map[string]int{"*": 2} }, [][]byte{key.Sign(manifest), by("ci@fleet.example")}, ""},
		{"one identity by two patterns is one", func(t *verify.Trust) {
			t.Thresholds = map[string]int{"*": 2}
			t.Identities = append(t.Identities, verify.Identity{Issuer: issuer, Subject: "ci@*", Names: []string{"*"}})
		}, [][]byte{by("ci@fleet.example"), by("ci@fleet.example")}, verify.TooFewSigners},
	} {
		t.Run(c.name, func(t *testing.T) {
			trust := base()
			if c.edit != nil {
				c.edit(trust)
			}
			signed, err := believe(trust, manifest, c.signatures...)
			if verify.ReasonOf(err) != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err == nil && !signed.Valid() {
				t.Error("not valid")
			}
		})
	}
}

func TestIdentityPatterns(t *testing.T) {
	const repo = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/"
	for _, c := range []struct{ pattern, yes, no string }{
		{"a@b.example", "a@b.example", "aa@b.example a@b.exampl A@b.example a@b.example."},
		{"*@b.example", "a@b.example @b.example", "a@b.example.evil a@xb.example"},
		{repo + "v*", repo + "v1 " + repo + "v", repo + "1"},
		{"ab*ba", "abba abxba", "aba"},
	} {
		identity := verify.Identity{Issuer: issuer, Subject: c.pattern}
		for _, subject := range strings.Fields(c.yes) {
			if !identity.Is(verify.Certified{Issuer: issuer, Subject: subject}) {
				t.Errorf("%s must be %s", c.pattern, subject)
			}
		}
		for _, subject := range strings.Fields(c.no) {
			if identity.Is(verify.Certified{Issuer: issuer, Subject: subject}) {
				t.Errorf("%s must not be %s", c.pattern, subject)
			}
		}
	}
	if (verify.Identity{}).Is(verify.Certified{}) {
		t.Error("nobody is somebody")
	}
}

func TestT13_WholeTrustDocument(t *testing.T) {
	trust := verifytest.Trust(verifytest.NewKey())
	trust.Keys[0].NotBefore, trust.Keys[0].NotAfter = at(0), at(9)
	trust.SigstoreRoot = verifytest.NewAuthority().Root()
	trust.Identities = []verify.Identity{{Issuer: issuer, Subject: "ci@*", Names: []string{"*"}, NotAfter: at(3), Revoked: true}}
	trust.Thresholds, trust.CounterEpoch = map[string]int{"pos": 2}, 3
	trust.Online = &verify.Online{Assignment: []string{"UABC"}, Freshness: []string{"UABC"}}
	raw := encodeTrust(t, trust)
	again, err := verify.DecodeTrust([]byte(raw))
	if err != nil || encodeTrust(t, again) != raw {
		t.Fatalf("%v\n%s", err, raw)
	}
	for name, edit := range map[string]func(*verify.Trust){
		"threshold 0":                func(t *verify.Trust) { t.Thresholds = map[string]int{"pos": 0} },
		"threshold no file can meet": func(t *verify.Trust) { t.Thresholds = map[string]int{"pos": bundle.MaxSignatures + 1} },
		"threshold of a bad pattern": func(t *verify.Trust) { t.Thresholds = map[string]int{"p*s": 1} },
		"window that never opens":    func(t *verify.Trust) { t.Keys[0].NotAfter = at(0) },
		"window with an offset":      func(t *verify.Trust) { e := at(5).In(time.FixedZone("", 3600)); t.Keys[0].NotAfter = &e },
		"window with a fraction":     func(t *verify.Trust) { e := at(5).Add(1); t.Keys[0].NotAfter = &e },
		"identity without a root":    func(t *verify.Trust) { t.SigstoreRoot = nil },
		"root that is no object":     func(t *verify.Trust) { t.SigstoreRoot = []byte(`"x"`) },
		"everybody":                  func(t *verify.Trust) { t.Identities[0].Subject = "*" },
		"two stars":                  func(t *verify.Trust) { t.Identities[0].Subject = "*@*" },
		"any issuer":                 func(t *verify.Trust) { t.Identities[0].Issuer = "https://*" },
		"no issuer":                  func(t *verify.Trust) { t.Identities[0].Issuer = "" },
		"space in a subject":         func(t *verify.Trust) { t.Identities[0].Subject = "a b" },
		"identity without names":     func(t *verify.Trust) { t.Identities[0].Names = nil },
		"identity twice":             func(t *verify.Trust) { t.Identities = append(t.Identities, t.Identities[0]) },
		"too many identities": func(t *verify.Trust) {
			for i := range verify.MaxIdentities {
				t.Identities = append(t.Identities, verify.Identity{Issuer: issuer, Subject: fmt.Sprint(i), Names: []string{"*"}})
			}
		},
		"empty online key": func(t *verify.Trust) { t.Online.Freshness = []string{""} },
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := verify.DecodeTrust([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			edit(changed)
			if _, err := verify.EncodeTrust(changed); err == nil {
				t.Error("accepted")
			}
			manifest := verifytest.Manifest(t, content(t, "a"), 1)
			if _, err := believe(changed, manifest, nil); verify.ReasonOf(err) != verify.NoTrustedKey {
				t.Errorf("a Trust that is not valid believes: %v", err)
			}
		})
	}
}
