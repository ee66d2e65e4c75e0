package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/fluxcd/pkg/ssa/jsondiff"
	"github.com/fluxcd/pkg/ssa/normalize"
	wijsondiff "github.com/wI2L/jsondiff"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// Diff compares a live object with what a forced apply would make of it: a GET, a dry run and fluxcd/pkg/ssa's comparison of what came back, so
// that neither defaults nor mutating webhooks look like drift.
func (c *Conn) Diff(ctx context.Context, patch apply.Patch) (apply.Difference, error) {
	found, err := c.compare(ctx, patch)
	switch {
	case err == nil:
	case apply.ClassOf(err) == apply.NoKind, apply.ClassOf(err) == apply.NoNamespace:
		return apply.Difference{Missing: true}, nil
	default:
		return apply.Difference{}, err
	}
	live := found.live
	if live == nil {
		return apply.Difference{Missing: true}, nil
	}
	split, err := found.divide(patch)
	if err != nil {
		return apply.Difference{}, fmt.Errorf("%s: compare: %w", patch.ObjectID, err)
	}
	return apply.Difference{
		Seen: apply.Seen{ObjectID: patch.ObjectID, UID: string(live.GetUID()), ResourceVersion: live.GetResourceVersion(),
			Generation: live.GetGeneration(), Labels: live.GetLabels(), Annotations: live.GetAnnotations(), Deleting: live.GetDeletionTimestamp() != nil},
		Paths: bounded(split.paths), Left: bounded(split.left), Managers: holders(live, slices.Concat(split.paths, split.left), patch.Manager),
	}, nil
}

func bounded(paths []string) []string {
	slices.Sort(paths)
	paths = slices.Compact(paths)
	return paths[:min(len(paths), apply.MaxPaths)]
}

// comparison is a live object (nil: there is none) and what a forced apply of the body would make of it.
type comparison struct {
	body, live, merged *unstructured.Unstructured
	changes            wijsondiff.Patch
}

// compare makes a comparison. Where the object was written to between the two requests, what differs is nobody's drift but Stale.
func (c *Conn) compare(ctx context.Context, patch apply.Patch) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	objects, err := c.objects()
	if err != nil {
		return comparison{}, fmt.Errorf("%s: client: %w", patch.ObjectID, err)
	}
	var body unstructured.Unstructured
	if err := body.UnmarshalJSON(patch.Body); err != nil {
		return comparison{}, fmt.Errorf("%s: body: %w", patch.ObjectID, err)
	}
	failed := func(err error) (comparison, error) {
		return comparison{}, discreet(c.about(patch.Ref, fromClient(err)), patch)
	}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(body.GroupVersionKind())
	if err := objects.Get(ctx, client.ObjectKeyFromObject(&body), live); apierrors.IsNotFound(err) {
		return comparison{body: &body}, nil
	} else if err != nil {
		return failed(err)
	}
	merged := body.DeepCopy()
	//lint:ignore SA1019 client.Apply is the patch type that takes unstructured objects as they are
	if err := objects.Patch(ctx, merged, client.Apply, client.DryRunAll, client.ForceOwnership, client.FieldOwner(patch.Manager)); err != nil {
		return failed(err)
	}
	if merged.GetResourceVersion() == "" { // deleted in between
		return comparison{body: &body}, nil
	}
	out := comparison{body: &body, live: live, merged: merged}
	seen := live.DeepCopy()
	if err := normalize.DryRunUnstructured(merged); err != nil {
		return comparison{}, fmt.Errorf("%s: the server's answer: %w", patch.ObjectID, err)
	}
	for _, o := range []*unstructured.Unstructured{seen, merged} {
		if err := jsondiff.ApplyPatchToUnstructured(o, jsondiff.GenerateRemovePatch(patch.Ignore...)); err != nil {
			return comparison{}, fmt.Errorf("%s: ignore: %w", patch.ObjectID, err)
		}
	}
	if out.changes, err = jsondiff.DiffUnstructured(seen, merged); err != nil {
		return comparison{}, fmt.Errorf("%s: compare: %w", patch.ObjectID, err)
	}
	for _, part := range []string{"labels", "annotations"} {
		ours, _, _ := unstructured.NestedMap(body.Object, "metadata", part)
		before, _, _ := unstructured.NestedMap(seen.Object, "metadata", part)
		after, _, _ := unstructured.NestedMap(merged.Object, "metadata", part)
		for _, key := range slices.Sorted(maps.Keys(ours)) { // what others add or count there is theirs
			if was, there := before[key]; after[key] != nil && (!there || was != after[key]) {
				out.changes = append(out.changes, wijsondiff.Operation{Type: wijsondiff.OperationReplace, Path: "/metadata/" + part + "/" + escape(key)})
			}
		}
	}
	if len(out.changes) > 0 && merged.GetResourceVersion() != live.GetResourceVersion() {
		return comparison{}, &apply.ServerError{Class: apply.Stale, Code: http.StatusConflict, Words: "the object changed while it was compared"}
	}
	return out, nil
}

// division is what a comparison comes to: paths to be applied and left, and what of the body is to be left out so that no more is applied.
type division struct {
	paths, left []string
	cuts        [][]string
}

// divide holds each change against who holds the field and what was applied before.
func (f comparison) divide(patch apply.Patch) (division, error) {
	var out division
	appended := map[string]int{} // elements, by the list's path
	for _, op := range f.changes {
		tokens, err := parsePointer(op.Path)
		if err != nil {
			return division{}, err
		}
		if last := len(tokens) - 1; tokens[last] == "-" {
			list, _ := lookup(f.live.Object, tokens[:last])
			before, _ := list.([]any)
			tokens[last] = strconv.Itoa(len(before) + appended[op.Path])
			appended[op.Path]++
		}
		cut, left := patch.Base.Left(f.body.Object, f.merged.Object, tokens)
		switch {
		case heldBy(f.live, tokens, patch.Yield):
			if found, ok := apply.Counterpart(f.body.Object, f.merged.Object, tokens); ok {
				out.cuts = append(out.cuts, found)
			}
		case left:
			out.left, out.cuts = append(out.left, op.Path), append(out.cuts, cut)
		default:
			out.paths = append(out.paths, op.Path)
		}
	}
	return out, nil
}

// respecting is the patch's body without what is to stay as others have it, and whether that is by the patch's Base. It costs a comparison.
func (c *Conn) respecting(ctx context.Context, patch apply.Patch) ([]byte, bool, error) {
	found, err := c.compare(ctx, patch)
	switch {
	case err == nil:
	case apply.ClassOf(err) == apply.NoKind, apply.ClassOf(err) == apply.NoNamespace: // the apply itself says so better
		return patch.Body, false, nil
	default:
		return nil, false, err
	}
	split, err := found.divide(patch)
	if err != nil {
		return nil, false, fmt.Errorf("%s: compare: %w", patch.ObjectID, err)
	}
	if len(split.cuts) == 0 {
		return patch.Body, false, nil
	}
	// Elements of a list are cut from its end, so that the indices before them still hold.
	slices.SortFunc(split.cuts, func(a, b []string) int { return slices.CompareFunc(b, a, compareTokens) })
	var body any = found.body.Object
	for _, tokens := range slices.CompactFunc(split.cuts, slices.Equal) {
		body = without(body, tokens)
	}
	out, err := json.Marshal(body)
	if err != nil {
		return nil, false, fmt.Errorf("%s: body: %w", patch.ObjectID, err)
	}
	return out, len(split.left) > 0, nil
}

func compareTokens(a, b string) int {
	i, errA := strconv.Atoi(a)
	j, errB := strconv.Atoi(b)
	if errA == nil && errB == nil {
		return i - j
	}
	return strings.Compare(a, b)
}

// yielding is the patch's body with the ignored fields as they are live: the live value where the object has one and nobody but us could
// be told to keep it, nothing where another manager holds it or it is absent. Leaving out a field that only we hold would delete it.
func (c *Conn) yielding(ctx context.Context, path string, patch apply.Patch) ([]byte, error) {
	answer, err := c.do(ctx, request{method: http.MethodGet, path: path, accept: acceptObject})
	if err != nil {
		switch apply.ClassOf(err) {
		case apply.Missing, apply.NoNamespace:
			return patch.Body, nil
		}
		return nil, err
	}
	var live unstructured.Unstructured
	if err := live.UnmarshalJSON(answer); err != nil {
		return nil, fmt.Errorf("%s: the server's answer: %w", patch.ObjectID, err)
	}
	var desired unstructured.Unstructured
	if err := desired.UnmarshalJSON(patch.Body); err != nil {
		return nil, fmt.Errorf("%s: body: %w", patch.ObjectID, err)
	}
	var body any = desired.Object
	for _, pointer := range patch.Ignore {
		tokens, err := parsePointer(pointer)
		if err != nil {
			return nil, &apply.ServerError{Class: apply.Permanent, Words: err.Error()}
		}
		value, there := lookup(live.Object, tokens)
		if !there || heldByAnother(&live, tokens, patch.Manager) {
			body = without(body, tokens)
		} else {
			body = with(body, tokens, value)
		}
	}
	out, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%s: body: %w", patch.ObjectID, err)
	}
	return out, nil
}
