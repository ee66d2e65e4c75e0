package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// PullSecret implements apply.Cluster.
func (c *Conn) PullSecret(ctx context.Context, secret apply.PullSecret) (found apply.Credentials, err error) {
	path := "/api/v1/namespaces/" + url.PathEscape(secret.Namespace) + "/secrets/" + url.PathEscape(secret.Name)
	answer, err := c.do(ctx, request{method: http.MethodGet, path: path, accept: acceptObject})
	if err != nil {
		return found, err
	}
	if json.Unmarshal(answer, &found) != nil {
		return apply.Credentials{}, errors.New("the server's answer is no Secret") // what it is may be secret
	}
	return found, nil
}

// Pulls says how far the nodes are with a puller's images: two requests.
func (c *Conn) Pulls(ctx context.Context, ref apply.Ref) (apply.Pulls, error) {
	path, err := c.path(ctx, ref)
	if err != nil {
		return apply.Pulls{}, err
	}
	get := func(path string, query url.Values, into any) error {
		answer, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query, accept: acceptObject})
		if err != nil {
			return c.about(ref, err)
		}
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("%s: the server's answer: %w", ref.ObjectID, err)
		}
		return nil
	}
	var set appsv1.DaemonSet
	if err := get(path, nil, &set); err != nil {
		return apply.Pulls{}, err
	}
	var pods corev1.PodList
	selector := metav1.FormatLabelSelector(set.Spec.Selector)
	if err := get("/api/v1/namespaces/"+url.PathEscape(ref.Namespace)+"/pods", url.Values{"labelSelector": {selector}}, &pods); err != nil {
		return apply.Pulls{}, err
	}
	status := set.Status
	out := apply.Pulls{Current: status.ObservedGeneration >= set.Generation && status.UpdatedNumberScheduled == status.DesiredNumberScheduled, Nodes: int(status.DesiredNumberScheduled)}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
			continue
		}
		on := apply.PullPod{Node: pod.Spec.NodeName}
		for _, s := range pod.Status.ContainerStatuses {
			one := apply.PullContainer{Image: s.Image, Started: s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil}
			if w := s.State.Waiting; w != nil {
				one.Reason, one.Message = w.Reason, w.Message
			}
			on.Containers = append(on.Containers, one)
		}
		out.Pods = append(out.Pods, on)
	}
	return out, nil
}
