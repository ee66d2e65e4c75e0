// Package kind holds what runs the end-to-end suite on kind (Kubernetes in Docker) instead of the control plane without
// containers: the configuration of the cluster, and run.sh, which installs the tool and runs the suite.
//
//	test/kind/run.sh              all of ./test/e2e/...
//	test/kind/run.sh -run Drift   flags of go test
//
// The suite is the very same; only package test/cluster chooses another provider (HOLDFAST_CLUSTER=kind). Docker is
// needed; without it the provider and the script say so.
package kind

import _ "embed"

// Config is the kind configuration of a test cluster, YAML.
//
//go:embed kind.yaml
var Config []byte
