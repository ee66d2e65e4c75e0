package cluster

import (
	"fmt"
	"strings"
)

// controllers is what a cluster needs so that workloads become ready and deleted things go away, and no more: each costs
// memory, and there may be many clusters. nodelifecycle is left out because kwok's nodes have no leases to expire.
var controllers = []string{
	"clusterrole-aggregation-controller", "cronjob-controller", "daemonset-controller", "deployment-controller",
	"disruption-controller", "endpointslice-controller", "garbage-collector-controller", "job-controller",
	"namespace-controller", "persistentvolume-protection-controller", "persistentvolumeclaim-protection-controller",
	"replicaset-controller", "root-ca-certificate-publisher-controller", "serviceaccount-controller",
	"serviceaccount-token-controller", "statefulset-controller", "ttl-after-finished-controller",
}

// programFlags are the command lines. Paths are relative to the cluster's directory, in which every program runs: the
// path of a unix socket may have only 107 bytes, and the directories of tests are long.
func programFlags(dir string, port int, options Options) map[string][]string {
	emulated := []string{}
	if options.EmulatedVersion != "" {
		emulated = append(emulated, "--emulated-version="+options.EmulatedVersion)
	}
	client := func(user string, more ...string) []string {
		return append(append([]string{"--kubeconfig=" + user + ".kubeconfig"}, more...), emulated...)
	}
	lean := []string{"--leader-elect=false", "--secure-port=0", "--profiling=false", "--kube-api-qps=500", "--kube-api-burst=1000"}
	return map[string][]string{
		"etcd": {
			"--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=unix://etcd.sock", "--advertise-client-urls=unix://etcd.sock",
			"--listen-peer-urls=unix://peer.sock", "--initial-advertise-peer-urls=unix://peer.sock",
			"--initial-cluster=default=unix://peer.sock",
		},
		"kube-apiserver": append(append(apiserverFlags(port), emulated...), options.ServerFlags...),
		"kube-controller-manager": client("kube-controller-manager", append(lean,
			"--controllers="+strings.Join(controllers, ","),
			"--root-ca-file=ca.crt", "--service-account-private-key-file=sa.key")...),
		"kube-scheduler": client("kube-scheduler", lean...),
		"kwok": {
			"--kubeconfig=kwok.kubeconfig", "--manage-all-nodes", "--config=" + dir + "/stages.yaml",
			"--node-lease-duration-seconds=0", "--cidr=10.244.0.0/16",
		},
	}
}

func apiserverFlags(port int) []string {
	return []string{
		"--etcd-servers=unix://etcd.sock",
		fmt.Sprintf("--secure-port=%d", port), "--permit-port-sharing", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		// No Endpoints for the kubernetes Service: a loopback address is refused there.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--client-ca-file=ca.crt",
		"--authorization-mode=RBAC", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key",
		// It would taint new nodes as not ready, and only the node-lifecycle controller lifts that taint.
		"--disable-admission-plugins=TaintNodesByCondition",
		// Background polls of metrics nobody reads. Priority and fairness stays on: clients that ask the server whether it
		// is on limit themselves to 50 requests a second when it is off.
		"--profiling=false", "--etcd-count-metric-poll-period=0", "--etcd-db-metric-poll-interval=0",
	}
}
