package apply

import (
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
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

func passive(id bundle.ObjectID) bool {
	return passiveKinds[bundle.ObjectID{Group: id.Group, Kind: id.Kind}]
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
