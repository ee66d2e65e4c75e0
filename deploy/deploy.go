// Package deploy holds what Holdfast is installed from, so that the programs can say what it grants.
package deploy

import _ "embed"

// EdgeRBAC is every right that the default installation of the edge gives the agent: YAML documents.
//
//go:embed edge/rbac.yaml
var EdgeRBAC []byte
