package hub

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAStartingHubSaysSo: whoever asks before the store is read learns that the hub lives and is not ready, and nothing of what it holds.
func TestAStartingHubSaysSo(t *testing.T) {
	var f front
	ask := func(path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		f.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer
	}
	for _, c := range []struct {
		stage  int
		path   string
		status int
		says   string
	}{
		{0, "/healthz", http.StatusOK, "ok: starting"},
		{0, "/readyz", http.StatusServiceUnavailable, "still opens its store"},
		{6, "/readyz", http.StatusServiceUnavailable, fmt.Sprintf("stream 6 of %d", len(replayed))},
		{6, "/v1/sites", http.StatusServiceUnavailable, `"reason":"Starting"`},
		{6, "/", http.StatusServiceUnavailable, fmt.Sprintf("stream 6 of %d", len(replayed))},
	} {
		f.reading(c.stage)
		if answer := ask(c.path); answer.Code != c.status || !strings.Contains(answer.Body.String(), c.says) {
			t.Errorf("%s at stage %d: %d %q, want %d and %q", c.path, c.stage, answer.Code, answer.Body, c.status, c.says)
		}
	}
	if ask("/v1/version").Header().Get("Retry-After") == "" {
		t.Error("it does not say when to ask again")
	}
	f.opened(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, path := range []string{"/healthz", "/readyz", "/v1/version"} {
		if answer := ask(path); answer.Code != http.StatusTeapot {
			t.Errorf("%s is not handed on: %d", path, answer.Code)
		}
	}
}
