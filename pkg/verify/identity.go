package verify

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Identity is somebody who signs without a key of their own: a certificate authority of the trust document's SigstoreRoot certified for
// minutes that its issuer knew the signer by the subject.
type Identity struct {
	// Issuer is who knew the signer, exactly: "https://token.actions.githubusercontent.com".
	Issuer string `json:"issuer"`
	// Subject is who signed: an e-mail address or a URI, with at most one "*" that stands for any bytes, not alone.
	Subject string `json:"subject"`
	// Names, NotBefore, NotAfter and Revoked mean what they mean of a Key.
	Names     []string   `json:"names"`
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
	Revoked   bool       `json:"revoked,omitempty"`
}

// Certified is what a certificate says of who signed, once everything about it was checked.
type Certified struct {
	Issuer  string
	Subject string
}

// ID names the identity.
func (c Certified) ID() KeyID { return KeyID("identity:" + c.Subject + " by " + c.Issuer) }

// Is says whether the certificate is for this identity. Nothing is folded: case, Unicode and trailing dots count.
func (i Identity) Is(c Certified) bool {
	if i.Issuer == "" || i.Issuer != c.Issuer {
		return false
	}
	before, after, open := strings.Cut(i.Subject, "*")
	if !open {
		return i.Subject != "" && i.Subject == c.Subject
	}
	return len(c.Subject) >= len(before)+len(after) && strings.HasPrefix(c.Subject, before) && strings.HasSuffix(c.Subject, after)
}

// May says whether the identity may sign bundles of the name.
func (i Identity) May(name bundle.Name) bool { return Key{Names: i.Names}.May(name) }

func (i Identity) check() error {
	for what, text := range map[string]string{"issuer": i.Issuer, "subject": i.Subject} {
		switch {
		case text == "" || len(text) > maxIdentity:
			return fmt.Errorf("identity: %s of %d bytes, want 1 to %d", what, len(text), maxIdentity)
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return fmt.Errorf("identity: %s %.80q: white space or control characters", what, text)
		}
	}
	if strings.Contains(i.Issuer, "*") {
		return fmt.Errorf("identity: issuer %.80q: patterns are for subjects only", i.Issuer)
	}
	if stars := strings.Count(i.Subject, "*"); stars > 1 || i.Subject == "*" {
		return fmt.Errorf(`identity: subject %.80q: want at most one "*", and not alone`, i.Subject)
	}
	return checkRights(fmt.Sprintf("identity %.80q", i.Subject), i.Names, i.NotBefore, i.NotAfter)
}

func (t *Trust) checkIdentities() error {
	if len(t.Identities) > MaxIdentities {
		return fmt.Errorf("%d identities are more than the %d it may have", len(t.Identities), MaxIdentities)
	}
	if len(t.Identities) > 0 && len(t.SigstoreRoot) == 0 {
		return errors.New("identities need a sigstoreRoot: nobody could say who they are")
	}
	if root := t.SigstoreRoot; len(root) > 0 && root[0] != '{' {
		return errors.New("sigstoreRoot: want an object")
	}
	seen := map[Certified]bool{}
	for _, identity := range t.Identities {
		if err := identity.check(); err != nil {
			return err
		}
		pair := Certified{identity.Issuer, identity.Subject}
		if seen[pair] {
			return fmt.Errorf("identity %.80q of %.80q stands twice", identity.Subject, identity.Issuer)
		}
		seen[pair] = true
	}
	return nil
}
