// Package kube keeps the ports of internal/apply over a Kubernetes API server, with client-go and fluxcd/pkg/ssa.
//
// What is done in bulk (dry runs, applies, looks, deletions) is one plain HTTP request each: the bytes that were verified are the body of
// the patch, and only metadata comes back (the server renders PartialObjectMetadata on request), so that neither side of a definition of
// half a megabyte is parsed here. What is rare and intricate – how a live object differs from the desired one – is fluxcd/pkg/ssa's.
//
//	K1  Every refusal is an *apply.ServerError with a class, the server's own words and, of a conflict, the other managers.
//	K2  Nothing is retried here, and no request is made that the caller did not ask for but discovery of unknown kinds.
//	K3  Watches carry metadata only and are reduced page by page; no object is cached.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// Conn is a connection to one API server. It may be used concurrently and needs no closing.
type Conn struct {
	base     *url.URL
	http     *http.Client
	mapper   meta.RESTMapper
	objects  client.Client
	metadata metadata.Interface
	counts   *counter

	mu       sync.Mutex
	mappings map[apply.Kind]mapping
}

var (
	_ apply.Cluster = (*Conn)(nil)
	_ apply.Prober  = (*Conn)(nil)
)

// requestTimeout bounds one request, watches excepted.
const requestTimeout = 30 * time.Second

// Connect prepares a connection. It asks the server nothing, so it succeeds while the cluster is away. Requests are not throttled here: the
// server's priority and fairness does that.
func Connect(config *rest.Config) (*Conn, error) {
	c := &Conn{counts: &counter{verbs: map[string]*atomic.Int64{}}, mappings: map[apply.Kind]mapping{}}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = -1, 0
	config.UserAgent = "holdfast-edge"
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &counting{c.counts, next} })
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: address: %w", err)
	}
	c.base = base
	if c.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("cluster: credentials: %w", err)
	}
	if c.mapper, err = apiutil.NewDynamicRESTMapper(config, c.http); err != nil {
		return nil, fmt.Errorf("cluster: discovery: %w", err)
	}
	if c.objects, err = client.New(config, client.Options{HTTPClient: c.http, Mapper: c.mapper}); err != nil {
		return nil, fmt.Errorf("cluster: client: %w", err)
	}
	if c.metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(config), c.http); err != nil {
		return nil, fmt.Errorf("cluster: metadata client: %w", err)
	}
	return c, nil
}

// Version is the API server's version without the leading "v". Its error says in words why the cluster cannot be reached.
func (c *Conn) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := c.do(ctx, request{method: http.MethodGet, path: "/version", accept: "application/json"})
	if err != nil {
		return "", err
	}
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("cluster: version: %w", err)
	}
	return strings.TrimPrefix(v.GitVersion, "v"), nil
}

// Requests is how many requests were made so far by verb: GET, PATCH, DELETE, LIST, WATCH, DISCOVERY.
func (c *Conn) Requests() map[string]int64 { return c.counts.snapshot() }

type request struct {
	method, path string
	query        url.Values
	contentType  string
	accept       string
	body         io.Reader
	size         int64
}

// maxAnswer bounds an answer, in bytes. A list page and the largest object the server stores are far below.
const maxAnswer = 64 << 20

// do sends one request and gives the body of a success.
func (c *Conn) do(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + r.path
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), r.body)
	if err != nil {
		return nil, fmt.Errorf("cluster: request: %w", err)
	}
	if r.size > 0 {
		req.ContentLength = r.size
	}
	req.Header.Set("Accept", r.accept)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, refused(resp, body)
	}
	return body, nil
}
