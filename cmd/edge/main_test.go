package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/internal/scripttest"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast-edge": main})
}

func TestScripts(t *testing.T) {
	root := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"})
	trust, err := tuf.Encode(root.Metadata(time.Now(), time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: func(env *testscript.Env) error { return writeSites(env.WorkDir, trust) },
		Cmds:  map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": scripttest.Exits, "appears": appears, "terminates": terminates},
	})
}

// appears FILE waits until a file exists.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	within(ts, 20*time.Second, path+" does not appear", func() bool { _, err := os.Stat(path); return err == nil })
}

// terminates SECONDS sends SIGTERM to the background program and wants it to be gone in time.
func terminates(ts *testscript.TestScript, _ bool, args []string) {
	seconds, err := strconv.Atoi(args[0])
	ts.Check(err)
	running := ts.BackgroundCmds()
	if len(running) != 1 {
		ts.Fatalf("%d programs run in the background, want 1", len(running))
	}
	process := running[0].Process
	ts.Check(process.Signal(syscall.SIGTERM))
	within(ts, time.Duration(seconds)*time.Second, "it does not end", func() bool { return process.Signal(syscall.Signal(0)) != nil })
}

func within(ts *testscript.TestScript, patience time.Duration, what string, ok func() bool) {
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			ts.Fatalf("%s", what)
		case <-tick.C:
		}
	}
}

// writeSites writes a good site file and many that are not.
func writeSites(dir string, trust json.RawMessage) error {
	site, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, _ := site.Seed()
	account, _ := nkeys.CreateAccount()
	accountSeed, _ := account.Seed()
	ca, err := certificate()
	if err != nil {
		return err
	}
	good := fleetsync.SiteFile{
		Schema: fleetsync.SiteFileSchema, Site: "shop-1", Servers: []string{"tls://127.0.0.1:1"}, CA: ca, JWT: "jwt-canary", Seed: string(seed),
		Trust: trust,
	}
	variants := map[string]func(*fleetsync.SiteFile){
		"good":    func(*fleetsync.SiteFile) {},
		"schema":  func(s *fleetsync.SiteFile) { s.Schema = "holdfast.dev/site/v99" },
		"name":    func(s *fleetsync.SiteFile) { s.Site = "*.>" },
		"ca":      func(s *fleetsync.SiteFile) { s.CA = "no certificate" },
		"seed":    func(s *fleetsync.SiteFile) { s.Seed = "SUSECRETCANARY" },
		"account": func(s *fleetsync.SiteFile) { s.Seed = string(accountSeed) },
		"trust":   func(s *fleetsync.SiteFile) { s.Trust = json.RawMessage(`{"schema":"x"}`) },
		"plain":   func(s *fleetsync.SiteFile) { s.Servers = []string{"nats://127.0.0.1:1"} },
		"nowhere": func(s *fleetsync.SiteFile) { s.Servers = nil },
	}
	for name, edit := range variants {
		file := good
		edit(&file)
		raw, err := json.MarshalIndent(file, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".site.json"), raw, 0o600); err != nil {
			return err
		}
		if name == "good" {
			if err := os.WriteFile(filepath.Join(dir, "cut.site.json"), raw[:len(raw)/2], 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "seed.txt"), seed, 0o600)
}

func certificate() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), err
}
