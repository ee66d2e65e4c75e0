package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// podsAt is an API server that lists pods with these addresses and passes GETs on to nowhere, and a Conn to it whose connections to pods end at the listener.
func podsAt(t *testing.T, listener net.Listener, pods ...corev1.Pod) (*Conn, *[]string) {
	t.Helper()
	asked := &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.RequestURI()+" as "+r.Header.Get("Impersonate-User"))
		if strings.HasSuffix(r.URL.Path, "/proxy/ready") {
			if strings.Contains(r.URL.Path, "/web-2:") {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		_ = json.NewEncoder(w).Encode(corev1.PodList{Items: pods})
	}))
	t.Cleanup(server.Close)
	conn, err := Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	conn.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		*asked = append(*asked, "connect "+address)
		if listener == nil {
			return nil, fmt.Errorf("connect %s: refused", address)
		}
		return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
	}
	return conn.As("shop/deployer").(*Conn), asked
}

func runningPod(name, address string) corev1.Pod {
	pod := corev1.Pod{}
	pod.Name, pod.Status.Phase, pod.Status.PodIP, pod.Status.HostIP = name, corev1.PodRunning, address, "192.0.2.1"
	return pod
}

var tcpProbe = bundle.Probe{Namespace: "shop", Pods: map[string]string{"app": "db"}, Port: 5432}

// A connection is made to every pod that runs; what does not run yet or is about to end is not asked, and where none runs, that is said.
func TestProbeConnectsToEachPod(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	pending := runningPod("db-3", "10.244.0.9")
	pending.Status.Phase = corev1.PodPending
	as, asked := podsAt(t, listener, runningPod("db-1", "10.244.0.7"), runningPod("db-2", "fd00::8"), pending)
	if status, err := as.Probe(t.Context(), tcpProbe); err != nil || status != 200 {
		t.Errorf("%d, %v", status, err)
	}
	want := "GET /api/v1/namespaces/shop/pods?labelSelector=app%3Ddb as system:serviceaccount:shop:deployer, connect 10.244.0.7:5432, connect [fd00::8]:5432"
	if got := strings.Join(*asked, ", "); got != want {
		t.Errorf("asked %s\nwant  %s", got, want)
	}
	as, _ = podsAt(t, nil, runningPod("db-1", "10.244.0.7"))
	if _, err := as.Probe(t.Context(), tcpProbe); err == nil || !strings.Contains(err.Error(), "pod db-1: connect 10.244.0.7:5432: refused") {
		t.Errorf("nobody listens: %v", err)
	}
	as, _ = podsAt(t, listener, pending)
	if _, err := as.Probe(t.Context(), tcpProbe); err == nil || err.Error() != "no pod runs" {
		t.Errorf("none runs: %v", err)
	}
}

// T29: whoever may write a pod's status must not lead the agent anywhere but to pods.
func TestT29_ProbeConnectsToNoAddressThatPodsDoNotHave(t *testing.T) {
	host := runningPod("db-1", "10.0.0.5")
	host.Spec.HostNetwork = true
	node := runningPod("db-1", "192.0.2.1")
	pods := map[string]corev1.Pod{"on its node's network": host, "with its node's address": node}
	for _, address := range []string{
		"", "example.org", "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "255.255.255.255",
		"100.100.100.200", "168.63.129.16", "fd00:ec2::254", "10.0.0.1:80", "10.0.0.1/8", "0x7f000001", "2130706433",
	} {
		pods[fmt.Sprintf("%q", address)] = runningPod("db-1", address)
	}
	for name, pod := range pods {
		as, asked := podsAt(t, nil, pod)
		if _, err := as.Probe(t.Context(), tcpProbe); err == nil || len(*asked) != 1 || !strings.HasPrefix(err.Error(), "pod db-1: it") {
			t.Errorf("%s: %v, asked %q", name, err, *asked)
		}
		byProxy := tcpProbe
		byProxy.Path = "/"
		if _, err := as.Probe(t.Context(), byProxy); err == nil || len(*asked) != 2 {
			t.Errorf("%s, by the proxy: %v, asked %q", name, err, *asked)
		}
	}
}

// T29: a GET to pods goes through the API server's proxy, and the first that does not answer well is the answer.
func TestT29_ProbeOfPodsGoesThroughTheProxy(t *testing.T) {
	probe := bundle.Probe{Namespace: "shop", Pods: map[string]string{"app": "web"}, Port: 8080, Path: "/ready"}
	as, asked := podsAt(t, nil, runningPod("web-1", "10.0.0.1"))
	if status, err := as.Probe(t.Context(), probe); err != nil || status != 200 {
		t.Errorf("%d, %v", status, err)
	}
	if len(*asked) != 2 || (*asked)[1] != "GET /api/v1/namespaces/shop/pods/web-1:8080/proxy/ready as system:serviceaccount:shop:deployer" {
		t.Errorf("asked %q", *asked)
	}
	as, _ = podsAt(t, nil, runningPod("web-1", "10.0.0.1"), runningPod("web-2", "10.0.0.2"))
	if status, err := as.Probe(t.Context(), probe); err != nil || status != 503 {
		t.Errorf("%d, %v", status, err)
	}
}
