// Package access says who may do what at the hub. It is pure.
//
//	A1  Roles are a ladder: viewer, operator, approver, admin; each may do what those below it may. Who starts something never approves it, whatever the role.
//	A2  The hub keeps the hash of a token and not the token. A token is 256 bits or more of chance, so that its hash tells nothing of it.
//	A3  A token that is expired or revoked opens nothing, and one that is renewed replaces the one before it at once.
//	A4  A scope only takes away. What it refers to and cannot be found, a deleted group for example, leaves nothing.
package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Role says what a user may do at most.
type Role string

// The roles, each with what the one before may do and more.
const (
	Viewer   Role = "viewer"   // sees
	Operator Role = "operator" // changes what runs where
	Approver Role = "approver" // approves what somebody else started
	Admin    Role = "admin"    // says who may do what
)

var ladder = []Role{Viewer, Operator, Approver, Admin}

// ParseRole checks s to be a role.
func ParseRole(s string) (Role, error) {
	if !slices.Contains(ladder, Role(s)) {
		return "", fmt.Errorf("role %.40q: want viewer, operator, approver or admin", s)
	}
	return Role(s), nil
}

// Covers says whether the role may do what takes least. The empty role covers nothing and is covered by nothing.
func (r Role) Covers(least Role) bool {
	need := slices.Index(ladder, least)
	return need >= 0 && slices.Index(ladder, r) >= need
}

// Scope limits a user to some sites. The empty scope is no limit; where both are given, both must hold.
type Scope struct {
	Group  bundle.Name `json:"group,omitempty"`
	Labels string      `json:"labels,omitempty"` // selector
}

// Empty says that there is no limit.
func (s Scope) Empty() bool { return s == Scope{} }

// Check refuses a scope that says nothing.
func (s Scope) Check() error {
	if s.Group != "" {
		if _, err := bundle.ParseName(string(s.Group)); err != nil {
			return fmt.Errorf("scope: group %.80q: want lower-case letters, digits and inner dashes", s.Group)
		}
	}
	if selector, err := bundle.ParseSelector(s.Labels); err != nil {
		return fmt.Errorf("scope: %w", err)
	} else if s.Labels != "" && selector.Empty() {
		return fmt.Errorf("scope: the selector %.40q is empty", s.Labels)
	}
	return nil
}

func (s Scope) String() string {
	var parts []string
	if s.Group != "" {
		parts = append(parts, "group "+string(s.Group))
	}
	if s.Labels != "" {
		parts = append(parts, s.Labels)
	}
	return strings.Join(parts, " and ")
}

// Sites are selectors that a site must all match. The zero value is every site.
type Sites []bundle.Selector

// Has says whether a site with the labels is among them.
func (s Sites) Has(labels map[string]string) bool {
	for _, selector := range s {
		if !selector.Matches(labels) {
			return false
		}
	}
	return true
}

// nobody matches no labels at all.
var nobody = func() bundle.Selector {
	s, err := bundle.ParseSelector("x,!x")
	if err != nil {
		panic(err)
	}
	return s
}()

// Sites are those of the scope. groups are the selectors of the groups, by name.
func (s Scope) Sites(groups map[string]string) (sites Sites) {
	add := func(text string) {
		selector, err := bundle.ParseSelector(text)
		if err != nil {
			selector = nobody
		}
		sites = append(sites, selector)
	}
	if s.Group != "" {
		if text, known := groups[string(s.Group)]; known {
			add(text)
		} else {
			sites = append(sites, nobody)
		}
	}
	if s.Labels != "" {
		add(s.Labels)
	}
	return sites
}

// AdminName is the user of the context file that the hub writes at first start. It is no record and cannot be made, renewed or revoked.
const AdminName = "admin"

// reserved are the names that stand in the audit log for somebody who is no user.
var reserved = []string{AdminName, "hub", "device"}

// MaxLife is how long a token may be good.
const MaxLife = 366 * 24 * time.Hour

// User is a person or program with one token, as the hub keeps it. It holds no secret.
type User struct {
	Name     string     `json:"name"`
	Role     Role       `json:"role"`
	Scope    Scope      `json:"scope,omitzero"`
	Hash     string     `json:"hash"` // SHA-256 of the token, hex
	Created  time.Time  `json:"created"`
	By       string     `json:"by"`
	Expires  time.Time  `json:"expires"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	Why      string     `json:"why,omitempty"` // of the revocation
	Revision uint64     `json:"revision"`      // grows with each change
}

// Check refuses a user that cannot be made.
func (u User) Check() error {
	if _, err := bundle.ParseName(u.Name); err != nil {
		return fmt.Errorf("user %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", u.Name)
	}
	if slices.Contains(reserved, u.Name) {
		return fmt.Errorf("user %s: the name is the hub's own", u.Name)
	}
	if _, err := ParseRole(string(u.Role)); err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	if u.Role == Admin && !u.Scope.Empty() {
		return fmt.Errorf("user %s: an admin has no scope: who says what others may do has no limit of its own", u.Name)
	}
	if err := u.Scope.Check(); err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	if life := u.Expires.Sub(u.Created); life <= 0 || life > MaxLife {
		return fmt.Errorf("user %s: its token would live %s: want up to %s", u.Name, life, MaxLife)
	}
	return nil
}

// Barred says why the user's token opens nothing now; empty for one that does.
func (u User) Barred(now time.Time) string {
	switch {
	case u.Revoked != nil:
		return "the token of " + u.Name + " is revoked"
	case !now.Before(u.Expires):
		return "the token of " + u.Name + " expired at " + u.Expires.UTC().Format(time.RFC3339)
	}
	return ""
}

const (
	tokenPrefix = "hfu_"
	// MaxToken is the longest token, in bytes.
	MaxToken = 128
)

// Token makes a token of random text.
func Token(random string) string { return tokenPrefix + random }

// Hash is what the hub keeps of a token.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
