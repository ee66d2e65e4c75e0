package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/deploy"
)

// whyAnnotation is where a role says what its rules are for.
const whyAnnotation = "holdfast.dev/why"

// permission is one line of what the agent may do.
type permission struct {
	where, may, what, why string
}

// fromKubernetes is what every service account has unless the cluster's administrator took it away.
var fromKubernetes = []permission{
	{"the cluster", "get", "/version, /api*, /apis*, /openapi*, /healthz, /livez, /readyz", "given by Kubernetes to every account: which version, which kinds"},
	{"the cluster", "get", "/.well-known/openid-configuration, /openid/v1/jwks", "given by Kubernetes to every account: not used"},
	{"the cluster", "get, list, watch", "certificates.k8s.io/clustertrustbundles", "given by Kubernetes to every account: not used"},
	{"the cluster", "create", "selfsubjectreviews, selfsubjectaccessreviews, selfsubjectrulesreviews", "given by Kubernetes to every account: not used"},
}

func newPermissions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Print what the agent may do in its cluster, as it is installed by default",
		Long: `Print what the agent may do in its cluster, as it is installed by default (deploy/edge).

Bundles are not applied with these rights: every request about a bundle is made as that bundle's service account, and what that may do is for the
cluster's administrator to bind. --output yaml prints the objects that grant the list.`,
		Args: cobra.NoArgs,
	}
	output := cmd.Flags().StringP("output", "o", "table", "table or yaml")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch *output {
		case "yaml":
			_, err := cmd.OutOrStdout().Write(deploy.EdgeRBAC)
			return err
		case "table":
			granted, err := permissions(deploy.EdgeRBAC)
			if err != nil {
				return err
			}
			return writePermissions(cmd.OutOrStdout(), append(granted, fromKubernetes...))
		}
		return fmt.Errorf("--output %q: want table or yaml", *output)
	}
	return cmd
}

// permissions reads the rules of the roles among YAML documents.
func permissions(documents []byte) ([]permission, error) {
	var out []permission
	for document := range bytes.SplitSeq(documents, []byte("\n---\n")) {
		var role rbacv1.Role // a ClusterRole reads the same, without a namespace
		if err := yaml.Unmarshal(document, &role); err != nil {
			return nil, fmt.Errorf("permissions: %w", err)
		}
		if role.Kind != "Role" && role.Kind != "ClusterRole" {
			continue
		}
		where := "the cluster"
		if role.Namespace != "" {
			where = "namespace " + role.Namespace
		}
		for _, rule := range role.Rules {
			out = append(out, permission{where, strings.Join(rule.Verbs, ", "), subjects(rule), role.Annotations[whyAnnotation]})
		}
	}
	return out, nil
}

// subjects are what a rule is about: resources, with their group but for the core ones, by name where it names some, and paths.
func subjects(rule rbacv1.PolicyRule) string {
	var out []string
	for _, resource := range rule.Resources {
		for _, group := range rule.APIGroups {
			if group != "" {
				resource = group + "/" + resource
			}
			out = append(out, resource)
		}
	}
	text := strings.Join(append(out, rule.NonResourceURLs...), ", ")
	if len(rule.ResourceNames) > 0 {
		text += " named " + strings.Join(rule.ResourceNames, ", ")
	}
	return text
}

func writePermissions(w io.Writer, list []permission) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHERE\tMAY\tWHAT\tWHY")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.where, p.may, p.what, p.why)
	}
	return t.Flush()
}
