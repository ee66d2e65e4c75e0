package enrol

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Limits of a token.
const (
	MaxLife = 72 * time.Hour
	MaxUses = 2000
)

// Token is a join token as the hub keeps it. It holds no secret.
type Token struct {
	ID          string            `json:"id"`
	Hash        string            `json:"hash"` // SHA-256 of the whole secret, hex
	Rule        Rule              `json:"rule"`
	Labels      map[string]string `json:"labels,omitempty"` // every site gets them
	Uses        int               `json:"uses"`
	PreApproved bool              `json:"preApproved,omitempty"`
	// Replaces lets the one device take the place of the site that the fixed rule names.
	Replaces bool       `json:"replaces,omitempty"`
	Created  time.Time  `json:"created"`
	By       string     `json:"by"`
	Expires  time.Time  `json:"expires"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	Claims   []Claim    `json:"claims,omitempty"` // at most Uses
}

// Claim is one use of a token, bound to a key.
type Claim struct {
	Key  ed25519.PublicKey `json:"key"`
	Site bundle.SiteID     `json:"site"`
	At   time.Time         `json:"at"`
}

// Check refuses a token that cannot be made.
func (t Token) Check() error {
	bad := func(format string, args ...any) error {
		return refuse(BadToken, "token: "+fmt.Sprintf(format, args...), "")
	}
	if _, err := ParseRule(string(t.Rule)); err != nil {
		return bad("%v", err)
	}
	if t.Uses < 1 || t.Uses > MaxUses {
		return bad("%d uses: want 1 to %d", t.Uses, MaxUses)
	}
	if life := t.Expires.Sub(t.Created); life <= 0 || life > MaxLife {
		return bad("it would live %s: want up to %s", life, MaxLife)
	}
	if _, fixed := t.Rule.fixed(); fixed && t.Uses > 1 {
		return bad("a fixed name is for one site, not for %d uses", t.Uses)
	} else if t.Replaces && !fixed {
		return bad("only a fixed name can be replaced")
	}
	for key, value := range t.Labels {
		if err := bundle.CheckLabel(key, value); err != nil {
			return bad("%v", err)
		}
	}
	return nil
}

var idPattern = regexp.MustCompile(`^[a-z2-7]{10}$`)

const secretPrefix = "hft_"

// Secret puts a token's secret together from its id (ten of a-z2-7) and random text.
func Secret(id, random string) string { return secretPrefix + id + "_" + random }

// HashSecret is what the hub keeps of a secret.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// ParseID checks s to be the id of a token.
func ParseID(s string) (string, error) {
	if !idPattern.MatchString(s) {
		return "", refuse(TokenUnknown, fmt.Sprintf("token %.40q is not known", s), "holdfast token list shows the tokens")
	}
	return s, nil
}

// IDOf reads the id out of a secret, so that the token can be looked up.
func IDOf(secret string) (string, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(secret, secretPrefix), "_")
	if len(secret) > maxSecret || !strings.HasPrefix(secret, secretPrefix) || !idPattern.MatchString(id) {
		return "", unknownToken()
	}
	return id, nil
}

const maxSecret = 128

func unknownToken() error {
	return refuse(TokenUnknown, "the join token is not known", "use the enrolment file as holdfast token create wrote it, with the hub that wrote it")
}

// holds compares in time that does not depend on where they differ.
func (t Token) holds(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(t.Hash)) == 1
}

func (t Token) claimOf(key ed25519.PublicKey) (Claim, bool) {
	for _, c := range t.Claims {
		if key.Equal(c.Key) {
			return c, true
		}
	}
	return Claim{}, false
}
