package bundle

import "testing"

func TestObjectIDsReadBack(t *testing.T) {
	for _, id := range []ObjectID{
		{Kind: "Namespace", Name: "shop"}, {Kind: "ConfigMap", Namespace: "shop", Name: "a.b"},
		{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}, {Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "system:x"},
	} {
		if got, err := ParseObjectID(id.String()); err != nil || got != id {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	for _, s := range []string{"", "a", "/", "Kind/", "/name", "Kind//name", "a/b/c/d"} {
		if id, err := ParseObjectID(s); err == nil {
			t.Errorf("%q: %+v", s, id)
		}
	}
}
