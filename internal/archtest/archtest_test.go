// Package archtest states who may import whom, each rule with its reason. It has no code of its own.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-fleet/holdfast/"

// rule says what a package may not import, directly or through others: an import path with everything below it, or thirdParty.
type rule struct {
	of     string
	never  []string
	reason string
}

// thirdParty is everything that is neither ours nor the standard library's.
const thirdParty = "third-party"

var rules = []rule{
	{"pkg/bundle", []string{thirdParty, module + "internal", module + "cmd"},
		"the format is L0: values only, the same on every machine"},
	{"pkg/verify", []string{thirdParty, "net/http", module + "internal", module + "cmd", module + "pkg/sync"},
		"what may be believed is decided without I/O and without anyone else's code"},
	{"pkg/sync", []string{thirdParty, "net/http", module + "internal", module + "cmd"},
		"the protocol and the edge's decisions are pure, so that the simulation runs the real ones"},
	{"internal/rollout", []string{thirdParty, "net/http", module + "internal/hub", module + "internal/edge", module + "internal/api", module + "cmd"},
		"rollouts are decided without I/O, so that the desk explains and simulates with the very same reducer"},
	{"internal/access", []string{thirdParty, "net/http", module + "internal", module + "cmd"},
		"who may do what is decided without I/O and without anyone else's code"},
	{"internal/secret", []string{thirdParty, "net/http", module + "internal", module + "cmd"},
		"what is sealed and opened depends on nobody's code but ours and the standard library's, and goes nowhere by itself"},
	{"internal/wholefile", []string{thirdParty, "net", module + "pkg", module + "internal", module + "cmd"},
		"files are read and written by nothing but the standard library"},
	{"internal/vault", []string{"net/http", "github.com/nats-io", "github.com/dgraph-io", "k8s.io", module + "pkg", module + "internal/hub", module + "internal/bus", module + "cmd"},
		"the hub's key is made, sealed and opened by the standard library and age alone"},
	{"internal/enrol", []string{thirdParty, "net/http", module + "internal", module + "cmd"},
		"who becomes a site is decided without I/O and without anyone else's code"},
	{"internal/enrol/device", []string{module + "internal/hub", module + "internal/api", module + "internal/bus"},
		"a device knows the hub by its enrolment file only"},
	{"internal/edge", []string{module + "internal/hub", module + "internal/api"},
		"hub and edge never import each other; they share pkg"},
	{"internal/edge/local", []string{"github.com/dgraph-io", "github.com/nats-io", "github.com/sigstore", "k8s.io", module + "internal/hub", module + "internal/api"},
		"the site's own verbs are small: words over a socket"},
	{"internal/hub", []string{module + "internal/edge", module + "internal/apply", module + "internal/kube", "k8s.io/client-go/rest"},
		"hub and edge never import each other; the hub never talks to a cluster"},
	{"internal/web", []string{thirdParty, module + "internal/hub", module + "internal/edge", module + "internal/bus"},
		"pages are made of what the API gives and nothing else"},
	{"cmd/edge", []string{module + "internal/hub", module + "internal/api", module + "pkg/verify/cosign/sign", module + "pkg/verify/tuf/author", module + "pkg/bundle/build",
		"github.com/sigstore/cosign/v2/pkg/signature", "github.com/nats-io/nats-server", "helm.sh"},
		"the agent is small and only verifies: no server, no key providers, no builders in it"},
	{"cmd/hub", []string{module + "internal/edge", module + "internal/apply", module + "internal/kube"},
		"hub and edge never import each other"},
	{"cmd/holdfast", []string{module + "internal/hub", module + "internal/edge", module + "internal/bus", "github.com/nats-io/nats-server/v2/server"},
		"the CLI speaks to the hub through its API only"},
	{"internal/store", []string{"github.com/nats-io/nats.go", "k8s.io", "github.com/sigstore"}, "an adapter knows one outside library"},
	{"internal/bus", []string{"github.com/dgraph-io", "k8s.io", "github.com/sigstore"}, "an adapter knows one outside library"},
	{"internal/kube", []string{"github.com/dgraph-io", "github.com/nats-io", "github.com/sigstore"}, "an adapter knows one outside library"},
	{"pkg/verify/tuf", []string{"github.com/dgraph-io", "github.com/nats-io", "github.com/sigstore/cosign", module + "pkg/verify/tuf/author"},
		"an adapter knows one outside library, and who reads metadata does not make it"},
	{"pkg/verify/cosign", []string{"github.com/dgraph-io", "github.com/nats-io", "github.com/sigstore/cosign/v2/pkg/signature"},
		"an adapter knows one outside library, and the edge has no key providers in it"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestWhoMayImportWhom(t *testing.T) {
	packages := list(t)
	for _, r := range rules {
		p, ok := packages[module+r.of]
		if !ok {
			t.Errorf("%s is gone: the rule about it (%s) protects nothing", r.of, r.reason)
			continue
		}
		for _, dep := range p.Deps {
			for _, never := range r.never {
				if dep == never || strings.HasPrefix(dep, never+"/") || never == thirdParty && foreign(dep) {
					t.Errorf("%s imports %s: %s", r.of, dep, r.reason)
				}
			}
		}
	}
}

// foreign says that a package is neither ours nor the standard library's.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(path, module)
}

// TestCoresTouchNothing looks at direct imports: through fmt everything reaches os.
func TestCoresTouchNothing(t *testing.T) {
	bans(t, []string{"pkg/bundle", "pkg/verify", "pkg/sync", "internal/rollout", "internal/access"},
		[]string{"os", "os/exec", "io/fs", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log", "sync", "sync/atomic", "path/filepath"},
		"a core has no I/O, no chance and no goroutines")
}

// TestT14_EdgeReadsNoArchivesAndRunsNothing keeps paths and programs out of what a bundle can reach.
func TestT14_EdgeReadsNoArchivesAndRunsNothing(t *testing.T) {
	bans(t, []string{"pkg/bundle", "pkg/bundle/wire", "pkg/bundle/render", "pkg/verify", "pkg/verify/cosign", "pkg/sync", "internal/edge", "internal/edge/local", "internal/apply", "internal/kube", "internal/store", "cmd/edge"},
		[]string{"archive/tar", "archive/zip", "os/exec", "plugin"},
		"no archives, no paths, no programs at the edge")
}

func bans(t *testing.T, of, never []string, reason string) {
	t.Helper()
	packages := list(t)
	for _, name := range of {
		p, ok := packages[module+name]
		if !ok {
			t.Errorf("%s is gone: the rule about it (%s) protects nothing", name, reason)
		}
		for _, imported := range p.Imports {
			if slices.Contains(never, imported) {
				t.Errorf("%s imports %s: %s", name, imported, reason)
			}
		}
	}
}

// TestNothingBelowImportsAbove keeps shells out of adapters and adapters out of cores.
func TestNothingBelowImportsAbove(t *testing.T) {
	layers := [][]string{
		{"pkg/bundle"},
		{"pkg/verify", "pkg/sync", "internal/rollout"},
		{"internal/store", "internal/bus", "internal/kube", "internal/apply", "pkg/verify/cosign", "pkg/verify/tuf", "internal/api"},
		{"internal/edge", "internal/hub"},
		{"cmd/edge", "cmd/hub", "cmd/holdfast"},
	}
	level := map[string]int{}
	for i, layer := range layers {
		for _, p := range layer {
			level[module+p] = i
		}
	}
	packages := list(t)
	for path, own := range level {
		for _, dep := range packages[path].Deps {
			if other, known := level[dep]; known && other > own {
				t.Errorf("%s (layer %d) imports %s (layer %d)", path, own, dep, other)
			}
		}
	}
}

var cached map[string]listed

func list(t *testing.T) map[string]listed {
	t.Helper()
	if cached != nil {
		return cached
	}
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	cached = map[string]listed{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return cached
		}
		if err != nil {
			t.Fatal(err)
		}
		cached[p.ImportPath] = p
	}
}
