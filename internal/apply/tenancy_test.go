package apply_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// teamA is a tenant with the rights that a team usually has in its own namespace, roles included.
const teamA = bundle.Account("team-a/tenant")

// protected are the namespaces of the site in these tests.
var protected = []string{"kube-system", "kube-public", "kube-node-lease", "holdfast-system"}

// tenancy is a cluster with two teams: team-a, whose account applies, and team-b, which must not notice.
type tenancy struct {
	t     *testing.T
	conn  *kube.Conn
	hands *kubernetes.Clientset
	meta  metadata.Interface
}

func newTenancy(t *testing.T, config *rest.Config) *tenancy {
	t.Helper()
	conn, err := kube.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	v := &tenancy{t: t, conn: conn, hands: kubernetes.NewForConfigOrDie(config), meta: metadata.NewForConfigOrDie(config)}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, create := t.Context(), metav1.CreateOptions{}
	for _, team := range []string{"team-a", "team-b"} {
		must(v.hands.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team,
			Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}}}, create))
		for _, name := range []string{"default", "tenant"} { // this cluster has no controller that makes the first
			must(v.hands.CoreV1().ServiceAccounts(team).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, create))
		}
	}
	all := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	must(v.hands.RbacV1().Roles("team-a").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps", "secrets", "services", "serviceaccounts", "pods"}, Verbs: all},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: all},
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}, Verbs: all},
	}}, create))
	must(v.hands.RbacV1().RoleBindings("team-a").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tenant"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "team-a", Name: "tenant"}}}, create))
	v.may("patch", "apps", "deployments")
	clustertest.Eventually(t, func() error { // the API server makes it a moment after it is ready
		_, err := v.hands.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		return err
	})
	return v
}

// may waits until the API server has learnt what the tenant may do.
func (v *tenancy) may(verb, group, resource string) {
	v.t.Helper()
	clustertest.Eventually(v.t, func() error {
		review, err := v.hands.AuthorizationV1().SubjectAccessReviews().Create(v.t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: teamA.User(), ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "team-a", Verb: verb, Group: group, Resource: resource}}}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("%s may not %s %s yet", teamA, verb, resource)
		}
		return err
	})
}

// everything is every object of the cluster with its resource version, but what the API server itself keeps writing.
func (v *tenancy) everything() map[string]string {
	v.t.Helper()
	lists, err := v.hands.Discovery().ServerPreferredResources()
	if err != nil {
		v.t.Fatal(err)
	}
	out := map[string]string{}
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			v.t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "events" || r.Name == "leases" || group.Group == "flowcontrol.apiserver.k8s.io" {
				continue
			}
			found, err := v.meta.Resource(group.WithResource(r.Name)).List(v.t.Context(), metav1.ListOptions{})
			if err != nil {
				v.t.Fatalf("%s: %v", r.Name, err)
			}
			for _, o := range found.Items {
				out[fmt.Sprint(r.Name, " ", o.Namespace, "/", o.Name)] = o.ResourceVersion
			}
		}
	}
	return out
}

// changes names what differs between two looks at everything.
func changes(before, after map[string]string) (out []string) {
	for name, version := range after {
		if before[name] != version {
			out = append(out, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			out = append(out, name+" is gone")
		}
	}
	slices.Sort(out)
	return out
}

// escalation is one manifest that reaches for more.
type escalation struct {
	what   string
	object bundle.Object
}

func escalations(t *testing.T) []escalation {
	t.Helper()
	raw, err := os.ReadFile("testdata/escalations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.ReplaceAll(raw, []byte("request: CSR"), []byte("request: "+administratorsRequest(t)))
	var out []escalation
	for document := range strings.SplitSeq(string(raw), "\n---\n") {
		j, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		what, _, _ := strings.Cut(strings.TrimPrefix(document, "# "), "\n")
		out = append(out, escalation{what, object(string(j))})
	}
	if len(out) < 20 {
		t.Fatalf("%d escalations, want twenty", len(out))
	}
	return out
}

func administratorsRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "tenant", Organization: []string{"tenants"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func verified(t testing.TB, name string, objects ...bundle.Object) verify.Verified {
	t.Helper()
	return verifytest.Verified(t, objects, func(m *bundle.Manifest) {
		m.Name, m.Policy = bundle.Name(name), bundle.Policy{Prune: true, Drift: bundle.DriftEnforce}
	})
}

func scoped(t testing.TB, scope apply.Scope, name string, objects ...bundle.Object) apply.Desired {
	t.Helper()
	d, err := apply.Prepare(verified(t, name, objects...), render.Inputs{}, scope)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestT15_TwentyEscalations has bundles reach for more than their account has, twice: with an assignment that allows all kinds, so that only the
// API server stands in the way, and with the scope of a tenant, so that what is outside never gets that far.
func TestT15_TwentyEscalations(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{Name: "tenancy", ServerOnly: true})
	v := newTenancy(t, c.Config())
	executor := apply.NewExecutor(v.conn, apply.Options{})
	innocent := configMap("team-a", "innocent", "1")
	everyKind := apply.Scope{Account: teamA, Kinds: []bundle.KindPattern{bundle.EveryKind}}
	ours := apply.Scope{Account: teamA, Namespaces: []string{"team-a"}, Protected: protected}
	list := escalations(t)
	before := v.everything()
	for _, e := range list {
		t.Run(e.what, func(t *testing.T) {
			if podsAreRefusedToAll := e.object.ID.Kind == "Pod"; !podsAreRefusedToAll {
				// Otherwise this would prove nothing: an agent that acted as itself would succeed.
				if _, err := v.conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: e.object.ID, Version: e.object.Version}, Body: e.object.JSON,
					Manager: "administrator", DryRun: true, Force: true}); err != nil {
					t.Fatalf("not even the administrator may: %v", err)
				}
			}
			result, err := executor.Apply(t.Context(), apply.Request{Desired: scoped(t, everyKind, "tenant", innocent, e.object),
				Persist: func(apply.Inventory) error { t.Error("the intent was recorded"); return nil }})
			f := failure(t, err, apply.AtPreflight)
			if len(f.Refusals) != 1 || f.Refusals[0].Object != e.object.ID || !f.Refusals[0].Permanent || result.Changed {
				t.Errorf("%v, %+v", f, result)
			}
			t.Log(f.Refusals)

			asked := total(v.conn)
			_, err = apply.Prepare(verified(t, "tenant", innocent, e.object), render.Inputs{}, ours)
			if inside := e.object.ID.Namespace == "team-a"; inside {
				if err != nil {
					t.Errorf("in its own namespace the API server decides: %v", err)
				}
				return
			}
			f = failure(t, err, apply.AtScope)
			if len(f.Refusals) != 1 || f.Refusals[0].Object != e.object.ID || total(v.conn) != asked {
				t.Errorf("%v, %d requests", f, total(v.conn)-asked)
			}
		})
	}
	if changed := changes(before, v.everything()); len(changed) > 0 {
		t.Errorf("changed: %q", changed)
	}

	all := make([]bundle.Object, 0, len(list)+1)
	for _, e := range list {
		all = append(all, e.object)
	}
	_, err := executor.Apply(t.Context(), apply.Request{Desired: scoped(t, everyKind, "tenant", append(all, innocent)...)})
	if f := failure(t, err, apply.AtPreflight); len(f.Refusals) != len(list) {
		t.Errorf("%d of %d are named: %v", len(f.Refusals), len(list), f.Refusals)
	}
	if changed := changes(before, v.everything()); len(changed) > 0 {
		t.Errorf("all at once changed: %q", changed)
	}
	// The account is not without rights: what is its own it applies.
	if result, err := executor.Apply(t.Context(), apply.Request{Desired: scoped(t, ours, "tenant", innocent)}); err != nil || !result.Changed {
		t.Errorf("%+v, %v", result, err)
	}
}

// ledger notes as whom requests are made.
type ledger struct {
	mu   sync.Mutex
	seen map[string]map[string]bool // user: verb and path
}

func (l *ledger) wrap(next http.RoundTripper) http.RoundTripper {
	return tripper(func(r *http.Request) (*http.Response, error) {
		user := r.Header.Get("Impersonate-User")
		if len(r.Header.Values("Impersonate-Group")) > 0 {
			user += " with groups"
		}
		l.mu.Lock()
		if l.seen[user] == nil {
			l.seen[user] = map[string]bool{}
		}
		l.seen[user][r.Method+" "+r.URL.Path] = true
		l.mu.Unlock()
		return next.RoundTrip(r)
	})
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestT15_EveryCallIsTheAccounts follows a bundle through its whole life – applied, watched, corrected, replaced, pruned, removed – and looks
// at every request.
func TestT15_EveryCallIsTheAccounts(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{Name: "calls", ServerOnly: true})
	v := newTenancy(t, c.Config())
	notes := &ledger{seen: map[string]map[string]bool{}}
	config := c.Config()
	config.Wrap(notes.wrap)
	conn, err := kube.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	executor := apply.NewExecutor(conn, apply.Options{})
	ours := apply.Scope{Account: teamA, Kinds: []bundle.KindPattern{"ConfigMap", "apps/*"}, Namespaces: []string{"team-a"}, Protected: protected}
	apply1 := func(inventory apply.Inventory, facts apply.Facts, objects ...bundle.Object) (apply.Desired, apply.Inventory) {
		t.Helper()
		d := scoped(t, ours, "tenant", objects...)
		result, err := executor.Apply(t.Context(), apply.Request{Desired: d, Inventory: inventory, Facts: facts})
		if err != nil {
			t.Fatal(err)
		}
		return d, result.Inventory
	}
	d, inventory := apply1(apply.Inventory{}, apply.Facts{}, configMap("team-a", "a", "1"), configMap("team-a", "b", "1"), deployment("team-a", "web", 1))
	if inventory.Account != teamA {
		t.Errorf("the inventory is %q's", inventory.Account)
	}
	l := watch(t, executor, true, func(w *apply.Watcher) { w.Track(d, inventory) })
	clustertest.Eventually(t, func() error {
		if f := l.Facts(teamA); len(f.Known) != 2 || len(f.Objects) != 3 {
			return fmt.Errorf("facts %+v", f)
		}
		return nil
	})
	if err := v.hands.CoreV1().ConfigMaps("team-a").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.heard(t, "deleted ConfigMap/team-a/a [] []", "corrected ConfigMap/team-a/a <nil>")
	inventory, _ = l.Inventory("tenant")
	l.Hold("tenant")
	_, inventory = apply1(inventory, l.Facts(teamA), configMap("team-a", "a", "2"), deployment("team-a", "web", 2))
	if _, err := executor.Remove(t.Context(), inventory, ours, nil); err != nil {
		t.Fatal(err)
	}
	l.Drop("tenant")

	notes.mu.Lock()
	defer notes.mu.Unlock()
	for call := range notes.seen[""] {
		path := strings.TrimPrefix(call, "GET ")
		if parts := strings.Split(strings.Trim(path, "/"), "/"); path == call || parts[0] == "api" && len(parts) > 2 || parts[0] == "apis" && len(parts) > 3 {
			t.Errorf("the agent itself asked %s", call)
		}
	}
	delete(notes.seen, "")
	calls := notes.seen[teamA.User()]
	delete(notes.seen, teamA.User())
	if len(notes.seen) > 0 {
		t.Errorf("calls as %q", slices.Collect(maps.Keys(notes.seen)))
	}
	for _, want := range []string{"PATCH /api/v1/namespaces/team-a/configmaps/a", "GET /api/v1/namespaces/team-a/configmaps", "GET /apis/apps/v1/namespaces/team-a/deployments",
		"GET /apis/apps/v1/namespaces/team-a/deployments/web", "DELETE /api/v1/namespaces/team-a/configmaps/b", "DELETE /apis/apps/v1/namespaces/team-a/deployments/web"} {
		if !calls[want] {
			t.Errorf("no %s among %q", want, slices.Sorted(maps.Keys(calls)))
		}
	}
}

// TestT15_AnAccountNobodyMayBe has an agent without leave to be the account refused by the API server, and nothing changed.
func TestT15_AnAccountNobodyMayBe(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{Name: "leave", ServerOnly: true})
	v := newTenancy(t, c.Config())
	config, err := c.ConfigFor("agent")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := kube.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	d := scoped(t, apply.Scope{Account: teamA}, "tenant", configMap("team-a", "a", "1"))
	_, err = apply.NewExecutor(conn, apply.Options{}).Apply(t.Context(), apply.Request{Desired: d})
	f := failure(t, err, apply.AtPreflight)
	if len(f.Refusals) != 1 || !strings.Contains(f.Error(), "cannot impersonate") {
		t.Errorf("%v", f)
	}
	if _, err := v.hands.CoreV1().ConfigMaps("team-a").Get(t.Context(), "a", metav1.GetOptions{}); err == nil {
		t.Error("it was made")
	}
}

// TestT15_WhatCannotBeWatchedIsNotWell has an account that may write but not watch: nobody would notice drift, so that is told.
func TestT15_WhatCannotBeWatchedIsNotWell(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{Name: "unwatched", ServerOnly: true})
	v := newTenancy(t, c.Config())
	role, err := v.hands.RbacV1().Roles("team-a").Get(t.Context(), "tenant", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "patch", "delete"}},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get"}}, // says when the rest is known
	}
	if _, err := v.hands.RbacV1().Roles("team-a").Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	v.may("get", "batch", "jobs")
	executor := apply.NewExecutor(v.conn, apply.Options{})
	d := scoped(t, apply.Scope{Account: teamA}, "tenant", configMap("team-a", "a", "1"))
	result, err := executor.Apply(t.Context(), apply.Request{Desired: d})
	if err != nil {
		t.Fatal(err)
	}
	l := watch(t, executor, true, func(w *apply.Watcher) { w.Track(d, result.Inventory) })
	l.healthy(t, "ConfigMap/team-a/a Unknown")
	l.mu.Lock()
	message := l.health[len(l.health)-1].Unhealthy[0].Message
	l.mu.Unlock()
	if !strings.Contains(message, "cannot be watched") || !strings.Contains(message, "forbidden") {
		t.Errorf("told %q", message)
	}
	if role, err = v.hands.RbacV1().Roles("team-a").Get(t.Context(), "tenant", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	role.Rules[0].Verbs = append(role.Rules[0].Verbs, "list", "watch")
	if _, err := v.hands.RbacV1().Roles("team-a").Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l.healthy(t)
	t.Logf("well %s after the right was given", time.Since(began).Round(time.Millisecond))
}
