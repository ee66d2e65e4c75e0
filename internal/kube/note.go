package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// Note is where a small text is kept in a cluster: one key of a ConfigMap that has no other.
type Note struct{ Namespace, Name, Key string }

func (n Note) String() string { return "ConfigMap/" + n.Namespace + "/" + n.Name }

type configMap struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace       string `json:"namespace,omitempty"`
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"metadata"`
	Data map[string]string `json:"data,omitempty"`
}

func (n Note) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(n.Namespace) + "/configmaps"
}

// ReadNote gives the text and the version of its ConfigMap; both are empty where there is none.
func (c *Conn) ReadNote(ctx context.Context, n Note) (text, version string, err error) {
	body, err := c.do(ctx, request{method: http.MethodGet, path: n.path() + "/" + url.PathEscape(n.Name), accept: "application/json"})
	var refusal *apply.ServerError
	if errors.As(err, &refusal) && refusal.Code == http.StatusNotFound {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", n, err)
	}
	var found configMap
	if err := json.Unmarshal(body, &found); err != nil {
		return "", "", fmt.Errorf("%s: %w", n, err)
	}
	return found.Data[n.Key], found.Metadata.ResourceVersion, nil
}

// WriteNote replaces the text if the ConfigMap still has the version, empty for none, and gives the next version. Nothing else of the ConfigMap is touched.
func (c *Conn) WriteNote(ctx context.Context, n Note, text, version string) (string, error) {
	m := configMap{APIVersion: "v1", Kind: "ConfigMap", Data: map[string]string{n.Key: text}}
	m.Metadata.Namespace, m.Metadata.Name, m.Metadata.ResourceVersion = n.Namespace, n.Name, version
	raw, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("%s: %w", n, err)
	}
	r := request{method: http.MethodPost, path: n.path(), accept: acceptMetadata, contentType: "application/json", body: bytes.NewReader(raw), size: int64(len(raw))}
	if version != "" {
		r.method, r.path, r.contentType = http.MethodPatch, r.path+"/"+url.PathEscape(n.Name), "application/merge-patch+json"
	}
	body, err := c.do(ctx, r)
	if err != nil {
		return "", fmt.Errorf("%s: %w", n, err)
	}
	var written configMap
	if err := json.Unmarshal(body, &written); err != nil {
		return "", fmt.Errorf("%s: %w", n, err)
	}
	return written.Metadata.ResourceVersion, nil
}
