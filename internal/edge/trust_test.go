package edge

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

// shelfLink is a link to a hub that serves a root of trust and nothing else.
type shelfLink struct {
	fleetsync.Link
	files map[string][]byte
	away  bool
	asked int
}

func (l *shelfLink) Get(_ context.Context, subject string) ([]byte, error) {
	l.asked++
	if l.away {
		return nil, fleetsync.ErrNoLink
	}
	if raw, ok := l.files[subject]; ok {
		return raw, nil
	}
	return nil, fmt.Errorf("%s: %w", subject, fleetsync.ErrNotFound)
}

// serve puts what a hub would on the shelf.
func (l *shelfLink) serve(t *testing.T, root *tuftest.Root) {
	t.Helper()
	l.serveAt(t, root, time.Now())
}

// serveAt is serve at another time.
func (l *shelfLink) serveAt(t *testing.T, root *tuftest.Root, now time.Time) {
	t.Helper()
	m := root.Metadata(now, time.Hour)
	state, err := tuf.Load(m)
	must(t, err)
	for i, raw := range root.Published.Roots {
		l.files[tuf.Name("root", int64(i+1))] = raw
	}
	l.files[tuf.Name("targets", state.Versions.Targets)], l.files[tuf.FleetName(m.Fleet)] = m.Targets, m.Fleet
	l.files[tuf.Name("snapshot", state.Versions.Snapshot)], l.files[tuf.TimestampName] = m.Snapshot, m.Timestamp
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// believer is a site with a root of trust, a store and a link.
type believer struct {
	root   *tuftest.Root
	link   *shelfLink
	disk   *memstore.Disk
	store  fleetsync.Store
	key    ed25519.PrivateKey
	file   []byte
	belief *Belief
}

func newBeliever(t *testing.T) *believer {
	t.Helper()
	b := &believer{root: tuftest.New(t, verifytest.Trust(verifytest.NewKey())), link: &shelfLink{files: map[string][]byte{}}, disk: memstore.NewDisk()}
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	b.key = key
	b.file, err = tuf.Encode(b.root.Metadata(time.Now(), time.Hour))
	must(t, err)
	b.link.serve(t, b.root)
	b.start(t)
	return b
}

// start begins a life with what site file and store have, and gives what was said of the store.
func (b *believer) start(t *testing.T) string {
	t.Helper()
	b.store = b.disk.Open()
	var err error
	b.belief, err = NewBelief(b.file, b.key, zap.NewNop())
	must(t, err)
	said, err := b.belief.Restore(b.store)
	must(t, err)
	return said
}

func (b *believer) refresh() fleetsync.TrustStatus {
	return b.belief.Refresh(context.Background(), b.link, b.store, time.Now()).Trust
}

func TestF19_ChainsOfRotationsAreWalkedAfterAnyAbsence(t *testing.T) {
	for _, rotations := range []int{1, 20, 257} {
		if rotations > 20 && testing.Short() {
			continue
		}
		b := newBeliever(t)
		b.root.RotateHolders(rotations)
		b.link.serve(t, b.root)
		status := b.refresh()
		if status.Error != "" || status.Root != uint64(rotations+1) || status.Targets != 2 {
			t.Errorf("after %d rotations: %+v", rotations, status)
		}
		if said := b.start(t); said != "" || b.belief.Status(nil).Root != status.Root {
			t.Errorf("after a restart: %q, %+v", said, b.belief.Status(nil))
		}
	}
}

func TestT10_AFailedRefreshLeavesWhatWasTrusted(t *testing.T) {
	for name, spoil := range map[string]func(*believer){
		"no link":           func(b *believer) { b.link.away = true },
		"no timestamp":      func(b *believer) { delete(b.link.files, tuf.TimestampName) },
		"a garbled root":    func(b *believer) { b.link.files[tuf.Name("root", 2)] = []byte("garbage") },
		"no trust document": func(b *believer) { delete(b.link.files, tuf.FleetName(b.root.Published.Fleet)) },
		"another fleet's":   func(b *believer) { b.link.serve(t, tuftest.New(t, verifytest.Trust(verifytest.NewKey()))) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBeliever(t)
			before := b.belief.Document()
			b.root.Trust.Keys[0].Revoked = true
			b.root.Publish(false)
			b.link.serve(t, b.root)
			spoil(b)
			if status := b.refresh(); (status.Error == "") != b.link.away || status.Root != 1 || status.Targets != 1 {
				t.Errorf("%+v", status)
			}
			if b.belief.Document() != before {
				t.Error("something else is believed")
			}
		})
	}
}

func TestT09_ARevocationIsDurableBeforeItCounts(t *testing.T) {
	b := newBeliever(t)
	b.root.Trust.Keys[0].Revoked = true
	b.root.Publish(false)
	b.link.serve(t, b.root)
	full := errors.New("the disk is full")
	b.store = refusing{b.store, full}
	if status := b.refresh(); !strings.Contains(status.Error, full.Error()) || status.Targets != 1 || b.belief.Document().Keys[0].Revoked {
		t.Fatalf("it counts though it is not stored: %+v", status)
	}
	b.start(t)
	if status := b.refresh(); status.Error != "" || status.Targets != 2 {
		t.Fatalf("%+v", status)
	}
	b.link.away = true
	if b.start(t); !b.belief.Document().Keys[0].Revoked {
		t.Error("a restart without a hub forgot it")
	}
}

type refusing struct {
	fleetsync.Store
	err error
}

func (r refusing) Commit(...fleetsync.Record) error { return r.err }

// Whoever can write the store, but does not have the site's key, cannot put in a root of their own, and an older record is caught up with.
func TestT26_AForgedRootInTheStoreIsNotBelieved(t *testing.T) {
	b := newBeliever(t)
	evil := tuftest.New(t, verifytest.Trust(verifytest.NewKey()))
	for range 3 {
		evil.RotateHolder()
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	must(t, err)
	raw, err := tuf.Encode(evil.Metadata(time.Now(), time.Hour))
	must(t, err)
	forger, err := NewBelief(raw, stranger, zap.NewNop())
	must(t, err)
	must(t, forger.persist(b.store, forger.state))
	if said := b.start(t); !strings.Contains(said, "not written by this site") {
		t.Errorf("said %q", said)
	}
	if b.belief.Status(nil).Root != 1 || b.belief.Document().Keys[0].ID == evil.Trust.Keys[0].ID {
		t.Error("the forged root is believed")
	}
}

func TestT08_TheHubsFormerKeyIsBelievedForWhatIsStoredAlone(t *testing.T) {
	b := newBeliever(t)
	stolen := b.root.Online.Public().(ed25519.PublicKey)
	b.root.RotateOnline()
	b.root.Publish(true)
	b.link.serve(t, b.root)
	trusted := b.belief.Refresh(context.Background(), b.link, b.store, time.Now())
	if trusted.Trust.Error != "" || len(trusted.HubKeys) != 1 || trusted.HubKeys[0].Equal(stolen) {
		t.Fatalf("%+v", trusted)
	}
	b.start(t)
	now, before := b.belief.HubKeys()
	if len(now) != 1 || now[0].Equal(stolen) || len(before) != 1 || !before[0].Equal(stolen) {
		t.Errorf("after a restart: now %x, before %x", now, before)
	}
}

func TestASiteFileThatIsNewerThanTheStoreCounts(t *testing.T) {
	b := newBeliever(t)
	b.root.RotateHolder()
	b.link.serve(t, b.root)
	b.refresh()
	b.root.RotateHolder()
	var err error
	b.file, err = tuf.Encode(b.root.Metadata(time.Now(), time.Hour))
	must(t, err)
	if b.start(t); b.belief.Status(nil).Root != 3 {
		t.Errorf("%+v", b.belief.Status(nil))
	}
	if _, err := NewBelief([]byte(`{}`), b.key, zap.NewNop()); err == nil {
		t.Error("an empty root is believed")
	}
	nobody := &verify.Trust{Schema: verify.TrustSchema, Fleet: "test"}
	if _, err := online.Assignment(nobody); err == nil {
		t.Error("a document that names no hub names one")
	}
}

// T26: an older record of the root of trust, which this site itself sealed, passes its seal. The note in the cluster tells that it is not the newest one.
func TestT26_AnOlderRootPutBackIsNoticedByTheNote(t *testing.T) {
	b := newBeliever(t)
	b.root.RotateHolders(1)
	b.link.serve(t, b.root)
	older := b.refresh()
	image := memstore.NewDisk()
	copied(t, b.store, image.Open())
	b.root.RotateHolders(1)
	b.link.serve(t, b.root)
	newer := b.refresh()
	if newer.Root <= older.Root {
		t.Fatalf("the root went from %d to %d", older.Root, newer.Root)
	}
	life := func() (*fleetsync.Edge, fleetsync.Effects) {
		t.Helper()
		edge := fleetsync.NewEdge(fleetsync.EdgeConfig{Site: shop1, NewEpoch: "e1", NoteKey: sealOf(b.key).of("note"), Notebook: true})
		var records []fleetsync.Record
		must(t, b.store.Scan(fleetsync.RecordPrefix, func(key string, value []byte) error {
			records = append(records, fleetsync.Record{Key: key, Value: value})
			return nil
		}))
		_, err := edge.Step(time.Now(), fleetsync.Restored{Records: records})
		must(t, err)
		effects, err := edge.Step(time.Now(), fleetsync.Trusted{Trust: b.belief.Status(nil)})
		must(t, err)
		return edge, effects
	}
	edge, _ := life()
	effects, err := edge.Step(time.Now(), fleetsync.Noted{})
	must(t, err)
	note := effects.Keep.Note

	b.disk = image
	if said := b.start(t); said != "" || b.belief.Status(nil).Root != older.Root {
		t.Fatalf("%q, %+v", said, b.belief.Status(nil))
	}
	edge, _ = life()
	effects, err = edge.Step(time.Now(), fleetsync.Noted{Note: note})
	must(t, err)
	told := ""
	for _, r := range effects.Persist {
		told += string(r.Value)
	}
	if !strings.Contains(told, fleetsync.ReasonTrustPutBack) || !strings.Contains(edge.State(time.Now()).PutBack, fmt.Sprintf("this site had %d with %d", newer.Root, newer.Targets)) {
		t.Errorf("told %s, shown %q", told, edge.State(time.Now()).PutBack)
	}
	b.refresh()
	_, err = edge.Step(time.Now(), fleetsync.Trusted{Trust: b.belief.Status(nil)})
	must(t, err)
	if said := edge.State(time.Now()).PutBack; said != "" {
		t.Errorf("with the newest root again: %q", said)
	}
}
