package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// maxAnswer bounds what the agent may say, in bytes.
const maxAnswer = 20 << 20

// ErrAway says that no agent answers.
var ErrAway = errors.New("no agent answers")

// Client speaks with the agent whose data folder is Dir.
type Client struct{ Dir string }

// Status asks how the site is.
func (c Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Events asks for the newest events, oldest first.
func (c Client) Events(ctx context.Context, limit int) (events []fleetsync.Event, err error) {
	return events, c.do(ctx, http.MethodGet, "/v1/events?limit="+strconv.Itoa(limit), nil, &events)
}

// Busy says that the site is busy, or with 0 no longer.
func (c Client) Busy(ctx context.Context, who string, length time.Duration, reason string) error {
	return c.do(ctx, http.MethodPost, "/v1/busy", busyRequest{who, length.String(), reason}, &struct{}{})
}

// Override declares an exception.
func (c Client) Override(ctx context.Context, o fleetsync.OverrideSet) error {
	return c.do(ctx, http.MethodPost, "/v1/overrides", overrideRequest{o.Object, o.Paths, o.For.String(), o.Reason, o.Who}, &struct{}{})
}

// ClearOverride ends an exception.
func (c Client) ClearOverride(ctx context.Context, object string) error {
	return c.do(ctx, http.MethodDelete, "/v1/overrides?object="+url.QueryEscape(object), nil, &struct{}{})
}

// Import gives the agent a carried file.
func (c Client) Import(ctx context.Context, file io.Reader) (got Imported, err error) {
	return got, c.send(ctx, longPatience, http.MethodPost, "/v1/import", file, &got)
}

// Report asks for the site's report.
func (c Client) Report(ctx context.Context) (file []byte, err error) {
	return file, c.send(ctx, longPatience, http.MethodGet, "/v1/report", nil, &file)
}

func (c Client) do(ctx context.Context, method, path string, body, value any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.send(ctx, 2*patience, method, path, bytes.NewReader(raw), value)
}

func (c Client) send(ctx context.Context, within time.Duration, method, path string, body io.Reader, value any) error {
	socket := filepath.Join(c.Dir, SocketName)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrAway, socket, errors.Unwrap(err))
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil || len(raw) > maxAnswer {
		return fmt.Errorf("agent: its answer cannot be read (%d bytes): %w", len(raw), err)
	}
	if response.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(raw, &p) != nil || p.Error == "" {
			return fmt.Errorf("agent: it answered %s", response.Status)
		}
		return errors.New(p.Error)
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("agent: its answer is not understood: %w", err)
	}
	return nil
}
