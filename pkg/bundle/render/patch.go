package render

import (
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// apply returns what a patch makes of an object's value, which it may use up. The patch stays as it is.
func apply(p bundle.Patch, o bundle.Object, value map[string]any) (map[string]any, error) {
	if p.JSON != nil {
		return applyOperations(p.JSON, value)
	}
	patch := runtime.DeepCopyJSON(p.Merge)
	typed, err := scheme.Scheme.New(schema.GroupVersionKind{Group: o.ID.Group, Version: o.Version, Kind: o.ID.Kind})
	if err != nil { // not a kind that client-go knows
		return mergeObject(value, patch), nil
	}
	return mergeStrategic(value, patch, typed)
}

// mergeStrategic turns a panic into an error: apimachinery's code trusts its input more than its callers may.
func mergeStrategic(value, patch map[string]any, typed runtime.Object) (merged map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			merged, err = nil, fmt.Errorf("strategic merge: %v", r)
		}
	}()
	merged, err = strategicpatch.StrategicMergeMapPatch(value, patch, typed)
	if err != nil {
		return nil, fmt.Errorf("strategic merge: %w", err)
	}
	return merged, nil
}

// mergeObject is RFC 7386.
func mergeObject(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for key, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			inner, _ := target[key].(map[string]any)
			target[key] = mergeObject(inner, v)
		default:
			target[key] = v
		}
	}
	return target
}

// applyOperations is RFC 6902.
func applyOperations(operations []any, value map[string]any) (map[string]any, error) {
	encoded, err := bundle.Canonical(operations)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		return nil, fmt.Errorf("JSON patch: %w", err)
	}
	before, err := bundle.Canonical(value)
	if err != nil {
		return nil, err
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false
	options.AccumulatedCopySizeLimit = bundle.MaxObjectSize // thirty copies of the whole into itself would fill any memory
	after, err := patch.ApplyWithOptions(before, options)
	if err != nil {
		return nil, fmt.Errorf("JSON patch: %w", err)
	}
	v, err := bundle.DecodeValue(after, 2*bundle.MaxObjectSize)
	if err != nil {
		return nil, fmt.Errorf("JSON patch: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("JSON patch: its result is not an object")
	}
	return m, nil
}
