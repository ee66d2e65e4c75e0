package kube_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// T29: a probe is one request to the API server's proxy of a Service, as the bundle's account; what is answered leads nowhere.
func TestT29_ProbeGoesThroughTheProxyOnly(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" as "+r.Header.Get("Impersonate-User"))
		if r.URL.Path == "/base/api/v1/namespaces/shop/services/web:8080/proxy/moved" {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}
	}))
	defer server.Close()
	conn, err := kube.Connect(&rest.Config{Host: server.URL + "/base"})
	if err != nil {
		t.Fatal(err)
	}
	as := conn.As("shop/deployer")
	for path, want := range map[string]int{"/healthz": 200, "/moved": 302} {
		asked = nil
		status, err := as.Probe(t.Context(), bundle.Probe{Namespace: "shop", Service: "web", Port: 8080, Path: path})
		if err != nil || status != want {
			t.Errorf("%s: %d, %v", path, status, err)
		}
		if len(asked) != 1 || asked[0] != "GET /base/api/v1/namespaces/shop/services/web:8080/proxy"+path+" as system:serviceaccount:shop:deployer" {
			t.Errorf("asked %q", asked)
		}
	}
	server.Close()
	if _, err := as.Probe(t.Context(), bundle.Probe{Namespace: "shop", Service: "web", Port: 8080, Path: "/"}); apply.ClassOf(err) != apply.Passing {
		t.Errorf("no server: %v", err)
	}
}
