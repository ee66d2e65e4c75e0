package kube

import (
	"context"
	"net/url"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// mapping is where the objects of a kind are found.
type mapping struct {
	resource   schema.GroupVersionResource
	namespaced bool
}

// resolve finds a kind, asking the server only for what it was never asked. Unknown kinds are asked for again each time.
func (s *server) resolve(_ context.Context, kind apply.Kind) (mapping, error) {
	s.mu.Lock()
	m, ok := s.mappings[kind]
	s.mu.Unlock()
	if ok {
		return m, nil
	}
	found, err := s.mapper.RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
	if err != nil {
		return mapping{}, fromClient(err)
	}
	m = mapping{found.Resource, found.Scope.Name() == meta.RESTScopeNameNamespace}
	s.mu.Lock()
	s.mappings[kind] = m
	s.mu.Unlock()
	return m, nil
}

// forget drops a mapping that the server no longer honours.
func (s *server) forget(kind apply.Kind) {
	s.mu.Lock()
	delete(s.mappings, kind)
	s.mu.Unlock()
}

// path is the address of an object.
func (c *Conn) path(ctx context.Context, ref apply.Ref) (string, error) {
	m, err := c.resolve(ctx, ref.Type())
	if err != nil {
		return "", err
	}
	if m.namespaced && ref.Namespace == "" {
		return "", &apply.ServerError{Class: apply.Permanent, Words: "the kind is namespaced and the object names no namespace"}
	}
	if !m.namespaced && ref.Namespace != "" {
		return "", &apply.ServerError{Class: apply.Permanent, Words: "the kind is not namespaced, but the object names a namespace"}
	}
	return m.collection(ref.Namespace) + "/" + url.PathEscape(ref.Name), nil
}

func (m mapping) collection(namespace string) string {
	p := "/apis/" + m.resource.Group + "/" + m.resource.Version
	if m.resource.Group == "" {
		p = "/api/" + m.resource.Version
	}
	if m.namespaced && namespace != "" {
		p += "/namespaces/" + url.PathEscape(namespace)
	}
	return p + "/" + m.resource.Resource
}
