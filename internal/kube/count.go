package kube

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// counter counts requests by verb.
type counter struct {
	mu    sync.RWMutex
	verbs map[string]*atomic.Int64
}

func (c *counter) add(verb string) {
	c.mu.RLock()
	n := c.verbs[verb]
	c.mu.RUnlock()
	if n == nil {
		c.mu.Lock()
		if n = c.verbs[verb]; n == nil {
			n = new(atomic.Int64)
			c.verbs[verb] = n
		}
		c.mu.Unlock()
	}
	n.Add(1)
}

func (c *counter) snapshot() map[string]int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make(map[string]int64, len(c.verbs))
	for verb, n := range c.verbs {
		out[verb] = n.Load()
	}
	return out
}

// counting is a transport that counts.
type counting struct {
	counter *counter
	next    http.RoundTripper
}

func (t *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	t.counter.add(verbOf(r))
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *counting) WrappedRoundTripper() http.RoundTripper { return t.next }

// verbOf tells lists, watches and discovery from other GETs by the address.
func verbOf(r *http.Request) string {
	if r.Method != http.MethodGet {
		return r.Method
	}
	query := r.URL.Query()
	if w := query.Get("watch"); w == "true" || w == "1" {
		return "WATCH"
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 0 && parts[0] == "api" && len(parts) <= 2, len(parts) > 0 && parts[0] == "apis" && len(parts) <= 3, parts[0] == "version":
		return "DISCOVERY"
	case query.Has("limit") || query.Has("labelSelector"):
		return "LIST"
	}
	return http.MethodGet
}
