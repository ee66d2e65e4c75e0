package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// Judge gives an object's metadata and what the gate says of it.
func (c *Conn) Judge(ctx context.Context, ref apply.Ref, by *gate.Gate) (apply.Seen, error) {
	path, err := c.path(ctx, ref)
	if err != nil {
		return apply.Seen{}, err
	}
	answer, err := c.do(ctx, request{method: http.MethodGet, path: path, accept: acceptObject})
	if err != nil {
		return apply.Seen{}, c.about(ref, err)
	}
	seen, err := decodeSeen(ref.ObjectID, answer)
	if err != nil {
		return apply.Seen{}, err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(answer); err != nil {
		return apply.Seen{}, fmt.Errorf("%s: the server's answer: %w", ref.ObjectID, err)
	}
	seen.Verdict = apply.JudgedBy(by, u.Object)
	return seen, nil
}

// probeTimeout bounds one probe.
const probeTimeout = 10 * time.Second

// Probe sends a GET through the API server's proxy of the Service, as whoever the Conn is for: it needs get on services/proxy there. The API server chooses
// the pod and connects to no loopback or link-local address. Redirects are not followed, and the body is not read.
func (c *Conn) Probe(ctx context.Context, probe bundle.Probe) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/api/v1/namespaces/" + url.PathEscape(probe.Namespace) + "/services/" + url.PathEscape(probe.Service) + ":" + strconv.Itoa(probe.Port) + "/proxy" + probe.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	direct := *c.http
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := direct.Do(req)
	if err != nil {
		return 0, unreachable(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
