package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// vandal deletes and edits objects of a bundle, as people with kubectl do.
type vandal struct {
	client dynamic.Interface
	bundle string
}

func newVandal(config *rest.Config, bundle string) (*vandal, error) {
	client, err := dynamic.NewForConfig(config)
	return &vandal{client, bundle}, err
}

// undo is damage that should be undone.
type undo struct {
	What string
	Done func(context.Context) error
}

var targets = []struct {
	gvr  schema.GroupVersionResource
	kind string
	edit string
	path []string
}{
	{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "Deployment", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"edited:by-hand"}]`, []string{"spec", "template", "spec", "containers"}},
	{schema.GroupVersionResource{Version: "v1", Resource: "services"}, "Service", `[{"op":"add","path":"/spec/selector","value":{"edited":"by-hand"}}]`, []string{"spec", "selector"}},
	{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", `[{"op":"remove","path":"/data"}]`, []string{"data"}},
}

// Damage deletes the first object of one kind of the bundle and edits the last of another (or the same).
func (v *vandal) Damage(ctx context.Context) (undo, error) {
	var all undo
	var checks []func(context.Context) error
	for _, target := range targets {
		list, err := v.client.Resource(target.gvr).List(ctx, metav1.ListOptions{LabelSelector: "holdfast.dev/bundle=" + v.bundle})
		if err != nil {
			return undo{}, err
		}
		if len(list.Items) == 0 || len(checks) == 2 {
			continue
		}
		if len(checks) == 0 {
			what, check, err := v.delete(ctx, target.gvr, target.kind, list.Items[0])
			if err != nil {
				return undo{}, err
			}
			all.What, checks = what, append(checks, check)
			if len(list.Items) == 1 {
				continue
			}
		}
		what, check, err := v.edit(ctx, target.gvr, target.kind, list.Items[len(list.Items)-1], target.edit, target.path)
		if err != nil {
			return undo{}, err
		}
		all.What, checks = all.What+" and "+what, append(checks, check)
	}
	if len(checks) == 0 {
		return undo{}, errors.New("the bundle has neither Deployments nor Services nor ConfigMaps to damage")
	}
	all.Done = func(ctx context.Context) error {
		for _, check := range checks {
			if err := check(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	return all, nil
}

func (v *vandal) delete(ctx context.Context, gvr schema.GroupVersionResource, kind string, o unstructured.Unstructured) (string, func(context.Context) error, error) {
	objects := v.client.Resource(gvr).Namespace(o.GetNamespace())
	if err := objects.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("%s %s deleted", kind, o.GetName()), func(ctx context.Context) error {
		now, err := objects.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err == nil && now.GetUID() == o.GetUID() {
			err = fleet.ErrNotYet
		}
		return err
	}, nil
}

func (v *vandal) edit(ctx context.Context, gvr schema.GroupVersionResource, kind string, o unstructured.Unstructured, patch string, path []string) (string, func(context.Context) error, error) {
	before, err := field(o, path)
	if err != nil {
		return "", nil, err
	}
	objects := v.client.Resource(gvr).Namespace(o.GetNamespace())
	if _, err := objects.Patch(ctx, o.GetName(), types.JSONPatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("%s %s edited", kind, o.GetName()), func(ctx context.Context) error {
		now, err := objects.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		after, err := field(*now, path)
		if err == nil && !slices.Equal(before, after) {
			err = fmt.Errorf("%s %s is still as edited", kind, o.GetName())
		}
		return err
	}, nil
}

func field(o unstructured.Unstructured, path []string) ([]byte, error) {
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
