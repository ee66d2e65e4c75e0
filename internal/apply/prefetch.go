package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// PrefetchNamespace is where images are pulled before they are needed. It holds nothing else, and the agent may do nothing in it but make and delete
// DaemonSets and look at their pods.
const PrefetchNamespace = "holdfast-prefetch"

// maxImages bounds the images of one prefetch: they are containers of one pod.
const maxImages = 64

// Images are the images that the pods of a bundle will run, sorted, each once; secrets are the pull secrets that their templates name. Pods of kinds
// that only a controller of the site knows how to make are not seen.
func Images(d *Desired) (images, secrets []string, err error) {
	found, named := map[string]bool{}, map[string]bool{}
	for i := range d.Objects {
		o := &d.Objects[i]
		path, runs := podSpecs[policyKind(o.ObjectID)]
		if !runs {
			continue
		}
		body, err := o.Body()
		if err != nil {
			return nil, nil, err
		}
		at, ok := find(body, path...)
		if !ok {
			continue
		}
		var spec struct {
			Containers     []struct{ Image string }
			InitContainers []struct{ Image string }
			Secrets        []struct{ Name string } `json:"imagePullSecrets"`
		}
		if err := json.Unmarshal(body[at.from:at.to], &spec); err != nil {
			return nil, nil, fmt.Errorf("%s: pod template: %w", o.ObjectID, err)
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if c.Image != "" {
				found[c.Image] = true
			}
		}
		for _, s := range spec.Secrets {
			named[s.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(named)), nil
}

var podSpecs = map[string][]string{
	"Pod": {"spec"}, "ReplicationController": {"spec", "template", "spec"},
	"apps/Deployment": {"spec", "template", "spec"}, "apps/StatefulSet": {"spec", "template", "spec"}, "apps/DaemonSet": {"spec", "template", "spec"},
	"apps/ReplicaSet": {"spec", "template", "spec"}, "batch/Job": {"spec", "template", "spec"}, "batch/CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
}

// puller is the DaemonSet that has each node pull the images. Nothing of an image is run: the command of each container is a file that no image has, so
// that the node, which has to have pulled the image to find that out, does not start it. It is tried again with growing pauses until the DaemonSet is
// deleted. The pods have no token, no rights, no root and next to no resources.
func puller(name bundle.Name, images []string) (Ref, []byte, error) {
	type object = map[string]any
	labels := object{Label + "-prefetch": string(name)}
	var containers []any
	for i, image := range images {
		containers = append(containers, object{
			"name": fmt.Sprintf("image-%d", i), "image": image, "imagePullPolicy": "IfNotPresent", "command": []string{"/holdfast/pulls/only/nothing/is/run"},
			"resources":       object{"requests": object{"cpu": "1m", "memory": "1Mi"}, "limits": object{"cpu": "10m", "memory": "16Mi"}},
			"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": object{"drop": []string{"ALL"}}},
		})
	}
	ref := Ref{bundle.ObjectID{Group: "apps", Kind: "DaemonSet", Namespace: PrefetchNamespace, Name: string(name)}, "v1"}
	body, err := json.Marshal(object{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": object{"name": name, "namespace": PrefetchNamespace, "labels": labels},
		"spec": object{"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{
			"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
			"securityContext": object{"runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": object{"type": "RuntimeDefault"}},
			"containers":      containers,
		}}},
	})
	return ref, body, err
}

// Pulls is how far a puller is.
type Pulls struct {
	// Current says that the counts are about the newest template.
	Current bool
	Nodes   int // that are to have the images
	Pods    []PullPod
}

// PullPod is a puller's pod on one node.
type PullPod struct {
	Node       string
	Containers []PullContainer
}

// PullContainer is one image on one node.
type PullContainer struct {
	Image string
	// Started says that the node got as far as starting it, or failed to: it has the image.
	Started bool
	// Reason is why it waits: ContainerCreating, ErrImagePull, RunContainerError.
	Reason  string
	Message string
}

// progress counts the images that nodes have, of how many, and names the first that fails. hopeless: waiting cannot help.
func (p Pulls) progress(images int) (have, of int, failing string, hopeless bool) {
	of = max(p.Nodes, len(p.Pods)) * images
	for _, pod := range p.Pods {
		for _, c := range pod.Containers {
			switch {
			case c.Started, c.Reason == "RunContainerError", c.Reason == "CreateContainerError", c.Reason == "CrashLoopBackOff":
				have++
			case c.Reason == "InvalidImageName":
				return have, of, fmt.Sprintf("%s: not the name of an image", c.Image), true
			case strings.HasPrefix(c.Reason, "ErrImage") || c.Reason == "ImagePullBackOff" || c.Reason == "RegistryUnavailable":
				if failing == "" {
					failing = fmt.Sprintf("%s on node %s: %s: %s", c.Image, pod.Node, c.Reason, c.Message)
				}
			}
		}
	}
	return have, of, failing, false
}

// Prefetch has every node pull the images of a bundle, as the agent itself, and tells how far it is. It returns nil when all nodes have all
// images; otherwise the error says which image failed where. It leaves nothing behind but the images.
func (e *Executor) Prefetch(ctx context.Context, d *Desired, timeout time.Duration, tell func(string)) (err error) {
	images, secrets, err := Images(d)
	if err != nil || len(images) == 0 {
		return err
	}
	if len(images) > maxImages {
		return fmt.Errorf("prefetch: %d images: at most %d can be pulled beforehand", len(images), maxImages)
	}
	ref, body, err := puller(d.Ref.Name, images)
	if err != nil {
		return fmt.Errorf("prefetch: %w", err)
	}
	deadline := e.options.Now().Add(timeout)
	var made Seen
	err = e.try(ctx, func() (err error) {
		made, err = e.cluster.Apply(ctx, Patch{Ref: ref, Body: body, Manager: "holdfast-prefetch", Force: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("prefetch: %w", err)
	}
	defer func() { // also where ctx has ended
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		left := e.try(ctx, func() error {
			_, err := e.cluster.Delete(ctx, ref, made.UID)
			return err
		})
		if left != nil && err == nil {
			err = fmt.Errorf("prefetch: clean up: %w", left)
		}
	}()
	said := ""
	for pause := 100 * time.Millisecond; ; pause = min(pause*3/2, 5*time.Second) {
		var pulls Pulls
		err := e.try(ctx, func() (err error) {
			pulls, err = e.cluster.Pulls(ctx, ref)
			return err
		})
		if err != nil {
			return fmt.Errorf("prefetch: %w", err)
		}
		have, of, failing, hopeless := pulls.progress(len(images))
		switch {
		case hopeless:
			return fmt.Errorf("prefetch: %s", failing)
		case pulls.Current && have >= of && len(pulls.Pods) >= pulls.Nodes:
			return nil
		}
		now := fmt.Sprintf("images on nodes: %d of %d", have, of)
		if failing != "" {
			now += "; " + failing
		}
		if now != said {
			said = now
			tell(now)
		}
		if !e.options.Now().Before(deadline) {
			if len(secrets) > 0 && failing != "" {
				now += fmt.Sprintf("; pull secrets (%s) are not used to prefetch", strings.Join(secrets, ", "))
			}
			return fmt.Errorf("prefetch: not done within %s: %s", timeout, now)
		}
		if err := e.options.wait(ctx, pause); err != nil {
			return fmt.Errorf("prefetch: %w", err)
		}
	}
}
