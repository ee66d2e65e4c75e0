package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Limits of the API. Both sides refuse what is larger.
const (
	MaxFile     = bundle.MaxPackedSize + bundle.MaxManifestSize + bundle.MaxSignatures*bundle.MaxSignatureSize + 4096 // bytes of a bundle file
	MaxSites    = 1000                                                                                                // of one assignment or unassignment
	MaxRequest  = 1 << 20                                                                                             // bytes of any other request
	maxResponse = 64 << 20                                                                                            // bytes of a response but a bundle file
)

// Error is a refusal by the hub.
type Error struct{ Problem }

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Title
	}
	return e.Title + ": " + e.Detail
}

// Hint says what to do; it may be empty.
func (e *Error) Hint() string { return e.Problem.Hint }

// ErrUnreachable says that no answer came from the hub. Where the request was a write, its outcome is unknown: ask, or do it again.
var ErrUnreachable = errors.New("the hub does not answer")

// Client speaks to one hub. It believes only certificates of the context's CA. Methods may be called concurrently;
// their errors are *Error for refusals, and wrap ErrUnreachable where no answer came.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// NewClient prepares a client; it connects with the first request.
func NewClient(target ContextFile) (*Client, error) {
	base, err := url.Parse(target.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("hub address %.200q: want https://host:port", target.URL)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(target.CA)) {
		return nil, errors.New("hub context: its CA is no certificate in PEM")
	}
	return &Client{base, target.Token, &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 2 * time.Minute, // a push computes deltas before it answers
			ForceAttemptHTTP2:     true,
		},
		// A redirect would carry the token to wherever the answer says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Version asks for the hub's version and fleet.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return ask[Version](ctx, c, http.MethodGet, nil, nil, "version")
}

// Push gives the hub a bundle file.
func (c *Client) Push(ctx context.Context, file []byte) (Bundle, error) {
	return ask[Bundle](ctx, c, http.MethodPost, nil, file, "bundles")
}

// Bundles lists the catalog.
func (c *Client) Bundles(ctx context.Context) ([]Bundle, error) {
	return Whole(c.BundlePages(ctx, 0))
}

// Bundle gives one entry of the catalog.
func (c *Client) Bundle(ctx context.Context, ref bundle.Ref) (Bundle, error) {
	return ask[Bundle](ctx, c, http.MethodGet, nil, nil, "bundles", string(ref.Name), string(ref.Version))
}

// BundleFile gives the bundle file as it was pushed in all that is signed.
func (c *Client) BundleFile(ctx context.Context, ref bundle.Ref) ([]byte, error) {
	return c.do(ctx, http.MethodGet, nil, nil, MaxFile, "bundles", string(ref.Name), string(ref.Version), "file")
}

// AddSite makes a site known.
func (c *Client) AddSite(ctx context.Context, request SiteRequest) (SiteGrant, error) {
	return askJSON[SiteGrant](ctx, c, request, "sites")
}

// PublishTrust gives the hub an encoded tuf.Publication.
func (c *Client) PublishTrust(ctx context.Context, publication []byte) (Trust, error) {
	return ask[Trust](ctx, c, http.MethodPost, nil, publication, "trust")
}

// Trust asks for the root of trust that the hub serves.
func (c *Client) Trust(ctx context.Context) (Trust, error) {
	return ask[Trust](ctx, c, http.MethodGet, nil, nil, "trust")
}

// Sites lists the sites whose labels match the selector; an empty one matches all.
func (c *Client) Sites(ctx context.Context, selector string) ([]Site, error) {
	return Whole(c.SitePages(ctx, selector, 0))
}

// Site gives what the hub knows about a site.
func (c *Client) Site(ctx context.Context, site bundle.SiteID) (Site, error) {
	return ask[Site](ctx, c, http.MethodGet, nil, nil, "sites", string(site))
}

// Assign puts a bundle into the assignment of sites. Each site has its own outcome.
func (c *Client) Assign(ctx context.Context, request AssignRequest) ([]AssignResult, error) {
	return askJSON[[]AssignResult](ctx, c, request, "assignments")
}

// Unassign takes a bundle out of the assignment of sites. Each site has its own outcome.
func (c *Client) Unassign(ctx context.Context, request UnassignRequest) ([]AssignResult, error) {
	return askJSON[[]AssignResult](ctx, c, request, "unassignments")
}

// Drift lists uncorrected drift; an empty site means every site.
func (c *Client) Drift(ctx context.Context, site bundle.SiteID) ([]SiteDrift, error) {
	return Whole(c.DriftPages(ctx, site, 0))
}

// EventQuery chooses events. Zero values leave the choice to the hub.
type EventQuery struct {
	Site  bundle.SiteID // empty: every site
	Since time.Time     // received at or after
	Limit int           // the newest so many
	After string        // older than the list that gave this
}

// Events lists events, oldest first.
func (c *Client) Events(ctx context.Context, choice EventQuery) ([]SiteEvent, error) {
	events, _, err := c.EventPage(ctx, choice)
	return events, err
}

// EventPage lists events, oldest first. older, where not empty, is EventQuery.After for those before them.
func (c *Client) EventPage(ctx context.Context, choice EventQuery) (events []SiteEvent, older string, err error) {
	query := url.Values{}
	if choice.Site != "" {
		query.Set("site", string(choice.Site))
	}
	if !choice.Since.IsZero() {
		query.Set("since", choice.Since.UTC().Format(time.RFC3339Nano))
	}
	if choice.Limit > 0 {
		query.Set("limit", strconv.Itoa(choice.Limit))
	}
	if choice.After != "" {
		query.Set("continue", choice.After)
	}
	raw, header, err := c.send(ctx, http.MethodGet, query, nil, maxResponse, "events")
	if err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(raw, &events); err != nil {
		return nil, "", fmt.Errorf("the hub's answer to GET events: %w", err)
	}
	return events, nextPage(header), nil
}

// nextPage is the word with which a list goes on, or empty.
func nextPage(header http.Header) string {
	target, rest, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	next, err := url.Parse(target)
	if err != nil || !strings.Contains(rest, `rel="next"`) {
		return ""
	}
	return next.Query().Get("continue")
}

func askJSON[T any](ctx context.Context, c *Client, request any, path ...string) (T, error) {
	body, err := json.Marshal(request)
	if err != nil {
		var none T
		return none, fmt.Errorf("request: encode: %w", err)
	}
	return ask[T](ctx, c, http.MethodPost, nil, body, path...)
}

func ask[T any](ctx context.Context, c *Client, method string, query url.Values, body []byte, path ...string) (T, error) {
	var answer T
	raw, err := c.do(ctx, method, query, body, maxResponse, path...)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return answer, fmt.Errorf("the hub's answer to %s %s: %w", method, strings.Join(path, "/"), err)
	}
	return answer, nil
}

func (c *Client) do(ctx context.Context, method string, query url.Values, body []byte, limit int64, path ...string) ([]byte, error) {
	raw, _, err := c.send(ctx, method, query, body, limit, path...)
	return raw, err
}

func (c *Client) send(ctx context.Context, method string, query url.Values, body []byte, limit int64, path ...string) ([]byte, http.Header, error) {
	for i, element := range path {
		if element == "" || element == "." || element == ".." {
			return nil, nil, fmt.Errorf("request: part %d of its path is %q", i+1, element)
		}
		path[i] = url.PathEscape(element)
	}
	target := c.base.JoinPath(append([]string{"v1"}, path...)...)
	target.RawQuery = query.Encode()
	key := ""
	if method != http.MethodGet {
		key = rand.Text() // so that the hub carries it out once, however often it arrives
	}
	for tries := 1; ; tries++ {
		request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
		if err != nil {
			return nil, nil, fmt.Errorf("request: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+c.token)
		if key != "" {
			request.Header.Set("Idempotency-Key", key)
		}
		if len(body) > 0 {
			request.Header.Set("Content-Type", "application/json")
		}
		raw, header, again, err := c.once(request, limit)
		if again == 0 || tries == maxTries {
			return raw, header, err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return raw, header, err
		}
	}
}

// A request that is beyond a limit of the hub is sent again when the hub says that it may.
const (
	maxTries = 5
	maxWait  = 30 * time.Second // a hub that wants more is answered with its refusal
)

// once sends a request once. again is not 0 where the hub wants it later.
func (c *Client) once(request *http.Request, limit int64) (raw []byte, header http.Header, again time.Duration, err error) {
	response, err := c.http.Do(request)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, withoutURL(err))
	}
	defer response.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%s: %w: %w", c.base.Host, ErrUnreachable, err)
	}
	if int64(len(raw)) > limit {
		return nil, nil, 0, fmt.Errorf("%s: the answer has more than %d bytes", c.base.Host, limit)
	}
	if response.StatusCode/100 != 2 {
		if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && response.StatusCode == http.StatusTooManyRequests && seconds > 0 && seconds <= int(maxWait/time.Second) {
			again = time.Duration(seconds) * time.Second
		}
		return nil, nil, again, refusal(response, raw)
	}
	return raw, response.Header, 0, nil
}

// withoutURL takes away the method and address that net/http puts before every cause.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// refusal reads a problem document, or makes one of an answer that is none (a proxy's, for example).
func refusal(response *http.Response, raw []byte) error {
	problem := Problem{}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != ProblemType || json.Unmarshal(raw, &problem) != nil || problem.Title == "" {
		problem = Problem{Title: "the hub's answer is " + response.Status}
	}
	problem.Status = response.StatusCode
	return &Error{problem}
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"
