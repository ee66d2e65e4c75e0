package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestLedgerFits keeps the ledger from rotting: every old text stands in its file exactly once, every bug compiles, and every test it names is there.
// Whether the tests notice is make mutants.
func TestLedgerFits(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(ledger) < 25 {
		t.Errorf("only %d bugs", len(ledger))
	}
	var packages []string
	names := map[string]bool{}
	for _, x := range ledger {
		if names[x.name] {
			t.Errorf("%q stands twice", x.name)
		}
		names[x.name] = true
		packages = append(packages, "./"+filepath.Dir(x.file))
		if _, err := overlayOf(root, t.TempDir(), []mutant{x}); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	slices.Sort(packages)
	overlay, err := overlayOf(root, t.TempDir(), ledger)
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", append([]string{"build", "-overlay", overlay}, slices.Compact(packages)...)...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("the bugs do not compile: %v\n%s", err, out)
	}
}
