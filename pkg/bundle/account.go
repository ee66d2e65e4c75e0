package bundle

import (
	"fmt"
	"strings"
)

// Account is a service account of a site's cluster, written namespace/name. Empty means none.
type Account string

// ParseAccount checks s to be a service account. A user or a group cannot be written so.
func ParseAccount(s string) (Account, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || !labelPattern.MatchString(namespace) || len(name) > 253 || !dnsDomain.MatchString(name) {
		return "", fmt.Errorf("service account %.120q: want namespace/name, for example team-a/deployer", s)
	}
	return Account(s), nil
}

// Namespace is the namespace that the account lives in.
func (a Account) Namespace() string {
	namespace, _, _ := strings.Cut(string(a), "/")
	return namespace
}

// User is what the API server calls the account.
func (a Account) User() string {
	namespace, name, _ := strings.Cut(string(a), "/")
	return "system:serviceaccount:" + namespace + ":" + name
}
