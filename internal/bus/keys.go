package bus

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Keys are the secret seeds everything on the bus descends from. They are made once, kept by the owner, and serialise as JSON.
// Whoever has them can be anybody on the bus; they sign nothing but that.
type Keys struct {
	Operator string `json:"operator"`
	System   string `json:"system"`
	Hub      string `json:"hub"`
	Sites    string `json:"sites"`
	User     string `json:"user"` // the hub's own, in the account HUB
}

// NewKeys makes keys.
func NewKeys() (Keys, error) {
	var k Keys
	for _, n := range []struct {
		into *string
		kind nkeys.PrefixByte
	}{
		{&k.Operator, nkeys.PrefixByteOperator}, {&k.System, nkeys.PrefixByteAccount}, {&k.Hub, nkeys.PrefixByteAccount},
		{&k.Sites, nkeys.PrefixByteAccount}, {&k.User, nkeys.PrefixByteUser},
	} {
		pair, err := nkeys.CreatePair(n.kind)
		if err != nil {
			return Keys{}, fmt.Errorf("bus keys: %w", err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return Keys{}, fmt.Errorf("bus keys: %w", err)
		}
		*n.into = string(seed)
	}
	return k, nil
}

// Credentials are a user's JWT and seed, which prove who connects.
type Credentials struct {
	JWT  string
	Seed string
}

// File is the credentials in the form of a NATS creds file.
func (c Credentials) File() ([]byte, error) {
	b, err := jwt.FormatUserConfig(c.JWT, []byte(c.Seed))
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return b, nil
}

// ParseCredentials reads a NATS creds file.
func ParseCredentials(file []byte) (Credentials, error) {
	if len(file) > 64<<10 {
		return Credentials{}, fmt.Errorf("credentials: %d bytes are too many", len(file))
	}
	token, err := jwt.ParseDecoratedJWT(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: user token: %w", err)
	}
	pair, err := jwt.ParseDecoratedUserNKey(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: user seed: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: user seed: %w", err)
	}
	return Credentials{token, string(seed)}, nil
}

// pair is a key with its public half.
type pair struct {
	nkeys.KeyPair
	public string
}

func open(what, seed string) (pair, error) {
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return pair{}, fmt.Errorf("bus keys: %s: %w", what, err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		return pair{}, fmt.Errorf("bus keys: %s: %w", what, err)
	}
	return pair{kp, public}, nil
}

// HubUser gives the hub's own credentials: everything in the account HUB.
func (k Keys) HubUser() (Credentials, error) { return k.user("hub account", k.Hub, jwt.Permissions{}) }

// user gives the hub's user credentials of an account, whose seed is given.
func (k Keys) user(what, seed string, may jwt.Permissions) (Credentials, error) {
	account, err := open(what, seed)
	if err != nil {
		return Credentials{}, err
	}
	user, err := open("hub user", k.User)
	if err != nil {
		return Credentials{}, err
	}
	claims := jwt.NewUserClaims(user.public)
	claims.Name, claims.Permissions = "hub", may
	token, err := claims.Encode(account)
	if err != nil {
		return Credentials{}, fmt.Errorf("hub user: %w", err)
	}
	return Credentials{token, k.User}, nil
}

// NewSiteKey makes the key of a site's user. Only the public half is needed for SiteUser.
func NewSiteKey() (seed, public string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("site key: %w", err)
	}
	s, err := kp.Seed()
	if err != nil {
		return "", "", fmt.Errorf("site key: %w", err)
	}
	public, err = kp.PublicKey()
	return string(s), public, err
}

// SiteUser gives a site's user token that does not expire.
func (k Keys) SiteUser(site bundle.SiteID, publicKey string) (token string, err error) {
	return k.SiteUserUntil(site, publicKey, time.Time{})
}

// SiteUserUntil gives a site's user token: its permissions are the literal subjects of exactly that site. The server ends the connection of
// an expired one; a zero time is never.
func (k Keys) SiteUserUntil(site bundle.SiteID, publicKey string, expires time.Time) (token string, err error) {
	// A name with a wildcard would become a permission with a wildcard.
	if _, err := bundle.ParseSiteID(string(site)); err != nil {
		return "", fmt.Errorf("site user: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return "", fmt.Errorf("site user %s: %.80q is not the public key of a user", site, publicKey)
	}
	account, err := open("sites account", k.Sites)
	if err != nil {
		return "", err
	}
	claims := jwt.NewUserClaims(publicKey)
	claims.Name = string(site)
	claims.Permissions = sitePermissions(site)
	claims.Limits.Payload = stream.MaxReport
	claims.Limits.Subs = 16
	if !expires.IsZero() {
		claims.Expires = expires.Unix()
	}
	claims.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket}
	if token, err = claims.Encode(account); err != nil {
		return "", fmt.Errorf("site user %s: %w", site, err)
	}
	return token, nil
}

func sitePermissions(site bundle.SiteID) jwt.Permissions {
	var p jwt.Permissions
	p.Pub.Allow.Add(stream.WritesOf(site)...)
	p.Pub.Allow.Add(stream.HelloOf(site))
	for name, subjects := range stream.ReadsOf(site) {
		for _, s := range subjects {
			p.Pub.Allow.Add(line.DirectGet(name, s))
		}
	}
	p.Sub.Allow.Add(line.InboxPrefix(site)+".>", fleetsync.PokeSubject(site))
	return p
}

// share is one subject that HUB offers and SITES takes.
type share struct {
	subject string
	kind    jwt.ExportType
}

// shares are all there is between the two accounts.
func shares() []share {
	s := []share{
		{stream.AnySite(fleetsync.PokeSubject), jwt.Stream},
		{stream.AnySite(stream.HelloOf), jwt.Service},
	}
	for _, subject := range stream.WritesOf("*") {
		s = append(s, share{subject, jwt.Service})
	}
	for name, subjects := range stream.ReadsOf("*") {
		for _, subject := range subjects {
			s = append(s, share{line.DirectGet(name, subject), jwt.Service})
		}
	}
	return s
}

// tokens are the public statements made of the keys.
type tokens struct {
	operator string
	system   string            // public key of the system account
	accounts map[string]string // public key to token
	names    map[string]string // public key to name
}

func (k Keys) tokens() (tokens, error) {
	operator, e1 := open("operator", k.Operator)
	system, e2 := open("system account", k.System)
	hub, e3 := open("hub account", k.Hub)
	sites, e4 := open("sites account", k.Sites)
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return tokens{}, err
	}
	t := tokens{system: system.public, accounts: map[string]string{}, names: map[string]string{}}
	claims := jwt.NewOperatorClaims(operator.public)
	claims.Name = "holdfast"
	claims.SystemAccount = system.public
	var err error
	if t.operator, err = claims.Encode(operator); err != nil {
		return tokens{}, fmt.Errorf("operator token: %w", err)
	}
	hubClaims := named(hub.public, "HUB")
	hubClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	siteClaims := named(sites.public, "SITES")
	for _, s := range shares() {
		token, err := activation(hub, sites.public, s)
		if err != nil {
			return tokens{}, err
		}
		hubClaims.Exports.Add(&jwt.Export{Name: s.subject, Subject: jwt.Subject(s.subject), Type: s.kind, TokenReq: true})
		siteClaims.Imports.Add(&jwt.Import{Name: s.subject, Subject: jwt.Subject(s.subject), Account: hub.public, Token: token, Type: s.kind})
	}
	for _, c := range []*jwt.AccountClaims{named(system.public, "SYS"), hubClaims, siteClaims} {
		problems := jwt.CreateValidationResults()
		c.Validate(problems)
		if errs := problems.Errors(); len(errs) > 0 {
			return tokens{}, fmt.Errorf("account %s: %w", c.Name, errors.Join(errs...))
		}
		if t.accounts[c.Subject], err = c.Encode(operator); err != nil {
			return tokens{}, fmt.Errorf("account %s: %w", c.Name, err)
		}
		t.names[c.Subject] = c.Name
	}
	return t, nil
}

func named(public, name string) *jwt.AccountClaims {
	c := jwt.NewAccountClaims(public)
	c.Name = name
	return c
}

// activation lets the account SITES, and no other account of the server, import what HUB offers.
func activation(hub pair, sites string, s share) (string, error) {
	claims := jwt.NewActivationClaims(sites)
	claims.Name = s.subject
	claims.ImportSubject = jwt.Subject(s.subject)
	claims.ImportType = s.kind
	token, err := claims.Encode(hub)
	if err != nil {
		return "", fmt.Errorf("activation of %s: %w", s.subject, err)
	}
	return token, nil
}

// apply gives the tokens to an embedded server.
func (t tokens) apply(o *server.Options) error {
	operator, err := jwt.DecodeOperatorClaims(t.operator)
	if err != nil {
		return fmt.Errorf("operator token: %w", err)
	}
	accounts := &server.MemAccResolver{}
	for public, token := range t.accounts {
		if err := accounts.Store(public, token); err != nil {
			return fmt.Errorf("account token: %w", err)
		}
	}
	o.TrustedOperators = []*jwt.OperatorClaims{operator}
	o.SystemAccount = t.system
	o.AccountResolver = accounts
	return nil
}

// ServerConfig is the part of a nats-server configuration file that makes an existing server or cluster Holdfast's bus. Whoever runs it
// adds listen, tls, websocket, cluster and jetstream blocks; jetstream must say sync_interval: always. It holds no secret. resolver is the folder
// in which a server keeps account tokens over a restart; empty: it keeps them in memory, and hears from the hub again who is revoked.
func ServerConfig(k Keys, resolver string) (string, error) {
	t, err := k.tokens()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Holdfast's accounts, to be included in the configuration of each server. Not in here, and needed beside it:\n")
	b.WriteString("#   listen: 0.0.0.0:4222\n#   tls { cert_file: ..., key_file: ..., min_version: \"1.3\" }\n")
	b.WriteString("#   jetstream { store_dir: ..., sync_interval: always, limits { default_max_consumers: -1 } }\n")
	b.WriteString("# and for sites whose networks let nothing but HTTPS out (tell them with holdfast-hub run --site-url wss://...):\n")
	b.WriteString("#   websocket { listen: 0.0.0.0:443, tls { cert_file: ..., key_file: ..., min_version: \"1.3\" } }\n")
	fmt.Fprintf(&b, "max_payload: %d\noperator: %s\nsystem_account: %s\n", stream.MaxMessage, t.operator, t.system)
	if resolver == "" {
		b.WriteString("resolver: MEMORY\n")
	} else {
		fmt.Fprintf(&b, "resolver: { type: full, dir: %q, allow_delete: false, interval: \"2m\" }\n", resolver)
	}
	b.WriteString("resolver_preload: {\n")
	for _, public := range slices.Sorted(maps.Keys(t.accounts)) {
		token := t.accounts[public]
		fmt.Fprintf(&b, "  # %s\n  %s: %s\n", t.names[public], public, token)
	}
	b.WriteString("}\n")
	return b.String(), nil
}
