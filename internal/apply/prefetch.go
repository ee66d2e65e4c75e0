package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// maxPulls bounds the pullers of one prefetch: one for each kind of node that the bundle's pods are for.
const maxPulls = 8

// Pull is what some pods of a bundle need on the nodes that they are for. Pods of kinds that only a controller of the site knows how to make are not seen.
type Pull struct {
	Images       []string          // sorted, each once
	NodeSelector map[string]string // of the pods
	Tolerations  []json.RawMessage
}

// PullSecret names a Secret that a pod template of the bundle names in imagePullSecrets.
type PullSecret struct{ Namespace, Name string }

func (s PullSecret) String() string { return s.Namespace + "/" + s.Name }

// PullsOf are the pulls of a bundle, those for any node first, and the pull secrets that its pod templates name, sorted, each once.
func PullsOf(d *Desired) (pulls []Pull, secrets []PullSecret, err error) {
	found, named := map[string]*Pull{}, map[PullSecret]bool{}
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
			NodeSelector   map[string]string
			Tolerations    []json.RawMessage
			Secrets        []struct{ Name string } `json:"imagePullSecrets"`
		}
		if err := json.Unmarshal(body[at.from:at.to], &spec); err != nil {
			return nil, nil, fmt.Errorf("%s: pod template: %w", o.ObjectID, err)
		}
		key, err := json.Marshal([]any{spec.NodeSelector, spec.Tolerations})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: pod template: %w", o.ObjectID, err)
		}
		p := found[string(key)]
		if p == nil {
			p = &Pull{NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations}
			found[string(key)] = p
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if c.Image != "" && !slices.Contains(p.Images, c.Image) {
				p.Images = append(p.Images, c.Image)
			}
		}
		for _, s := range spec.Secrets {
			named[PullSecret{o.Namespace, s.Name}] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if p := found[key]; len(p.Images) > 0 {
			slices.Sort(p.Images)
			pulls = append(pulls, *p)
		}
	}
	slices.SortStableFunc(pulls, func(a, b Pull) int {
		return cmp.Compare(len(a.NodeSelector)+len(a.Tolerations), len(b.NodeSelector)+len(b.Tolerations))
	})
	return pulls, slices.SortedFunc(maps.Keys(named), func(a, b PullSecret) int { return strings.Compare(a.String(), b.String()) }), nil
}

var podSpecs = map[string][]string{
	"Pod": {"spec"}, "ReplicationController": {"spec", "template", "spec"},
	"apps/Deployment": {"spec", "template", "spec"}, "apps/StatefulSet": {"spec", "template", "spec"}, "apps/DaemonSet": {"spec", "template", "spec"},
	"apps/ReplicaSet": {"spec", "template", "spec"}, "batch/Job": {"spec", "template", "spec"}, "batch/CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
}

// puller is the DaemonSet that has the nodes pull the images. Nothing of an image is run: the command of each container is a file that no image has, so
// that the node, which has to have pulled the image to find that out, does not start it. It is tried again with growing pauses until the DaemonSet is
// deleted. The pods have no token, no rights, no root and next to no resources, and the pull secrets of the bundle's pods.
func puller(name string, pull Pull, secrets []string) (Ref, []byte, error) {
	type object = map[string]any
	labels := object{Label + "-prefetch": name}
	var containers []any
	for i, image := range pull.Images {
		containers = append(containers, object{
			"name": fmt.Sprintf("image-%d", i), "image": image, "imagePullPolicy": "IfNotPresent", "command": []string{"/holdfast/pulls/only/nothing/is/run"},
			"resources":       object{"requests": object{"cpu": "1m", "memory": "1Mi"}, "limits": object{"cpu": "10m", "memory": "16Mi"}},
			"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": object{"drop": []string{"ALL"}}},
		})
	}
	var opened []object
	for _, secret := range secrets {
		opened = append(opened, object{"name": secret})
	}
	ref := Ref{bundle.ObjectID{Group: "apps", Kind: "DaemonSet", Namespace: PrefetchNamespace, Name: name}, "v1"}
	body, err := json.Marshal(object{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": object{"name": name, "namespace": PrefetchNamespace, "labels": labels},
		"spec": object{"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{
			"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
			"securityContext": object{"runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": object{"type": "RuntimeDefault"}},
			"containers":      containers, "nodeSelector": pull.NodeSelector, "tolerations": pull.Tolerations, "imagePullSecrets": opened,
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

// lend copies the pull secrets of a bundle to where its images are pulled, and gives the copies with why some are missing. A secret that the bundle brings is taken from it;
// any other is read as the bundle's account.
func (e *Executor) lend(ctx context.Context, d *Desired, secrets []PullSecret) (copies []made, why string) {
	var missing []string
	for i, s := range secrets {
		body, err := e.opened(ctx, d, s)
		if err == nil {
			ref := Ref{bundle.ObjectID{Kind: "Secret", Namespace: PrefetchNamespace, Name: fmt.Sprintf("%s.%d", d.Ref.Name, i+1)}, "v1"}
			var seen Seen
			err = e.try(ctx, func() (err error) {
				seen, err = e.cluster.Apply(ctx, Patch{Ref: ref, Body: body(ref), Manager: "holdfast-prefetch", Force: true})
				return err
			})
			if err == nil {
				copies = append(copies, made{ref, seen.UID})
				continue
			}
		}
		missing = append(missing, fmt.Sprintf("pull secret %s is not used: %s", s, err))
	}
	return copies, strings.Join(missing, "; ")
}

// made is an object that a prefetch made and takes away again.
type made struct {
	ref Ref
	uid string
}

// Credentials are what a pull secret holds.
type Credentials struct {
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

// pullSecretKeys are the kinds of pull secrets, and under which key each holds what it holds.
var pullSecretKeys = map[string]string{"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}

// opened gives a copy of a pull secret that holds nothing else of it.
func (e *Executor) opened(ctx context.Context, d *Desired, s PullSecret) (copyAs func(Ref) []byte, err error) {
	var c Credentials
	if i := slices.IndexFunc(d.Objects, func(o Object) bool {
		return o.ObjectID == (bundle.ObjectID{Kind: "Secret", Namespace: s.Namespace, Name: s.Name})
	}); i >= 0 {
		c, err = brought(&d.Objects[i])
	} else {
		err = e.try(ctx, func() (err error) {
			c, err = e.as(d.Scope.Account).PullSecret(ctx, s)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	key, known := pullSecretKeys[c.Type]
	if !known || len(c.Data[key]) == 0 {
		return nil, errors.New("it is no pull secret")
	}
	return func(ref Ref) []byte {
		body, _ := json.Marshal(map[string]any{ // of strings and bytes
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": ref.Name, "namespace": ref.Namespace}, "type": c.Type, "data": map[string][]byte{key: c.Data[key]},
		})
		return body
	}, nil
}

func brought(o *Object) (c Credentials, err error) {
	body, err := o.Body()
	if err != nil {
		return c, err
	}
	var plain struct{ StringData map[string]string }
	if json.Unmarshal(body, &c) != nil || json.Unmarshal(body, &plain) != nil {
		return Credentials{}, errors.New("it does not decode") // what it is may be secret
	}
	for key, value := range plain.StringData {
		if c.Data == nil {
			c.Data = map[string][]byte{}
		}
		c.Data[key] = []byte(value)
	}
	return c, nil
}

// Prefetch has the nodes that a bundle's pods are for pull its images, as the agent itself, and tells how far they are. It returns nil when they have all of them; otherwise the
// error says which image failed where. It leaves nothing behind but the images.
func (e *Executor) Prefetch(ctx context.Context, d *Desired, timeout time.Duration, tell func(string)) (err error) {
	pulls, secrets, err := PullsOf(d)
	if err != nil || len(pulls) == 0 {
		return err
	}
	if len(pulls) > maxPulls {
		return fmt.Errorf("prefetch: pods for %d kinds of nodes: at most %d can be pulled for beforehand", len(pulls), maxPulls)
	}
	for _, p := range pulls {
		if len(p.Images) > maxImages {
			return fmt.Errorf("prefetch: %d images: at most %d can be pulled beforehand", len(p.Images), maxImages)
		}
	}
	deadline := e.options.Now().Add(timeout)
	left, missing := e.lend(ctx, d, secrets)
	names := make([]string, len(left))
	for i, secret := range left {
		names[i] = secret.ref.Name
	}
	defer func() { // also where ctx has ended
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		for _, m := range slices.Backward(left) {
			stays := e.try(ctx, func() error {
				_, err := e.cluster.Delete(ctx, m.ref, m.uid)
				return err
			})
			if stays != nil && err == nil {
				err = fmt.Errorf("prefetch: clean up: %w", stays)
			}
		}
	}()
	refs := make([]Ref, len(pulls))
	for i, p := range pulls {
		name := string(d.Ref.Name)
		if i > 0 {
			name += fmt.Sprintf(".%d", i+1)
		}
		ref, body, err := puller(name, p, names)
		if err != nil {
			return fmt.Errorf("prefetch: %w", err)
		}
		var seen Seen
		err = e.try(ctx, func() (err error) {
			seen, err = e.cluster.Apply(ctx, Patch{Ref: ref, Body: body, Manager: "holdfast-prefetch", Force: true})
			return err
		})
		if err != nil {
			return fmt.Errorf("prefetch: %w", err)
		}
		refs[i] = ref
		left = append(left, made{ref, seen.UID})
	}
	said := ""
	for pause := 100 * time.Millisecond; ; pause = min(pause*3/2, 5*time.Second) {
		far, err := e.pulled(ctx, refs, pulls)
		switch {
		case err != nil:
			return fmt.Errorf("prefetch: %w", err)
		case far.hopeless:
			return fmt.Errorf("prefetch: %s", far.failing)
		case far.done:
			return nil
		}
		now := fmt.Sprintf("images on nodes: %d of %d", far.have, far.of)
		if far.failing != "" {
			now += "; " + far.failing
			if missing != "" {
				now += "; " + missing
			}
		}
		if now != said {
			said = now
			tell(now)
		}
		if !e.options.Now().Before(deadline) {
			return fmt.Errorf("prefetch: not done within %s: %s", timeout, now)
		}
		if err := e.options.wait(ctx, pause); err != nil {
			return fmt.Errorf("prefetch: %w", err)
		}
	}
}

// far is how far all pullers of a bundle are.
type far struct {
	have, of       int
	failing        string
	hopeless, done bool
}

func (e *Executor) pulled(ctx context.Context, refs []Ref, of []Pull) (all far, err error) {
	all.done = true
	for i, ref := range refs {
		var pulls Pulls
		err := e.try(ctx, func() (err error) {
			pulls, err = e.cluster.Pulls(ctx, ref)
			return err
		})
		if err != nil {
			return far{}, err
		}
		have, needed, failing, hopeless := pulls.progress(len(of[i].Images))
		all.have, all.of = all.have+have, all.of+needed
		if all.failing == "" || hopeless && !all.hopeless {
			all.failing = failing
		}
		all.hopeless = all.hopeless || hopeless
		all.done = all.done && pulls.Current && have >= needed && len(pulls.Pods) >= pulls.Nodes
	}
	return all, nil
}
