package apply_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// unreliable answers some requests itself.
type unreliable struct {
	next  http.RoundTripper
	judge func(*http.Request) *http.Response
}

func (u *unreliable) RoundTrip(r *http.Request) (*http.Response, error) {
	if resp := u.judge(r); resp != nil {
		resp.Request = r
		return resp, nil
	}
	return u.next.RoundTrip(r)
}

func answer(code int, body string, headers ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1}
}

func throughFaults(t *testing.T, config *rest.Config, judge func(*http.Request) *http.Response) *kube.Conn {
	t.Helper()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &unreliable{next, judge} })
	conn, err := kube.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestRealF21_OverloadIsRetriedAndWebhookDenialIsNot(t *testing.T) {
	var patches atomic.Int64
	conn := throughFaults(t, cluster.Shared(t).Config(), func(r *http.Request) *http.Response {
		if r.Method != http.MethodPatch {
			return nil
		}
		switch n := patches.Add(1); {
		case n == 1:
			return answer(429, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too many requests","reason":"TooManyRequests","code":429}`, "Retry-After", "1")
		case n == 2:
			return answer(500, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"etcdserver: request timed out","code":500}`)
		case strings.HasSuffix(r.URL.Path, "/denied"):
			return answer(403, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"admission webhook \"guard.example.com\" denied the request: no","reason":"Forbidden","code":403}`)
		}
		return nil
	})
	executor := apply.NewExecutor(conn, apply.Options{})
	result, err := executor.Apply(t.Context(), apply.Request{Desired: desire(t, "retry", []bundle.Object{configMap("default", "retried", "1")})})
	if err != nil || patches.Load() != 4 {
		t.Fatalf("%d patches, %v", patches.Load(), err)
	}
	patches.Store(10)
	_, err = executor.Apply(t.Context(), apply.Request{Desired: desire(t, "denied", []bundle.Object{configMap("default", "denied", "1")})})
	f := failure(t, err, apply.AtPreflight)
	if patches.Load() != 11 || !f.Permanent() || !strings.Contains(err.Error(), `admission webhook "guard.example.com" denied the request: no`) {
		t.Errorf("%d patches, %v", patches.Load()-10, err)
	}
	if _, err := executor.Remove(t.Context(), result.Inventory, apply.Anything(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestRealF21_APIServerGoesAwayAndComesBack(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{})
	conn := connect(t, c)
	executor := apply.NewExecutor(conn, apply.Options{})
	d := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	result, err := executor.Apply(t.Context(), apply.Request{Desired: d})
	if err != nil {
		t.Fatal(err)
	}
	l := watch(t, executor, true, func(w *apply.Watcher) { w.Track(d, result.Inventory) })
	l.synced(t, 1)
	l.cluster(t, "reachable")
	if err := c.Kill("kube-apiserver"); err != nil {
		t.Skip(err)
	}
	l.cluster(t, "cluster unreachable: ")
	before := total(conn)
	if err := c.StartProgram(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	l.cluster(t, "reachable")
	if n := total(conn) - before; n > 60 {
		t.Errorf("%d requests while the server started", n)
	}
	if err := kubernetes.NewForConfigOrDie(c.Config()).CoreV1().ConfigMaps("default").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.said); n == 0 || !strings.HasPrefix(l.said[n-1], "corrected ConfigMap/default/a <nil>") {
			return fmt.Errorf("heard %q", l.said)
		}
		return nil
	})
}

// cluster waits for a word about the cluster that begins so.
func (l *lookout) cluster(t *testing.T, prefix string) {
	t.Helper()
	clustertest.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !strings.HasPrefix(l.reach, prefix) {
			return fmt.Errorf("cluster is %q, want %q", l.reach, prefix)
		}
		return nil
	})
}
