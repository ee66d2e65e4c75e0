package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// refused is a hub's refusal. It is not signed, so it changes nothing at the device but what it says in its log and how long it waits.
type refused struct {
	status int
	text   string
	hint   string
	reason enrol.Reason
}

func (r *refused) Error() string { return "the hub refuses: " + r.text }

// maxAnswer is the most bytes of an answer: a trust document is the longest.
const maxAnswer = max(enrol.MaxReply, tuf.MaxFleet)

// caller speaks to the hub's open doors. It believes only certificates by the pinned CA.
type caller struct {
	hubs []string
	http *http.Client
}

func newCaller(hubs []string, ca string, through *proxy.Proxy) (*caller, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("the hub's CA is no certificate in PEM")
	}
	return &caller{hubs, &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			Proxy:           through.For,
			DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, TLSHandshakeTimeout: 10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call asks the hubs in order until one answers; a refusal is an answer.
func (c *caller) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	var all []error
	for _, hub := range c.hubs {
		answer, err := c.callOne(ctx, method, strings.TrimSuffix(hub, "/")+path, body)
		var no *refused
		if err == nil || errors.As(err, &no) {
			return answer, err
		}
		all = append(all, fmt.Errorf("hub %s: %w", hub, err))
	}
	return nil, errors.Join(all...)
}

func (c *caller) callOne(ctx context.Context, method, target string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			return nil, wrapped.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusalOf(response, raw)
	}
	return raw, nil
}

func refusalOf(response *http.Response, raw []byte) error {
	var problem struct {
		Title  string       `json:"title"`
		Detail string       `json:"detail"`
		Hint   string       `json:"hint"`
		Reason enrol.Reason `json:"reason"`
	}
	if json.Unmarshal(raw, &problem) != nil || problem.Title == "" || response.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("the answer is %s: %.200s", response.Status, strings.TrimSpace(problem.Title+" "+problem.Detail))
	}
	return &refused{response.StatusCode, strings.TrimSpace(problem.Title + " " + problem.Detail), problem.Hint, problem.Reason}
}
