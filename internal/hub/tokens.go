package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// CreateToken makes a join token. Its secret is in the answer and nowhere else; the hub keeps its hash.
func (h *Hub) CreateToken(ctx context.Context, request api.TokenRequest, by string) (api.TokenGrant, error) {
	if len(request.Labels) > maxLabels {
		return api.TokenGrant{}, &enrol.Refusal{Reason: enrol.BadToken, What: fmt.Sprintf("token: %d labels are more than the %d a site may have", len(request.Labels), maxLabels)}
	}
	return h.makeToken(ctx, enrol.Token{Rule: request.Rule, Labels: request.Labels, Uses: request.Uses, PreApproved: request.PreApproved, By: by}, request.Seconds)
}

// ReplaceSite makes the token with which other hardware takes a site's place. The old key is shut out when the new one is approved, not now.
func (h *Hub) ReplaceSite(ctx context.Context, id bundle.SiteID, request api.TokenRequest, by string) (api.TokenGrant, error) {
	record, _, err := h.siteRecord(ctx, id)
	if err != nil {
		return api.TokenGrant{}, err
	}
	if record.Gone != nil {
		return api.TokenGrant{}, notReplaceable(id)
	}
	if request.Rule != "" || len(request.Labels) > 0 || request.Uses > 1 {
		return api.TokenGrant{}, &enrol.Refusal{Reason: enrol.BadToken, What: "a replacement has the site's name and labels, and is for one device"}
	}
	return h.makeToken(ctx, enrol.Token{Rule: enrol.Fixed(id), Uses: 1, PreApproved: request.PreApproved, Replaces: true, By: by}, request.Seconds)
}

func notReplaceable(id bundle.SiteID) error {
	return &enrol.Refusal{Reason: enrol.NotReplaceable, What: fmt.Sprintf("site %s left the fleet", id), Advice: "choose another name"}
}

func (h *Hub) makeToken(ctx context.Context, token enrol.Token, seconds int64) (api.TokenGrant, error) {
	token.ID = strings.ToLower(rand.Text()[:10])
	secret := enrol.Secret(token.ID, rand.Text()+rand.Text()) // 260 bits
	token.Hash = enrol.HashSecret(secret)
	token.Created = h.cfg.Now().UTC().Truncate(time.Second)
	// Bounded before it is multiplied.
	token.Expires = token.Created.Add(time.Duration(min(max(seconds, 0), 1<<30)) * time.Second)
	if err := token.Check(); err != nil {
		return api.TokenGrant{}, err
	}
	raw, err := json.Marshal(token)
	if err != nil {
		return api.TokenGrant{}, fmt.Errorf("token: encode: %w", err)
	}
	trust, err := h.trustMetadata()
	if err != nil {
		return api.TokenGrant{}, err
	}
	if err := h.putIf(ctx, TokenSubject(token.ID), raw, 0); err != nil {
		return api.TokenGrant{}, fmt.Errorf("token: %w", err)
	}
	return api.TokenGrant{Token: shown(token), File: enrol.File{
		Schema: enrol.FileSchema, Fleet: h.trust().Fleet, Hubs: h.urls, CA: h.certificates.pinned(),
		Token: secret, Name: token.Rule, Trust: trust,
	}}, nil
}

func shown(t enrol.Token) api.Token {
	used := make([]bundle.SiteID, len(t.Claims))
	for i, claim := range t.Claims {
		used[i] = claim.Site
	}
	return api.Token{ID: t.ID, Rule: t.Rule, Labels: t.Labels, Uses: t.Uses, Used: used, PreApproved: t.PreApproved, Replaces: t.Replaces,
		Created: t.Created, By: t.By, Expires: t.Expires, Revoked: t.Revoked}
}

// Tokens are the join tokens, the newest first.
func (h *Hub) Tokens(ctx context.Context) ([]api.Token, error) {
	tokens := []api.Token{}
	err := h.store.Each(ctx, stream.Tokens, TokenSubject("*"), 1, func(m stream.Message) error {
		var token enrol.Token
		if err := decodeRecord(m.Data, &token); err != nil {
			return fmt.Errorf("%s: %w", m.Subject, err)
		}
		tokens = append(tokens, shown(token))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	slices.SortStableFunc(tokens, func(a, b api.Token) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return tokens, nil
}

// token reads a token; nil where there is none.
func (h *Hub) token(ctx context.Context, id string) (*enrol.Token, uint64, error) {
	m, err := h.store.Get(ctx, TokenSubject(id))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, 0, nil
	}
	var token enrol.Token
	if err == nil {
		err = decodeRecord(m.Data, &token)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("token %s: %w", id, err)
	}
	return &token, m.Sequence, nil
}

func unknownToken(id string) error {
	return &enrol.Refusal{Reason: enrol.NotThere, What: fmt.Sprintf("token %s is not known", id), Advice: "holdfast token list shows the tokens"}
}

// RevokeToken ends a token: no further key can use it.
func (h *Hub) RevokeToken(ctx context.Context, id string) (api.Token, error) {
	if _, err := enrol.ParseID(id); err != nil {
		return api.Token{}, err
	}
	for range assignTries {
		token, sequence, err := h.token(ctx, id)
		if err != nil {
			return api.Token{}, err
		}
		if token == nil {
			return api.Token{}, unknownToken(id)
		}
		if token.Revoked != nil {
			return shown(*token), nil
		}
		now := h.cfg.Now().UTC().Truncate(time.Second)
		token.Revoked = &now
		raw, err := json.Marshal(token)
		if err != nil {
			return api.Token{}, fmt.Errorf("token %s: encode: %w", id, err)
		}
		switch err := h.putIf(ctx, TokenSubject(id), raw, sequence); {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return api.Token{}, fmt.Errorf("token %s: %w", id, err)
		}
		return shown(*token), nil
	}
	return api.Token{}, fmt.Errorf("token %s: %w %d times", id, stream.ErrConflict, assignTries)
}
