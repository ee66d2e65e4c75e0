// Command mutants proves that the suite notices deliberate bugs. Each of the ledger is put into its file by go test -overlay, so that nothing is copied and
// nothing can be left behind, and the test that must notice it is run: it has to fail. A bug that survives is a hole in the suite.
//
//	mutants                 all of them
//	mutants -only counter   those whose name contains the word
//	mutants -part 3/8       every eighth, from the third on
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "those whose name contains this")
	part := flag.String("part", "1/1", "n/m: every m-th, from the n-th on")
	flag.Parse()
	var n, m int
	if _, err := fmt.Sscanf(*part, "%d/%d", &n, &m); err != nil || n < 1 || m < 1 || n > m {
		fmt.Fprintln(os.Stderr, "error: -part: want n/m, for example 1/8")
		os.Exit(2)
	}
	failed, played, begin := 0, 0, time.Now()
	for i, x := range ledger {
		if i%m != n-1 || !strings.Contains(x.name, *only) {
			continue
		}
		played++
		start := time.Now()
		said := "noticed"
		if err := x.play("."); err != nil {
			failed++
			said = err.Error()
		}
		fmt.Printf("%-70s %s (%s, %.0fs)\n", x.name, said, x.pkg, time.Since(start).Seconds())
	}
	fmt.Printf("%d deliberate bugs, %d not noticed, %.0fs\n", played, failed, time.Since(begin).Seconds())
	if failed > 0 || played == 0 {
		os.Exit(1)
	}
}

// play runs the test that must notice the bug, and says what is wrong if it does not.
func (x mutant) play(root string) error {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := overlayOf(root, dir, []mutant{x})
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-overlay", overlay, "-count=1", "-failfast", "-timeout", "5m", "-run", x.run, "./"+x.pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HOLDFAST_MUST_CUT=1")
	out, err := cmd.CombinedOutput()
	switch text := string(out); {
	case err == nil && strings.Contains(text, "[no tests to run]"):
		return fmt.Errorf("NO TEST: %s runs nothing", x.run)
	case err == nil:
		return fmt.Errorf("NOT NOTICED by %s", x.run)
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return fmt.Errorf("DOES NOT COMPILE: %.600s", text)
	case !strings.Contains(text, "--- FAIL") && !strings.Contains(text, "panic:"):
		return fmt.Errorf("NOT NOTICED, the test ended otherwise: %.600s", text)
	}
	return nil
}

// overlayOf writes the files with the bugs in them, and the overlay that puts them in place.
func overlayOf(root, dir string, mutants []mutant) (path string, err error) {
	texts := map[string]string{}
	for _, x := range mutants {
		text, known := texts[x.file]
		if !known {
			raw, err := os.ReadFile(filepath.Join(root, x.file))
			if err != nil {
				return "", err
			}
			text = string(raw)
		}
		if n := strings.Count(text, x.old); n != 1 {
			return "", fmt.Errorf("%q stands in %s %d times, want once: bring the ledger up to date", x.old, x.file, n)
		}
		texts[x.file] = strings.Replace(text, x.old, x.new, 1)
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range texts {
		whole, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[whole] = to
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, raw, 0o600)
}
