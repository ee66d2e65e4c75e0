//go:build tool

// Package main exists only so that this module's go.mod pins what the cosign tool is built from.
package main

import _ "github.com/sigstore/cosign/v2/cmd/cosign"
