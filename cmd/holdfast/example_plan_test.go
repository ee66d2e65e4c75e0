package main

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func TestTheExamplePlanIsAPlan(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "examples", "plan.yaml"))
	if err == nil {
		raw, err = yaml.YAMLToJSONStrict(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	plan, err := rollout.DecodePlan(raw)
	if err != nil || len(plan.Spec.Waves) != 3 {
		t.Fatalf("%d waves: %v", len(plan.Spec.Waves), err)
	}
}
