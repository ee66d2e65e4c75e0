package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

var worlds atomic.Int64

func TestCluster(t *testing.T) {
	c := cluster.Shared(t)
	conn, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	hands := kubernetes.NewForConfigOrDie(c.Config())
	clustertest.Run(t, func(t *testing.T) clustertest.World {
		namespace := fmt.Sprintf("suite-%d", worlds.Add(1))
		id := bundle.ObjectID{Kind: "Namespace", Name: namespace}
		if _, err := conn.Apply(t.Context(), apply.Patch{Ref: apply.Ref{ObjectID: id, Version: "v1"}, Manager: "test",
			Body: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, namespace)}); err != nil {
			t.Fatal(err)
		}
		patch := func(t *testing.T, name, manager string, change any) {
			t.Helper()
			b, err := json.Marshal(change)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hands.CoreV1().ConfigMaps(namespace).Patch(t.Context(), name, types.MergePatchType, b, metav1.PatchOptions{FieldManager: manager}); err != nil {
				t.Fatal(err)
			}
		}
		return clustertest.World{
			Cluster:   conn,
			Namespace: namespace,
			Tenant: func(t *testing.T) bundle.Account {
				return tenant(t, hands, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}})
			},
			SetData: func(t *testing.T, name, key, value, manager string) {
				patch(t, name, manager, map[string]any{"data": map[string]any{key: value}})
			},
			Unlabel: func(t *testing.T, name string) {
				patch(t, name, "kubectl-edit", map[string]any{"metadata": map[string]any{"labels": map[string]any{apply.Label: nil}}})
			},
		}
	})
}

// tenant makes a service account that may do in its namespace what the rules say, and waits until the server knows.
func tenant(t *testing.T, hands kubernetes.Interface, namespace string, rules ...rbacv1.PolicyRule) bundle.Account {
	t.Helper()
	meta := metav1.ObjectMeta{Name: "tenant"}
	if _, err := hands.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := hands.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tenant"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "tenant"}}}
	if _, err := hands.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	account := bundle.Account(namespace + "/tenant")
	clustertest.Eventually(t, func() error {
		last := rules[len(rules)-1]
		review, err := hands.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: account.User(), ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: "patch", Group: last.APIGroups[0], Resource: last.Resources[0]}}}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("%s may not do anything yet", account)
		}
		return err
	})
	return account
}

func TestVersionAndUnreachable(t *testing.T) {
	conn, err := kube.Connect(cluster.Shared(t).Config())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := conn.Version(t.Context()); err != nil || !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q, %v", v, err)
	}
	away, err := kube.Connect(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = away.Version(ctx)
	if want := "cluster unreachable: dial tcp 127.0.0.1:1: connect: connection refused"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if class := apply.ClassOf(err); class != apply.Passing {
		t.Errorf("class %v", class)
	}
}
