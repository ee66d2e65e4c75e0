package memcluster_test

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/clustertest"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestCluster(t *testing.T) {
	clustertest.Run(t, func(t *testing.T) clustertest.World {
		c := memcluster.New()
		edit := func(t *testing.T, name, manager string, edit func(map[string]any)) {
			t.Helper()
			if err := c.Edit(bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: name}, manager, edit); err != nil {
				t.Fatal(err)
			}
		}
		c.Fail(func(call memcluster.Call) error {
			if call.Account == "" || call.Object.Kind == "ConfigMap" && call.Object.Namespace == "default" {
				return nil
			}
			return &apply.ServerError{Class: apply.Permanent, Code: 403, Words: call.Account.User() + " may not " + call.Verb + " " + call.Object.String()}
		})
		return clustertest.World{
			Cluster:   c,
			Namespace: "default",
			Tenant:    func(*testing.T) bundle.Account { return "default/tenant" },
			SetData: func(t *testing.T, name, key, value, manager string) {
				edit(t, name, manager, func(body map[string]any) { body["data"].(map[string]any)[key] = value })
			},
			Unlabel: func(t *testing.T, name string) {
				edit(t, name, "kubectl-edit", func(body map[string]any) {
					delete(body["metadata"].(map[string]any)["labels"].(map[string]any), apply.Label)
				})
			},
		}
	})
}
