package kube_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// TestStoreKeyInASecret runs the life of a key against an API server: as an account that may read and patch one Secret, and as one that may make it.
func TestStoreKeyInASecret(t *testing.T) {
	const namespace = "store-key"
	c := cluster.Shared(t)
	admin, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	hands := kubernetes.NewForConfigOrDie(c.Config())
	if _, err := hands.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secrets := hands.CoreV1().Secrets(namespace)
	for name, data := range map[string]map[string][]byte{"installed": {"note": []byte("stays")}, "other": nil, "unusable": {"store.key": []byte("too-short-horse")}} {
		if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"of": "installation"}}, Data: data}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	account := tenant(t, hands, namespace,
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"installed", "absent", "unusable"}, Verbs: []string{"get", "patch"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"patch"}}) // what tenant waits for
	agent := admin.As(account).(*kube.Conn)

	t.Run("read and patch", func(t *testing.T) {
		source := agent.StoreKey(namespace, "installed")
		first, err := storekey.Obtain(t.Context(), source, false)
		if err != nil || first.Empty() {
			t.Fatalf("%s, %v", first, err)
		}
		if again, err := storekey.Obtain(t.Context(), agent.StoreKey(namespace, "installed"), true); err != nil || !bytes.Equal(again.Encode(), first.Encode()) {
			t.Errorf("another key is read, %v", err)
		}
		for _, ring := range []storekey.Ring{first.Next(), first} { // a source may write twice
			if err := source.Write(t.Context(), ring); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := secrets.Get(t.Context(), "installed", metav1.GetOptions{})
		if err != nil || string(kept.Data["note"]) != "stays" || kept.Labels["of"] != "installation" || !bytes.Equal(kept.Data["store.key"], first.Encode()) {
			t.Errorf("the Secret has %d fields and labels %v, %v", len(kept.Data), kept.Labels, err)
		}
	})
	t.Run("conflict", func(t *testing.T) {
		for name, conn := range map[string]*kube.Conn{"installed": agent, "made-by-two": admin} {
			one, two := conn.StoreKey(namespace, name), conn.StoreKey(namespace, name)
			for _, source := range []storekey.Source{one, two} {
				if _, err := source.Read(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			winner := storekey.Fresh()
			if err := one.Write(t.Context(), winner); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := two.Write(t.Context(), storekey.Fresh()); !errors.Is(err, storekey.ErrChanged) {
				t.Errorf("%s: the second writer: %v", name, err)
			}
			if got, err := storekey.Obtain(t.Context(), two, false); err != nil || !bytes.Equal(got.Encode(), winner.Encode()) {
				t.Errorf("%s: the second one has another key, %v", name, err)
			}
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		if ring, err := storekey.Obtain(t.Context(), agent.StoreKey(namespace, "other"), false); err == nil || !ring.Empty() || !strings.Contains(err.Error(), "secret:store-key/other") {
			t.Errorf("a Secret that may not be read: %s, %v", ring, err)
		}
		if _, err := storekey.Obtain(t.Context(), agent.StoreKey(namespace, "absent"), false); !errors.Is(err, storekey.ErrReadOnly) {
			t.Errorf("a Secret that may not be made: %v", err)
		}
		if _, err := storekey.Obtain(t.Context(), agent.StoreKey(namespace, "absent"), true); !errors.Is(err, storekey.ErrLost) {
			t.Errorf("a Secret that is gone: %v", err)
		}
		if all, err := secrets.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=absent"}); err != nil || len(all.Items) != 0 {
			t.Errorf("it was made: %v", err)
		}
	})
	t.Run("unusable", func(t *testing.T) {
		if _, err := storekey.Obtain(t.Context(), agent.StoreKey(namespace, "unusable"), false); err == nil || strings.Contains(err.Error(), "horse") {
			t.Errorf("%v", err)
		}
	})
}
