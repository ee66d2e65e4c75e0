package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/internal/scripttest"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// The scripts run the very program: testscript calls main in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main, "until": until, "device-sign": signingDevice})
}

func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../deploy/examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *rewrite,
		Setup: func(e *testscript.Env) error {
			e.Values[hubKey{}] = new(*hub.Hub)
			e.Vars = append(e.Vars, "COSIGN_PASSWORD=secret", "EXAMPLES="+examples, "XDG_CONFIG_HOME="+filepath.Join(e.WorkDir, "config"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      scripttest.Exits,
			"eventually": eventually,
			"mode":       mode,
			"touch":      touch,
			"digest":     digest,
			"hub":        runHub,
			"report":     report,
			"agents":     runAgents,
			"forge":      forge,
			"device":     runDevice,
			"enrolled":   enrolled,
			"revoked":    revoked,
			"certify":    certify,
		},
	})
}

// eventually PATTERN PROGRAM ARGS… runs a program again and again until its stdout matches.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN PROGRAM ARGS…")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("never: %s", args[0])
		case <-ticker.C:
		}
	}
}

// mode OCTAL FILE checks a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatInt(int64(info.Mode().Perm()), 8); (got == args[0]) == neg {
		ts.Fatalf("%s: mode %s", args[1], got)
	}
}

// touch RFC3339 FILE… sets the times of files.
func touch(ts *testscript.TestScript, _ bool, args []string) {
	at, err := time.Parse(time.RFC3339, args[0])
	ts.Check(err)
	for _, file := range args[1:] {
		ts.Check(os.Chtimes(ts.MkAbs(file), at, at))
	}
}

// digest FILE TEXT checks that the text names the file's digest.
func digest(ts *testscript.TestScript, neg bool, args []string) {
	want := string(bundle.DigestOf([]byte(ts.ReadFile(args[0]))))
	if strings.Contains(ts.ReadFile(args[1]), want) == neg {
		ts.Fatalf("%s: digest %s is not what %s says", args[0], want, args[1])
	}
}
