package edge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// carry makes a carried file of an assignment and bundle files.
func carry(t *testing.T, site bundle.SiteID, assignment []byte, bundles ...[]byte) []byte {
	t.Helper()
	return carryWith(t, nil, site, assignment, bundles...)
}

// carryWith has a root of trust in the file, too.
func carryWith(t *testing.T, trust map[string][]byte, site bundle.SiteID, assignment []byte, bundles ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	add, err := fleetsync.WriteCarried(&file, site)
	for name, raw := range trust {
		err = errors.Join(err, add(fleetsync.CarriedTrust, append([]byte(name+"\n"), raw...)))
	}
	err = errors.Join(err, add(fleetsync.CarriedAssignment, assignment))
	for _, b := range bundles {
		err = errors.Join(err, add(fleetsync.CarriedBundle, b))
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func bundleFile(t *testing.T, p *published) []byte {
	t.Helper()
	packed, err := wire.Compress(p.content)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bundle.EncodeFile(&bundle.File{Manifest: p.offer.Manifest, Signatures: p.offer.Signatures, Content: packed})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestP06_ASiteWithoutALineIsSuppliedByHand brings an assignment and its bundle in one file and takes the report home, with every rule of the bus.
func TestP06_ASiteWithoutALineIsSuppliedByHand(t *testing.T) {
	d := newDesk(t)
	d.bus.Cut(shop1)
	s := newSite(d).start()
	p, other := d.make("1.0.0", 1, []bundle.Object{configMap("a", "1")}), d.make("1.1.0", 2, []bundle.Object{configMap("a", "2")})
	seal := func(a fleetsync.Assignment) []byte { return d.seal(fleetsync.TypeAssignment, a) }
	first := fleetsync.Assignment{Site: shop1, Sequence: 1, Issued: time.Now(), Bundles: []fleetsync.AssignedBundle{p.assigned}}
	tampered := bundleFile(t, p)
	tampered[len(tampered)-9] ^= 1
	_, stranger, _ := ed25519.GenerateKey(nil)
	forged, err := fleetsync.Seal(fleetsync.TypeAssignment, first, stranger)
	if err != nil {
		t.Fatal(err)
	}
	for want, file := range map[string][]byte{
		"is for site shop-2":       carry(t, "shop-2", seal(first), bundleFile(t, p)),
		"not by the expected key":  carry(t, shop1, forged, bundleFile(t, p)),
		"not in the assignment":    carry(t, shop1, seal(first), bundleFile(t, other)),
		"import: ":                 carry(t, shop1, seal(first), tampered),
		"it ends after":            carry(t, shop1, seal(first), bundleFile(t, p))[:400],
		"carried file: it is none": []byte("PK\x03\x04"),
	} {
		if _, err := s.agent.Import(t.Context(), bytes.NewReader(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if got, err := s.agent.Import(t.Context(), bytes.NewReader(carry(t, shop1, seal(first), bundleFile(t, p)))); err != nil || got.Bundles != 1 || got.Has != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	stands := func() fleetsync.BundleStatus {
		status, err := s.agent.Status(context.Background())
		if err != nil || len(status.State.Bundles) == 0 {
			return fleetsync.BundleStatus{}
		}
		return status.State.Bundles[0]
	}
	eventually(t, "1.0.0 is current without a line", func() bool { b := stands(); return b.Phase == fleetsync.PhaseCurrent && b.Current == "1.0.0" })
	// What is older than what is here is refused, whoever carries it.
	older := first
	older.Sequence, older.Bundles = 0, nil
	if _, err := s.agent.Import(t.Context(), bytes.NewReader(carry(t, shop1, seal(older)))); err == nil || !strings.Contains(err.Error(), "was not taken") {
		t.Errorf("an older assignment: %v", err)
	}
	report, err := s.agent.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	healthy := 0
	err = fleetsync.ReadCarried(bytes.NewReader(report), func(site bundle.SiteID, kind fleetsync.CarriedKind, data []byte) error {
		var batch fleetsync.EventBatch
		var state fleetsync.State
		public := d.site.Public().(ed25519.PublicKey)
		if kind == fleetsync.CarriedState {
			return fleetsync.Open(fleetsync.TypeState, data, public, &state)
		}
		err := fleetsync.Open(fleetsync.TypeEvents, data, public, &batch)
		for _, ev := range batch.Events {
			if ev.Kind == fleetsync.EventHealthy && ev.Offline {
				healthy++
			}
		}
		return err
	})
	if err != nil || healthy != 1 {
		t.Errorf("the report: %v, %d times healthy", err, healthy)
	}
	// The line comes back: what was reported by hand is reported once more, and the snapshot of then is not the newest.
	d.bus.Mend(shop1)
	eventually(t, "the hub knows", func() bool { return len(d.told(fleetsync.EventHealthy)) == 1 && d.status("shop").Current == "1.0.0" })
}

// TestF19_ADarkSiteFollowsTheRootInACarriedFile rotates root keys and the hub's key while a site has no line: what the new key signed is taken with the
// root of trust that leads to it, by the rules of the bus but for how lately the hub signed it, and not without.
func TestF19_ADarkSiteFollowsTheRootInACarriedFile(t *testing.T) {
	d := newDesk(t)
	d.bus.Cut(shop1)
	root := tuftest.New(t, verifytest.Trust(d.release))
	file, err := tuf.Encode(root.Metadata(time.Now(), time.Hour))
	must(t, err)
	s := newSite(d)
	s.trust, err = NewBelief(file, d.site, zap.NewNop())
	must(t, err)
	s.start()
	root.RotateOnline()
	root.RotateHolders(3)
	served, foreign := &shelfLink{files: map[string][]byte{}}, &shelfLink{files: map[string][]byte{}}
	served.serveAt(t, root, time.Now().Add(-90*24*time.Hour)) // the way was long
	foreign.serve(t, tuftest.New(t, verifytest.Trust(d.release)))
	p := d.make("1.0.0", 1, []bundle.Object{configMap("a", "1")})
	sealed, err := fleetsync.Seal(fleetsync.TypeAssignment, fleetsync.Assignment{Site: shop1, Sequence: 1, Issued: time.Now(), Bundles: []fleetsync.AssignedBundle{p.assigned}}, root.Online)
	must(t, err)
	huge := map[string][]byte{}
	for n := range maxTrust/(512<<10) + 1 {
		huge[tuf.Name("root", int64(n+2))] = make([]byte, 512<<10)
	}
	for want, trust := range map[string]map[string][]byte{
		"not by the expected key":                       nil,
		"the root of trust in the file is not believed": foreign.files,
		"the root of trust in the file has more than":   huge,
	} {
		if _, err := s.agent.Import(t.Context(), bytes.NewReader(carryWith(t, trust, shop1, sealed, bundleFile(t, p)))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if got := s.trust.Status(nil); got.Root != 1 {
		t.Fatalf("root %d is believed", got.Root)
	}
	if got, err := s.agent.Import(t.Context(), bytes.NewReader(carryWith(t, served.files, shop1, sealed, bundleFile(t, p)))); err != nil || got.Has != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if status, err := s.agent.Status(t.Context()); err != nil || status.State.Trust.Root != 4 || status.State.Trust.Error != "" {
		t.Errorf("the site says %+v, %v", status.State.Trust, err)
	}
	s.halt()
	again, err := NewBelief(file, d.site, zap.NewNop())
	must(t, err)
	if said, err := again.Restore(s.disk.Open()); said != "" || err != nil || again.Status(nil).Root != 4 {
		t.Errorf("after a restart: %q, %v, root %d", said, err, again.Status(nil).Root)
	}
}
