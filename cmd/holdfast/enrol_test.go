package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol/device"
)

// runDevice is "device ENROLFILE SERIAL SITEFILE": a device whose machine has the serial number asks, beside the script, to become a site, and
// writes its site file when it is one. It ends with the script.
func runDevice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: device ENROLFILE SERIAL SITEFILE")
	}
	home, err := os.MkdirTemp(ts.MkAbs("."), "device-")
	ts.Check(err)
	firmware := filepath.Join(home, "root", "proc", "device-tree")
	ts.Check(os.MkdirAll(firmware, 0o755))
	ts.Check(os.WriteFile(filepath.Join(firmware, "serial-number"), []byte(args[1]), 0o600))
	options := device.Options{Home: device.Home{Dir: filepath.Join(home, "data")}, File: ts.MkAbs(args[0]), HostRoot: filepath.Join(home, "root"),
		RetryMin: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond}
	out := ts.MkAbs(args[2])
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		site, err := device.Enrol(ctx, options)
		if err != nil {
			return // the script waits for the file, and says that it never came
		}
		if raw, err := json.Marshal(site); err == nil {
			_ = os.WriteFile(out+".part", raw, 0o600)
			_ = os.Rename(out+".part", out)
		}
	}()
	ts.Defer(func() {
		cancel()
		<-ended
	})
}

// enrolled is "enrolled SITEFILE": it waits until a device wrote its site file.
func enrolled(ts *testscript.TestScript, neg bool, args []string) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(60 * time.Second)
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-limit:
			ts.Fatalf("%s never came", args[0])
		}
	}
}

// revoked is "revoked TOKENLIST": it revokes the last token of a JSON list.
func revoked(ts *testscript.TestScript, _ bool, args []string) {
	var tokens []api.Token
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &tokens))
	ts.Check(ts.Exec("holdfast", "token", "revoke", "--yes", tokens[len(tokens)-1].ID))
}
