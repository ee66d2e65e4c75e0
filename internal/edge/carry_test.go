package edge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// carry makes a carried file of an assignment and bundle files.
func carry(t *testing.T, site bundle.SiteID, assignment []byte, bundles ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	add, err := fleetsync.WriteCarried(&file, site)
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
