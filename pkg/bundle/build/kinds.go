package build

import (
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

type groupKind struct{ group, kind string }

// kindInfo is what is known of a kind.
type kindInfo struct {
	namespaced bool
	versions   string // separated by spaces; empty: any
}

func (k kindInfo) serves(version string) bool {
	return k.versions == "" || slices.Contains(strings.Fields(k.versions), version)
}

// builtin are the kinds that API servers of Kubernetes 1.29 to 1.37 define themselves and that last. Reviews and other kinds that
// are only asked and never stored are left out: nothing could keep them as they are. Made from the +genclient marks of k8s.io/api.
// Sealed secrets are among them: at a site they are Secrets.
var builtin = map[groupKind]kindInfo{
	{"", "ConfigMap"}:             {true, "v1"},
	{"", "Endpoints"}:             {true, "v1"},
	{"", "Event"}:                 {true, "v1"},
	{"", "LimitRange"}:            {true, "v1"},
	{"", "Namespace"}:             {false, "v1"},
	{"", "Node"}:                  {false, "v1"},
	{"", "PersistentVolume"}:      {false, "v1"},
	{"", "PersistentVolumeClaim"}: {true, "v1"},
	{"", "Pod"}:                   {true, "v1"},
	{"", "PodTemplate"}:           {true, "v1"},
	{"", "ReplicationController"}: {true, "v1"},
	{"", "ResourceQuota"}:         {true, "v1"},
	{"", "Secret"}:                {true, "v1"},
	{"", "Service"}:               {true, "v1"},
	{"", "ServiceAccount"}:        {true, "v1"},
	{"admissionregistration.k8s.io", "MutatingAdmissionPolicy"}:          {false, "v1 v1alpha1 v1beta1"},
	{"admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"}:   {false, "v1 v1alpha1 v1beta1"},
	{"admissionregistration.k8s.io", "MutatingWebhookConfiguration"}:     {false, "v1"},
	{"admissionregistration.k8s.io", "ValidatingAdmissionPolicy"}:        {false, "v1 v1alpha1 v1beta1"},
	{"admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"}: {false, "v1 v1alpha1 v1beta1"},
	{"admissionregistration.k8s.io", "ValidatingWebhookConfiguration"}:   {false, "v1"},
	{"apps", "ControllerRevision"}:                                       {true, "v1"},
	{"apps", "DaemonSet"}:                                                {true, "v1"},
	{"apps", "Deployment"}:                                               {true, "v1"},
	{"apps", "ReplicaSet"}:                                               {true, "v1"},
	{"apps", "StatefulSet"}:                                              {true, "v1"},
	{"autoscaling", "HorizontalPodAutoscaler"}:                           {true, "v1 v2"},
	{"batch", "CronJob"}:                                                 {true, "v1"},
	{"batch", "Job"}:                                                     {true, "v1"},
	{"certificates.k8s.io", "CertificateSigningRequest"}:                 {false, "v1"},
	{"certificates.k8s.io", "ClusterTrustBundle"}:                        {false, "v1 v1alpha1 v1beta1"},
	{"certificates.k8s.io", "PodCertificateRequest"}:                     {true, "v1 v1alpha1 v1beta1"},
	{"coordination.k8s.io", "Lease"}:                                     {true, "v1"},
	{"coordination.k8s.io", "LeaseCandidate"}:                            {true, "v1alpha1 v1alpha2 v1beta1"},
	{"discovery.k8s.io", "EndpointSlice"}:                                {true, "v1"},
	{"events.k8s.io", "Event"}:                                           {true, "v1"},
	{"flowcontrol.apiserver.k8s.io", "FlowSchema"}:                       {false, "v1 v1beta3"},
	{"flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"}:       {false, "v1 v1beta3"},
	{"networking.k8s.io", "IPAddress"}:                                   {false, "v1 v1alpha1 v1beta1"},
	{"networking.k8s.io", "Ingress"}:                                     {true, "v1"},
	{"networking.k8s.io", "IngressClass"}:                                {false, "v1"},
	{"networking.k8s.io", "NetworkPolicy"}:                               {true, "v1"},
	{"networking.k8s.io", "ServiceCIDR"}:                                 {false, "v1 v1alpha1 v1beta1"},
	{"node.k8s.io", "RuntimeClass"}:                                      {false, "v1"},
	{"policy", "PodDisruptionBudget"}:                                    {true, "v1"},
	{"rbac.authorization.k8s.io", "ClusterRole"}:                         {false, "v1"},
	{"rbac.authorization.k8s.io", "ClusterRoleBinding"}:                  {false, "v1"},
	{"rbac.authorization.k8s.io", "Role"}:                                {true, "v1"},
	{"rbac.authorization.k8s.io", "RoleBinding"}:                         {true, "v1"},
	{"resource.k8s.io", "DeviceClass"}:                                   {false, "v1 v1alpha3 v1beta1 v1beta2"},
	{"resource.k8s.io", "DeviceTaintRule"}:                               {false, "v1 v1alpha3 v1beta2"},
	{"resource.k8s.io", "ResourceClaim"}:                                 {true, "v1 v1alpha2 v1alpha3 v1beta1 v1beta2"},
	{"resource.k8s.io", "ResourceClaimTemplate"}:                         {true, "v1 v1alpha2 v1alpha3 v1beta1 v1beta2"},
	{"resource.k8s.io", "ResourceSlice"}:                                 {false, "v1 v1alpha2 v1alpha3 v1beta1 v1beta2"},
	{"scheduling.k8s.io", "CompositePodGroup"}:                           {true, "v1alpha3"},
	{"scheduling.k8s.io", "PodGroup"}:                                    {true, "v1alpha2 v1alpha3 v1beta1"},
	{"scheduling.k8s.io", "PriorityClass"}:                               {false, "v1"},
	{"scheduling.k8s.io", "Workload"}:                                    {true, "v1alpha1 v1alpha2 v1alpha3 v1beta1"},
	{"storage.k8s.io", "CSIDriver"}:                                      {false, "v1"},
	{"storage.k8s.io", "CSINode"}:                                        {false, "v1"},
	{"storage.k8s.io", "CSIStorageCapacity"}:                             {true, "v1"},
	{"storage.k8s.io", "StorageClass"}:                                   {false, "v1"},
	{"storage.k8s.io", "VolumeAttachment"}:                               {false, "v1"},
	{"storage.k8s.io", "VolumeAttributesClass"}:                          {false, "v1 v1alpha1 v1beta1"},
	{"storagemigration.k8s.io", "StorageVersionMigration"}:               {false, "v1 v1alpha1 v1beta1"},
	{"apiextensions.k8s.io", "CustomResourceDefinition"}:                 {false, "v1"},
	{bundle.SealedGroup, bundle.SealedKind}:                              {true, "v1"},
	{"apiregistration.k8s.io", "APIService"}:                             {false, "v1"},
}

// lastingNamespaces are there in every cluster.
var lastingNamespaces = map[string]bool{"default": true, "kube-system": true, "kube-public": true, "kube-node-lease": true}
