package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// maxForeign is how many foreign objects are named; the answer needs only one.
const maxForeign = 10

// Foreign looks for objects inside a namespace or of a definition that another hand made.
func (c *Conn) Foreign(ctx context.Context, container apply.Ref, owner bundle.Name) ([]string, error) {
	if container.Kind == "Namespace" {
		return c.foreignIn(ctx, container.Name, owner)
	}
	plural, group, _ := strings.Cut(container.Name, ".")
	var served struct {
		PreferredVersion struct {
			Version string `json:"version"`
		} `json:"preferredVersion"`
	}
	found, err := c.discover(ctx, "/apis/"+group, &served)
	if err != nil || !found {
		return nil, err
	}
	return c.strangers(ctx, "/apis/"+group+"/"+served.PreferredVersion.Version+"/"+plural, plural+"."+group, owner)
}

func (c *Conn) foreignIn(ctx context.Context, namespace string, owner bundle.Name) ([]string, error) {
	resources, err := c.listable(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range resources {
		found, err := c.strangers(ctx, r.prefix+"/namespaces/"+url.PathEscape(namespace)+"/"+r.name, r.name, owner)
		if err != nil {
			return nil, err
		}
		if out = append(out, found...); len(out) >= maxForeign {
			return out[:maxForeign], nil
		}
	}
	return out, nil
}

// strangers lists the metadata of a collection without the bundle's own objects.
func (c *Conn) strangers(ctx context.Context, path, name string, owner bundle.Name) ([]string, error) {
	var out []string
	query := url.Values{"labelSelector": {apply.Label + "!=" + string(owner)}, "limit": {"250"}}
	for {
		answer, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query,
			accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"})
		if err != nil {
			switch apply.ClassOf(err) {
			case apply.NoKind, apply.Missing:
				return out, nil
			}
			return nil, err
		}
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(answer, &list); err != nil {
			return nil, fmt.Errorf("%s: the server's answer: %w", path, err)
		}
		for i := range list.Items {
			m := &list.Items[i]
			if len(m.OwnerReferences) > 0 || m.DeletionTimestamp != nil || furniture(name, m) {
				continue
			}
			if out = append(out, name+"/"+m.Name); len(out) >= maxForeign {
				return out, nil
			}
		}
		if list.Continue == "" {
			return out, nil
		}
		query.Set("continue", list.Continue)
	}
}

// furniture is what Kubernetes itself puts into every namespace or keeps there for a while.
func furniture(resource string, m *metav1.PartialObjectMetadata) bool {
	switch resource {
	case "configmaps":
		return m.Name == "kube-root-ca.crt" || m.Name == "openshift-service-ca.crt"
	case "serviceaccounts":
		return m.Name == "default"
	case "secrets":
		_, token := m.Annotations["kubernetes.io/service-account.name"]
		return token
	case "events", "endpoints", "endpointslices", "leases", "podmetrics":
		return true
	}
	return false
}

type collection struct{ prefix, name string }

// listable are the namespaced collections of the server that hold objects of their own, each in its preferred version, from aggregated
// discovery: two requests.
func (c *Conn) listable(ctx context.Context) ([]collection, error) {
	var out []collection
	for _, root := range []string{"/api", "/apis"} {
		answer, err := c.do(ctx, request{method: http.MethodGet, path: root, accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"})
		if err != nil {
			return nil, err
		}
		var list struct {
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
				Versions []struct {
					Version   string `json:"version"`
					Resources []struct {
						Resource string   `json:"resource"`
						Scope    string   `json:"scope"`
						Verbs    []string `json:"verbs"`
					} `json:"resources"`
				} `json:"versions"`
			} `json:"items"`
		}
		if err := json.Unmarshal(answer, &list); err != nil {
			return nil, fmt.Errorf("discovery: %s: %w", root, err)
		}
		for _, group := range list.Items {
			if group.Metadata.Name == "metrics.k8s.io" || group.Metadata.Name == "events.k8s.io" {
				continue
			}
			seen := map[string]bool{}
			for _, v := range group.Versions {
				prefix := root + "/" + v.Version
				if group.Metadata.Name != "" {
					prefix = root + "/" + group.Metadata.Name + "/" + v.Version
				}
				for _, r := range v.Resources {
					if r.Scope == "Namespaced" && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") && !seen[r.Resource] {
						seen[r.Resource] = true
						out = append(out, collection{prefix, r.Resource})
					}
				}
			}
		}
	}
	return out, nil
}
