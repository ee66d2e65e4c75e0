package light

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// TestF13_ACrowdComesBackToAKilledHub has every site of a crowd lose its hub at the same moment, find it again at the same moment, and be given a new
// version: none is shut out for good, the bus drops no request, the hub's memory stays bounded. `make bench-scale` does the same with 10,000.
func TestF13_ACrowdComesBackToAKilledHub(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	const sites, memory, patience = 150, 512, 5 * time.Minute // memory in MiB
	f, hub := startFleet(t)
	crowd := New()
	t.Cleanup(crowd.Close)
	ids := make([]bundle.SiteID, sites)
	joining, ctx := errgroup.WithContext(t.Context())
	joining.SetLimit(8)
	for i := range ids {
		ids[i] = bundle.SiteID(fmt.Sprintf("shop-%03d", i))
		joining.Go(func() error { return crowd.Join(ctx, hub, ids[i], nil) })
	}
	must(t, joining.Wait())
	all := func(version bundle.Version) {
		t.Helper()
		_, err := f.Release(filepath.Join("..", "..", "deploy", "examples", "shop"), "shop", string(version))
		must(t, err)
		ref := bundle.Ref{Name: "shop", Version: version}
		results, err := hub.Assign(t.Context(), api.AssignRequest{Sites: ids, Bundle: ref})
		must(t, err)
		for _, r := range results {
			if r.Error != nil {
				t.Fatalf("site %s: %v", r.Site, r.Error)
			}
		}
		must(t, fleet.Until(t.Context(), patience, "all sites to run "+string(version)+" and say so", func() error {
			b, err := hub.Bundle(t.Context(), ref)
			if err == nil && b.Current < sites {
				err = fmt.Errorf("%d of %d do: %w", b.Current, sites, fleet.ErrNotYet)
			}
			return err
		}))
	}
	all("1.0.0")
	f.StopHub(false)
	must(t, f.StartHub(t.Context()))
	all("1.1.0")
	must(t, crowd.Failed())
	used, err := fleet.Memory(f.HubPID())
	must(t, err)
	if used["VmHWM"] == 0 || used["VmHWM"] > memory {
		t.Errorf("the hub took %.0f MiB for %d sites, more than %d", used["VmHWM"], sites, memory)
	}
	log, err := os.ReadFile(filepath.Join(f.Dir, "hub.log"))
	must(t, err)
	if bytes.Contains(log, []byte("API queue limit reached")) {
		t.Error("the bus dropped requests")
	}
}

// startFleet is a fleet with a running hub, and its admin.
func startFleet(t *testing.T) (*fleet.Fleet, *api.Client) {
	t.Helper()
	bin, remove, err := fleet.Build(filepath.Join("..", ".."))
	must(t, err)
	t.Cleanup(remove)
	f, err := fleet.New(t.TempDir(), bin)
	must(t, err)
	t.Cleanup(f.Close)
	must(t, f.StartHub(t.Context()))
	_, dir := f.Bus()
	hub, err := fleet.Admin(dir)
	must(t, err)
	return f, hub
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
