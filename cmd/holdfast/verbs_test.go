package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// said is what the scripts hold of one verb.
type said struct{ done, refused, stdout, stderr bool }

// Every verb has, in some script, a run that must succeed, one that must be refused with its exit code, and what is said on stdout and on stderr.
func TestEveryVerbIsInAScript(t *testing.T) {
	verbs := map[string]*said{}
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		for _, sub := range cmd.Commands() {
			at := strings.TrimSpace(path + " " + sub.Name())
			if sub.HasSubCommands() {
				walk(sub, at)
			} else if !sub.Hidden {
				verbs[at] = &said{}
			}
		}
	}
	walk(newRoot(newDesk()), "")
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 || len(verbs) < 50 {
		t.Fatalf("%d scripts, %d verbs, %v", len(scripts), len(verbs), err)
	}
	for _, script := range scripts {
		raw, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		read(verbs, string(raw))
	}
	verbs["report import"].done = true // a report is an agent's: TestT18_AReportByHandIsCheckedAsFromTheBus (internal/hub) holds that it is taken
	for verb, has := range verbs {
		if *has != (said{true, true, true, true}) {
			t.Errorf("holdfast %s: of a run that succeeds, one that is refused, what is said on stdout and what on stderr the scripts hold %+v", verb, *has)
		}
	}
}

// read notes what a script holds of each verb. What follows a run up to the next one is about it.
func read(verbs map[string]*said, script string) {
	var about *said
	for line := range strings.Lines(script) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "! "))
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		switch words[0] {
		case "exec", "exits", "eventually":
			about = verbs[verbOf(words, verbs)]
			if about == nil {
				continue
			}
			if refused := strings.HasPrefix(line, "!") || words[0] == "exits" && words[1] != "0" && words[1] != "8"; refused {
				about.refused = true
			} else {
				about.done = true
			}
			about.stdout = about.stdout || words[0] == "eventually"
		case "revoked": // its id is only known to the test
			about = verbs["token revoke"]
			about.done = true
		case "stdout", "cmp", "cp", "digest", "grep":
			if about != nil && (words[0] == "stdout" || strings.Contains(line, " stdout")) {
				about.stdout = true
			}
		case "stderr":
			if about != nil {
				about.stderr = true
			}
		}
		if strings.HasPrefix(line, "-- ") {
			return
		}
	}
}

// verbOf is the verb of a line that runs holdfast.
func verbOf(words []string, verbs map[string]*said) string {
	for i, word := range words {
		if word != "holdfast" {
			continue
		}
		rest := words[i+1:]
		if len(rest) > 2 && rest[0] == "--context" {
			rest = rest[2:]
		}
		for n := min(3, len(rest)); n > 0; n-- {
			if verb := strings.Join(rest[:n], " "); verbs[verb] != nil {
				return verb
			}
		}
		return ""
	}
	return ""
}
