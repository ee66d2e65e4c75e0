// Package memcluster keeps the port of internal/apply in memory, for tests and for the simulation of a fleet.
//
// It is a real cluster in what clustertest asks of both: resource versions grow with every change and only then, fields have managers that
// conflict, deletions carry UIDs, watches list and then tell. It is none in what it leaves out: no schemas, no defaulting, lists are values,
// nothing runs. Outside hands (Edit, Remove) and faults (Fail) are methods beside the port.
package memcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// Version is what a Cluster says its version is.
const Version = "1.37.1"

// Cluster is a cluster in memory, as one account sees it. New makes one, As another view of it.
type Cluster struct {
	*world
	account bundle.Account
}

// world is what all views of a cluster share.
type world struct {
	mu       sync.Mutex
	revision int64
	objects  map[bundle.ObjectID]*object
	watchers map[*watcher]bool
	fail     func(Call) error
	requests int
	verdicts map[bundle.ObjectID]apply.Verdict
	kinds    map[string]bool // group/kind of custom resources that are defined
}

// Call is one request, for Fail.
type Call struct {
	Verb    string // apply, look, probe, pulls, diff, delete, foreign, watch, version
	Object  bundle.ObjectID
	DryRun  bool
	Account bundle.Account // who asks; empty: the agent itself
}

type object struct {
	apply.Seen
	body map[string]any
	// managers tell who holds a leaf, by JSON pointer; the last is the most recent.
	managers map[string][]string
	version  string
}

var (
	_ apply.Cluster = (*Cluster)(nil)
	_ apply.Prober  = (*Cluster)(nil)
)

// New makes a cluster with the namespaces default and kube-system.
func New() *Cluster {
	c := &Cluster{world: &world{objects: map[bundle.ObjectID]*object{}, watchers: map[*watcher]bool{}, verdicts: map[bundle.ObjectID]apply.Verdict{}, kinds: map[string]bool{}}}
	for _, name := range []string{"default", "kube-system"} {
		c.put(bundle.ObjectID{Kind: "Namespace", Name: name}, "v1", map[string]any{"metadata": map[string]any{"name": name}})
	}
	return c
}

// As implements apply.Cluster. Whether an account may do something is for the judge of Fail to say.
func (c *Cluster) As(account bundle.Account) apply.Cluster { return &Cluster{c.world, account} }

// Fail lets judge refuse calls: a nil error lets a call through. A nil judge ends that.
func (c *Cluster) Fail(judge func(Call) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = judge
}

// Requests is how many calls came so far.
func (c *Cluster) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// SetVerdict decides an object's health from now on; without one every object is Current.
func (c *Cluster) SetVerdict(id bundle.ObjectID, v apply.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdicts[id] = v
	if o := c.objects[id]; o != nil {
		c.changed(o, false)
	}
}

// Edit changes an object as manager, as kubectl edit does: whatever it writes it holds.
func (c *Cluster) Edit(id bundle.ObjectID, manager string, edit func(body map[string]any)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[id]
	if o == nil {
		return missing(id)
	}
	before := leaves(o.body)
	body := clone(o.body)
	edit(body)
	after := leaves(body)
	for p, v := range after {
		if before[p] != v {
			o.managers[p] = []string{manager}
		}
	}
	for p := range before {
		if _, ok := after[p]; !ok {
			delete(o.managers, p)
		}
	}
	o.body = body
	c.changed(o, true)
	return nil
}

// Create makes an object as an outside hand does.
func (c *Cluster) Create(o bundle.Object, manager string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var body map[string]any
	if err := json.Unmarshal(o.JSON, &body); err != nil {
		return fmt.Errorf("memcluster: create: %w", err)
	}
	made := c.put(o.ID, o.Version, body)
	for p := range leaves(body) {
		made.managers[p] = []string{manager}
	}
	return nil
}

// Remove deletes an object as an outside hand does.
func (c *Cluster) Remove(id bundle.ObjectID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[id]; o != nil {
		c.remove(o)
	}
}

// Objects are the identities of everything there is, sorted.
func (c *Cluster) Objects() []bundle.ObjectID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.objects), bundle.CompareIDs)
}

// Body is a copy of an object's body, or nil.
func (c *Cluster) Body(id bundle.ObjectID) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[id]; o != nil {
		return clone(o.body)
	}
	return nil
}

// Version implements apply.Prober.
func (c *Cluster) Version(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Version, c.call(Call{Verb: "version"})
}

// Apply implements apply.Cluster.
func (c *Cluster) Apply(_ context.Context, p apply.Patch) (apply.Seen, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "apply", Object: p.ObjectID, DryRun: p.DryRun}); err != nil {
		return apply.Seen{}, err
	}
	if err := c.placed(p.Ref); err != nil {
		return apply.Seen{}, err
	}
	var want map[string]any
	if err := json.Unmarshal(p.Body, &want); err != nil {
		return apply.Seen{}, &apply.ServerError{Class: apply.Permanent, Code: 400, Words: err.Error()}
	}
	o := c.objects[p.ObjectID]
	if o == nil {
		if p.DryRun {
			return apply.Seen{ObjectID: p.ObjectID, Generation: 1}, nil
		}
		o = c.put(p.ObjectID, p.Version, want)
		for path := range leaves(want) {
			o.managers[path] = []string{p.Manager}
		}
		return o.seen(), nil
	}
	yielded, left := o.yielded(want, p)
	p.Ignore = slices.Concat(p.Ignore, yielded, left)
	merged, managers, err := merge(o, want, p)
	if err != nil {
		return apply.Seen{}, err
	}
	if p.DryRun {
		seen := o.seen()
		seen.Left = len(left) > 0
		return seen, nil
	}
	same := equal(o.body, merged) && maps.EqualFunc(o.managers, managers, slices.Equal)
	spec := !equal(without(o.body, "metadata"), without(merged, "metadata"))
	o.body, o.managers, o.version = merged, managers, p.Version
	if !same {
		c.changed(o, spec)
	}
	seen := o.seen()
	seen.Left = len(left) > 0
	return seen, nil
}

// yielded are the leaves that differ and stay as they are, because a manager holds them who is yielded to, or by the patch's Base.
func (o *object) yielded(want map[string]any, p apply.Patch) (held, left []string) {
	live := leaves(o.body)
	for path, v := range leaves(want) {
		if got, ok := live[path]; ok && got == v || ignored(path, p.Ignore) {
			continue
		}
		tokens := strings.Split(path[1:], "/")
		for i := range tokens {
			tokens[i] = unescape(tokens[i])
		}
		if slices.ContainsFunc(o.managers[path], func(m string) bool { return slices.Contains(p.Yield, m) }) {
			held = append(held, path)
		} else if _, ok := p.Base.Left(want, want, tokens); ok {
			left = append(left, path)
		}
	}
	return held, left
}

// merge is server-side apply over leaves.
func merge(o *object, want map[string]any, p apply.Patch) (map[string]any, map[string][]string, error) {
	live := leaves(o.body)
	wanted := leaves(want)
	managers := make(map[string][]string, len(o.managers))
	for path, m := range o.managers {
		managers[path] = slices.Clone(m)
	}
	merged := clone(o.body)
	var conflicts, fields []string
	for _, path := range slices.Sorted(maps.Keys(wanted)) {
		if ignored(path, p.Ignore) {
			continue
		}
		v, there := live[path]
		if there && v != wanted[path] {
			for _, m := range managers[path] {
				if m != p.Manager && !slices.Contains(conflicts, m) {
					conflicts = append(conflicts, m)
					fields = append(fields, path)
				}
			}
			managers[path] = []string{p.Manager}
		} else if !slices.Contains(managers[path], p.Manager) {
			managers[path] = append(managers[path], p.Manager)
		}
		setLeaf(merged, path, want)
	}
	if len(conflicts) > 0 && !p.Force {
		return nil, nil, &apply.ServerError{Class: apply.Conflict, Code: 409, Managers: conflicts, Fields: fields,
			Words: fmt.Sprintf("Apply failed with %d conflicts: conflict with %q: %s", len(fields), conflicts[0], strings.Join(fields, ", "))}
	}
	for path, m := range managers {
		if _, ok := wanted[path]; ok || !slices.Contains(m, p.Manager) || ignored(path, p.Ignore) {
			continue
		}
		if managers[path] = slices.DeleteFunc(m, func(s string) bool { return s == p.Manager }); len(managers[path]) == 0 {
			delete(managers, path)
			removeLeaf(merged, path)
		}
	}
	return merged, managers, nil
}

// Look implements apply.Cluster.
func (c *Cluster) Look(_ context.Context, ref apply.Ref, view apply.View) (apply.Seen, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "look", Object: ref.ObjectID}); err != nil {
		return apply.Seen{}, err
	}
	o := c.objects[ref.ObjectID]
	if o == nil {
		return apply.Seen{}, missing(ref.ObjectID)
	}
	seen := o.seen()
	if view == apply.ViewStatus {
		seen.Verdict = apply.Verdict{Status: apply.StatusCurrent}
		if v, ok := c.verdicts[ref.ObjectID]; ok {
			seen.Verdict = v
		}
	}
	return seen, nil
}

// Judge implements apply.Cluster.
func (c *Cluster) Judge(ctx context.Context, ref apply.Ref, by *gate.Gate) (apply.Seen, error) {
	seen, err := c.Look(ctx, ref, apply.ViewMetadata)
	if err == nil {
		seen.Verdict = apply.JudgedBy(by, c.Body(ref.ObjectID))
	}
	return seen, err
}

// PullSecret implements apply.Cluster.
func (c *Cluster) PullSecret(_ context.Context, secret apply.PullSecret) (found apply.Credentials, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := bundle.ObjectID{Kind: "Secret", Namespace: secret.Namespace, Name: secret.Name}
	if err := c.call(Call{Verb: "pull secret", Object: id}); err != nil {
		return found, err
	}
	o := c.objects[id]
	if o == nil {
		return found, missing(id)
	}
	raw, err := json.Marshal(o.body)
	if err == nil {
		err = json.Unmarshal(raw, &found)
	}
	return found, err
}

// Pulls implements apply.Cluster: there is one node, which has every image but those called missing.
func (c *Cluster) Pulls(_ context.Context, puller apply.Ref) (apply.Pulls, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "pulls", Object: puller.ObjectID}); err != nil {
		return apply.Pulls{}, err
	}
	o := c.objects[puller.ObjectID]
	if o == nil {
		return apply.Pulls{}, missing(puller.ObjectID)
	}
	pod := apply.PullPod{Node: "node"}
	spec, _ := o.body["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	inner, _ := template["spec"].(map[string]any)
	containers, _ := inner["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		image, _ := container["image"].(string)
		one := apply.PullContainer{Image: image, Reason: "RunContainerError"}
		if strings.Contains(image, "missing") {
			one.Reason, one.Message = "ErrImagePull", "not found"
		}
		pod.Containers = append(pod.Containers, one)
	}
	return apply.Pulls{Current: true, Nodes: 1, Pods: []apply.PullPod{pod}}, nil
}

// Probe implements apply.Cluster: a Service that is there answers 200, and pods always do.
func (c *Cluster) Probe(_ context.Context, probe bundle.Probe) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := bundle.ObjectID{Kind: "Service", Namespace: probe.Namespace, Name: probe.Service}
	if probe.Service == "" { // of pods, which nobody makes here
		id.Kind = "Pod"
		return 200, c.call(Call{Verb: "probe", Object: id})
	}
	if err := c.call(Call{Verb: "probe", Object: id}); err != nil {
		return 0, err
	}
	if c.objects[id] == nil {
		return 404, nil
	}
	return 200, nil
}

// Diff implements apply.Cluster.
func (c *Cluster) Diff(_ context.Context, p apply.Patch) (apply.Difference, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "diff", Object: p.ObjectID}); err != nil {
		return apply.Difference{}, err
	}
	o := c.objects[p.ObjectID]
	if o == nil {
		return apply.Difference{Missing: true}, nil
	}
	var want map[string]any
	if err := json.Unmarshal(p.Body, &want); err != nil {
		return apply.Difference{}, &apply.ServerError{Class: apply.Permanent, Code: 400, Words: err.Error()}
	}
	out := apply.Difference{Seen: o.seen()}
	live := leaves(o.body)
	yielded, left := o.yielded(want, p)
	for path, v := range leaves(want) {
		if got, ok := live[path]; ok && got == v || ignored(path, p.Ignore) || slices.Contains(yielded, path) {
			continue
		}
		if slices.Contains(left, path) {
			out.Left = append(out.Left, path)
		} else {
			out.Paths = append(out.Paths, path)
		}
		for _, m := range o.managers[path] {
			if m != p.Manager && !slices.Contains(out.Managers, m) {
				out.Managers = append(out.Managers, m)
			}
		}
	}
	slices.Sort(out.Paths)
	slices.Sort(out.Left)
	slices.Sort(out.Managers)
	return out, nil
}

// Delete implements apply.Cluster.
func (c *Cluster) Delete(_ context.Context, ref apply.Ref, uid string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "delete", Object: ref.ObjectID}); err != nil {
		return false, err
	}
	o := c.objects[ref.ObjectID]
	if o == nil {
		return true, nil
	}
	if o.UID != uid {
		return false, &apply.ServerError{Class: apply.Stale, Code: 409, Words: fmt.Sprintf("%s: the UID in the precondition (%s) is not the object's (%s)", ref.Name, uid, o.UID)}
	}
	c.remove(o)
	return true, nil
}

// Foreign implements apply.Cluster.
func (c *Cluster) Foreign(_ context.Context, container apply.Ref, owner bundle.Name) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(Call{Verb: "foreign", Object: container.ObjectID}); err != nil {
		return nil, err
	}
	group, kind := defined(c.objects[container.ObjectID])
	var out []string
	for _, id := range slices.SortedFunc(maps.Keys(c.objects), bundle.CompareIDs) {
		inside := container.Kind == "Namespace" && id.Namespace == container.Name || kind != "" && id.Group == group && id.Kind == kind
		if inside && c.objects[id].Labels[apply.Label] != string(owner) && len(out) < 10 {
			out = append(out, id.String())
		}
	}
	return out, nil
}

func (c *Cluster) call(call Call) error {
	c.requests++
	if c.fail != nil {
		call.Account = c.account
		return c.fail(call)
	}
	return nil
}

// placed says whether the namespace is there and the kind is defined.
func (c *Cluster) placed(ref apply.Ref) error {
	if custom(ref.ObjectID) && !c.kinds[ref.Group+"/"+ref.Kind] {
		return &apply.ServerError{Class: apply.NoKind, Code: 404, Words: fmt.Sprintf("no matches for kind %q in version %q", ref.Kind, ref.Group+"/"+ref.Version)}
	}
	if ref.Namespace != "" && c.objects[bundle.ObjectID{Kind: "Namespace", Name: ref.Namespace}] == nil {
		return &apply.ServerError{Class: apply.NoNamespace, Code: 404, Words: fmt.Sprintf("namespaces %q not found", ref.Namespace)}
	}
	return nil
}

// custom says that a kind needs a definition: as everywhere, groups with a dot that are not Kubernetes' own.
func custom(id bundle.ObjectID) bool {
	return strings.Contains(id.Group, ".") && !strings.HasSuffix(id.Group, ".k8s.io")
}

func defined(o *object) (group, kind string) {
	if o == nil || o.ObjectID.Kind != "CustomResourceDefinition" {
		return "", ""
	}
	spec, _ := o.body["spec"].(map[string]any)
	names, _ := spec["names"].(map[string]any)
	group, _ = spec["group"].(string)
	kind, _ = names["kind"].(string)
	return group, kind
}

func (c *Cluster) put(id bundle.ObjectID, version string, body map[string]any) *object {
	o := &object{Seen: apply.Seen{ObjectID: id}, body: clone(body), managers: map[string][]string{}, version: version}
	c.objects[id] = o
	c.revision++
	o.UID = "uid-" + strconv.FormatInt(c.revision, 10)
	if counted(id) {
		o.Generation = 1
	}
	if group, kind := defined(o); kind != "" {
		c.kinds[group+"/"+kind] = true
	}
	c.stamp(o)
	c.tell(o, apply.SightPresent)
	return o
}

// counted kinds have a generation.
func counted(id bundle.ObjectID) bool {
	return id.Group != "" && id.Group != "rbac.authorization.k8s.io"
}

func (c *Cluster) changed(o *object, spec bool) {
	c.revision++
	if spec && counted(o.ObjectID) {
		o.Generation++
	}
	had := o.Labels[apply.Label]
	c.stamp(o)
	if had != "" && o.Labels[apply.Label] == "" {
		c.tell(o, apply.SightGone)
		return
	}
	c.tell(o, apply.SightPresent)
}

func (c *Cluster) stamp(o *object) {
	o.ResourceVersion = strconv.FormatInt(c.revision, 10)
	metadata, _ := o.body["metadata"].(map[string]any)
	o.Labels, o.Annotations = stringsOf(metadata["labels"]), stringsOf(metadata["annotations"])
}

func (c *Cluster) remove(o *object) {
	c.revision++
	o.ResourceVersion = strconv.FormatInt(c.revision, 10)
	delete(c.objects, o.ObjectID)
	c.tell(o, apply.SightGone)
	group, kind := defined(o)
	if kind != "" {
		delete(c.kinds, group+"/"+kind)
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.objects), bundle.CompareIDs) {
		inside := o.ObjectID.Kind == "Namespace" && id.Namespace == o.Name || kind != "" && id.Group == group && id.Kind == kind
		if inside && c.objects[id] != nil {
			c.remove(c.objects[id])
		}
	}
}

func (o *object) seen() apply.Seen {
	s := o.Seen
	s.Labels, s.Annotations = maps.Clone(o.Labels), maps.Clone(o.Annotations)
	return s
}

func missing(id bundle.ObjectID) error {
	return &apply.ServerError{Class: apply.Missing, Code: 404, Words: fmt.Sprintf("%s %q not found", id.Kind, id.Name)}
}
