// Package kube keeps the ports of internal/apply over a Kubernetes API server, with client-go and fluxcd/pkg/ssa.
//
// What is done in bulk (dry runs, applies, looks, deletions) is one plain HTTP request each: the bytes that were verified are the body of
// the patch, and only metadata comes back (the server renders PartialObjectMetadata on request), so that neither side of a definition of
// half a megabyte is parsed here. What is rare and intricate – how a live object differs from the desired one – is fluxcd/pkg/ssa's.
//
//	K1  Every refusal is an *apply.ServerError with a class, the server's own words and, of a conflict, the other managers.
//	K2  Nothing is retried here, and no request is made that the caller did not ask for but discovery of unknown kinds.
//	K3  Watches carry metadata only and are reduced page by page; no object is cached.
//	K4  Every request of a Conn that As lent – reads, dry runs, writes and watches – says that it is made as that account; only discovery, which
//	    tells nothing of objects, is the agent's own. Such a Conn has no other way to the server, so nothing can forget to say so.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Conn is a connection to one API server, as the agent itself or as an account. It may be used concurrently and needs no closing.
type Conn struct {
	*server
	http     *http.Client // speaks as who the Conn is for
	objects  func() (client.Client, error)
	metadata func() (metadata.Interface, error)
}

// server is what the agent and the accounts share: connections, what is known of kinds, counts.
type server struct {
	config *rest.Config
	base   *url.URL
	own    *http.Client                                                         // speaks as the agent
	dial   func(ctx context.Context, network, address string) (net.Conn, error) // to pods
	mapper meta.RESTMapper
	counts *counter

	mu       sync.Mutex
	mappings map[apply.Kind]mapping
	lent     map[bundle.Account]*Conn
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
	s := &server{counts: &counter{verbs: map[string]*atomic.Int64{}}, mappings: map[apply.Kind]mapping{}, lent: map[bundle.Account]*Conn{}, dial: new(net.Dialer).DialContext}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = -1, 0
	config.UserAgent = "holdfast-edge"
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &counting{s.counts, next} })
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: address: %w", err)
	}
	s.config, s.base = config, base
	if s.own, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("cluster: credentials: %w", err)
	}
	if s.mapper, err = apiutil.NewDynamicRESTMapper(config, s.own); err != nil {
		return nil, fmt.Errorf("cluster: discovery: %w", err)
	}
	c := s.conn(s.own)
	if _, err := c.objects(); err != nil {
		return nil, fmt.Errorf("cluster: client: %w", err)
	}
	if _, err := c.metadata(); err != nil {
		return nil, fmt.Errorf("cluster: metadata client: %w", err)
	}
	return c, nil
}

// conn is a Conn over a client. What both libraries need is made when it is first needed.
func (s *server) conn(through *http.Client) *Conn {
	return &Conn{
		server: s, http: through,
		objects: sync.OnceValues(func() (client.Client, error) {
			return client.New(s.config, client.Options{HTTPClient: through, Mapper: s.mapper})
		}),
		metadata: sync.OnceValues(func() (metadata.Interface, error) {
			return metadata.NewForConfigAndClient(metadata.ConfigFor(s.config), through)
		}),
	}
}

// As implements apply.Cluster. The connections are shared, so that an account costs a header in each request. That the account is a service
// account, and so no group can be named with it, is the API server's to add: it gives such a user the groups of service accounts.
func (c *Conn) As(account bundle.Account) apply.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	lent := c.lent[account]
	if lent == nil {
		through := *c.own
		through.Transport = transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig{UserName: account.User()}, c.own.Transport)
		lent = c.conn(&through)
		c.lent[account] = lent
	}
	return lent
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
