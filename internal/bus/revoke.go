package bus

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// forever is the issue time up to which a revoked user's tokens are refused: a revoked key never comes back, whatever the clocks say.
var forever = time.Unix(1<<40, 0)

// Revoke shuts out the users with the public keys and those alone: connections that are open are cut before it returns, new ones refused.
// It takes the whole list each time, and the server forgets it when it is closed. An external bus needs its own: an account token without them
// in the server's configuration.
func (s *Server) Revoke(publicKeys []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.revoke(publicKeys); err != nil {
		return err
	}
	s.revoked = slices.Clone(publicKeys)
	return nil
}

func (s *Server) revoke(publicKeys []string) error {
	t, err := s.keys.tokens()
	if err != nil {
		return err
	}
	operator, err := open("operator", s.keys.Operator)
	if err != nil {
		return err
	}
	sites, err := open("sites account", s.keys.Sites)
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeAccountClaims(t.accounts[sites.public])
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	for _, key := range publicKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return fmt.Errorf("revoke: %.80q is not the public key of a user", key)
		}
		claims.RevokeAt(key, forever)
	}
	token, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	if err := s.nats.AccountResolver().Store(sites.public, token); err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	account, err := s.nats.LookupAccount(sites.public)
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	s.nats.UpdateAccountClaims(account, claims)
	return nil
}
