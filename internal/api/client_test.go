package api

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// hubFor starts a TLS server and gives a client that believes its certificate.
func hubFor(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	client, err := NewClient(ContextFile{URL: server.URL, CA: string(ca), Token: "secret-token"})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestClientAsksWhatTheContractSays(t *testing.T) {
	var method, path, body, authorization string
	client := hubFor(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		method, path, body, authorization = r.Method, r.URL.RequestURI(), string(raw), r.Header.Get("Authorization")
		if strings.HasSuffix(path, "s") || strings.Contains(path, "?") || path == "/v1/drift" {
			io.WriteString(w, "[]")
			return
		}
		io.WriteString(w, "{}")
	})
	ctx, ref := context.Background(), bundle.Ref{Name: "shop", Version: "1.2.3-rc.1+b5"}
	for want, call := range map[string]func() error{
		"GET /v1/version":                                      func() error { _, err := client.Version(ctx); return err },
		"GET /v1/bundles?limit=500":                            func() error { _, err := client.Bundles(ctx); return err },
		"GET /v1/bundles/shop/1.2.3-rc.1+b5":                   func() error { _, err := client.Bundle(ctx, ref); return err },
		"GET /v1/bundles/shop/1.2.3-rc.1+b5/file":              func() error { _, err := client.BundleFile(ctx, ref); return err },
		"GET /v1/sites?labels=region+in+%28a%2Cb%29&limit=500": func() error { _, err := client.Sites(ctx, "region in (a,b)"); return err },
		"GET /v1/sites/shop-1":                                 func() error { _, err := client.Site(ctx, "shop-1"); return err },
		"GET /v1/drift?limit=500&site=shop-1":                  func() error { _, err := client.Drift(ctx, "shop-1"); return err },
		"GET /v1/drift?limit=500":                              func() error { _, err := client.Drift(ctx, ""); return err },
		"GET /v1/events?limit=5&since=2026-11-21T12%3A00%3A00Z&site=shop-1": func() error {
			_, err := client.Events(ctx, EventQuery{Site: "shop-1", Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Limit: 5})
			return err
		},
		`POST /v1/assignments {"sites":["shop-1"],"bundle":{"name":"shop","version":"1.2.3-rc.1+b5"},"values":{"n":3}}`: func() error {
			_, err := client.Assign(ctx, AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: ref, Values: map[string]any{"n": int64(3)}})
			return err
		},
		`POST /v1/unassignments {"sites":["shop-1"],"name":"shop"}`: func() error {
			_, err := client.Unassign(ctx, UnassignRequest{Sites: []bundle.SiteID{"shop-1"}, Name: "shop"})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := strings.TrimSpace(method + " " + path + " " + body); got != want {
			t.Errorf("asked %s\nwant  %s", got, want)
		}
		if authorization != "Bearer secret-token" {
			t.Errorf("%s: authorization %q", want, authorization)
		}
	}
}

func TestClientTellsARefusalAndItsHint(t *testing.T) {
	client := hubFor(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ProblemType)
		w.WriteHeader(http.StatusConflict)
		json.NewEncoder(w).Encode(Problem{Title: "site exists", Detail: "shop-1 was added before", Hint: "choose another name", Reason: "SiteExists"})
	})
	_, err := client.AddSite(context.Background(), SiteRequest{ID: "shop-1"})
	var refusal *Error
	if !errors.As(err, &refusal) {
		t.Fatalf("error %T %v, want *Error", err, err)
	}
	if refusal.Error() != "site exists: shop-1 was added before" || refusal.Hint() != "choose another name" || refusal.Status != 409 || refusal.Reason != "SiteExists" {
		t.Errorf("refusal %+v", refusal)
	}
}

func TestP07_ClientSurvivesAnyAnswer(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"not a problem": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"empty problem": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ProblemType)
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{}`)
		},
		"not JSON": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"version":`) },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for chunk := make([]byte, 1<<20); r.Context().Err() == nil; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("followed a redirect with the token")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		},
	} {
		if _, err := hubFor(t, handler).Version(context.Background()); err == nil {
			t.Errorf("%s: no error", name)
		} else if errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClientBelievesOnlyItsCA(t *testing.T) {
	asked := false
	good := hubFor(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{}") })
	bad := hubFor(t, func(w http.ResponseWriter, r *http.Request) { asked = true; io.WriteString(w, "{}") })
	if _, err := good.Version(context.Background()); err != nil {
		t.Fatal(err)
	}
	other, err := NewClient(ContextFile{URL: bad.base.String(), CA: string(selfSigned(t)), Token: "secret-token"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Version(context.Background()); !errors.Is(err, ErrUnreachable) || asked {
		t.Errorf("asked %v, error %v; want a handshake that fails", asked, err)
	}
}

func TestClientRefusesHostilePathsAndContexts(t *testing.T) {
	client := hubFor(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.URL) })
	for _, site := range []bundle.SiteID{"", ".", ".."} {
		if _, err := client.Site(context.Background(), site); err == nil {
			t.Errorf("site %q: no error", site)
		}
	}
	for _, target := range []ContextFile{{}, {URL: "http://hub:1"}, {URL: "https://"}, {URL: "https://hub:1", CA: "no"}, {URL: "://"}} {
		if _, err := NewClient(target); err == nil {
			t.Errorf("context %+v: no error", target)
		}
	}
}

func TestClientSaysWhenNobodyAnswers(t *testing.T) {
	client := hubFor(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := client.Version(ctx); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want unreachable because cancelled", err)
	}
}
