package cluster_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func startServer(t *testing.T, options cluster.Options) *cluster.Cluster {
	t.Helper()
	options.ServerOnly = true
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	return cluster.ForTest(t, options)
}

func TestC1ClustersAreIndependent(t *testing.T) {
	t.Parallel()
	var clusters [2]*cluster.Cluster
	var starts errgroup.Group
	for i := range clusters {
		starts.Go(func() (err error) {
			clusters[i], err = cluster.Start(context.Background(), cluster.Options{ServerOnly: true})
			return err
		})
	}
	if err := starts.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clusters[0].Stop(); clusters[1].Stop() })

	var system [2]*corev1.Namespace
	for i, c := range clusters {
		client := clientOf(t, c.Config())
		eventually(t, "kube-system", 10*time.Second, func() (err error) {
			system[i], err = client.CoreV1().Namespaces().Get(t.Context(), "kube-system", get)
			return err
		})
	}
	if system[0].UID == system[1].UID {
		t.Error("both have the same kube-system", system[0].UID)
	}
	if _, err := clientOf(t, clusters[0].Config()).CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: named}, create); err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(t, clusters[1].Config()).CoreV1().ConfigMaps("default").Get(t.Context(), "shop", get); !apierrors.IsNotFound(err) {
		t.Error("an object of one cluster asked from the other:", err)
	}
	crossed := clusters[0].Config()
	crossed.Host = clusters[1].Config().Host
	if _, err := clientOf(t, crossed).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("the credentials of one cluster are good for the other")
	}
	// The server's certificate aside, its users must be strangers too.
	crossed.TLSClientConfig.CAData, crossed.TLSClientConfig.Insecure = nil, true
	if _, err := clientOf(t, crossed).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Error("want unauthorized, got", err)
	}
}

func TestC2PortStaysHeldWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	c := startServer(t, cluster.Options{})
	address := strings.TrimPrefix(c.Config().Host, "https://")
	if err := c.Kill("kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", address); err == nil {
		l.Close()
		t.Error("anybody could listen on", address)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("something answers on", address)
	}
}

func TestC3OnlyWhatRBACGrants(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	admin := clientOf(t, c.Config())
	namespace := newNamespace(t, admin)
	_, err := admin.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: named,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "viewers"},
			{Kind: "ServiceAccount", Name: "reader", Namespace: namespace},
		}}, create)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}, create); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kubeconfig func() (string, error)
		may        bool
	}{
		"stranger":        {func() (string, error) { return c.KubeconfigFor("stranger") }, false},
		"of the group":    {func() (string, error) { return c.KubeconfigFor("somebody", "viewers") }, true},
		"service account": {func() (string, error) { return c.KubeconfigForServiceAccount(t.Context(), namespace, "reader") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			client := clientOf(t, loaded(t, tc.kubeconfig))
			eventually(t, "RBAC's answer", 10*time.Second, func() error { // its cache may be a moment behind
				_, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
				if tc.may != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
					return fmt.Errorf("list: %v, allowed should be %v", err, tc.may)
				}
				return nil
			})
			_, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: named}, create)
			if !apierrors.IsForbidden(err) {
				t.Error("create: want forbidden, got", err)
			}
		})
	}
}

func loaded(t *testing.T, kubeconfig func() (string, error)) *rest.Config {
	t.Helper()
	file, err := kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestC3PriorityAndFairnessIsOn(t *testing.T) {
	c := cluster.Shared(t)
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(c.Config().Host + "/api/v1/namespaces")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Kubernetes-PF-FlowSchema-UID") == "" {
		t.Errorf("%s, no flow schema in %v", response.Status, response.Header)
	}
}

func TestC5AfterStopNothingIsLeft(t *testing.T) {
	t.Parallel()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	started := pids(c)
	if len(started) != len(cluster.Programs) {
		t.Errorf("runs %v, want all of %v", started, cluster.Programs)
	}
	for range 2 { // a second time is harmless
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for program, pid := range started {
		if err := gone(pid); err != nil {
			t.Error(program, err)
		}
	}
	if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
		t.Error("temporary directory left:", c.Dir(), err)
	}
	if err := c.StartProgram(t.Context(), "etcd"); err == nil {
		t.Error("a program started after Stop")
	}
}

func TestC5ProgramsDieWithAKilledParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), orphanmaker+"=1")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var etcd, server int
	_, err = fmt.Fscan(out, &etcd, &server)
	if kill := parent.Process.Kill(); kill != nil {
		t.Error(kill)
	}
	_ = parent.Wait() // killed: always an error
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{etcd, server} {
		eventually(t, "end with the parent", 10*time.Second, func() error { return goneOrZombie(pid) })
	}
	// The next cluster clears away what the dead parent could not.
	left := fmt.Sprintf("holdfast-cluster-%d-*", parent.Process.Pid)
	c, err := cluster.Start(t.Context(), cluster.Options{ServerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if found, _ := filepath.Glob(filepath.Join(os.TempDir(), left)); len(found) > 0 {
		t.Error("left behind:", found)
	}
}

// goneOrZombie: an orphan is reaped by init, which in some containers does not exist.
func goneOrZombie(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && strings.Contains(string(stat), ") Z ") {
		return nil
	}
	return gone(pid)
}

func TestC6FailedStartShowsWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		options cluster.Options
		want    []string
	}{
		"bad flag":    {cluster.Options{ServerFlags: []string{"--no-such-flag"}}, []string{"kube-apiserver", "exit status", "no-such-flag"}},
		"no such bin": {cluster.Options{Binary: "/nowhere/controlplane"}, []string{"/nowhere/controlplane"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.options.Name = "site-1"
			c, err := cluster.Start(t.Context(), tc.options)
			if err == nil {
				c.Stop()
				t.Fatal("started")
			}
			for _, want := range append(tc.want, "cluster site-1: start:") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
		})
	}
}

func TestC6StartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := cluster.Start(ctx, cluster.Options{Dir: t.TempDir()}); err == nil {
		c.Stop()
		t.Error("started within 100 ms")
	} else if !strings.Contains(err.Error(), "deadline") {
		t.Error(err)
	}
}

func TestEmulatedVersion(t *testing.T) {
	t.Parallel()
	c := startServer(t, cluster.Options{EmulatedVersion: "1.35"})
	version, err := clientOf(t, c.Config()).Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.EmulationMinor != "35" {
		t.Errorf("version %v, want 1.35", version)
	}
}
