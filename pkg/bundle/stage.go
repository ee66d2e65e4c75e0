package bundle

import (
	"cmp"
	"strings"
)

// The stages of an apply. The objects of one stage do not need one another and may be applied at the same time; an object may need any object
// of an earlier stage. Stages are part of the schema: content is sorted by them, so another table is another schema.
const (
	// StageDefinitions holds namespaces and custom resource definitions, which everything else may stand on.
	StageDefinitions = iota
	// StageConfiguration holds what only names and describes: service accounts, roles, config maps, classes, quotas, limits, admission policies
	// (which do nothing until they are bound), and every built-in kind that no other stage names.
	StageConfiguration
	// StageConnections holds what joins earlier objects: role bindings (an API server wants to see the role), secrets (a token secret is thrown
	// away while its service account is missing), volume claims, services and what stands around them.
	StageConnections
	// StageWorkloads holds what runs.
	StageWorkloads
	// StageCustom holds every kind that is not built in; a custom resource's operator and its services are on their way by now.
	StageCustom
	// StageGates holds what stands in the way of other requests – webhooks, bindings of admission policies, aggregated APIs – last, so that
	// a bundle's own objects never wait for a gate whose keeper is not there yet.
	StageGates
	// Stages is their number.
	Stages
)

var stages = map[[2]string]int{
	{"", "Namespace"}: StageDefinitions,
	{"apiextensions.k8s.io", "CustomResourceDefinition"}: StageDefinitions,

	{"rbac.authorization.k8s.io", "ClusterRoleBinding"}: StageConnections,
	{"rbac.authorization.k8s.io", "RoleBinding"}:        StageConnections,
	{"", "Secret"}:                        StageConnections,
	{"", "PersistentVolumeClaim"}:         StageConnections,
	{"", "Service"}:                       StageConnections,
	{"", "Endpoints"}:                     StageConnections,
	{"discovery.k8s.io", "EndpointSlice"}: StageConnections,
	{"networking.k8s.io", "Ingress"}:      StageConnections,
	{"policy", "PodDisruptionBudget"}:     StageConnections,

	{"", "Pod"}:                                StageWorkloads,
	{"", "ReplicationController"}:              StageWorkloads,
	{"apps", "DaemonSet"}:                      StageWorkloads,
	{"apps", "Deployment"}:                     StageWorkloads,
	{"apps", "ReplicaSet"}:                     StageWorkloads,
	{"apps", "StatefulSet"}:                    StageWorkloads,
	{"batch", "CronJob"}:                       StageWorkloads,
	{"batch", "Job"}:                           StageWorkloads,
	{"autoscaling", "HorizontalPodAutoscaler"}: StageWorkloads,

	{"admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"}:   StageGates,
	{"admissionregistration.k8s.io", "MutatingWebhookConfiguration"}:     StageGates,
	{"admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"}: StageGates,
	{"admissionregistration.k8s.io", "ValidatingWebhookConfiguration"}:   StageGates,
	{"apiregistration.k8s.io", "APIService"}:                             StageGates,
}

// builtinGroups are the API groups with a dot that belong to Kubernetes itself; other groups under k8s.io are custom resources.
var builtinGroups = map[string]bool{
	"admissionregistration.k8s.io": true, "apiextensions.k8s.io": true, "apiregistration.k8s.io": true, "certificates.k8s.io": true,
	"coordination.k8s.io": true, "discovery.k8s.io": true, "events.k8s.io": true, "flowcontrol.apiserver.k8s.io": true,
	"internal.apiserver.k8s.io": true, "lifecycle.k8s.io": true, "networking.k8s.io": true, "node.k8s.io": true,
	"rbac.authorization.k8s.io": true, "resource.k8s.io": true, "scheduling.k8s.io": true, "storage.k8s.io": true,
	"storagemigration.k8s.io": true,
}

// Stage is the stage in which the object is applied, from 0 to Stages-1.
func Stage(o Object) int { return o.ID.stage() }

func (o ObjectID) stage() int {
	if s, ok := stages[[2]string{o.Group, o.Kind}]; ok {
		return s
	}
	if strings.Contains(o.Group, ".") && !builtinGroups[o.Group] {
		return StageCustom
	}
	return StageConfiguration
}

// CompareIDs orders identities as content is sorted: by stage, group, kind, namespace and name.
func CompareIDs(a, b ObjectID) int {
	return cmp.Or(cmp.Compare(a.stage(), b.stage()), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
