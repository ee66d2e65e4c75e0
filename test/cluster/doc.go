// Package cluster gives tests, the demo and benchmarks Kubernetes clusters with a real API server.
//
// By default a cluster is a control plane without containers: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kwok (a fake kubelet), each a process of the one executable that `make controlplane` builds (see
// test/controlplane). A kind cluster, or any cluster a kubeconfig points to, can take its place.
//
// # Guarantees
//
//	C1  Clusters are independent: own etcd, own resourceVersions, own certificate authority, own port. Credentials of
//	    one are refused by every other. Any number may start at the same time.
//	C2  The port is chosen by the kernel and held by the parent for the cluster's whole life, also while the API server
//	    is down, so nobody else can get it between a kill and a restart.
//	C3  RBAC is on and so is API priority and fairness; only the administrator of Config and Kubeconfig may do everything.
//	C4  Deployments, StatefulSets (with volume claims), DaemonSets, Jobs and CronJobs become ready; namespaces, owned
//	    objects and claims go away as on a real cluster. Nothing runs in the pods.
//	C5  After Stop no process of the cluster is left. When the parent dies, however it dies, they die too.
//	C6  Start returns a usable cluster (its node ready, the default service account there) or an error that names the
//	    program that failed and shows the end of its log.
//
// # What a control plane without containers is not
//
// There is no kubelet: no logs, no exec, no probes, no images pulled. No Service is reachable, so admission webhooks and
// aggregated APIs that run in pods do not answer. LoadBalancers get no address. Quotas, autoscalers and certificate
// signing have no controller. etcd does not sync its files: a power cut of the machine may lose the cluster.
//
// # Choosing a provider
//
// ForTest and Shared read HOLDFAST_CLUSTER:
//
//	controlplane  (default) the executable named by HOLDFAST_CONTROLPLANE, or bin/controlplane of this checkout
//	kind          a new cluster by the kind tool; needs Docker
//	kubeconfig    the existing cluster that KUBECONFIG names, used as it is and never deleted
//
// KUBECONFIG alone chooses nothing: tests create and delete objects, and a developer's KUBECONFIG may be production.
//
//	func TestSomething(t *testing.T) {
//		c := cluster.Shared(t)
//		client := kubernetes.NewForConfigOrDie(c.Config())
//		…
//	}
//
//	func TestMain(m *testing.M) { cluster.Main(m) }
package cluster
