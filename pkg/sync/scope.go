package sync

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Scope is what one bundle may touch at a site. The site's own policy only narrows it.
type Scope struct {
	// ServiceAccount is who every request about the bundle is made as; empty: the one that the site chose, or else the agent.
	ServiceAccount bundle.Account `json:"serviceAccount,omitempty"`
	// Kinds are those allowed, cluster-wide ones only where they are named; none: every namespaced kind.
	Kinds []bundle.KindPattern `json:"kinds,omitempty"`
	// Namespaces are those allowed, for objects in them and for the Namespace objects themselves; none: every one.
	Namespaces []string `json:"namespaces,omitempty"`
}

// maxScope bounds each list of a Scope.
const maxScope = 256

// Empty says that a scope limits nothing. No assignment holds such a one; in a request it lifts the scope that there was.
func (s *Scope) Empty() bool {
	return s.ServiceAccount == "" && len(s.Kinds) == 0 && len(s.Namespaces) == 0
}

// Check finds what no scope may hold. A nil scope is right.
func (s *Scope) Check() error {
	if s == nil {
		return nil
	}
	if s.Empty() {
		return errors.New("scope: it limits nothing")
	}
	if s.ServiceAccount != "" {
		if _, err := bundle.ParseAccount(string(s.ServiceAccount)); err != nil {
			return fmt.Errorf("scope: %w", err)
		}
	}
	if len(s.Kinds) > maxScope || len(s.Namespaces) > maxScope {
		return fmt.Errorf("scope: %d kinds and %d namespaces: at most %d of each", len(s.Kinds), len(s.Namespaces), maxScope)
	}
	for _, k := range s.Kinds {
		if _, err := bundle.ParseKindPattern(string(k)); err != nil {
			return fmt.Errorf("scope: %w", err)
		}
	}
	for _, n := range s.Namespaces {
		if _, err := bundle.ParseName(n); err != nil { // a namespace is a DNS label, as a bundle's name is
			return fmt.Errorf("scope: namespace %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", n)
		}
	}
	return nil
}
