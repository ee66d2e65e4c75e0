package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Readiness is whether the hub takes what is sent to it, and what its clock shows.
type Readiness struct {
	Ready bool
	Said  string // one line
	At    time.Time
}

// Troubles are what is not well at the hub itself, a line each; it takes a user without a scope.
func (c *Client) Troubles(ctx context.Context) ([]string, error) {
	return ask[[]string](ctx, c, http.MethodGet, nil, nil, "troubles")
}

// Ready asks the hub's health check, which wants no token.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("readyz").String(), nil)
	if err != nil {
		return Readiness{}, fmt.Errorf("request: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Readiness{}, fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, withoutURL(err))
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return Readiness{}, fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, err)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return Readiness{}, fmt.Errorf("%s: its answer has no date", c.base.Host)
	}
	return Readiness{response.StatusCode == http.StatusOK, said, at}, nil
}
