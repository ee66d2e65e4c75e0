package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const (
	acceptMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
	acceptObject   = "application/json"
	applyPatch     = "application/apply-patch+yaml"
)

// Apply does one server-side apply of the bytes as they are. Force means: take over fields that other managers hold. It is never ssa's
// Force, which deletes objects.
func (c *Conn) Apply(ctx context.Context, patch apply.Patch) (apply.Seen, error) {
	path, err := c.path(ctx, patch.Ref)
	if err != nil {
		return apply.Seen{}, err
	}
	body, left := patch.Body, false
	if len(patch.Yield) > 0 || patch.Base != "" {
		if body, left, err = c.respecting(ctx, patch); err != nil {
			return apply.Seen{}, err
		}
		patch.Body = body
	}
	if len(patch.Ignore) > 0 {
		if body, err = c.yielding(ctx, path, patch); err != nil {
			return apply.Seen{}, err
		}
	}
	query := url.Values{"fieldManager": {patch.Manager}}
	if patch.Force {
		query.Set("force", "true")
	}
	if patch.DryRun {
		query.Set("dryRun", metav1.DryRunAll)
	}
	answer, err := c.do(ctx, request{method: http.MethodPatch, path: path, query: query, contentType: applyPatch, accept: acceptMetadata,
		body: bytes.NewReader(body), size: int64(len(body))})
	if err != nil {
		return apply.Seen{}, discreet(c.about(patch.Ref, err), patch)
	}
	seen, err := decodeSeen(patch.ObjectID, answer)
	seen.Left = left
	if err == nil && patch.DryRun && seen.ResourceVersion == "" {
		seen.UID = "" // made up for the dry run
	}
	return seen, err
}

// about completes an error by what it is about: a namespace that is not there is missing, not in a missing namespace. It also drops what is
// remembered of a kind that the server does not know any more.
func (c *Conn) about(ref apply.Ref, err error) error {
	var s *apply.ServerError
	if !errors.As(err, &s) {
		return err
	}
	switch {
	case s.Class == apply.NoKind:
		c.forget(ref.Type())
	case s.Class == apply.NoNamespace && ref.Group == "" && ref.Kind == "Namespace":
		s.Class = apply.Missing
	}
	return s
}

// object is what is read of an object's answer: its managed fields and body are skipped.
type object struct {
	Metadata struct {
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		Generation        int64             `json:"generation"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
	} `json:"metadata"`
}

func decodeSeen(id bundle.ObjectID, answer []byte) (apply.Seen, error) {
	var o object
	if err := json.Unmarshal(answer, &o); err != nil {
		return apply.Seen{}, fmt.Errorf("%s: the server's answer: %w", id, err)
	}
	m := o.Metadata
	return apply.Seen{ObjectID: id, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		Labels: m.Labels, Annotations: m.Annotations, Deleting: m.DeletionTimestamp != nil}, nil
}

// Delete deletes by UID, with dependents in the background.
func (c *Conn) Delete(ctx context.Context, ref apply.Ref, uid string) (bool, error) {
	path, err := c.path(ctx, ref)
	if err != nil {
		if apply.ClassOf(err) == apply.NoKind {
			return true, nil
		}
		return false, err
	}
	options := []byte(fmt.Sprintf(`{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"uid":%q}}`, uid))
	answer, err := c.do(ctx, request{method: http.MethodDelete, path: path, contentType: "application/json", accept: acceptMetadata,
		body: bytes.NewReader(options), size: int64(len(options))})
	if err != nil {
		err = c.about(ref, err)
		switch apply.ClassOf(err) {
		case apply.Missing, apply.NoKind, apply.NoNamespace:
			return true, nil
		}
		return false, err
	}
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(answer, &kind); err != nil {
		return false, fmt.Errorf("%s: the server's answer: %w", ref.ObjectID, err)
	}
	// A Status means that it is gone; the object itself means that it is only marked.
	return kind.Kind == "Status", nil
}
