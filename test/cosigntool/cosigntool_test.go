package cosigntool_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/test/cosigntool"
)

// TestBuild builds the tool once a machine, so that other tests need not wait for it within their own time.
func TestBuild(t *testing.T) {
	out, err := exec.Command(cosigntool.Binary(t), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "cosign: A tool for Container Signing") {
		t.Fatalf("cosign version: %v\n%s", err, out)
	}
}
