package api

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
)

// UserRequest asks for a user and its token.
type UserRequest struct {
	Name    string       `json:"name"`
	Role    access.Role  `json:"role"`
	Scope   access.Scope `json:"scope,omitzero"`
	Seconds int64        `json:"expiresInSeconds"`
}

// UserRenewal asks for another token for a user; the one before it opens nothing from then on.
type UserRenewal struct {
	Seconds int64 `json:"expiresInSeconds"`
}

// UserRights are what a user may do. They hold at once; the token stays.
type UserRights struct {
	Role  access.Role  `json:"role"`
	Scope access.Scope `json:"scope,omitzero"`
}

// UserGrant is a user with its context file, which holds the token and is given out this once.
type UserGrant struct {
	User    User        `json:"user"`
	Context ContextFile `json:"context"`
}

// User is a user without its token.
type User struct {
	Name    string       `json:"name"`
	Role    access.Role  `json:"role"`
	Scope   access.Scope `json:"scope,omitzero"`
	Created time.Time    `json:"created,omitzero"`
	By      string       `json:"by,omitempty"`
	Expires *time.Time   `json:"expires,omitempty"` // nil: never, the admin of the first start
	Revoked *time.Time   `json:"revoked,omitempty"`
	Why     string       `json:"why,omitempty"` // of the revocation
	// LastUsed is when the token opened something, to within ten minutes once the hub has been started again.
	LastUsed *time.Time `json:"lastUsed,omitempty"`
}

// WhoAmI gives the user of the client's token.
func (c *Client) WhoAmI(ctx context.Context) (User, error) {
	return ask[User](ctx, c, http.MethodGet, nil, nil, "whoami")
}

// AddUser makes a user.
func (c *Client) AddUser(ctx context.Context, request UserRequest) (UserGrant, error) {
	return askJSON[UserGrant](ctx, c, request, "users")
}

// Users lists the users by name.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return ask[[]User](ctx, c, http.MethodGet, nil, nil, "users")
}

// RenewUser gives a user another token.
func (c *Client) RenewUser(ctx context.Context, name string, request UserRenewal) (UserGrant, error) {
	return askJSON[UserGrant](ctx, c, request, "users", name, "renewal")
}

// ChangeUser gives a user another role or scope.
func (c *Client) ChangeUser(ctx context.Context, name string, rights UserRights) (User, error) {
	return askJSON[User](ctx, c, rights, "users", name, "rights")
}

// RevokeUser ends a user's token.
func (c *Client) RevokeUser(ctx context.Context, name, why string) (User, error) {
	return askJSON[User](ctx, c, Because{why}, "users", name, "revocation")
}
