#!/bin/bash
# Runs every fuzz target of the module for a while each: fuzz.sh 10s [package pattern]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
for package in $(go list "${2:-./...}"); do
  dir=$(go list -f '{{.Dir}}' "$package")
  for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | sed 's/^func //' | sort -u); do
    echo "$package $target"
    go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel "${FUZZ_PARALLEL:-2}" >/tmp/holdfast-fuzz.$$ 2>&1 || { cat /tmp/holdfast-fuzz.$$; rm -f /tmp/holdfast-fuzz.$$; exit 1; }
    rm -f /tmp/holdfast-fuzz.$$
  done
done
