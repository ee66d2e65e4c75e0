package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// Look gives an object's metadata, with ViewStatus also its health.
func (c *Conn) Look(ctx context.Context, ref apply.Ref, view apply.View) (apply.Seen, error) {
	path, err := c.path(ctx, ref)
	if err != nil {
		return apply.Seen{}, err
	}
	definition := ref.Group == "apiextensions.k8s.io" && ref.Kind == "CustomResourceDefinition"
	accept := acceptMetadata
	if view == apply.ViewStatus && !definition {
		accept = acceptObject
	}
	answer, err := c.do(ctx, request{method: http.MethodGet, path: path, accept: accept})
	if err != nil {
		return apply.Seen{}, c.about(ref, err)
	}
	seen, err := decodeSeen(ref.ObjectID, answer)
	if err != nil || view == apply.ViewMetadata {
		return seen, err
	}
	if definition {
		seen.Verdict, err = c.definitionServed(ctx, ref)
		return seen, err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(answer); err != nil {
		return apply.Seen{}, fmt.Errorf("%s: the server's answer: %w", ref.ObjectID, err)
	}
	result, err := status.Compute(&u)
	if err != nil {
		seen.Verdict = apply.Verdict{Status: apply.StatusUnknown, Message: "status: " + err.Error()}
		return seen, nil
	}
	seen.Verdict = apply.Verdict{Status: apply.Status(result.Status), Message: result.Message}
	return seen, nil
}

// definitionServed asks discovery whether a definition's kind is served, which is what being established is good for, instead of fetching
// the definition, which may be half a megabyte, again and again.
func (c *Conn) definitionServed(ctx context.Context, ref apply.Ref) (apply.Verdict, error) {
	waiting := apply.Verdict{Status: apply.StatusInProgress, Message: "not established yet"}
	plural, group, ok := strings.Cut(ref.Name, ".")
	if !ok {
		return apply.Verdict{Status: apply.StatusFailed, Message: "the name is not plural.group"}, nil
	}
	var served struct {
		Versions []struct {
			Version string `json:"version"`
		} `json:"versions"`
	}
	if found, err := c.discover(ctx, "/apis/"+group, &served); err != nil || !found {
		return waiting, err
	}
	for _, v := range served.Versions {
		var list struct {
			Resources []struct {
				Name string `json:"name"`
			} `json:"resources"`
		}
		if found, err := c.discover(ctx, "/apis/"+group+"/"+v.Version, &list); err != nil || !found {
			return waiting, err
		}
		for _, r := range list.Resources {
			if r.Name == plural {
				return apply.Verdict{Status: apply.StatusCurrent, Message: "served"}, nil
			}
		}
	}
	return waiting, nil
}

func (c *Conn) discover(ctx context.Context, path string, into any) (found bool, err error) {
	body, err := c.do(ctx, request{method: http.MethodGet, path: path, accept: "application/json"})
	if err != nil {
		if apply.ClassOf(err) == apply.NoKind || apply.ClassOf(err) == apply.Missing {
			return false, nil
		}
		return false, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("discovery: %s: %w", path, err)
	}
	return true, nil
}
