package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// floorSites is how many sites' worth of work the floor is measured on.
const floorSites = 300

// floor measures what a release cannot cost less than, for hub and site together: an assignment is signed, written, synced and verified, a snapshot as well,
// and the bundle is verified, signature and content. There is no network in it, no stream, no acknowledgement and no event.
func (st *stand) floor(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	release, err := bundle.DecodeFile(raw)
	if err != nil {
		return err
	}
	publication, err := tuf.ReadRepository(os.DirFS(filepath.Join(st.fleet.Dir, "tuf")))
	if err != nil {
		return err
	}
	trust, err := verify.DecodeTrust(publication.Fleet)
	if err != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	store, err := os.Create(filepath.Join(st.fleet.Dir, "floor"))
	if err != nil {
		return err
	}
	defer store.Close()
	order := fleetsync.Assignment{Site: "shop-00000", Sequence: 1, Issued: time.Now(), Bundles: []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf(release.Manifest)}}}
	state := fleetsync.State{Site: "shop-00000", Epoch: strings.Repeat("0", 32), Sequence: 1, At: time.Now(), Assignment: 1, Bundles: []fleetsync.BundleStatus{{Name: "shop", Phase: fleetsync.PhaseCurrent}}}
	var gotOrder fleetsync.Assignment
	var gotState fleetsync.State
	travel := func(kind string, message, into any) error {
		sealed, err := fleetsync.Seal(kind, message, private)
		if err != nil {
			return err
		}
		if _, err := store.Write(sealed); err != nil {
			return err
		}
		if err := store.Sync(); err != nil {
			return err
		}
		return fleetsync.Open(kind, sealed, public, into)
	}
	before, err := cpu(os.Getpid())
	if err != nil {
		return err
	}
	for range floorSites {
		if err := travel(fleetsync.TypeAssignment, order, &gotOrder); err != nil {
			return err
		}
		signed, err := trust.Manifest(cosign.Verifier{}, release.Manifest, release.Signatures)
		if err != nil {
			return err
		}
		content, err := wire.Decompress(release.Content, signed.Manifest().Content.Size)
		if err != nil {
			return err
		}
		if _, err := signed.WithContent(content); err != nil {
			return err
		}
		if err := travel(fleetsync.TypeState, state, &gotState); err != nil {
			return err
		}
	}
	after, err := cpu(os.Getpid())
	st.put("floor_ms_per_site", float64((after-before).Microseconds())/1000/floorSites)
	return err
}

// decisions are the benchmarks of the rollout engine and what they are called here.
var decisions = map[string]string{"BenchmarkDecision/10000": "decide_ms_10k", "BenchmarkFirstDecision/10000": "decide_first_ms_10k", "BenchmarkIdleDecision/10000": "decide_idle_ms_10k"}

// decide runs the benchmarks of a decision over 10,000 sites: one after a report, the first after a start, and one in which nothing changed.
func decide() (map[string]float64, error) {
	out, err := exec.Command("go", "test", "./internal/rollout", "-run", "^$", "-bench", "Decision$/^10000$").Output()
	if err != nil {
		return nil, fmt.Errorf("benchmarks of internal/rollout: %w: %s", err, out)
	}
	took := map[string]float64{}
	for line := range bytes.Lines(out) {
		words := strings.Fields(string(line))
		if len(words) < 4 || words[3] != "ns/op" {
			continue
		}
		name := words[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
			name = name[:i]
		}
		nanoseconds, err := strconv.ParseFloat(words[2], 64)
		if measure, known := decisions[name]; known && err == nil {
			took[measure] = nanoseconds / 1e6
		}
	}
	if len(took) != len(decisions) {
		return nil, fmt.Errorf("benchmarks of internal/rollout: %d of %d gave a time: %s", len(took), len(decisions), out)
	}
	return took, nil
}
