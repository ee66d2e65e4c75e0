package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// objects are those a bundle file renders to for the site, as the CLI shows them; the site's own digest must be the same.
func (s *site) objects(file string) (objects []*unstructured.Unstructured) {
	s.stage.t.Helper()
	for line := range strings.Lines(s.stage.cli("bundle", "render", file, "--site", s.Name, "-o", "json")) {
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON([]byte(line)); err != nil {
			s.stage.t.Fatal(err)
		}
		objects = append(objects, o)
	}
	return objects
}

// asFilesSay fails the test for every object that is missing or not as the files say. Two ways of asking must agree: a comparison of
// the fields, and the server's own opinion.
func (s *site) asFilesSay(objects []*unstructured.Unstructured) {
	s.stage.t.Helper()
	judge, err := newJudge(s.Cluster.Config())
	if err != nil {
		s.stage.t.Fatal(err)
	}
	for _, o := range objects {
		if err := judge.same(s.stage.context(), o); err != nil {
			s.stage.t.Errorf("%s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
}

// judge compares objects with a cluster by means that have nothing to do with how they were applied.
type judge struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newJudge(config *rest.Config) (*judge, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &judge{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, nil
}

func (j *judge) same(ctx context.Context, want *unstructured.Unstructured) error {
	mapping, err := j.mapper.RESTMapping(want.GroupVersionKind().GroupKind(), want.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	var client dynamic.ResourceInterface = j.client.Resource(mapping.Resource)
	if want.GetNamespace() != "" {
		client = j.client.Resource(mapping.Resource).Namespace(want.GetNamespace())
	}
	live, err := client.Get(ctx, want.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) && leavesByItself(want) {
		return nil
	}
	if err != nil {
		return err
	}
	if difference := lacks(asStored(want.Object), live.Object, ""); difference != "" {
		return fmt.Errorf("%s", difference)
	}
	err = asStranger(ctx, client, want, live)
	if err != nil && leavesByItself(want) {
		// It may have left between the two questions; then there is nothing to compare any more.
		now, gone := client.Get(ctx, want.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(gone) || gone == nil && (now.GetDeletionTimestamp() != nil || now.GetUID() != live.GetUID()) {
			return nil
		}
	}
	return err
}

// leavesByItself says that Kubernetes deletes the object when its work is done.
func leavesByItself(o *unstructured.Unstructured) bool {
	_, found, err := unstructured.NestedInt64(o.Object, "spec", "ttlSecondsAfterFinished")
	return err == nil && found && o.GetKind() == "Job"
}

// haveLeft waits until the objects that leave by themselves have done so.
func (s *site) haveLeft(objects []*unstructured.Unstructured) {
	s.stage.t.Helper()
	jobs := kubernetes.NewForConfigOrDie(s.Cluster.Config()).BatchV1()
	for _, o := range objects {
		if !leavesByItself(o) {
			continue
		}
		s.stage.eventually("Job "+o.GetName()+" to be done and gone", func() error {
			_, err := jobs.Jobs(o.GetNamespace()).Get(s.stage.context(), o.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(fleet.ErrNotYet, err)
		})
	}
}

// asStranger asks the server what applying the object would change if somebody else did it: nothing.
func asStranger(ctx context.Context, client dynamic.ResourceInterface, want, live *unstructured.Unstructured) error {
	body, err := want.MarshalJSON()
	if err != nil {
		return err
	}
	answer, err := client.Patch(ctx, want.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager: "e2e-stranger", Force: new(true), DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return fmt.Errorf("the server's opinion: %w", err)
	}
	for _, o := range []*unstructured.Unstructured{answer, live} {
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
	}
	delete(answer.Object, "status")
	before := live.DeepCopy()
	delete(before.Object, "status")
	if !reflect.DeepEqual(answer.Object, before.Object) {
		return fmt.Errorf("the server's opinion: applying it would change %s", lacks(answer.Object, before.Object, ""))
	}
	return nil
}

// asStored is an object as the API server keeps it: stringData is only another way to write data.
func asStored(o map[string]any) map[string]any {
	texts, ok := o["stringData"].(map[string]any)
	if !ok || o["kind"] != "Secret" {
		return o
	}
	o = (&unstructured.Unstructured{Object: o}).DeepCopy().Object
	data, _ := o["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	for key, text := range texts {
		raw, _ := json.Marshal([]byte(text.(string)))
		data[key] = strings.Trim(string(raw), `"`)
	}
	delete(o, "stringData")
	o["data"] = data
	return o
}

// lacks names the first field of want that live does not have or has otherwise; live may have more.
func lacks(want, live any, path string) string {
	if empty(want) && empty(live) {
		return ""
	}
	switch want := want.(type) {
	case map[string]any:
		there, ok := live.(map[string]any)
		if !ok {
			break
		}
		for key, value := range want {
			if difference := lacks(value, there[key], path+"/"+key); difference != "" {
				return difference
			}
		}
		return ""
	case []any:
		there, ok := live.([]any)
		if !ok || len(there) < len(want) {
			break
		}
		for i, value := range want {
			if difference := lacks(value, partner(value, there, i), fmt.Sprintf("%s/%d", path, i)); difference != "" {
				return difference
			}
		}
		return ""
	}
	if reflect.DeepEqual(want, live) || sameQuantity(want, live) {
		return ""
	}
	return fmt.Sprintf("%s is %s, want %s", path, short(live), short(want))
}

// empty are the values that mean the same as no value.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	case bool:
		return !v
	case int64:
		return v == 0
	}
	return false
}

// partner is the element of the same name, or else of the same place.
func partner(want any, live []any, i int) any {
	if named, ok := want.(map[string]any); ok && named["name"] != nil {
		at := slices.IndexFunc(live, func(v any) bool {
			other, ok := v.(map[string]any)
			return ok && other["name"] == named["name"]
		})
		if at >= 0 {
			return live[at]
		}
	}
	return live[i]
}

// sameQuantity knows that 1000m is 1, and that a whole number may be written as text and the other way round.
func sameQuantity(a, b any) bool {
	left, err := resource.ParseQuantity(fmt.Sprint(a))
	if err != nil {
		return false
	}
	right, err := resource.ParseQuantity(fmt.Sprint(b))
	return err == nil && left.Cmp(right) == 0
}

func short(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(raw) > 200 {
		return string(raw[:200]) + "…"
	}
	return string(raw)
}
