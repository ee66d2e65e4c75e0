package enrol

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// keyNumber makes keys that are the same in every run.
func keyNumber(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func public(n byte) ed25519.PublicKey { return keyNumber(n).Public().(ed25519.PublicKey) }

func reasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func TestNamesFollowTheRule(t *testing.T) {
	facts := Facts{Serial: "VMware-56 4D/a1", MachineID: "0123456789abcdef", NodeLabels: map[string]string{"site": "Berlin_1", "a.example/x": "y1"}}
	for _, c := range []struct {
		rule Rule
		want bundle.SiteID
	}{
		{"fixed:shop-1", "shop-1"}, {BySerial, "vmware-56-4d-a1"}, {ByMachineID, "0123456789abcdef"}, {"node-label:site", "berlin-1"}, {"node-label:a.example/x", "y1"},
	} {
		if got, err := c.rule.Name(facts); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.rule, got, err, c.want)
		}
	}
	for _, s := range []string{"", "fixed:", "fixed:*", "fixed:a.b", "fixed:UPPER", "node-label:", "node-label:a b", "Serial", "hostname", "node-label:" + strings.Repeat("x", 64)} {
		if r, err := ParseRule(s); err == nil {
			t.Errorf("%q is taken as rule %q", s, r)
		}
	}
}

// A device cannot talk itself into a name that is a pattern, a path or somebody else's by likeness.
func TestT17_HostileFactsMakeNoName(t *testing.T) {
	for _, fact := range []string{"", " ", "*", ">", "shop.*", "-", "a", "shöp-1", "ѕhop-1", "shop-1\x00", "shop-1\nx", "shop​-1", strings.Repeat("a", 64), "$JS", "shop-1>"} {
		if name, err := BySerial.Name(Facts{Serial: fact}); reasonOf(err) != NoName {
			t.Errorf("%q becomes site %q, %v", fact, name, err)
		}
	}
}

func tokenFor(edit func(*Token)) *Token {
	token := &Token{ID: "abcdefghij", Hash: HashSecret(Secret("abcdefghij", "x")), Rule: BySerial, Uses: 1, Created: noon, Expires: noon.Add(time.Hour)}
	if edit != nil {
		edit(token)
	}
	return token
}

func requestOf(n byte, serial string) Request {
	return Request{Token: Secret("abcdefghij", "x"), Nonce: strings.Repeat("0", 32), Key: public(n), Facts: Facts{Serial: serial}}
}

func TestT20_WhatATokenDoesNotOpen(t *testing.T) {
	revoked := noon
	there := func(o *Occupant) Known { return Known{At: func(bundle.SiteID) *Occupant { return o }} }
	for name, c := range map[string]struct {
		token   *Token
		request Request
		known   Known
		at      time.Duration
		want    Reason
	}{
		"none":               {nil, requestOf(1, "s1"), there(nil), 0, TokenUnknown},
		"another's secret":   {tokenFor(func(t *Token) { t.Hash = HashSecret("y") }), requestOf(1, "s1"), there(nil), 0, TokenUnknown},
		"expired":            {tokenFor(nil), requestOf(1, "s1"), there(nil), time.Hour, TokenExpired},
		"revoked":            {tokenFor(func(t *Token) { t.Revoked = &revoked }), requestOf(1, "s1"), there(nil), 0, TokenRevoked},
		"spent":              {tokenFor(func(t *Token) { t.Claims = []Claim{{public(2), "s2", noon}} }), requestOf(1, "s1"), there(nil), 0, TokenSpent},
		"no serial":          {tokenFor(nil), requestOf(1, ""), there(nil), 0, NoName},
		"name taken":         {tokenFor(nil), requestOf(1, "s1"), there(&Occupant{Site: "s1", Key: public(2)}), 0, NameTaken},
		"name of one gone":   {tokenFor(nil), requestOf(1, "s1"), there(&Occupant{Site: "s1", Key: public(2), Gone: true, Revoked: true}), 0, NotReplaceable},
		"revoked key":        {tokenFor(nil), requestOf(1, "s1"), there(&Occupant{Site: "s1", Key: public(1), Revoked: true}), 0, SiteRevoked},
		"key of another":     {tokenFor(nil), requestOf(1, "s1"), Known{Holder: &Occupant{Site: "s9", Key: public(1)}, At: func(bundle.SiteID) *Occupant { return nil }}, 0, KeyInUse},
		"replaces nobody":    {tokenFor(func(t *Token) { t.Rule, t.Replaces = "fixed:s1", true }), requestOf(1, "s1"), there(nil), 0, NotThere},
		"replaces with gone": {tokenFor(func(t *Token) { t.Rule, t.Replaces = "fixed:s1", true }), requestOf(1, "s1"), there(&Occupant{Site: "s1", Key: public(2), Gone: true}), 0, NotReplaceable},
	} {
		c.known.Token = c.token
		decision, err := Decide(noon.Add(c.at), c.request, "here", c.known)
		if reasonOf(err) != c.want || decision.Token != nil || decision.Enrolment != nil || decision.Approve {
			t.Errorf("%s: %+v, %v; want %s", name, decision, err, c.want)
		}
	}
}

// The former key of a replaced site cannot come back by a second replacement.
func TestT23_AReplacedKeyStaysShutOut(t *testing.T) {
	there := &Occupant{Site: "s1", Key: public(2)} // its key was public(1) before
	if err := CheckSite("s1", public(1), true, there, there); reasonOf(err) != SiteRevoked {
		t.Errorf("the former key takes the site back: %v", err)
	}
	if err := CheckSite("s1", public(3), true, there, nil); err != nil {
		t.Errorf("a new key does not: %v", err)
	}
}

func TestT20_TheSameKeyIsAnsweredAgain(t *testing.T) {
	known := Known{Token: tokenFor(nil), At: func(bundle.SiteID) *Occupant { return nil }}
	first, err := Decide(noon, requestOf(1, "s1"), "here", known)
	if err != nil || first.Token == nil || first.Enrolment == nil || first.Answer.Site != "s1" || first.Answer.Status != Pending || len(known.Token.Claims) != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	// The crash after the first write: the claim is there, the enrolment is not. Facts that changed since change nothing.
	known.Token = first.Token
	half, err := Decide(noon.Add(100*time.Hour), requestOf(1, "other"), "there", known)
	if err != nil || half.Token != nil || half.Enrolment == nil || half.Answer.Site != "s1" {
		t.Errorf("after a crash: %+v, %v", half, err)
	}
	known.Enrolment = first.Enrolment
	again, err := Decide(noon.Add(100*time.Hour), requestOf(1, "other"), "there", known)
	if err != nil || again.Token != nil || again.Enrolment != nil || again.Answer.Site != "s1" {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	if err := tokenFor(nil).Check(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Token){
		"too long":       func(t *Token) { t.Expires = noon.Add(MaxLife + time.Second) },
		"over":           func(t *Token) { t.Expires = noon },
		"no uses":        func(t *Token) { t.Uses = 0 },
		"many uses":      func(t *Token) { t.Uses = MaxUses + 1 },
		"one name twice": func(t *Token) { t.Rule, t.Uses = "fixed:s1", 2 },
		"no rule":        func(t *Token) { t.Rule = "" },
		"bad label":      func(t *Token) { t.Labels = map[string]string{"a b": "c"} },
		"replaces any":   func(t *Token) { t.Replaces = true },
	} {
		if err := tokenFor(edit).Check(); reasonOf(err) != BadToken {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// credentialOf makes a token in the form of a NATS user's; nothing here checks its signature.
func credentialOf(name string, key ed25519.PublicKey) string {
	subject := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(append([]byte{20 << 3}, key...), 0, 0))
	body, _ := json.Marshal(map[string]any{"name": name, "sub": subject, "iat": noon.Unix(), "exp": noon.Add(time.Hour).Unix()})
	return "e30." + base64.RawURLEncoding.EncodeToString(body) + ".c2ln"
}

func TestT22_RenewalChangesNoIdentity(t *testing.T) {
	renewal := Renewal{Nonce: "n", Site: "shop-1", Key: public(1)}
	for name, c := range map[string]struct {
		there *Occupant
		want  Reason
	}{
		"itself":            {&Occupant{Site: "shop-1", Key: public(1)}, ""},
		"unknown":           {nil, WrongIdentity},
		"another key":       {&Occupant{Site: "shop-1", Key: public(2)}, WrongIdentity},
		"a longer name":     {&Occupant{Site: "shop-10", Key: public(1)}, WrongIdentity},
		"a shorter name":    {&Occupant{Site: "shop", Key: public(1)}, WrongIdentity},
		"another case":      {&Occupant{Site: "Shop-1", Key: public(1)}, WrongIdentity},
		"a likeness":        {&Occupant{Site: "ѕhop-1", Key: public(1)}, WrongIdentity},
		"a key cut short":   {&Occupant{Site: "shop-1", Key: public(1)[:31]}, WrongIdentity},
		"revoked":           {&Occupant{Site: "shop-1", Key: public(1), Revoked: true}, SiteRevoked},
		"revoked, no proof": {&Occupant{Site: "shop-1", Key: public(2), Revoked: true}, WrongIdentity},
	} {
		if err := CheckRenewal(renewal, c.there); reasonOf(err) != c.want {
			t.Errorf("hub, %s: %v, want %q", name, err, c.want)
		}
	}
	hub := keyNumber(9)
	good := Renewed{Nonce: "n", Site: "shop-1", Key: public(1), JWT: credentialOf("shop-1", public(1))}
	for name, c := range map[string]struct {
		edit func(*Renewed)
		by   ed25519.PrivateKey
		want Reason
	}{
		"itself":            {func(*Renewed) {}, hub, ""},
		"another hub":       {func(*Renewed) {}, keyNumber(8), Forged},
		"an older answer":   {func(r *Renewed) { r.Nonce = "m" }, hub, Forged},
		"another site":      {func(r *Renewed) { r.Site = "shop-2" }, hub, WrongIdentity},
		"a longer name":     {func(r *Renewed) { r.Site = "shop-10" }, hub, WrongIdentity},
		"another case":      {func(r *Renewed) { r.Site = "SHOP-1" }, hub, WrongIdentity},
		"a likeness":        {func(r *Renewed) { r.Site = "ѕhop-1" }, hub, WrongIdentity},
		"another key":       {func(r *Renewed) { r.Key = public(2) }, hub, WrongIdentity},
		"a JWT of another":  {func(r *Renewed) { r.JWT = credentialOf("shop-2", public(1)) }, hub, WrongIdentity},
		"a JWT for a key":   {func(r *Renewed) { r.JWT = credentialOf("shop-1", public(2)) }, hub, WrongIdentity},
		"a JWT of no form":  {func(r *Renewed) { r.JWT = "x" }, hub, Malformed},
		"a JWT with a case": {func(r *Renewed) { r.JWT = credentialOf("Shop-1", public(1)) }, hub, WrongIdentity},
	} {
		answer := good
		c.edit(&answer)
		sealed, err := fleetsync.Seal(TypeRenewed, answer, c.by)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRenewed(sealed, []ed25519.PublicKey{hub.Public().(ed25519.PublicKey)}, renewal); reasonOf(err) != c.want {
			t.Errorf("device, %s: %v, want %q", name, err, c.want)
		}
	}
	// A proof for another key: the message names one key and is signed by another.
	for name, by := range map[string]byte{"own": 1, "another": 2} {
		sealed, err := fleetsync.Seal(TypeRenewal, renewal, keyNumber(by))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRenewal(sealed); (err == nil) != (by == 1) {
			t.Errorf("a proof by the %s key: %v", name, err)
		}
	}
}

func TestT21_OnlyThePinnedHubsAnswerToThisRequestCounts(t *testing.T) {
	hub, request := keyNumber(9), requestOf(1, "s1")
	good := Reply{Nonce: request.Nonce, Key: request.Key, Status: Approved, Site: "s1", Grant: &Grant{JWT: credentialOf("s1", public(1))}}
	for name, c := range map[string]struct {
		edit func(*Reply)
		by   ed25519.PrivateKey
		want Reason
	}{
		"good":              {func(*Reply) {}, hub, ""},
		"pending":           {func(r *Reply) { r.Status, r.Grant = Pending, nil }, hub, ""},
		"another hub":       {func(*Reply) {}, keyNumber(8), Forged},
		"an older answer":   {func(r *Reply) { r.Nonce = strings.Repeat("1", 32) }, hub, Forged},
		"another's answer":  {func(r *Reply) { r.Key = public(2) }, hub, Forged},
		"no grant":          {func(r *Reply) { r.Grant = nil }, hub, Malformed},
		"no status":         {func(r *Reply) { r.Status = "maybe" }, hub, Malformed},
		"a hostile name":    {func(r *Reply) { r.Site = "*" }, hub, Malformed},
		"another site's":    {func(r *Reply) { r.Site = "s2" }, hub, WrongIdentity},
		"another key's JWT": {func(r *Reply) { r.Grant = &Grant{JWT: credentialOf("s1", public(2))} }, hub, WrongIdentity},
	} {
		reply := good
		c.edit(&reply)
		sealed, err := fleetsync.Seal(TypeReply, reply, c.by)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenReply(sealed, []ed25519.PublicKey{hub.Public().(ed25519.PublicKey)}, request); reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func ExampleFingerprint() {
	fmt.Println(Fingerprint(public(1)))
	// Output: zonat-mirag-rijid-ponos-tizag
}

func FuzzOpenRequest(f *testing.F) {
	sealed, _ := fleetsync.Seal(TypeRequest, requestOf(1, "s1"), keyNumber(1))
	f.Add(sealed)
	f.Add([]byte(`{"type":"enrol/v1","payload":"e30=","signature":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		request, err := OpenRequest(raw)
		if err == nil && (len(request.Key) != ed25519.PublicKeySize || len(request.Nonce) != 2*NonceSize || len(raw) > MaxRequest) {
			t.Errorf("taken: %+v", request)
		}
	})
}

func FuzzOpenRenewal(f *testing.F) {
	sealed, _ := fleetsync.Seal(TypeRenewal, Renewal{Nonce: "n", Site: "s1", Key: public(1)}, keyNumber(1))
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if renewal, err := OpenRenewal(raw); err == nil {
			if _, err := bundle.ParseSiteID(string(renewal.Site)); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzOpenReply(f *testing.F) {
	sealed, _ := fleetsync.Seal(TypeReply, Reply{Nonce: strings.Repeat("0", 32), Key: public(1), Status: Pending, Site: "s1"}, keyNumber(9))
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		reply, err := OpenReply(raw, []ed25519.PublicKey{public(9)}, requestOf(1, "s1"))
		if err == nil && reply.Status == Approved && CheckCredential(reply.Grant.JWT, reply.Site, public(1)) != nil {
			t.Error("another's credential is taken")
		}
	})
}

func FuzzCredential(f *testing.F) {
	f.Add(credentialOf("s1", public(1)))
	f.Fuzz(func(t *testing.T, token string) {
		_, _ = LifeOf(token)
		_ = CheckCredential(token, "s1", public(1))
	})
}

func FuzzDecodeFile(f *testing.F) {
	raw, _ := json.Marshal(File{Schema: FileSchema, Fleet: "f", Hubs: []string{"https://h:1"}, CA: "c", Token: "t", Name: BySerial, Trust: json.RawMessage(`{}`)})
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := DecodeFile(raw)
		if err == nil && (len(file.Hubs) == 0 || file.Token == "") {
			t.Errorf("taken: %+v", file)
		}
	})
}
