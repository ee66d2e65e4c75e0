package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// passive kinds are healthy by being there; they are never fetched for their status.
var passiveKinds = func() map[bundle.ObjectID]bool {
	out := map[bundle.ObjectID]bool{}
	for group, kinds := range map[string][]string{
		"":                             {"ConfigMap", "Secret", "ServiceAccount", "Namespace", "LimitRange", "ResourceQuota", "Endpoints", "PodTemplate", "Event"},
		"rbac.authorization.k8s.io":    {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},
		"networking.k8s.io":            {"NetworkPolicy", "Ingress", "IngressClass"},
		"discovery.k8s.io":             {"EndpointSlice"},
		"scheduling.k8s.io":            {"PriorityClass"},
		"storage.k8s.io":               {"StorageClass", "CSIDriver", "VolumeAttributesClass"},
		"node.k8s.io":                  {"RuntimeClass"},
		"coordination.k8s.io":          {"Lease"},
		"batch":                        {"CronJob"},
		"autoscaling":                  {"HorizontalPodAutoscaler"},
		"flowcontrol.apiserver.k8s.io": {"FlowSchema", "PriorityLevelConfiguration"},
		"admissionregistration.k8s.io": {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"},
	} {
		for _, k := range kinds {
			out[bundle.ObjectID{Group: group, Kind: k}] = true
		}
	}
	return out
}()

// passive says that the object is healthy by being there.
func (o *Object) passive() bool {
	return o.Gate == nil && passiveKinds[bundle.ObjectID{Group: o.Group, Kind: o.ObjectID.Kind}]
}

// verdictOf is what a gate's answer comes to.
func verdictOf(answer gate.Answer, why string) Verdict {
	switch answer {
	case gate.Ready:
		return Verdict{StatusCurrent, why}
	case gate.Failed:
		return Verdict{StatusFailed, why}
	}
	return Verdict{StatusInProgress, why}
}

// JudgedBy is a gate's verdict about an object.
func JudgedBy(by *gate.Gate, object map[string]any) Verdict { return verdictOf(by.Judge(object)) }

// probeEvery is the pause between the probes of a Service that answers.
const probeEvery = 30 * time.Second

// look asks for an object's health: by its gate or by Kubernetes' conventions, then by its probes.
func (o *Object) look(ctx context.Context, cluster Cluster) (Seen, error) {
	var seen Seen
	var err error
	if o.Gate != nil {
		seen, err = cluster.Judge(ctx, o.Ref, o.Gate)
	} else {
		seen, err = cluster.Look(ctx, o.Ref, ViewStatus)
	}
	if err != nil || seen.Status != StatusCurrent {
		return seen, err
	}
	for _, p := range o.Probes {
		status, err := cluster.Probe(ctx, p)
		switch {
		case err != nil:
			seen.Verdict = Verdict{StatusInProgress, fmt.Sprintf("probe of %s: %s", p.Target(), err)}
			return seen, nil
		case status < 200 || status > 399:
			seen.Verdict = Verdict{StatusInProgress, fmt.Sprintf("probe of %s: status %d", p.Target(), status)}
			return seen, nil
		}
	}
	return seen, nil
}

// The pauses between two looks at one object's status.
const (
	lookFirst      = 50 * time.Millisecond
	lookUnsettled  = 500 * time.Millisecond // the longest while it is not healthy
	lookSettled    = 10 * time.Second       // the longest while it is
	lookAgainAfter = 10 * time.Second       // statuses that change by time alone
)

// pacing spreads the looks at an object whose status never rests.
type pacing struct {
	last     time.Time
	interval time.Duration
}

// due is how long to wait before the next look.
func (p *pacing) due(now time.Time) time.Duration {
	return max(0, p.last.Add(p.interval).Sub(now))
}

// looked notes a look.
func (p *pacing) looked(now time.Time, settled bool) {
	longest := lookUnsettled
	if settled {
		longest = lookSettled
	}
	if p.interval == 0 || now.Sub(p.last) > 2*p.interval {
		p.interval = lookFirst
	} else {
		p.interval = min(p.interval*2, longest)
	}
	p.last = now
}
