package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Deployment is what a watchdog sees of one.
type Deployment struct {
	Template []byte // the pod template, in JSON with sorted keys
	// Available: the controller has seen this generation, and as many pods of the template are available as are wanted, and no others are left.
	Available bool
	Version   string
}

func deploymentPath(namespace, name string) string {
	return "/apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/deployments/" + url.PathEscape(name)
}

// ReadDeployment looks at a Deployment.
func (c *Conn) ReadDeployment(ctx context.Context, namespace, name string) (Deployment, error) {
	body, err := c.do(ctx, request{method: http.MethodGet, path: deploymentPath(namespace, name), accept: "application/json"})
	if err != nil {
		return Deployment{}, fmt.Errorf("Deployment %s/%s: %w", namespace, name, err)
	}
	var found struct {
		Metadata struct {
			Generation      int64  `json:"generation"`
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Spec struct {
			Replicas *int64 `json:"replicas"`
			Template any    `json:"template"`
		} `json:"spec"`
		Status struct {
			ObservedGeneration int64 `json:"observedGeneration"`
			Replicas           int64 `json:"replicas"`
			UpdatedReplicas    int64 `json:"updatedReplicas"`
			AvailableReplicas  int64 `json:"availableReplicas"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return Deployment{}, fmt.Errorf("Deployment %s/%s: %w", namespace, name, err)
	}
	template, err := json.Marshal(found.Spec.Template)
	if err != nil {
		return Deployment{}, fmt.Errorf("Deployment %s/%s: %w", namespace, name, err)
	}
	wanted := int64(1)
	if found.Spec.Replicas != nil {
		wanted = *found.Spec.Replicas
	}
	s := found.Status
	available := wanted > 0 && s.ObservedGeneration >= found.Metadata.Generation && s.Replicas == wanted && s.UpdatedReplicas == wanted && s.AvailableReplicas == wanted
	return Deployment{template, available, found.Metadata.ResourceVersion}, nil
}

// PutTemplate replaces the pod template of a Deployment if it still has the version.
func (c *Conn) PutTemplate(ctx context.Context, namespace, name, version string, template []byte) error {
	raw, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": version},
		{"op": "replace", "path": "/spec/template", "value": json.RawMessage(template)},
	})
	if err != nil {
		return fmt.Errorf("Deployment %s/%s: %w", namespace, name, err)
	}
	_, err = c.do(ctx, request{
		method: http.MethodPatch, path: deploymentPath(namespace, name), query: url.Values{"fieldManager": {"holdfast-watchdog"}}, accept: acceptMetadata,
		contentType: "application/json-patch+json", body: bytes.NewReader(raw), size: int64(len(raw)),
	})
	if err != nil {
		return fmt.Errorf("Deployment %s/%s: %w", namespace, name, err)
	}
	return nil
}
