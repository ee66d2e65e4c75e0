package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// shop is a small application in its own namespace.
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: %[1]s}
data: {greeting: %[2]s}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: %[1]s}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "registry.k8s.io/pause:3.10"}]}
`

// shopFolder is a folder with a shop and more files.
func shopFolder(t *testing.T, namespace, greeting string, more ...string) string {
	t.Helper()
	return folder(t, append([]string{"shop.yaml", fmt.Sprintf(shop, namespace, greeting)}, more...)...)
}

// hands are those of people with kubectl.
type hands struct {
	*stage
	kubernetes.Interface
	namespace string
}

func (s *site) hands(namespace string) hands {
	return hands{s.stage, kubernetes.NewForConfigOrDie(s.Cluster.Config()), namespace}
}

func (h hands) greeting() (string, error) {
	settings, err := h.CoreV1().ConfigMaps(h.namespace).Get(h.context(), "settings", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return settings.Data["greeting"], nil
}

// greet edits the shop's ConfigMap.
func (h hands) greet(greeting string) {
	h.t.Helper()
	settings, err := h.CoreV1().ConfigMaps(h.namespace).Get(h.context(), "settings", metav1.GetOptions{})
	if err == nil {
		settings.Data["greeting"] = greeting
		_, err = h.CoreV1().ConfigMaps(h.namespace).Update(h.context(), settings, metav1.UpdateOptions{FieldManager: "kubectl-edit"})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// deleteService deletes the shop's Service.
func (h hands) deleteService() *corev1.Service {
	h.t.Helper()
	service, err := h.CoreV1().Services(h.namespace).Get(h.context(), "web", metav1.GetOptions{})
	if err == nil {
		err = h.CoreV1().Services(h.namespace).Delete(h.context(), "web", metav1.DeleteOptions{})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return service
}

// repaired waits until the edit is undone and the Service made anew.
func (h hands) repaired(greeting string, deleted *corev1.Service) {
	h.t.Helper()
	h.eventually("what was edited and deleted by hand to be right again", func() error {
		service, err := h.CoreV1().Services(h.namespace).Get(h.context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if service.UID == deleted.UID {
			return fmt.Errorf("the Service is still there")
		}
		now, err := h.greeting()
		if err == nil && now != greeting {
			err = fmt.Errorf("the greeting is %q, want %q", now, greeting)
		}
		return err
	})
}
