package apply

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestT15_WhatIsOutsideAScope(t *testing.T) {
	in := func(namespace string) bundle.ObjectID {
		return bundle.ObjectID{Kind: "ConfigMap", Namespace: namespace, Name: "a"}
	}
	deployment := bundle.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}
	namespace := func(name string) bundle.ObjectID { return bundle.ObjectID{Kind: "Namespace", Name: name} }
	role := bundle.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "shop"}
	kinds := func(patterns ...bundle.KindPattern) []bundle.KindPattern { return patterns }
	site := []string{"kube-system"}
	for name, c := range map[string]struct {
		scope Scope
		id    bundle.ObjectID
		want  string // in the reason; empty: inside
	}{
		"anything":                                  {Anything(), role, ""},
		"nothing is said: namespaced":               {Scope{}, deployment, ""},
		"nothing is said: cluster-wide":             {Scope{}, role, "cluster-wide"},
		"nothing is said: a namespace":              {Scope{}, namespace("shop"), "cluster-wide"},
		"its namespace":                             {Scope{Namespaces: []string{"shop"}}, deployment, ""},
		"another namespace":                         {Scope{Namespaces: []string{"shop"}}, in("bank"), "namespace bank"},
		"the beginning of its namespace":            {Scope{Namespaces: []string{"shop"}}, in("sho"), "namespace sho"},
		"its kind":                                  {Scope{Kinds: kinds("apps/Deployment")}, deployment, ""},
		"its group":                                 {Scope{Kinds: kinds("apps/*")}, deployment, ""},
		"another kind":                              {Scope{Kinds: kinds("apps/Deployment")}, in("shop"), "the kind ConfigMap"},
		"its kind in another group":                 {Scope{Kinds: kinds("Deployment")}, deployment, "the kind apps/Deployment"},
		"a cluster-wide kind that is named":         {Scope{Kinds: kinds("rbac.authorization.k8s.io/ClusterRole")}, role, ""},
		"a cluster-wide kind beside namespaces":     {Scope{Kinds: kinds("*"), Namespaces: []string{"shop"}}, role, ""},
		"its own Namespace object":                  {Scope{Kinds: kinds("Namespace"), Namespaces: []string{"shop"}}, namespace("shop"), ""},
		"another Namespace object":                  {Scope{Kinds: kinds("Namespace"), Namespaces: []string{"shop"}}, namespace("bank"), "namespace bank"},
		"a protected namespace":                     {Scope{Kinds: kinds("*"), Protected: site}, in("kube-system"), "protected"},
		"a protected namespace that is allowed":     {Scope{Kinds: kinds("*"), Namespaces: site, Protected: site}, in("kube-system"), "protected"},
		"the Namespace object of a protected one":   {Scope{Kinds: kinds("*"), Protected: site}, namespace("kube-system"), "protected"},
		"a cluster-wide object of a protected name": {Scope{Kinds: kinds("*"), Protected: []string{"shop"}}, role, ""},
		"a namespaced kind without a namespace":     {Scope{}, in(""), "cluster-wide"},
		"one object only":                           {Scope{Only: []bundle.ObjectID{deployment}, Protected: []string{"shop"}}, deployment, ""},
		"one object only: another":                  {Scope{Kinds: kinds("*"), Only: []bundle.ObjectID{deployment}}, in("shop"), "nothing but Deployment.apps/shop/web"},
		"what is not protected":                     {Scope{Protected: site}, deployment, ""},
	} {
		why := c.scope.outside(c.id)
		if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %s is outside because %q, want %q", name, c.id, why, c.want)
		}
	}
}
