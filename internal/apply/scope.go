package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Scope is what a bundle may touch: what its assignment allows, less what the site forbids. The zero value allows everything namespaced.
type Scope struct {
	// Account is who every request about the bundle's objects is made as; empty: the agent itself.
	Account bundle.Account
	// Kinds are those allowed; nil: every namespaced kind. Objects without a namespace are allowed only where a pattern names their kind.
	Kinds []bundle.KindPattern
	// Namespaces are those allowed, for objects in them and for the Namespace objects themselves; nil: every one.
	Namespaces []string
	// Protected namespaces are the site's: nothing in them nor they themselves are touched, whatever else is allowed.
	Protected []string
	// Only, where not nil, are the objects allowed: no others, whatever else is said, and these though they are protected.
	Only []bundle.ObjectID
}

// Anything is the scope that allows everything, as the agent itself.
func Anything() Scope { return Scope{Kinds: []bundle.KindPattern{bundle.EveryKind}} }

// check finds all objects outside, in their order. It looks at nothing but their identities: whether a kind is namespaced or not is
// what the object says, and the API server's address of it holds it to that.
func (s Scope) check(objects []Object) []Refusal {
	var out []Refusal
	for i := range objects {
		id := objects[i].ObjectID
		if why := s.outside(id); why != "" {
			out = append(out, Refusal{Object: id, Class: Permanent, Words: why, Permanent: true})
		}
	}
	return out
}

// outside says why an object is outside, or "".
func (s Scope) outside(id bundle.ObjectID) string {
	namespace := home(id)
	named := slices.ContainsFunc(s.Kinds, func(p bundle.KindPattern) bool { return p.Matches(id) })
	switch {
	case s.Only != nil && slices.Contains(s.Only, id):
		return ""
	case s.Only != nil:
		return "at this site the bundle may touch nothing but " + s.Only[0].String()
	case s.protects(id):
		return fmt.Sprintf("namespace %s is protected at this site", namespace)
	case len(s.Kinds) > 0 && !named:
		return fmt.Sprintf("the assignment does not allow the kind %s", policyKind(id))
	case id.Namespace == "" && !named:
		return fmt.Sprintf("%s is a cluster-wide kind, and the assignment does not name it", policyKind(id))
	case len(s.Namespaces) > 0 && namespace != "" && !slices.Contains(s.Namespaces, namespace):
		return fmt.Sprintf("the assignment does not allow namespace %s, only %s", namespace, strings.Join(s.Namespaces, ", "))
	}
	return ""
}

// protects says that an object is in a protected namespace or is one.
func (s Scope) protects(id bundle.ObjectID) bool {
	namespace := home(id)
	return namespace != "" && slices.Contains(s.Protected, namespace)
}

// home is the namespace that an object is in; a Namespace is in itself.
func home(id bundle.ObjectID) string {
	if isNamespace(id) {
		return id.Name
	}
	return id.Namespace
}
