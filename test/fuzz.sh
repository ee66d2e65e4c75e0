#!/bin/bash
# Runs every fuzz target of the module for a while each: fuzz.sh 10s [package pattern]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for package in $(go list "${2:-./...}"); do
  dir=$(go list -f '{{.Dir}}' "$package")
  for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | sed 's/^func //' | sort -u); do
    echo "$package $target"
    if ! go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x -parallel "${FUZZ_PARALLEL:-2}" >"$out" 2>&1; then
      # The Go tool calls it a failure when the time is up while a worker is busy: no input failed then.
      if grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input written' "$out"; then continue; fi
      cat "$out"
      exit 1
    fi
  done
done
