package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// corpus is the folder of real-world manifests; the test is skipped where there is none.
func corpus(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("HOLDFAST_CORPUS")
	if dir == "" {
		dir = filepath.Join(root(), "..", "shared", "corpus")
	}
	dir = filepath.Join(dir, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no real-world manifests: %v (HOLDFAST_CORPUS names their folder)", err)
	}
	return dir
}

// real is one example of the corpus.
type real struct {
	name  string
	flags []string // of bundle build
	// namespace is one the manifests stand in without making it.
	namespace string
	// before is where the namespace is made by somebody else before the bundle comes, and holds things of theirs.
	before bool
}

func TestCorpus(t *testing.T) {
	for _, r := range []real{
		{name: "kube-prometheus"},
		{name: "argo-cd", flags: []string{"--namespace", "argocd"}, namespace: "argocd"},
		{name: "online-boutique", flags: []string{"--namespace", "boutique", "--create-namespace"}, namespace: "boutique", before: true},
		{name: "metallb"},
		{name: "ingress-nginx"},
	} {
		t.Run(r.name, func(t *testing.T) {
			dir := corpus(t, r.name)
			at := newStage(t).site("store", ownCluster(t, cluster.Options{Name: r.name}))
			r.run(at, dir)
		})
	}
}

// run takes a site from nothing to the old version, the new one, and back to nothing.
func (r real) run(at *site, dir string) {
	theirs := others{at, kubernetes.NewForConfigOrDie(at.Cluster.Config())}
	theirs.plant("default")
	if r.before {
		theirs.namespace(r.namespace)
		theirs.plant(r.namespace)
	}
	before := at.settled()

	versions := []string{"old", "new"}
	if _, err := os.Stat(filepath.Join(dir, "old")); err != nil {
		versions = versions[1:]
	}
	for i, version := range versions {
		number := fmt.Sprintf("1.%d.0", i)
		file := at.stage.release(filepath.Join(dir, version), r.name, number, r.flags...)
		carried, _ := at.Link.Bytes()
		at.assign(r.name + "@" + number)
		if i == 0 && r.namespace != "" && !r.before {
			before = r.withoutNamespace(at, theirs, before)
		}
		at.runs(r.name, number)
		if i > 0 {
			at.cameAsDelta(r.name, number, carried)
		}
		objects := at.objects(file)
		at.asFilesSay(objects)
		at.haveLeft(objects)
		r.again(at, number)
	}
	theirs.untouched(before)
	at.unassign(r.name)
	at.leavesNothing(before)
	theirs.untouched(before)
}

// withoutNamespace sees what is said where the namespace is not there, and makes it by hand as the documentation of these manifests says.
func (r real) withoutNamespace(at *site, theirs others, before survey) survey {
	t := at.stage.t
	status := at.stands(r.name, fleetsync.PhaseFailed)
	if !strings.Contains(status.Message, r.namespace) || !strings.Contains(status.Message, "namespace") {
		t.Errorf("without namespace %s the site says %q", r.namespace, status.Message)
	}
	before.unchanged(t, at.settled(), "refused for want of a namespace")
	at.StopEdge(true) // so that what is there before the bundle can be counted
	theirs.namespace(r.namespace)
	theirs.plant(r.namespace)
	before = at.settled()
	at.start()
	return before
}

// again applies what is applied: by another start of the agent, and by the same assignment.
func (r real) again(at *site, version string) {
	before := at.settled().of(r.name)
	at.restart()
	at.assignAgain(r.name + "@" + version)
	before.unchanged(at.stage.t, at.settled().of(r.name), "applied again")
}

// others are people who have things of their own in the cluster.
type others struct {
	at     *site
	client kubernetes.Interface
}

const theirName = "theirs"

func (o others) namespace(name string) {
	o.at.stage.t.Helper()
	o.must(o.client.CoreV1().Namespaces().Create(o.at.stage.context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
}

// plant makes a ConfigMap, a Deployment and, once, a ClusterRole.
func (o others) plant(namespace string) {
	o.at.stage.t.Helper()
	ctx, meta := o.at.stage.context(), metav1.ObjectMeta{Name: theirName}
	o.must(o.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"is": "ours"}}, metav1.CreateOptions{}))
	labels := map[string]string{"app": theirName}
	o.must(o.client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.k8s.io/pause:3.10"}}}},
	}}, metav1.CreateOptions{}))
	if namespace == "default" {
		o.must(o.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta}, metav1.CreateOptions{}))
	}
	o.at.stage.eventually("their Deployment", func() error { return o.available(ctx, namespace) })
}

func (o others) available(ctx context.Context, namespace string) error {
	d, err := o.client.AppsV1().Deployments(namespace).Get(ctx, theirName, metav1.GetOptions{})
	if err == nil && d.Status.AvailableReplicas != 1 {
		err = fleet.ErrNotYet
	}
	return err
}

func (o others) must(_ any, err error) {
	o.at.stage.t.Helper()
	if err != nil {
		o.at.stage.t.Fatal(err)
	}
}

// untouched fails the test where something of theirs was changed.
func (o others) untouched(before survey) {
	t := o.at.stage.t
	t.Helper()
	now, err := surveyOf(o.at.stage.context(), o.at.Cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		was, is := before[key], now[key]
		if !strings.HasSuffix(key, "/"+theirName) && !strings.HasSuffix(key, " "+theirName) {
			continue
		}
		if was.UID != is.UID || was.ResourceVersion != is.ResourceVersion {
			t.Errorf("%s was touched: resource version %s, was %s", key, is.ResourceVersion, was.ResourceVersion)
		}
	}
}
