// Package e2e is the end-to-end suite: the real programs as processes, a real Kubernetes API server for every site, and lines between
// them that are cut. It has no code of its own; its tests are named by the threat, fault or promise they are about.
//
//	go test ./test/e2e/...                 on the control plane without containers (package test/cluster)
//	test/kind/run.sh                       the very same suite on kind
//	HOLDFAST_BIN=bin go test ./test/e2e    with programs that were built before
//	HOLDFAST_CORPUS=dir                    where the real-world manifests are, if not in ../shared/corpus beside the checkout
//
// With -short nothing that needs a cluster runs.
package e2e
