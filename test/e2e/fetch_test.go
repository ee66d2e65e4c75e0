package e2e

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// noise is a namespace with ConfigMaps that cannot be compressed, 96 KiB each; one of them differs by what is said.
func noise(t *testing.T, namespace string, maps int, differs string) string {
	t.Helper()
	source := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", namespace)
	for n := range maps {
		raw := make([]byte, 96<<10)
		for i := range raw {
			raw[i] = byte(source.Uint32())
		}
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: noise-%02d, namespace: %s}\ndata: {differs: %q}\nbinaryData: {noise: %s}\n",
			n, namespace, map[bool]string{true: differs}[n == maps/2], base64.StdEncoding.EncodeToString(raw))
	}
	return folder(t, "noise.yaml", text.String())
}

// TestF03_FetchResumes: the line is cut in the middle of a large bundle and the agent killed. What had come is not fetched again, and the
// next version comes as a delta.
func TestF03_FetchResumes(t *testing.T) {
	c := ownCluster(t, cluster.Options{Name: "fetch", ServerOnly: true})
	s := newStage(t)
	at := s.site("store", c)
	const name = "noise"
	s.release(noise(t, name, 24, "one"), name, "1.0.0")
	full := s.wire(name, "1.0.0").Wire
	if full < 6*bundle.ChunkSize {
		t.Fatalf("the bundle has only %d bytes on the wire", full)
	}
	s.eventually("the site to report", func() error {
		shown, err := s.Site(at.Name)
		if err == nil && shown.State == nil {
			err = fleet.ErrNotYet
		}
		return err
	})
	began, _ := at.Link.Bytes()
	at.Link.CutAfter(full / 2)
	at.assign(name + "@1.0.0")
	s.eventually("the line to be cut", func() error {
		if !at.Link.WasCut() {
			return fleet.ErrNotYet
		}
		return nil
	})
	at.StopEdge(false)
	cut, _ := at.Link.Bytes()
	at.Link.Mend()
	at.start()
	at.applied("1.0.0")
	end, _ := at.Link.Bytes()
	t.Logf("%d bytes on the wire: %d came before the cut, %d after", full, cut-began, end-cut)
	// Of what came, at most the chunk under way is lost.
	if again := (end - began) - full; again > bundle.ChunkSize+talk {
		t.Errorf("%d bytes came twice", again)
	}

	s.release(noise(t, name, 24, "two"), name, "1.1.0")
	delta := s.wire(name, "1.1.0").Deltas
	if len(delta) != 1 || delta[0].Wire > full/20 {
		t.Fatalf("deltas %+v, want one that is small", delta)
	}
	before, _ := at.Link.Bytes()
	at.assign(name + "@1.1.0")
	at.applied("1.1.0")
	at.cameAsDelta(name, "1.1.0", before)
}

// cameAsDelta fails the test where more came over the line, since it had carried so many bytes, than the delta to a version and talk.
func (s *site) cameAsDelta(name, version string, carried int64) {
	t := s.stage.t
	t.Helper()
	after, _ := s.Link.Bytes()
	b := s.stage.wire(name, version)
	if len(b.Deltas) == 0 {
		t.Errorf("the hub has no delta to %s@%s", name, version)
		return
	}
	t.Logf("%s@%s: %d bytes in full, a delta of %d, %d came in all", name, version, b.Wire, b.Deltas[0].Wire, after-carried)
	if after-carried > b.Deltas[0].Wire+talk {
		t.Errorf("%d bytes came for a delta of %d", after-carried, b.Deltas[0].Wire)
	}
}

// talk is what hub and site may say to each other besides, in bytes.
const talk = 64 << 10

// wire is what the hub's catalog says of a bundle.
func (s *stage) wire(name, version string) api.Bundle {
	s.t.Helper()
	var catalog []api.Bundle
	if err := s.JSON(&catalog, "bundle", "list"); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range catalog {
		if string(b.Name) == name && string(b.Version) == version {
			return b
		}
	}
	s.t.Fatalf("the catalog has no %s@%s", name, version)
	return api.Bundle{}
}

// applied waits for the event that a version was applied.
func (s *site) applied(version string) {
	s.stage.t.Helper()
	s.tells("the apply of "+version, func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventApplied && string(e.Version) == version })
}

// TestF21_APIServerGoesAway: the site says so, tries again with pauses, and goes on by itself when it is back.
func TestF21_APIServerGoesAway(t *testing.T) {
	c := ownCluster(t, cluster.Options{Name: "away"})
	s := newStage(t)
	line, err := fleet.NewLink(strings.TrimPrefix(c.Config().Host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	at := s.siteThrough("store", c, line)
	const name, namespace = "away", "away"
	s.release(shopFolder(t, namespace, "one"), name, "1.0.0")
	at.assign(name + "@1.0.0")
	at.runs(name, "1.0.0")

	if err := c.Kill("kube-apiserver"); err != nil {
		t.Skip(err)
	}
	at.tells("an unreachable cluster", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventClusterDown && e.Message != "" })
	s.release(shopFolder(t, namespace, "two"), name, "1.1.0")
	at.assign(name + "@1.1.0")
	before, began := line.Dials(), time.Now()
	s.eventually("the site to say that the update failed", func() error {
		status, err := at.status(name)
		if err == nil && (!strings.Contains(status.Message, "unreachable") || time.Since(began) < 10*time.Second) {
			err = fmt.Errorf("%s: %s: %s", status.Phase, status.Reason, status.Message)
		}
		return err
	})
	took := time.Since(began)
	rate := float64(line.Dials()-before) / took.Seconds()
	t.Logf("%.1f tries a second in the first %v", rate, took.Round(time.Second))
	if rate > 10 { // each of the kinds that are watched may try once a second for a while; a loop without pauses makes hundreds
		t.Errorf("%.1f tries a second: a hot loop", rate)
	}
	if shown := s.cli("site", "show", at.Name); !strings.Contains(shown, "unreachable since") {
		t.Errorf("site show does not say that the cluster is unreachable:\n%s", shown)
	}

	if err := c.StartProgram(s.context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	at.tells("a reachable cluster", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventClusterUp && !e.At.Before(began) })
	at.runs(name, "1.1.0")
	t.Logf("updated %v after the API server was ready", time.Since(back).Round(100*time.Millisecond))
	h := at.hands(namespace)
	deleted := h.deleteService()
	h.repaired("two", deleted)
}
