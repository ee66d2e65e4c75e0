package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
)

// userSpec is what a user may do. Its token is made by user add and is in no document.
type userSpec struct {
	Role    access.Role  `json:"role"`
	Scope   access.Scope `json:"scope,omitzero"`
	Revoked bool         `json:"revoked,omitempty"`
}

var userKind = resourceKind{
	name: "User", word: "user",
	decode: decodeAs[userSpec](bundleName, nil),
	one: func(ctx context.Context, hub *api.Client, name string) (r resource, found bool, err error) {
		users, err := hub.Users(ctx)
		for _, u := range users {
			if u.Name == name {
				return resourceFound(u, err, ofUser)
			}
		}
		return r, false, err
	},
	all: func(ctx context.Context, hub *api.Client) ([]resource, error) {
		users, err := hub.Users(ctx)
		return resourcesOf(users, err, ofUser)
	},
	set:  changeUser,
	of:   "user",
	made: "holdfast user add makes a user, and the token that goes with it",
}

func ofUser(u api.User) (resource, error) {
	return newResource("User", u.Name, userSpec{u.Role, u.Scope, u.Revoked != nil})
}

func changeUser(ctx context.Context, hub *api.Client, c resourceChange) error {
	var was, is userSpec
	if err := errors.Join(json.Unmarshal(c.is.Spec, &was), json.Unmarshal(c.wanted.Spec, &is)); err != nil {
		return err
	}
	name := c.wanted.Metadata.Name
	if was.Revoked && !is.Revoked {
		return &failure{code: exitConflict, message: fmt.Sprintf("%s: its token is revoked, and only another token lets the user in again", c.wanted), hint: "holdfast user renew " + name}
	}
	if was.Role != is.Role || was.Scope != is.Scope {
		if _, err := hub.ChangeUser(ctx, name, api.UserRights{Role: is.Role, Scope: is.Scope}); err != nil {
			return err
		}
	}
	if is.Revoked && !was.Revoked {
		_, err := hub.RevokeUser(ctx, name, "by a document")
		return err
	}
	return nil
}
