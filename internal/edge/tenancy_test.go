package edge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestT15_APolicyOnlyNarrows(t *testing.T) {
	protected := DefaultProtected()
	installed := Policy{Account: "holdfast-bundles/bundles", AccountsIn: []string{"holdfast-bundles"}, Protected: protected}
	for name, c := range map[string]struct {
		policy  Policy
		ordered *fleetsync.Scope
		account bundle.Account
		refused string
	}{
		"nobody is named":                   {Policy{}, nil, "", ""},
		"the site chose":                    {installed, nil, "holdfast-bundles/bundles", ""},
		"only namespaces are named":         {installed, &fleetsync.Scope{Namespaces: []string{"shop"}}, "holdfast-bundles/bundles", ""},
		"an account is named":               {installed, &fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop"}, "holdfast-bundles/shop", ""},
		"an account elsewhere":              {installed, &fleetsync.Scope{ServiceAccount: "shop/deployer"}, "", "only as accounts in holdfast-bundles"},
		"any account, the site is open":     {Policy{Protected: protected}, &fleetsync.Scope{ServiceAccount: "shop/deployer"}, "shop/deployer", ""},
		"an account of kube-system":         {Policy{Protected: protected}, &fleetsync.Scope{ServiceAccount: "kube-system/default"}, "", "protected"},
		"the agent's own account":           {Policy{Protected: protected}, &fleetsync.Scope{ServiceAccount: "holdfast-system/holdfast-edge"}, "", "protected"},
		"the site's own, though protected":  {Policy{Account: "holdfast-system/b", Protected: protected}, &fleetsync.Scope{ServiceAccount: "holdfast-system/b"}, "holdfast-system/b", ""},
		"no account may be named":           {Policy{AccountsIn: []string{}}, &fleetsync.Scope{ServiceAccount: "shop/deployer"}, "", "only as accounts in"},
		"what is no account (an old store)": {Policy{}, &fleetsync.Scope{ServiceAccount: "system:admin"}, "", "want namespace/name"},
	} {
		scope, err := c.policy.scope("shop", c.ordered)
		if c.refused != "" {
			var ran fleetsync.Ran
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %q", name, err, c.refused)
			} else if blame(err, &ran); ran.Reason != "OutsideScope" || ran.Outcome != fleetsync.OutcomeRejected {
				t.Errorf("%s: %+v", name, ran)
			}
			continue
		}
		if err != nil || scope.Account != c.account || !slices.Equal(scope.Protected, c.policy.Protected) {
			t.Errorf("%s: %+v, %v", name, scope, err)
		}
		if all := slices.Contains(scope.Kinds, bundle.EveryKind); all != (c.ordered == nil) {
			t.Errorf("%s: every kind is allowed: %v", name, all)
		}
	}
}

// installation is a cluster with the edge installed from deploy/edge, and an agent with exactly the identity that gives it.
type installation struct {
	t         *testing.T
	admin     *kube.Conn
	hands     *kubernetes.Clientset
	agent     *rest.Config
	workloads *KubeWorkloads

	mu       sync.Mutex
	seen     []fleetsync.Input
	contents map[bundle.Digest]verify.Verified
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	c := cluster.ForTest(t, cluster.Options{Name: "installed"})
	admin, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	x := &installation{t: t, admin: admin, hands: kubernetes.NewForConfigOrDie(c.Config()), contents: map[bundle.Digest]verify.Verified{}}
	for _, folder := range []string{"../../deploy/edge", "../../deploy/edge/tenant"} {
		x.install(folder)
	}
	file, err := c.KubeconfigForServiceAccount(t.Context(), "holdfast-system", "holdfast-edge")
	if err != nil {
		t.Fatal(err)
	}
	if x.agent, err = clientcmd.BuildConfigFromFlags("", file); err != nil {
		t.Fatal(err)
	}
	conn, err := kube.Connect(x.agent)
	if err != nil {
		t.Fatal(err)
	}
	policy := Policy{Account: "holdfast-bundles/bundles", AccountsIn: []string{"holdfast-bundles"}, Protected: append(DefaultProtected(), "holdfast-bundles")}
	x.workloads = NewWorkloads(conn, policy, memstore.New(), zap.NewNop())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		x.workloads.Watch(t.Context(), func(in fleetsync.Input) {
			x.mu.Lock()
			x.seen = append(x.seen, in)
			x.mu.Unlock()
			if d, ok := in.(fleetsync.DriftSeen); ok && !d.Gone {
				x.workloads.Correct(fleetsync.Correct{Name: d.Name, Drift: d.Drift})
			}
		})
	}()
	t.Cleanup(func() { <-watching })
	return x
}

// install applies a kustomization as an administrator does.
func (x *installation) install(folder string) {
	x.t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			x.t.Fatal(err)
		}
		raw, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			x.t.Fatal(err)
		}
		o := object(string(raw))
		if _, err := x.admin.Apply(x.t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: o.ID, Version: o.Version}, Body: o.JSON, Manager: "administrator"}); err != nil {
			x.t.Fatalf("%s: %v", o.ID, err)
		}
	}
}

// run runs a bundle of some objects.
func (x *installation) run(name bundle.Name, scope *fleetsync.Scope, objects ...bundle.Object) fleetsync.Ran {
	x.t.Helper()
	v := verifytest.Verified(x.t, objects, func(m *bundle.Manifest) {
		m.Name, m.Policy = name, bundle.Policy{Prune: true, Drift: bundle.DriftEnforce}
	})
	x.contents[v.Digest()] = v
	return x.ran(fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: name, Version: v.Manifest().Version, Digest: v.Digest(), Scope: scope}, Spec: string(name)})
}

func (x *installation) ran(run fleetsync.Run) (ran fleetsync.Ran) {
	x.workloads.Run(x.t.Context(), run, x.load, func(r fleetsync.Ran) { ran = r })
	return ran
}

func (x *installation) load(digest bundle.Digest) (verify.Verified, error) {
	v, ok := x.contents[digest]
	if !ok {
		return v, errors.New("not there")
	}
	return v, nil
}

// saw waits for an input.
func (x *installation) saw(what string, is func(fleetsync.Input) bool) {
	x.t.Helper()
	eventually(x.t, what, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return slices.ContainsFunc(x.seen, is)
	})
}

// may asks the API server whether somebody may do something.
func (x *installation) may(user string, a authorizationv1.ResourceAttributes) bool {
	x.t.Helper()
	review, err := x.hands.AuthorizationV1().SubjectAccessReviews().Create(x.t.Context(),
		&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &a}}, metav1.CreateOptions{})
	if err != nil {
		x.t.Fatal(err)
	}
	return review.Status.Allowed
}

func shopMap(namespace, name, value string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":%q}}`, value, name, namespace))
}

// TestT15_TheDefaultInstallationIsEnough runs a tenant's bundle through its life with nothing but the rights of deploy/edge, and shows what they do
// not reach.
func TestT15_TheDefaultInstallationIsEnough(t *testing.T) {
	x := newInstallation(t)
	tenant := &fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop", Namespaces: []string{"shop"}}
	eventually(t, "the server knows the tenant's rights", func() bool {
		return x.may("system:serviceaccount:holdfast-bundles:shop", authorizationv1.ResourceAttributes{Namespace: "shop", Verb: "patch", Resource: "configmaps"}) &&
			x.may("system:serviceaccount:holdfast-system:holdfast-edge", authorizationv1.ResourceAttributes{Namespace: "holdfast-bundles", Verb: "impersonate", Resource: "serviceaccounts", Name: "shop"})
	})
	get := func(namespace, name string) bool {
		_, err := x.hands.CoreV1().ConfigMaps(namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil
	}

	ran := x.run("shop", tenant, shopMap("shop", "a", "1"), shopMap("shop", "b", "1"))
	if ran.Outcome != fleetsync.OutcomeApplied || ran.Changed != 2 {
		t.Fatalf("%+v", ran)
	}
	x.saw("the bundle is healthy", func(in fleetsync.Input) bool {
		h, ok := in.(fleetsync.HealthSeen)
		return ok && h.Name == "shop" && len(h.Unhealthy) == 0
	})
	if err := x.hands.CoreV1().ConfigMaps("shop").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	x.saw("the deletion is undone", func(in fleetsync.Input) bool {
		c, ok := in.(fleetsync.Corrected)
		return ok && c.Err == "" && c.Drift.Object == "ConfigMap/shop/a"
	})
	if ran = x.run("shop", tenant, shopMap("shop", "a", "2")); ran.Outcome != fleetsync.OutcomeApplied || ran.Pruned != 1 || get("shop", "b") {
		t.Errorf("an update: %+v", ran)
	}

	for name, c := range map[string]struct {
		scope  *fleetsync.Scope
		object bundle.Object
		reason string
		says   string
	}{
		"nobody is named":              {nil, shopMap("shop", "x", "1"), "PreflightFailed", "holdfast-bundles:bundles"},
		"outside the assignment":       {tenant, shopMap("default", "x", "1"), "OutsideScope", "ConfigMap/default/x"},
		"outside the account":          {&fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop"}, shopMap("default", "x", "1"), "PreflightFailed", "holdfast-bundles:shop"},
		"into kube-system":             {&fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop", Namespaces: []string{"kube-system"}}, shopMap("kube-system", "x", "1"), "OutsideScope", "protected"},
		"as a controller":              {&fleetsync.Scope{ServiceAccount: "kube-system/namespace-controller"}, shopMap("shop", "x", "1"), "OutsideScope", "only as accounts in holdfast-bundles"},
		"into the accounts' namespace": {&fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop", Namespaces: []string{"holdfast-bundles"}}, shopMap("holdfast-bundles", "x", "1"), "OutsideScope", "protected"},
		"a kind the assignment leaves out": {&fleetsync.Scope{ServiceAccount: "holdfast-bundles/shop", Kinds: []bundle.KindPattern{"apps/*"}}, shopMap("shop", "x", "1"),
			"OutsideScope", "the kind ConfigMap"},
	} {
		ran := x.run("greedy", c.scope, shopMap("shop", "innocent", "1"), c.object)
		if ran.Outcome != fleetsync.OutcomeRejected || ran.Reason != c.reason || !strings.Contains(ran.Message, c.says) {
			t.Errorf("%s: %+v", name, ran)
		}
		if get("shop", "innocent") || get(c.object.ID.Namespace, "x") {
			t.Errorf("%s: something was applied", name)
		}
	}

	ran = x.ran(fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: "shop"}, Remove: true})
	if ran.Outcome != fleetsync.OutcomeApplied || ran.Pruned != 1 || get("shop", "a") {
		t.Errorf("removal: %+v", ran)
	}
	x.mayNothingElse()
	x.keepsTheStoreKey()
	x.announces()
	x.keepsTheNote()
	x.runs()
}

// mayNothingElse holds what the agent itself may do, as the API server tells it, against the list of `holdfast-edge permissions`.
func (x *installation) mayNothingElse() {
	x.t.Helper()
	agent := kubernetes.NewForConfigOrDie(x.agent)
	for _, namespace := range []string{"holdfast-bundles", "holdfast-system", "kube-system", "shop", "default"} {
		review, err := agent.AuthorizationV1().SelfSubjectRulesReviews().Create(x.t.Context(),
			&authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}, metav1.CreateOptions{})
		if err != nil {
			x.t.Fatal(err)
		}
		var more []string
		for _, rule := range review.Status.ResourceRules {
			if !slices.ContainsFunc(rule.Resources, func(r string) bool { return strings.HasPrefix(r, "selfsubject") || r == "clustertrustbundles" }) {
				more = append(more, fmt.Sprint(rule.Verbs, rule.APIGroups, rule.Resources, rule.ResourceNames))
			}
		}
		var want []string
		switch namespace {
		case "holdfast-bundles":
			want = []string{"[impersonate] [] [serviceaccounts] []"}
		case "holdfast-system":
			want = []string{"[create] [events.k8s.io] [events] []", "[get patch] [] [configmaps] [" + NoteName + "]", "[get patch] [] [secrets] [" + StoreKeySecret + "]"}
			slices.Sort(more)
		}
		if !slices.Equal(more, want) {
			x.t.Errorf("in %s the agent may %q, want %q", namespace, more, want)
		}
	}
	for _, a := range []authorizationv1.ResourceAttributes{
		{Verb: "list", Resource: "secrets"}, {Verb: "get", Resource: "secrets", Namespace: "holdfast-system"}, {Verb: "list", Resource: "configmaps"},
		{Verb: "get", Resource: "secrets", Namespace: "holdfast-system", Name: "holdfast-enrolment"}, {Verb: "get", Resource: "secrets", Namespace: "shop", Name: StoreKeySecret},
		{Verb: "list", Resource: "secrets", Namespace: "holdfast-system", Name: StoreKeySecret}, {Verb: "delete", Resource: "secrets", Namespace: "holdfast-system", Name: StoreKeySecret},
		{Verb: "create", Resource: "secrets", Namespace: "holdfast-system"}, {Verb: "create", Resource: "configmaps", Namespace: "holdfast-system"},
		{Verb: "get", Resource: "configmaps", Namespace: "holdfast-system", Name: "holdfast-watchdog"}, {Verb: "delete", Resource: "configmaps", Namespace: "holdfast-system", Name: NoteName},
		{Verb: "impersonate", Resource: "users"}, {Verb: "impersonate", Resource: "groups"}, {Verb: "impersonate", Resource: "serviceaccounts", Namespace: "kube-system"},
		{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "holdfast-bundles"}, {Verb: "create", Resource: "pods", Namespace: "holdfast-system"},
	} {
		if x.may("system:serviceaccount:holdfast-system:holdfast-edge", a) {
			x.t.Errorf("the agent itself may %s %s/%s in %q", a.Verb, a.Resource, a.Subresource, a.Namespace)
		}
	}
}

// keepsTheStoreKey makes the store's key as the agent does at its first start, changes it, and wants it to outlive that the edge is installed again.
func (x *installation) keepsTheStoreKey() {
	x.t.Helper()
	k := Keyed{Dir: x.t.TempDir(), Namespace: "holdfast-system", Cluster: func() (*kube.Conn, error) { return kube.Connect(x.agent) }, Log: zap.NewNop()}
	source, first, err := k.obtain(x.t.Context(), "")
	if err != nil || source.String() != "secret:holdfast-system/"+StoreKeySecret {
		x.t.Fatalf("the store's key is in %v, %v", source, err)
	}
	next := first.Next()
	if err := source.Write(x.t.Context(), next); err != nil {
		x.t.Fatal(err)
	}
	x.install("../../deploy/edge")
	if _, again, err := k.obtain(x.t.Context(), ""); err != nil || !bytes.Equal(again.Encode(), next.Encode()) {
		x.t.Errorf("installed again, the store's key is another one, %v", err)
	}
}

// keepsTheNote has the agent keep a note as it does by default, and wants it to outlive that the edge is installed again. Without its ConfigMap the agent
// may not make one, and says what is missing.
func (x *installation) keepsTheNote() {
	x.t.Helper()
	conn, err := kube.Connect(x.agent)
	if err != nil {
		x.t.Fatal(err)
	}
	begin := func() Notebook {
		book, err := Config{Namespace: "holdfast-system"}.notebook(conn, shop1)
		if err != nil {
			x.t.Fatal(err)
		}
		return book
	}
	book := begin()
	if raw, err := book.Read(x.t.Context()); err != nil || len(raw) > 0 {
		x.t.Fatalf("installed with the note %q, %v", raw, err)
	}
	if err := book.Write(x.t.Context(), []byte("kept")); err != nil {
		x.t.Fatal(err)
	}
	x.install("../../deploy/edge")
	if raw, err := begin().Read(x.t.Context()); err != nil || string(raw) != "kept" {
		x.t.Errorf("installed again, the note is %q, %v", raw, err)
	}
	if err := x.hands.CoreV1().ConfigMaps("holdfast-system").Delete(x.t.Context(), NoteName, metav1.DeleteOptions{}); err != nil {
		x.t.Fatal(err)
	}
	if err := book.Write(x.t.Context(), []byte("more")); !errors.Is(err, errNoteChanged) {
		x.t.Errorf("a note that was deleted: %v", err)
	}
	if raw, err := book.Read(x.t.Context()); err != nil || len(raw) > 0 {
		x.t.Errorf("a note that was deleted reads as %q, %v", raw, err)
	}
	if err := book.Write(x.t.Context(), []byte("more")); err == nil || !strings.Contains(noteWords(err), hintNote) {
		x.t.Errorf("without its ConfigMap: %v", err)
	}
}

// runs wants the agent's pod to be admitted in its restricted namespace, and no pod where the accounts are.
func (x *installation) runs() {
	x.t.Helper()
	eventually(x.t, "the agent's pod is admitted", func() bool {
		pods, err := x.hands.CoreV1().Pods("holdfast-system").List(x.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=holdfast-edge"})
		if err != nil {
			x.t.Fatal(err)
		}
		return len(pods.Items) == 1
	})
	yes, no := true, false
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: corev1.PodSpec{ServiceAccountName: "shop", Containers: []corev1.Container{{
		Name: "c", Image: "busybox:1", SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, RunAsNonRoot: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
	}}}}
	quotas := x.hands.CoreV1().ResourceQuotas("holdfast-bundles")
	quota, err := quotas.Get(x.t.Context(), "no-pods", metav1.GetOptions{})
	if err != nil {
		x.t.Fatal(err)
	}
	quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: corev1.ResourceList{"pods": {}}} // this cluster has no controller that counts
	if _, err := quotas.UpdateStatus(x.t.Context(), quota, metav1.UpdateOptions{}); err != nil {
		x.t.Fatal(err)
	}
	eventually(x.t, "pods are refused where the accounts are", func() bool { // once the quota is known
		_, err = x.hands.CoreV1().Pods("holdfast-bundles").Create(x.t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "exceeded quota: no-pods")
	})
}
