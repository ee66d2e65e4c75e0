package main

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/edge"
)

// TestT15_TheInstallationStartsTheAgentRightly reads the command line of deploy/edge as the agent does.
func TestT15_TheInstallationStartsTheAgentRightly(t *testing.T) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy/edge")
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, r := range resources.Resources() {
		if r.GetKind() != "Deployment" {
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		var d appsv1.Deployment
		if err := yaml.UnmarshalStrict(text, &d); err != nil {
			t.Fatal(err)
		}
		args = d.Spec.Template.Spec.Containers[0].Args
	}
	o := &runOptions{}
	cmd := o.command()
	if len(args) == 0 || args[0] != "run" {
		t.Fatalf("started with %q", args)
	}
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	policy, err := o.policy()
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range append(edge.DefaultProtected(), policy.Account.Namespace()) {
		if !slices.Contains(policy.Protected, namespace) {
			t.Errorf("namespace %s is not protected", namespace)
		}
	}
	if policy.Account == "" || !slices.Equal(policy.AccountsIn, []string{policy.Account.Namespace()}) {
		t.Errorf("bundles act as %q, or as accounts in %q", policy.Account, policy.AccountsIn)
	}
}

// TestInstallationVariantsGrantOnlyWhatTheySay builds the variants of deploy/edge.
func TestInstallationVariantsGrantOnlyWhatTheySay(t *testing.T) {
	for folder, want := range map[string][]permission{
		"components/node-label":    {{"the cluster", "get, list", "nodes", "a join token may take the site's name from a label of the node"}},
		"components/cluster-admin": nil, // only a binding
		"tenant":                   nil,
	} {
		resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy/edge/"+folder)
		if err != nil || resources.Size() == 0 {
			t.Errorf("%s: %v", folder, err)
			continue
		}
		text, err := resources.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := permissions(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, %v", folder, got, err)
		}
	}
}
