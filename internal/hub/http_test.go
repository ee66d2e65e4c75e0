package hub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// rawClient speaks HTTP to the hub without the API's client.
func rawClient(t *testing.T, target api.ContextFile) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(target.CA)) {
		t.Fatal("no CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestT27_OnlyTheTokenOpensTheAPI(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	cfg := configOf(t, t.TempDir())
	cfg.Log = zap.New(core)
	h := startHub(t, cfg)
	target := contextOf(t, h)
	client := rawClient(t, target)
	for name, c := range map[string]struct {
		header string
		status int
	}{
		"none": {"", 401}, "empty": {"Bearer ", 401}, "wrong": {"Bearer hfa_wrong", 401}, "cut": {"Bearer " + target.Token[:len(target.Token)-1], 401},
		"longer": {"Bearer " + target.Token + "x", 401}, "basic": {"Basic " + target.Token, 401}, "bare": {target.Token, 401}, "right": {"Bearer " + target.Token, 200},
	} {
		for _, path := range []string{"/v1/version", "/v1/sites"} {
			request, err := http.NewRequest(http.MethodGet, target.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.header != "" {
				request.Header.Set("Authorization", c.header)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != c.status {
				t.Errorf("%s %s: status %d, want %d", name, path, response.StatusCode, c.status)
			}
			var problem api.Problem
			if c.status == 401 && (response.Header.Get("Content-Type") != api.ProblemType || json.Unmarshal(body, &problem) != nil || problem.Hint == "") {
				t.Errorf("%s %s: %s %s", name, path, response.Header.Get("Content-Type"), body)
			}
		}
	}
	// T16: the token is in the context file, readable by its owner alone, and nowhere else.
	if info, err := os.Stat(h.ContextFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("context file: %v %v", info.Mode(), err)
	}
	for _, entry := range logs.All() {
		if raw, _ := json.Marshal(entry.ContextMap()); strings.Contains(string(raw)+entry.Message, target.Token) {
			t.Errorf("the log has the token: %s %s", entry.Message, raw)
		}
	}
	if logs.FilterMessage("request").Len() == 0 {
		t.Error("requests are not logged at debug")
	}
	err := filepath.WalkDir(h.cfg.DataDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == h.ContextFile() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(target.Token)) {
			t.Errorf("%s has the token", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestP07_RequestsThatAreTooMuchOrNonsense(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	target := contextOf(t, h)
	client := rawClient(t, target)
	endless := func(n int64) io.Reader { return io.LimitReader(zeros{}, n) }
	for name, c := range map[string]struct {
		method, path string
		body         io.Reader
		status       int
	}{
		"huge bundle":       {"POST", "/v1/bundles", endless(api.MaxFile + 1), 413},
		"huge request":      {"POST", "/v1/sites", endless(api.MaxRequest + 1), 413},
		"huge assignment":   {"POST", "/v1/assignments", endless(api.MaxRequest + 1), 413},
		"not JSON":          {"POST", "/v1/sites", strings.NewReader("{"), 400},
		"unknown field":     {"POST", "/v1/sites", strings.NewReader(`{"id":"shop-1","evil":1}`), 400},
		"two values":        {"POST", "/v1/sites", strings.NewReader(`{} {}`), 400},
		"deep":              {"POST", "/v1/assignments", strings.NewReader(strings.Repeat("[", 100000)), 400},
		"no sites":          {"POST", "/v1/assignments", strings.NewReader(`{"sites":[],"bundle":{"name":"a","version":"1.0.0"}}`), 400},
		"a site twice":      {"POST", "/v1/assignments", strings.NewReader(`{"sites":["ab","ab"],"bundle":{"name":"a","version":"1.0.0"}}`), 400},
		"no bundle":         {"POST", "/v1/assignments", strings.NewReader(`{"sites":["ab"]}`), 400},
		"float value":       {"POST", "/v1/assignments", strings.NewReader(`{"sites":["ab"],"bundle":{"name":"a","version":"1.0.0"},"values":{"a":1.5}}`), 400},
		"unknown site":      {"GET", "/v1/sites/nobody", nil, 404},
		"unknown bundle":    {"GET", "/v1/bundles/shop/1.0.0", nil, 404},
		"unknown file":      {"GET", "/v1/bundles/shop/1.0.0/file", nil, 404},
		"bad version":       {"GET", "/v1/bundles/shop/latest", nil, 400},
		"bad selector":      {"GET", "/v1/sites?labels=a+b", nil, 400},
		"bad limit":         {"GET", "/v1/events?limit=5001", nil, 400},
		"bad since":         {"GET", "/v1/events?since=yesterday", nil, 400},
		"wildcard site":     {"GET", "/v1/events?site=%3E", nil, 400},
		"no such path":      {"GET", "/v1/nothing", nil, 404},
		"no such method":    {"DELETE", "/v1/sites", nil, 405},
		"parent directory":  {"GET", "/v1/sites/..%2f..%2fetc", nil, 400},
		"outside the API":   {"GET", "/", nil, 404},
		"drift of nobody":   {"GET", "/v1/drift?site=nobody", nil, 404},
		"unassign nonsense": {"POST", "/v1/unassignments", strings.NewReader(`{"sites":["ab"],"name":"A"}`), 400},
	} {
		request, err := http.NewRequest(c.method, target.URL+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+target.Token)
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		response.Body.Close()
		var problem api.Problem
		if response.StatusCode != c.status || json.Unmarshal(body, &problem) != nil || problem.Title == "" || problem.Status != c.status {
			t.Errorf("%s: %d %s, want a problem with status %d", name, response.StatusCode, body, c.status)
		}
	}
	if _, err := clientOf(t, h).Version(context.Background()); err != nil {
		t.Errorf("the hub does not answer any more: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestT24_TheAPISpeaksTLS13Alone(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	address := strings.TrimPrefix(h.URL(), "https://")
	if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/version HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); bytes.Contains(answer, []byte(" 200 ")) {
		t.Errorf("plain HTTP was answered: %s", answer)
	}
}

// TestT12_ARequestThatDripsIsCutOff sends a request's head a byte at a time, which would otherwise hold a connection for as long as it likes.
func TestT12_ARequestThatDripsIsCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the hub's patience is over")
	}
	h := startHub(t, configOf(t, t.TempDir()))
	target := contextOf(t, h)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(target.CA))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(target.URL, "https://"), &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	closed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		closed <- err
	}()
	drip := time.NewTicker(100 * time.Millisecond)
	defer drip.Stop()
	for end := time.After(3 * readHeaderTime); ; {
		select {
		case <-closed:
			return
		case <-end:
			t.Fatalf("after %s the connection is still open", 3*readHeaderTime)
		case <-drip.C:
			_, _ = conn.Write([]byte("G"))
		}
	}
}
