#!/bin/bash
# run.sh [flags of go test]   runs the end-to-end suite on kind. Needs Docker and Go; installs the kind tool into bin/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

KIND_VERSION=v0.33.0 # also decides the Kubernetes version: the node image is the tool's own default
prefix=holdfast-e2e-$$- # of this run's clusters, so that it deletes no other run's

fail() { echo "error: $*" >&2; exit 1; }

command -v docker > /dev/null || fail "kind needs Docker, and there is no docker in PATH (make test runs the suite without it)"
said=$(docker version --format '{{.Server.Version}}' 2>&1) ||
  fail "kind needs Docker, and its daemon does not answer: ${said##*$'\n'} (make test runs the suite without it)"

if ! bin/kind version 2> /dev/null | grep -qF "kind $KIND_VERSION "; then
  echo "installing kind $KIND_VERSION into bin/" >&2
  GOBIN=$PWD/bin GOFLAGS= go install "sigs.k8s.io/kind@$KIND_VERSION"
fi

# A suite that was killed could not delete its clusters.
delete_left() {
  local name
  for name in $(bin/kind get clusters 2> /dev/null); do
    case $name in "$prefix"*) bin/kind delete cluster --name "$name" ;; esac
  done
}
trap delete_left EXIT

export HOLDFAST_CLUSTER=kind HOLDFAST_KIND=$PWD/bin/kind HOLDFAST_KIND_PREFIX=$prefix
go test -count=1 -timeout 60m "$@" ./test/e2e/...
