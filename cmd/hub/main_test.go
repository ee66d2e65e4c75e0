package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/scripttest"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast-hub": main})
}

func TestScripts(t *testing.T) {
	root := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"})
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			return errors.Join(tuftest.Write(filepath.Join(env.WorkDir, "fleet"), root.Published, root.Online), tuftest.Write(filepath.Join(env.WorkDir, "other"), root.Published, other))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": scripttest.Exits, "answers": answers},
	})
}

// answers FILE waits until the hub of a context file does.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	path := ts.MkAbs(args[0])
	for ctx.Err() == nil {
		if asked(ctx, path) == nil {
			return
		}
		<-ticker.C
	}
	ts.Fatalf("the hub of %s does not answer", args[0])
}

func asked(ctx context.Context, path string) error {
	raw, err := readFile("context", path, maxSmallFile)
	if err != nil {
		return err
	}
	var target api.ContextFile
	if err := json.Unmarshal(raw, &target); err != nil {
		return err
	}
	client, err := api.NewClient(target)
	if err != nil {
		return err
	}
	_, err = client.Version(ctx)
	return err
}
