package apply_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
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

// tolerantPods run on other nodes than podsOf.
func tolerantPods(namespace string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"vision","namespace":%q},"spec":{"selector":{"matchLabels":{"app":"vision"}},"template":{"metadata":{"labels":{"app":"vision"}},"spec":{
		"nodeSelector":{"gpu":"yes"},"tolerations":[{"key":"gpu","operator":"Exists","effect":"NoSchedule"}],"imagePullSecrets":[{"name":"own"}],"containers":[{"name":"c","image":"vision:7"},{"name":"d","image":"web:2"}]}}}}`, namespace))
}

func TestPullsOf(t *testing.T) {
	d := desire(t, "shop", append(podsOf("default"), configMap("default", "a", "1"), tolerantPods("default")))
	pulls, secrets, err := apply.PullsOf(&d)
	if err != nil || len(pulls) != 2 || !slices.Equal(secrets, []apply.PullSecret{{Namespace: "default", Name: "own"}, {Namespace: "default", Name: "registry"}}) {
		t.Fatalf("%+v, %q, %v", pulls, secrets, err)
	}
	if p := pulls[0]; !slices.Equal(p.Images, []string{"migrate:2", "report:1", "web:2"}) || len(p.NodeSelector)+len(p.Tolerations) != 0 {
		t.Errorf("%+v", p)
	}
	if p := pulls[1]; !slices.Equal(p.Images, []string{"vision:7", "web:2"}) || p.NodeSelector["gpu"] != "yes" || len(p.Tolerations) != 1 {
		t.Errorf("%+v", p)
	}
}

// Each kind of node has a puller of its own, with the pods' selectors, tolerations and pull secrets: those that the bundle brings, and those that are there already, read as
// the bundle's account. The copies hold nothing but what opens a registry, and go away with the pullers.
func TestPrefetchWithPullSecretsForOtherNodes(t *testing.T) {
	s := newSite(t)
	if err := s.cluster.Create(namespaceObject(apply.PrefetchNamespace), "install"); err != nil {
		t.Fatal(err)
	}
	there := object(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"registry","namespace":"default"},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"e30=","other":"c2VjcmV0"}}`)
	if err := s.cluster.Create(there, "install"); err != nil {
		t.Fatal(err)
	}
	brought := object(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"own","namespace":"default"},"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"{\"auths\":{}}"}}`)
	before := s.cluster.Objects()
	d := desire(t, "shop", append(podsOf("default"), object(strings.Replace(string(tolerantPods("default").JSON), "vision:7", "missing:7", 1)), brought))
	made := map[string]string{}
	var readAs []bundle.Account
	s.cluster.Fail(func(c memcluster.Call) error {
		if c.Verb == "pull secret" {
			readAs = append(readAs, c.Account)
		}
		return nil
	})
	err := s.executor.Prefetch(t.Context(), &d, 0, func(string) {
		for _, id := range s.cluster.Objects() {
			if id.Namespace == apply.PrefetchNamespace {
				raw, _ := json.Marshal(s.cluster.Body(id))
				made[id.Kind+" "+id.Name] = string(raw)
			}
		}
	})
	if want := "prefetch: not done within 0s: images on nodes: 4 of 5; missing:7 on node node: ErrImagePull: not found"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	for name, words := range map[string][]string{
		"DaemonSet shop":   {`"image":"report:1"`, `"imagePullSecrets":[{"name":"shop.1"},{"name":"shop.2"}]`},
		"DaemonSet shop.2": {`"image":"missing:7"`, `"gpu":"yes"`, `"operator":"Exists"`, `"imagePullSecrets":[{"name":"shop.1"},{"name":"shop.2"}]`},
		"Secret shop.1":    {`".dockerconfigjson":"eyJhdXRocyI6e319"`},
		"Secret shop.2":    {`".dockerconfigjson":"e30="`, `kubernetes.io/dockerconfigjson`},
	} {
		for _, word := range words {
			if !strings.Contains(made[name], word) {
				t.Errorf("%s has no %s: %s", name, word, made[name])
			}
		}
	}
	if strings.Contains(made["Secret shop.2"], "other") || len(made) != 4 || len(readAs) != 1 {
		t.Errorf("%v, read as %v", made, readAs)
	}
	if after := s.cluster.Objects(); !slices.Equal(after, before) {
		t.Errorf("left: %v", after)
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
	want := "prefetch: not done within 0s: images on nodes: 1 of 2; missing:2 on node node: ErrImagePull: not found; pull secret default/registry is not used: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
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
