package edge

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func inventoryOf(n int, hash string) apply.Inventory {
	inv := apply.Inventory{Bundle: "shop"}
	for i := range n {
		inv.Items = append(inv.Items, apply.Item{Ref: apply.Ref{ObjectID: bundle.ObjectID{Kind: "ConfigMap", Namespace: "a-namespace", Name: fmt.Sprintf("a-name-of-middling-length-%05d", i)}, Version: "v1"},
			UID: "ac91ea01-2d38-4d3c-9a7a-3b26dca8e1f1", ResourceVersion: "1234567", Hash: strings.Repeat(hash, 43), Print: "abcdefghijkl"})
	}
	return inv
}

// Whatever write of a large inventory is the last, what is read afterwards is the old one or the new one, whole; and the one written next is whole
// and alone.
func TestF03_InventoryKilledAtEveryWrite(t *testing.T) {
	older, newer, final := inventoryOf(4000, "a"), inventoryOf(3300, "b"), inventoryOf(3, "c")
	for _, before := range []apply.Inventory{inventoryOf(20, "a"), older} {
		probe := memstore.NewDisk()
		begin := func(disk *memstore.Disk) *KubeWorkloads {
			w := NewWorkloads(memcluster.New(), Policy{}, disk.Open(), zap.NewNop())
			if err := w.record("shop", before); err != nil {
				t.Fatal(err)
			}
			return w
		}
		w := begin(probe)
		from := probe.Commits()
		if err := w.record("shop", newer); err != nil {
			t.Fatal(err)
		}
		if probe.Commits()-from < 5 {
			t.Fatalf("%d commits: the inventory is too small for this test", probe.Commits()-from)
		}
		for n := from + 1; n <= probe.Commits(); n++ {
			for _, outcome := range []memstore.Outcome{memstore.NotDone, memstore.DoneButFailed} {
				disk := memstore.NewDisk()
				disk.FailNth(n, outcome)
				if err := begin(disk).record("shop", newer); err == nil {
					t.Fatalf("write %d: no error", n)
				}
				disk.Fail(nil)
				w := NewWorkloads(memcluster.New(), Policy{}, disk.Open(), zap.NewNop())
				got, err := w.inventory("shop")
				if err != nil || !reflect.DeepEqual(got, before) && !reflect.DeepEqual(got, newer) {
					t.Fatalf("write %d, %v: %d items, %v", n, outcome, len(got.Items), err)
				}
				for _, next := range []apply.Inventory{newer, final, {Bundle: "shop"}} {
					if err := w.record("shop", next); err != nil {
						t.Fatal(err)
					}
					if got, err := w.inventory("shop"); err != nil || !reflect.DeepEqual(got, next) {
						t.Fatalf("after write %d: %d items, %v", n, len(got.Items), err)
					}
					commits := disk.Commits()
					if err := w.record("shop", next); err != nil || disk.Commits() != commits {
						t.Errorf("what is stored was written again: %v", err)
					}
				}
				if err := w.store.Scan("", func(key string, _ []byte) error { return fmt.Errorf("left: %s", key) }); err != nil {
					t.Fatalf("after write %d: %v", n, err)
				}
			}
		}
	}
}

// A change of one object of ten thousand is one small write, and no commit is larger than the store takes.
func TestInventoryOfTenThousand(t *testing.T) {
	disk := memstore.NewDisk()
	largest := 0
	last := 0
	disk.Fail(func(_ int, records []fleetsync.Record) memstore.Outcome {
		last = 0
		for _, r := range records {
			last += len(r.Value)
		}
		largest = max(largest, last)
		return memstore.Done
	})
	w := NewWorkloads(memcluster.New(), Policy{}, disk.Open(), zap.NewNop())
	inv := inventoryOf(bundle.MaxObjects, "a")
	if err := w.record("shop", inv); err != nil {
		t.Fatal(err)
	}
	if largest > 600<<10 {
		t.Errorf("a commit of %d bytes", largest)
	}
	commits := disk.Commits()
	inv.Items[5000].Hash = "changed"
	if err := w.record("shop", inv); err != nil || disk.Commits() != commits+1 || last > 256<<10 {
		t.Errorf("%d commits, the last of %d bytes: %v", disk.Commits()-commits, last, err)
	}
	if got, err := w.inventory("shop"); err != nil || !reflect.DeepEqual(got, inv) {
		t.Errorf("read: %v", err)
	}
}
