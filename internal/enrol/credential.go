package enrol

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const maxCredential = 64 << 10 // bytes

// Life is when a credential was issued and when it expires; a zero Expires is never.
type Life struct{ Issued, Expires time.Time }

// RenewAt is when to renew: at half of its life. It is zero for a credential that does not expire.
func (l Life) RenewAt() time.Time {
	if l.Expires.IsZero() {
		return time.Time{}
	}
	return l.Issued.Add(l.Expires.Sub(l.Issued) / 2)
}

type claims struct {
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
	Subject string `json:"sub"`
	Name    string `json:"name"`
}

// claimsOf reads a user token without checking who signed it: that is the server's to do, which lets in nobody else.
func claimsOf(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(token) > maxCredential || len(parts) != 3 {
		return c, fmt.Errorf("credential of %d bytes: not a token", len(token))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, fmt.Errorf("credential: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("credential: %w", err)
	}
	return c, nil
}

// LifeOf reads when a credential was issued and expires.
func LifeOf(token string) (Life, error) {
	c, err := claimsOf(token)
	if err != nil {
		return Life{}, err
	}
	life := Life{Issued: time.Unix(c.Issued, 0)}
	if c.Expires != 0 {
		life.Expires = time.Unix(c.Expires, 0)
	}
	return life, nil
}

// CheckCredential refuses a credential that is not for exactly this site and key (T22).
func CheckCredential(token string, site bundle.SiteID, key ed25519.PublicKey) error {
	c, err := claimsOf(token)
	if err != nil {
		return refuse(Malformed, err.Error(), "")
	}
	if c.Name != string(site) {
		return refuse(WrongIdentity, fmt.Sprintf("the credential is for site %.80q, want %s", c.Name, site), "")
	}
	subject, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(c.Subject)
	// A NATS user key: one byte of kind, the key, two bytes of checksum.
	if err != nil || len(subject) != 1+ed25519.PublicKeySize+2 || !key.Equal(ed25519.PublicKey(subject[1:1+ed25519.PublicKeySize])) {
		return refuse(WrongIdentity, fmt.Sprintf("the credential is for the key %.60q, which is not this site's", c.Subject), "")
	}
	return nil
}
