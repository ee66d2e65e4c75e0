package archtest

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the tests of each row into docs/threat-model.md anew")

const (
	threatModel = "../../docs/threat-model.md"
	threats     = 30
	perFile     = 3 // tests of one row that are named for one file
)

var (
	// A test may hold several threats, faults and promises.
	threatTest = regexp.MustCompile(`(?m)^func (Test((?:[TFPR]\d\d_?)+)\w*)\(`)
	threatIn   = regexp.MustCompile(`T(\d\d)`)
	threatRow  = regexp.MustCompile(`^\| T(\d+) \|`)
	namedTest  = regexp.MustCompile("`(Test\\w+)`")
	namedFile  = regexp.MustCompile(`\(([\w/.-]+_test\.go)\)`)
)

// TestThreatModelNamesTestsThatAreThere holds docs/threat-model.md to the code: every row has a test that carries its number, and every test it
// names stands in the file it names.
func TestThreatModelNamesTestsThatAreThere(t *testing.T) {
	tests := threatTests(t)
	raw, err := os.ReadFile(threatModel)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	if *rewrite {
		for i, line := range lines {
			if m := threatRow.FindStringSubmatch(line); m != nil {
				lines[i] = withTests(line, tests[fmt.Sprintf("%02s", m[1])])
			}
		}
		if err := os.WriteFile(threatModel, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows := map[string]bool{}
	for _, line := range lines {
		m := threatRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		number := fmt.Sprintf("%02s", m[1])
		rows[number] = true
		if len(namedTest.FindAllString(line, -1)) == 0 {
			t.Errorf("T%s: the row names no test", m[1])
		}
		for _, place := range strings.Split(lastCell(line), "; ") {
			file := namedFile.FindStringSubmatch(place)
			if file == nil {
				t.Errorf("T%s: %q names no file", m[1], place)
				continue
			}
			for _, name := range namedTest.FindAllStringSubmatch(place, -1) {
				if !slices.Contains(tests[number][file[1]], name[1]) {
					t.Errorf("T%s: %s is not in %s: go test ./internal/archtest -run ThreatModel -rewrite", m[1], name[1], file[1])
				}
			}
		}
	}
	for n := 1; n <= threats; n++ {
		if number := fmt.Sprintf("%02d", n); !rows[number] {
			t.Errorf("T%d has no row", n)
		}
	}
}

func lastCell(line string) string {
	cells := strings.Split(strings.Trim(line, "| "), " | ")
	return cells[len(cells)-1]
}

// withTests is a row with another last cell.
func withTests(line string, files map[string][]string) string {
	var places []string
	for _, file := range slices.Sorted(maps.Keys(files)) {
		names := files[file]
		text := "`" + strings.Join(names[:min(len(names), perFile)], "`, `") + "`"
		if more := len(names) - perFile; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		places = append(places, fmt.Sprintf("%s (%s)", text, file))
	}
	before := strings.TrimSuffix(line, lastCell(line)+" |")
	return before + strings.Join(places, "; ") + " |"
}

// threatTests are the tests that carry a threat's number, by number and file.
func threatTests(t *testing.T) map[string]map[string][]string {
	t.Helper()
	found := map[string]map[string][]string{}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(filepath.ToSlash(path), "../../")
		for _, m := range threatTest.FindAllStringSubmatch(string(raw), -1) {
			for _, threat := range threatIn.FindAllStringSubmatch(m[2], -1) {
				if found[threat[1]] == nil {
					found[threat[1]] = map[string][]string{}
				}
				found[threat[1]][file] = append(found[threat[1]][file], m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
