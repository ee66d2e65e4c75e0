package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	prometheus "github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

// Bounds of outside checks.
const (
	maxCheckBody = 1 << 20 // bytes that are read of an answer
	maxAsking    = 16      // checks at a time
	checkPause   = 2 * time.Second
	checkTry     = 20 * time.Second // one try
)

// verdict is the answer of an outside check.
type verdict struct {
	rollout, wave, check string
	verdict              rollout.Verdict
	detail               string
}

// asker carries out the outside checks of rollouts (R20). Each is tried until it answers or its time is over; what does not answer is inconclusive.
type asker struct {
	http       *http.Client
	prometheus string
	hear       func(verdict)
	room       chan struct{}
	stop       context.CancelFunc
	ctx        context.Context
	running    sync.WaitGroup

	mu     sync.Mutex
	asking map[string]bool
}

func newAsker(prometheus string, hear func(verdict)) *asker {
	ctx, stop := context.WithCancel(context.Background())
	return &asker{
		http: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
			},
			// The operator said whom to ask, not whom that one may send us to.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		prometheus: prometheus, hear: hear, room: make(chan struct{}, maxAsking), ctx: ctx, stop: stop, asking: map[string]bool{},
	}
}

func (a *asker) close() {
	a.stop()
	a.running.Wait()
	a.http.CloseIdleConnections()
}

// put asks, unless that is under way. now is the hub's clock, by which the check's time runs.
func (a *asker) put(id string, asked rollout.Asked, now time.Time) {
	key := id + " " + asked.Wave + " " + asked.Check.Name + " " + asked.Until.String()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking[key] || a.ctx.Err() != nil {
		return
	}
	a.asking[key] = true
	ctx, cancel := context.WithTimeout(a.ctx, asked.Until.Sub(now))
	a.running.Go(func() {
		defer cancel()
		v, detail := a.answer(ctx, asked.Check)
		a.mu.Lock()
		delete(a.asking, key)
		a.mu.Unlock()
		if a.ctx.Err() == nil { // or the next leader asks
			a.hear(verdict{id, asked.Wave, asked.Check.Name, v, detail})
		}
	})
}

func (a *asker) answer(ctx context.Context, check rollout.Check) (rollout.Verdict, string) {
	select {
	case a.room <- struct{}{}:
		defer func() { <-a.room }()
	case <-ctx.Done():
		return rollout.Inconclusive, "no answer in time: too many other checks are under way"
	}
	for {
		v, detail, final := a.try(ctx, check)
		if final {
			return v, detail
		}
		select {
		case <-time.After(checkPause):
		case <-ctx.Done():
			return rollout.Inconclusive, "no answer in time: " + detail
		}
	}
}

// try asks once; final is false where another try may get an answer.
func (a *asker) try(ctx context.Context, check rollout.Check) (v rollout.Verdict, detail string, final bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTry)
	defer cancel()
	if check.Query != "" {
		return a.query(ctx, check.Query)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, check.URL, nil)
	if err != nil {
		return rollout.Inconclusive, "the address cannot be asked", true
	}
	request.Header.Set("User-Agent", "holdfast-hub")
	response, err := a.http.Do(request)
	if err != nil {
		return rollout.Inconclusive, plainly(err), false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxCheckBody))
	switch code := response.StatusCode; {
	case code/100 == 2:
		return rollout.Pass, response.Status, true
	case code/100 == 3:
		return rollout.Inconclusive, response.Status + ": redirects are not followed", true
	case code == http.StatusTooManyRequests || code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return rollout.Inconclusive, response.Status, false
	default:
		return rollout.Fail, response.Status, true
	}
}

// query passes where every sample is neither zero nor NaN, fails where one is, and is inconclusive without samples: a comparison is written with
// bool, or what does not hold looks like nothing to measure.
func (a *asker) query(ctx context.Context, query string) (rollout.Verdict, string, bool) {
	client, err := prometheus.NewClient(prometheus.Config{Address: a.prometheus, Client: a.bounded()})
	if err != nil {
		return rollout.Inconclusive, "the hub's Prometheus cannot be asked", true
	}
	value, _, err := prometheusv1.NewAPI(client).Query(ctx, query, time.Time{})
	var refused *prometheusv1.Error
	if errors.As(err, &refused) && refused.Type == prometheusv1.ErrBadData {
		return rollout.Inconclusive, refused.Msg, true
	}
	if err != nil {
		return rollout.Inconclusive, plainly(err), false
	}
	var samples []model.SampleValue
	switch value := value.(type) {
	case *model.Scalar:
		samples = append(samples, value.Value)
	case model.Vector:
		for _, s := range value {
			samples = append(samples, s.Value)
		}
	default:
		return rollout.Inconclusive, fmt.Sprintf("the query gives a %s: want a vector or a scalar", value.Type()), true
	}
	if len(samples) == 0 {
		return rollout.Inconclusive, "the query gives nothing: write comparisons with bool", true
	}
	for _, s := range samples {
		if s == 0 || math.IsNaN(float64(s)) {
			return rollout.Fail, fmt.Sprintf("%s in one of %d samples", s, len(samples)), true
		}
	}
	return rollout.Pass, fmt.Sprintf("%d samples hold", len(samples)), true
}

// bounded is the client with a bound on what is read of an answer.
func (a *asker) bounded() *http.Client {
	client := *a.http
	client.Transport = limitedTransport{a.http.Transport}
	return &client
}

type limitedTransport struct{ http.RoundTripper }

func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = limitedBody{io.LimitReader(response.Body, maxCheckBody), response.Body}
	}
	return response, err
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// plainly is an error without the address, which may hold a secret.
func plainly(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err.Error()
}

// checkable refuses checks that this hub cannot carry out.
func (h *Hub) checkable(plan rollout.Plan) error {
	for _, w := range plan.Spec.Waves {
		for _, c := range w.Checks {
			if c.Query != "" && h.cfg.Prometheus == "" {
				return refuse(http.StatusUnprocessableEntity, "NoPrometheus", fmt.Sprintf("check %s of wave %s asks Prometheus, and this hub has none", c.Name, w.Name), "",
					"start the hub with --prometheus-url")
			}
			if c.URL == "" {
				continue
			}
			if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
				return refuse(http.StatusUnprocessableEntity, "BadCheck", fmt.Sprintf("check %s of wave %s: its url cannot be asked", c.Name, w.Name), "",
					"want http or https, a host, and no password in it")
			}
		}
	}
	return nil
}
