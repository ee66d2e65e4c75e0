package secret

import (
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// A secret travels in a bundle of its own, whose name says the Secret's: BundlePrefix, namespace, BundleInner, name.
const (
	BundlePrefix = "secret-"
	BundleInner  = "--"
)

// OfBundle is the namespace and name of the Secret that a bundle is for; ok is false for any other bundle.
func OfBundle(of bundle.Name) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(string(of), BundlePrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, BundleInner)
	return namespace, name, ok && namespace != "" && name != ""
}
