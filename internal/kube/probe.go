package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// maxProbed bounds the pods that one probe asks.
const maxProbed = 32

// Probe implements apply.Cluster, as whoever the Conn is for. A Service needs get on services/proxy there, a GET to pods list on pods and get on pods/proxy, a connection to
// pods list on pods.
func (c *Conn) Probe(ctx context.Context, probe bundle.Probe) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	port := ":" + strconv.Itoa(probe.Port)
	if probe.Service != "" {
		return c.probeProxy(ctx, probe, "services/"+url.PathEscape(probe.Service)+port)
	}
	pods, err := c.probed(ctx, probe)
	if err != nil {
		return 0, err
	}
	for _, pod := range pods {
		if probe.Path != "" {
			status, err := c.probeProxy(ctx, probe, "pods/"+url.PathEscape(pod.name)+port)
			if err != nil || status < 200 || status > 399 {
				return status, err
			}
			continue
		}
		conn, err := c.dial(ctx, "tcp", netip.AddrPortFrom(pod.address, uint16(probe.Port)).String())
		if err != nil {
			return 0, fmt.Errorf("pod %s: %w", pod.name, err)
		}
		_ = conn.Close()
	}
	return http.StatusOK, nil
}

type probedPod struct {
	name    string
	address netip.Addr
}

// probed are the pods that a probe is about: all that run and are not about to end.
func (c *Conn) probed(ctx context.Context, probe bundle.Probe) ([]probedPod, error) {
	query := url.Values{"labelSelector": {metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: probe.Pods})}}
	answer, err := c.do(ctx, request{method: http.MethodGet, path: "/api/v1/namespaces/" + url.PathEscape(probe.Namespace) + "/pods", query: query, accept: acceptObject})
	if err != nil {
		return nil, err
	}
	var list corev1.PodList
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("probe: the server's answer: %w", err)
	}
	var pods []probedPod
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		one := probedPod{name: pod.Name}
		if one.address, err = reachable(pod); err != nil {
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		if pods = append(pods, one); len(pods) == maxProbed {
			break
		}
	}
	if len(pods) == 0 {
		return nil, errors.New("no pod runs")
	}
	return pods, nil
}

// metadataServices are addresses at which clouds tell machines their secrets, beside those that are link-local.
var metadataServices = []netip.Addr{netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("fd00:ec2::254")}

// reachable is the address of a pod, if the agent may connect to it: whoever may write a pod's status, or run a pod on its node's network, must not lead the agent
// to what only the agent or its node reaches.
func reachable(pod *corev1.Pod) (netip.Addr, error) {
	if pod.Spec.HostNetwork || pod.Status.PodIP == pod.Status.HostIP && pod.Status.PodIP != "" {
		return netip.Addr{}, errors.New("it is on its node's network, which is not connected to")
	}
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || address.Zone() != "" {
		return netip.Addr{}, errors.New("it has no address yet")
	}
	address = address.Unmap()
	if address.IsUnspecified() || address.IsLoopback() || address.IsMulticast() || address.IsLinkLocalUnicast() || slices.Contains(metadataServices, address) || address == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("its address %s is none that pods have, and is not connected to", address)
	}
	return address, nil
}

// probeProxy sends a GET through the API server's proxy of a Service or a pod. Of a Service the API server chooses the pod; it connects to no loopback or link-local address. Redirects
// are not followed, and the body is not read.
func (c *Conn) probeProxy(ctx context.Context, probe bundle.Probe, target string) (int, error) {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/api/v1/namespaces/" + url.PathEscape(probe.Namespace) + "/" + target + "/proxy" + probe.Path
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
