package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// volumeStages make kwok a provisioner: every claim of a class gets a volume of its own.
//
//go:embed stages/volume.yaml
var volumeStages []byte

// writeFiles puts into the cluster's directory all that the programs read.
func writeFiles(ctx context.Context, c *Cluster, ca *authority, binary string, serverOnly bool) error {
	server, err := ca.server()
	if err != nil {
		return err
	}
	private, public, err := newServiceAccountKeys()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": ca.pem, "server.crt": server.certificate, "server.key": server.key, "sa.key": private, "sa.pub": public,
	}
	if !serverOnly {
		stages, err := exec.CommandContext(ctx, binary, "kwok-stages").Output()
		if err != nil {
			return fmt.Errorf("%s kwok-stages: %w", binary, errors.Join(context.Cause(ctx), err)) // killed, where the time was up
		}
		files["stages.yaml"] = slices.Concat(stages, []byte("---\n"), volumeStages)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return c.writeKubeconfigs()
}

func (c *Cluster) writeKubeconfigs() error {
	// The controller manager acts for all its controllers under one name here, and kwok for kubelets and provisioner.
	groups := map[string][]string{
		"kube-controller-manager": {"system:masters"}, "kube-scheduler": nil, "kwok": {"system:masters"},
	}
	for program, groups := range groups {
		config, err := c.identities.config("system:"+program, groups)
		if err != nil {
			return err
		}
		if err := writeKubeconfig(filepath.Join(c.dir, program+".kubeconfig"), c.name, config); err != nil {
			return err
		}
	}
	return writeKubeconfig(filepath.Join(c.dir, "admin.kubeconfig"), c.name, c.admin)
}

// furnish creates what kubeadm and kind would: nodes and a default storage class, under kind's name for it.
func furnish(ctx context.Context, client kubernetes.Interface, nodes int) error {
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: name,
			// The labels a kubelet sets; real manifests select by them.
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	reclaim, binding := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingImmediate
	_, err := client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{
			"storageclass.kubernetes.io/is-default-class": "true",
		}},
		Provisioner: "kwok.x-k8s.io/volume", ReclaimPolicy: &reclaim, VolumeBindingMode: &binding,
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create storage class: %w", err)
	}
	return nil
}

// furnished is nil when pods can be created in the default namespace and will run.
func furnished(ctx context.Context, client kubernetes.Interface, nodes int) error {
	if _, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for i := range list.Items {
		for _, condition := range list.Items[i].Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready < nodes {
		return fmt.Errorf("%d of %d nodes ready", ready, nodes)
	}
	return nil
}
