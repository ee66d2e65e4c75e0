// Package metricstest holds alert rules and dashboards to the metrics that programs export.
package metricstest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Monitoring looks at every name with the prefix in deploy/monitoring, a folder at root, and wants the registry to export it.
func Monitoring(t *testing.T, registry *prometheus.Registry, prefix, root string) {
	t.Helper()
	descriptions := make(chan *prometheus.Desc, 1000)
	registry.Describe(descriptions)
	close(descriptions)
	exported := map[string]bool{}
	for d := range descriptions {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		exported[name] = true
	}
	names := regexp.MustCompile(regexp.QuoteMeta(prefix) + `[a-z_]+`)
	named := 0
	for _, file := range []string{"alerts.yaml", "fleet-dashboard.json", "site-dashboard.json"} {
		raw, err := os.ReadFile(filepath.Join(root, "deploy", "monitoring", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllString(string(raw), -1) {
			named++
			if !exported[name] && !exported[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: nothing exports %s", file, name)
			}
		}
	}
	if named < 5 {
		t.Errorf("%d names were looked at", named)
	}
}
