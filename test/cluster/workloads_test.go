package cluster_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

var (
	two      = int32(2)
	labels   = map[string]string{"app": "shop"}
	selector = &metav1.LabelSelector{MatchLabels: labels}
	create   = metav1.CreateOptions{}
	get      = metav1.GetOptions{}
	named    = metav1.ObjectMeta{Name: "shop"}
)

func template(restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	var none int64 // with the usual 30 s the namespace controller waits half of them before it looks again
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		RestartPolicy: restart, TerminationGracePeriodSeconds: &none,
		NodeSelector: map[string]string{corev1.LabelOSStable: "linux"}, // as many real manifests do
		Containers:   []corev1.Container{{Name: "main", Image: "example.invalid/shop:1"}},
	}}
}

func newNamespace(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	namespace, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, create)
	if err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

func TestC4WorkloadsBecomeReady(t *testing.T) {
	client := clientOf(t, cluster.Shared(t).Config())
	namespace := newNamespace(t, client)
	for _, w := range []struct {
		name          string
		create, ready func() error
	}{
		{
			"Deployment",
			func() error {
				_, err := client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{ObjectMeta: named,
					Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: selector, Template: template(corev1.RestartPolicyAlways)}}, create)
				return err
			},
			func() error {
				d, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "shop", get)
				return expect(err, d.Status.AvailableReplicas == 2, d.Status)
			},
		},
		{
			"StatefulSet with claims",
			func() error {
				claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}
				_, err := client.AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: named,
					Spec: appsv1.StatefulSetSpec{Replicas: &two, Selector: selector, Template: template(corev1.RestartPolicyAlways),
						VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim}}}, create)
				return err
			},
			func() error {
				s, err := client.AppsV1().StatefulSets(namespace).Get(t.Context(), "shop", get)
				return expect(err, s.Status.ReadyReplicas == 2 && s.Status.AvailableReplicas == 2, s.Status)
			},
		},
		{
			"DaemonSet",
			func() error {
				_, err := client.AppsV1().DaemonSets(namespace).Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: named,
					Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template(corev1.RestartPolicyAlways)}}, create)
				return err
			},
			func() error {
				d, err := client.AppsV1().DaemonSets(namespace).Get(t.Context(), "shop", get)
				return expect(err, d.Status.DesiredNumberScheduled > 0 && d.Status.NumberAvailable == d.Status.DesiredNumberScheduled, d.Status)
			},
		},
		{
			"Job",
			func() error {
				_, err := client.BatchV1().Jobs(namespace).Create(t.Context(), &batchv1.Job{ObjectMeta: named,
					Spec: batchv1.JobSpec{Completions: &two, Template: template(corev1.RestartPolicyNever)}}, create)
				return err
			},
			func() error {
				j, err := client.BatchV1().Jobs(namespace).Get(t.Context(), "shop", get)
				return expect(err, j.Status.Succeeded == 2 && j.Status.CompletionTime != nil, j.Status)
			},
		},
		{
			"PodDisruptionBudget of the Deployment's pods",
			func() error {
				one := intstr.FromInt32(1)
				_, err := client.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: named,
					Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: selector}}, create)
				return err
			},
			func() error {
				b, err := client.PolicyV1().PodDisruptionBudgets(namespace).Get(t.Context(), "shop", get)
				return expect(err, b.Status.ObservedGeneration == b.Generation && b.Status.CurrentHealthy >= 1, b.Status)
			},
		},
	} {
		t.Run(w.name, func(t *testing.T) {
			if err := w.create(); err != nil {
				t.Fatal(err)
			}
			eventually(t, w.name+" ready", time.Minute, w.ready)
		})
	}
}

func TestC4DeletedNamespaceTakesEverythingWithIt(t *testing.T) {
	t.Parallel()
	client := clientOf(t, cluster.Shared(t).Config())
	namespace := newNamespace(t, client)
	_, err := client.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: named,
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		}}, create)
	if err != nil {
		t.Fatal(err)
	}
	pod := template(corev1.RestartPolicyAlways)
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "shop"}}}}
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: named, Spec: pod.Spec}, create); err != nil {
		t.Fatal(err)
	}
	var volume string
	eventually(t, "pod with a bound claim running", time.Minute, func() error {
		claim, err := client.CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "shop", get)
		if err := expect(err, claim.Status.Phase == corev1.ClaimBound, claim.Status); err != nil {
			return err
		}
		volume = claim.Spec.VolumeName
		pod, err := client.CoreV1().Pods(namespace).Get(t.Context(), "shop", get)
		return expect(err, pod.Status.Phase == corev1.PodRunning, pod.Status)
	})
	if err := client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "namespace and volume gone", 2*time.Minute, func() error {
		if _, err := client.CoreV1().Namespaces().Get(t.Context(), namespace, get); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace still there (%v)", err)
		}
		if _, err := client.CoreV1().PersistentVolumes().Get(t.Context(), volume, get); !apierrors.IsNotFound(err) {
			return fmt.Errorf("volume still there (%v)", err)
		}
		return nil
	})
}

func expect(err error, ok bool, status any) error {
	if err == nil && !ok {
		err = fmt.Errorf("%+v", status)
	}
	return err
}
