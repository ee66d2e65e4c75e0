package apply_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func podsOf(namespace string) []bundle.Object {
	return []bundle.Object{
		object(fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"nightly","namespace":%q},"spec":{"schedule":"0 3 * * *","jobTemplate":{"spec":{"template":{"spec":{
			"restartPolicy":"Never","containers":[{"name":"c","image":"report:1","command":["/report"]}]}}}}}}`, namespace)),
		object(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":%q},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{
			"imagePullSecrets":[{"name":"registry"}],"initContainers":[{"name":"i","image":"migrate:2"}],"containers":[{"name":"c","image":"web:2"},{"name":"d","image":"migrate:2"}]}}}}`, namespace)),
	}
}

func TestImages(t *testing.T) {
	d := desire(t, "shop", append(podsOf("default"), configMap("default", "a", "1")))
	images, secrets, err := apply.Images(&d)
	if err != nil || !slices.Equal(images, []string{"migrate:2", "report:1", "web:2"}) || !slices.Equal(secrets, []string{"registry"}) {
		t.Errorf("%q, %q, %v", images, secrets, err)
	}
}

// An image that cannot be had is named with its node; whatever the end, nothing is left of the pulling.
func TestPrefetch(t *testing.T) {
	s := newSite(t)
	if err := s.cluster.Create(namespaceObject(apply.PrefetchNamespace), "install"); err != nil {
		t.Fatal(err)
	}
	before := s.cluster.Objects()
	var said []string
	tell := func(progress string) { said = append(said, progress) }
	d := desire(t, "shop", podsOf("default"))
	if err := s.executor.Prefetch(t.Context(), &d, time.Minute, tell); err != nil || len(said) != 0 {
		t.Errorf("%v after %q", err, said)
	}
	broken := desire(t, "shop", []bundle.Object{object(strings.Replace(string(podsOf("default")[1].JSON), "web:2", "missing:2", 1))})
	err := s.executor.Prefetch(t.Context(), &broken, 0, tell)
	want := "prefetch: not done within 0s: images on nodes: 1 of 2; missing:2 on node node: ErrImagePull: not found; pull secrets (registry) are not used to prefetch"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if after := s.cluster.Objects(); !slices.Equal(after, before) {
		t.Errorf("left: %v", after)
	}
	nothing := desire(t, "shop", []bundle.Object{configMap("default", "a", "1")})
	asked := s.cluster.Requests()
	if err := s.executor.Prefetch(t.Context(), &nothing, time.Minute, tell); err != nil || s.cluster.Requests() != asked {
		t.Errorf("a bundle without images: %v", err)
	}
}

// On a real API server, in the namespace as it is installed: every node of the cluster gets a pod that the restricted policy takes, and all of it goes
// away again.
func TestRealPrefetch(t *testing.T) {
	r := newReal(t)
	raw, err := os.ReadFile("../../deploy/edge/components/prefetch/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	namespace, _, _ := strings.Cut(string(raw), "\n---\n")
	body, err := yaml.YAMLToJSON([]byte(namespace))
	if err != nil {
		t.Fatal(err)
	}
	o := object(string(body))
	if _, err := r.conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: o.ID, Version: "v1"}, Body: o.JSON, Manager: "install"}); err != nil {
		t.Fatal(err)
	}
	d := desire(t, r.name, podsOf(r.name))
	nodes, err := r.hands.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.executor.Prefetch(t.Context(), &d, time.Minute, func(progress string) { t.Log(len(nodes.Items), "nodes:", progress) }); err != nil {
		t.Fatal(err)
	}
	sets, err := r.hands.AppsV1().DaemonSets(apply.PrefetchNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(sets.Items) != 0 {
		t.Errorf("left: %+v, %v", sets, err)
	}
}
