package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/fluxcd/pkg/ssa/jsondiff"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// Diff asks fluxcd/pkg/ssa what a forced apply would change: a GET, a dry run and a comparison of what came back, so that neither defaults
// nor mutating webhooks look like drift. Unlike ResourceManager.Diff, which takes a failed GET for an absent object, its jsondiff reports it.
func (c *Conn) Diff(ctx context.Context, patch apply.Patch) (apply.Difference, error) {
	var desired unstructured.Unstructured
	if err := desired.UnmarshalJSON(patch.Body); err != nil {
		return apply.Difference{}, fmt.Errorf("%s: body: %w", patch.ObjectID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	objects, err := c.objects()
	if err != nil {
		return apply.Difference{}, fmt.Errorf("%s: client: %w", patch.ObjectID, err)
	}
	diff, err := jsondiff.Unstructured(ctx, objects, &desired, jsondiff.FieldOwner(patch.Manager), jsondiff.IgnorePaths(patch.Ignore))
	if err != nil {
		err = c.about(patch.Ref, fromClient(err))
		switch apply.ClassOf(err) {
		case apply.NoKind, apply.NoNamespace:
			return apply.Difference{Missing: true}, nil
		}
		return apply.Difference{}, err
	}
	if diff.Type == jsondiff.DiffTypeCreate {
		return apply.Difference{Missing: true}, nil
	}
	live, _ := diff.ClusterObject.(*unstructured.Unstructured)
	if live == nil {
		return apply.Difference{}, nil // wholly ignored
	}
	out := apply.Difference{Seen: apply.Seen{ObjectID: patch.ObjectID, UID: string(live.GetUID()), ResourceVersion: live.GetResourceVersion(),
		Generation: live.GetGeneration(), Labels: live.GetLabels(), Annotations: live.GetAnnotations(), Deleting: live.GetDeletionTimestamp() != nil}}
	for _, op := range diff.Patch {
		out.Paths = append(out.Paths, op.Path)
	}
	slices.Sort(out.Paths)
	out.Paths = slices.Compact(out.Paths)
	out.Managers = holders(live, out.Paths, patch.Manager)
	if len(out.Paths) > apply.MaxPaths {
		out.Paths = out.Paths[:apply.MaxPaths]
	}
	return out, nil
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
