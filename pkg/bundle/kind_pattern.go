package bundle

import (
	"fmt"
	"strings"
)

// KindPattern names kinds of objects as policies do: "ConfigMap", "apps/Deployment", "apps/*" for a whole group, "*" for every kind.
type KindPattern string

// EveryKind is the pattern of every kind.
const EveryKind KindPattern = "*"

// ParseKindPattern checks s to be a pattern.
func ParseKindPattern(s string) (KindPattern, error) {
	group, kind, grouped := strings.Cut(s, "/")
	if !grouped {
		group, kind = "", s
	}
	goodGroup := !grouped || len(group) <= 253 && dnsDomain.MatchString(group)
	if !goodGroup || kind != "*" && !kindPattern.MatchString(kind) {
		return "", fmt.Errorf("kind %.120q: want a kind (ConfigMap), group/kind (apps/Deployment), a group (apps/*) or *", s)
	}
	return KindPattern(s), nil
}

// Matches says that an object is of a kind that the pattern names.
func (p KindPattern) Matches(id ObjectID) bool {
	group, kind, grouped := strings.Cut(string(p), "/")
	if !grouped {
		return p == EveryKind || id.Group == "" && id.Kind == string(p)
	}
	return id.Group == group && (kind == "*" || id.Kind == kind)
}
