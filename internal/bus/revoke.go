package bus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// forever is the issue time up to which a revoked user's tokens are refused: a revoked key never comes back, whatever the clocks say.
var forever = time.Unix(1<<40, 0)

// Revoke shuts out the users with the public keys and those alone: connections that are open are cut before it returns, new ones refused.
// It takes the whole list each time, and the server forgets it when it is closed. System does so at an external bus.
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
	claims, operator, err := s.keys.sitesWithout(publicKeys)
	if err != nil {
		return err
	}
	token, err := claims.Encode(operator)
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	if err := s.nats.AccountResolver().Store(claims.Subject, token); err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	account, err := s.nats.LookupAccount(claims.Subject)
	if err != nil {
		return fmt.Errorf("sites account: %w", err)
	}
	s.nats.UpdateAccountClaims(account, claims)
	return nil
}

// sitesWithout is what the account SITES is with users shut out, and whose signature makes it count.
func (k Keys) sitesWithout(publicKeys []string) (*jwt.AccountClaims, pair, error) {
	t, err := k.tokens()
	if err != nil {
		return nil, pair{}, err
	}
	operator, e1 := open("operator", k.Operator)
	sites, e2 := open("sites account", k.Sites)
	if err := errors.Join(e1, e2); err != nil {
		return nil, pair{}, err
	}
	claims, err := jwt.DecodeAccountClaims(t.accounts[sites.public])
	if err != nil {
		return nil, pair{}, fmt.Errorf("sites account: %w", err)
	}
	for _, key := range publicKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return nil, pair{}, fmt.Errorf("revoke: %.80q is not the public key of a user", key)
		}
		claims.RevokeAt(key, forever)
	}
	return claims, operator, nil
}
