package bundle

import (
	"strings"
	"testing"
)

// TestT15_AccountsAreServiceAccountsOnly keeps an assignment from naming a user or a group to act as.
func TestT15_AccountsAreServiceAccountsOnly(t *testing.T) {
	a, err := ParseAccount("team-a/deployer.v2")
	if err != nil || a.Namespace() != "team-a" || a.User() != "system:serviceaccount:team-a:deployer.v2" {
		t.Errorf("%q in %q is %q, %v", a, a.Namespace(), a.User(), err)
	}
	for _, bad := range []string{"", "/", "a/", "/a", "admin", "system:masters", "system:masters/x", "a/b/c", "a/b:c", "A/b", "a/B", "a/b\n", "a b/c",
		"a/" + strings.Repeat("b", 254), strings.Repeat("a", 64) + "/b", "../kube-system/x"} {
		if got, err := ParseAccount(bad); err == nil {
			t.Errorf("%q was taken as %q", bad, got)
		}
	}
}

func TestKindPatterns(t *testing.T) {
	deployment, config := ObjectID{Group: "apps", Kind: "Deployment", Name: "a"}, ObjectID{Kind: "ConfigMap", Name: "a"}
	for _, c := range []struct {
		pattern            string
		deployment, config bool
	}{
		{"*", true, true}, {"apps/*", true, false}, {"apps/Deployment", true, false}, {"ConfigMap", false, true},
		{"Deployment", false, false}, {"apps/ConfigMap", false, false}, {"batch/*", false, false},
	} {
		p, err := ParseKindPattern(c.pattern)
		if err != nil || p.Matches(deployment) != c.deployment || p.Matches(config) != c.config {
			t.Errorf("%s: Deployment %v, ConfigMap %v, %v", c.pattern, p.Matches(deployment), p.Matches(config), err)
		}
	}
	for _, bad := range []string{"", "/", "apps/", "/Deployment", "*/*", "*/Deployment", "apps/Dep*", "apps/v1/Deployment", "Config Map"} {
		if _, err := ParseKindPattern(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseAccount(f *testing.F) {
	f.Add("team-a/deployer")
	f.Add("system:serviceaccount:a:b")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAccount(s)
		if err == nil && strings.Count(a.User(), ":") != 3 {
			t.Errorf("%q is the user %q", s, a.User())
		}
	})
}
