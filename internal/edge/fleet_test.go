package edge

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

const shop1 = bundle.SiteID("shop-1")

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute) // far more than it takes, on a machine that does much else
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("did not come to pass: %s", what)
		case <-tick.C:
		}
	}
}

// desk is a hub of a few lines: it publishes, assigns, folds what a site reports and acknowledges it.
type desk struct {
	t       testing.TB
	bus     *membus.Bus
	release *verifytest.Key
	key     ed25519.PrivateKey
	site    ed25519.PrivateKey

	mu       sync.Mutex
	sequence uint64
	ingest   *fleetsync.Ingest
	state    fleetsync.State
	events   []fleetsync.Event
	asked    []string // subjects of all gets
	fault    func(membus.Call) membus.Outcome
	echoes   bool   // answering gives a site its note back
	note     []byte // the newest of the site
}

func newDesk(t testing.TB) *desk {
	d := &desk{t: t, bus: membus.New(nil), release: verifytest.NewKey(), ingest: fleetsync.NewIngest(shop1)}
	_, d.key, _ = ed25519.GenerateKey(nil)
	_, d.site, _ = ed25519.GenerateKey(nil)
	d.bus.Fault(func(c membus.Call) membus.Outcome {
		d.mu.Lock()
		fault := d.fault
		if c.Op == membus.OpGet {
			d.asked = append(d.asked, c.Subject)
		}
		d.mu.Unlock()
		if fault == nil {
			return membus.Pass
		}
		return fault(c)
	})
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wait.Go(func() { _ = d.bus.Follow(ctx, stream.State, 0, d.foldState) })
	wait.Go(func() { _ = d.bus.Follow(ctx, stream.Events, 0, d.foldEvents) })
	t.Cleanup(func() { cancel(); wait.Wait() })
	return d
}

func (d *desk) faulty(f func(membus.Call) membus.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

func (d *desk) foldState(m stream.Message) error {
	var state fleetsync.State
	if err := fleetsync.Open(fleetsync.TypeState, m.Data, d.site.Public().(ed25519.PublicKey), &state); err != nil {
		d.t.Errorf("state: %v", err)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.ingest.State(state, time.Now()); err == nil {
		d.state = state
	}
	if fleetsync.NoteNumber(state.Note) > fleetsync.NoteNumber(d.note) {
		d.note = state.Note
	}
	return nil
}

func (d *desk) foldEvents(m stream.Message) error {
	var batch fleetsync.EventBatch
	if err := fleetsync.Open(fleetsync.TypeEvents, m.Data, d.site.Public().(ed25519.PublicKey), &batch); err != nil {
		d.t.Errorf("events: %v", err)
		return nil
	}
	d.mu.Lock()
	folded, err := d.ingest.Events(batch, time.Now())
	d.events = append(d.events, folded.New...)
	ack, ok := d.ingest.Ack()
	d.mu.Unlock()
	if err != nil {
		d.t.Errorf("events: %v", err)
	}
	if ok {
		d.put(fleetsync.AckSubject(shop1), d.seal(fleetsync.TypeAck, ack))
		_ = d.bus.Poke(shop1)
	}
	return nil
}

func (d *desk) seal(messageType string, payload any) []byte {
	sealed, err := fleetsync.Seal(messageType, payload, d.key)
	if err != nil {
		d.t.Error(err)
	}
	return sealed
}

func (d *desk) put(subject string, data []byte) {
	if _, err := d.bus.Put(context.Background(), subject, data); err != nil {
		d.t.Errorf("put %s: %v", subject, err)
	}
}

// replace puts bytes in the place of what is immutable, as only an evil hub can.
func (d *desk) replace(streamName, subject string, data []byte) {
	d.t.Helper()
	if err := d.bus.Delete(context.Background(), streamName, subject); err != nil {
		d.t.Fatal(err)
	}
	d.put(subject, data)
}

// published is a bundle as the hub has it.
type published struct {
	assigned fleetsync.AssignedBundle
	offer    fleetsync.Offer
	content  []byte
	info     bundle.ContentInfo
	packed   [][]byte
}

func (p *published) subject() string { return fleetsync.BundleSubject(p.assigned.Digest) }

// make makes a bundle of shop with as many chunks as its objects need.
func (d *desk) make(version bundle.Version, counter bundle.Counter, objects []bundle.Object, edits ...func(*bundle.Manifest)) *published {
	d.t.Helper()
	content, err := bundle.EncodeContent(objects)
	if err != nil {
		d.t.Fatal(err)
	}
	edits = append([]func(*bundle.Manifest){func(m *bundle.Manifest) { m.Version, m.Counter = version, counter }}, edits...)
	manifest := verifytest.Manifest(d.t, content, len(objects), edits...)
	decoded, err := bundle.DecodeManifest(manifest)
	if err != nil {
		d.t.Fatal(err)
	}
	packed, err := wire.Compress(content)
	if err != nil {
		d.t.Fatal(err)
	}
	p := &published{content: content, info: decoded.Content, packed: bundle.Chunks(packed)}
	p.assigned = fleetsync.AssignedBundle{Name: decoded.Name, Version: decoded.Version, Digest: bundle.DigestOf(manifest)}
	p.offer = fleetsync.Offer{Manifest: manifest, Signatures: [][]byte{d.release.Sign(manifest)}, Full: fleetsync.Blob{Size: int64(len(packed)), Chunks: len(p.packed)}}
	return p
}

func (d *desk) push(p *published) *published {
	d.t.Helper()
	for n, chunk := range p.packed {
		if _, err := d.bus.Put(context.Background(), fleetsync.BlobSubject(p.info.Digest, n), chunk); err != nil && !errors.Is(err, stream.ErrExists) { // versions may share content
			d.t.Fatal(err)
		}
	}
	raw, err := json.Marshal(p.offer)
	if err != nil {
		d.t.Fatal(err)
	}
	d.put(p.subject(), raw)
	return p
}

func (d *desk) publish(version bundle.Version, counter bundle.Counter, objects []bundle.Object, edits ...func(*bundle.Manifest)) *published {
	d.t.Helper()
	return d.push(d.make(version, counter, objects, edits...))
}

func (d *desk) assign(bundles ...*published) {
	a := fleetsync.Assignment{Site: shop1, Issued: time.Now()}
	for _, p := range bundles {
		a.Bundles = append(a.Bundles, p.assigned)
	}
	d.mu.Lock()
	d.sequence++
	a.Sequence = d.sequence
	d.mu.Unlock()
	d.put(fleetsync.DesiredSubject(shop1), d.seal(fleetsync.TypeAssignment, a))
	_ = d.bus.Poke(shop1)
}

func (d *desk) status(name bundle.Name) fleetsync.BundleStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.state.Bundles {
		if b.Name == name {
			return b
		}
	}
	return fleetsync.BundleStatus{}
}

func (d *desk) seen() fleetsync.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// told are the events of a kind.
func (d *desk) told(kind fleetsync.EventKind) (found []fleetsync.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ev := range d.events {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

// gets forgets and gives the subjects asked for so far that begin with a prefix.
func (d *desk) gets(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []string
	for _, s := range d.asked {
		if strings.HasPrefix(s, prefix) {
			found = append(found, s)
		}
	}
	d.asked = nil
	return found
}

func (d *desk) phase(want fleetsync.Phase, version bundle.Version) func() bool {
	return func() bool {
		s := d.status("shop")
		return s.Phase == want && s.Desired == version
	}
}

func (d *desk) current(version bundle.Version) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("shop@%s is current", version), func() bool {
		s := d.status("shop")
		return s.Phase == fleetsync.PhaseCurrent && s.Current == version
	})
}

// site is an edge with a disk and a cluster that outlive its agents.
type site struct {
	t       testing.TB
	desk    *desk
	disk    *memstore.Disk
	cluster *memcluster.Cluster
	trust   *Belief
	logs    *observer.ObservedLogs
	metrics *Metrics // of this life

	mu    sync.Mutex
	marks verify.Counters // beside the store

	page *page // the cluster's note; nil: it keeps none

	store  fleetsync.Store // for the next life only; nil opens the disk
	now    fleetsync.Store // of this life
	damage string
	lives  int
	link   *membus.Link
	agent  *Agent // of this life
	stop   context.CancelFunc
	ended  chan error
}

func newSite(d *desk) *site {
	s := &site{t: d.t, desk: d, disk: memstore.NewDisk(), cluster: memcluster.New(), trust: fixed(verifytest.Trust(d.release), d.key.Public().(ed25519.PublicKey)), marks: verify.Counters{}}
	d.t.Cleanup(s.halt)
	return s
}

// start begins a life with what the disk has.
func (s *site) start() *site {
	s.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	s.logs = logs
	s.metrics = NewMetrics("")
	s.lives++
	s.link = s.desk.bus.Link(shop1)
	if s.store == nil {
		s.store = s.disk.Open()
	}
	store := s.store
	s.store, s.now = nil, store
	s.mu.Lock()
	marks := s.marks
	s.mu.Unlock()
	var notebook Notebook
	if s.page != nil {
		notebook = &pageNote{page: s.page}
	}
	agent := New(Options{
		Site: &fleetsync.SiteFile{Site: shop1}, Notebook: notebook, Trust: s.trust, Signatures: verifytest.Twin{}, Store: store, Link: s.link,
		Workloads: s.metrics.measured(NewWorkloads(s.cluster, Policy{Protected: DefaultProtected()}, store, log).Opening(opener(s.t, s.desk.site))), Metrics: s.metrics, Marks: marks, SaveMarks: s.saveMarks, Damage: s.damage,
		Key: s.desk.site, Version: "test", Epoch: fmt.Sprintf("%032x", s.lives), Log: log,
	})
	s.agent = agent
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.ended = stop, make(chan error, 1)
	ended := s.ended
	go func() { ended <- agent.Run(ctx) }()
	return s
}

func (s *site) saveMarks(marks verify.Counters) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = verify.Merge(s.marks, marks)
	return nil
}

// halt ends this life. What it had not committed is lost.
func (s *site) halt() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := <-s.ended; err != nil {
		s.t.Errorf("the agent ended with %v", err)
	}
	_ = s.link.Close()
}

func (s *site) restart() *site {
	s.t.Helper()
	s.halt()
	return s.start()
}

func object(text string) bundle.Object {
	o, err := bundle.NewObject([]byte(text))
	if err != nil {
		panic(err)
	}
	return o
}

func configMap(name, value string) bundle.Object {
	return object(fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"}}`, value, name))
}

func mapID(name string) bundle.ObjectID {
	return bundle.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: name}
}

// value is what a config map has now.
func (s *site) value(name string) string {
	data, _ := s.cluster.Body(mapID(name))["data"].(map[string]any)
	value, _ := data["k"].(string)
	return value
}

func (s *site) has(names ...string) bool {
	var got []string
	for _, id := range s.cluster.Objects() {
		if id.Kind == "ConfigMap" {
			got = append(got, id.Name)
		}
	}
	return slices.Equal(got, names)
}

// spoil changes an object as an outside hand does.
func (s *site) spoil(name string) {
	s.t.Helper()
	if err := s.cluster.Edit(mapID(name), "kubectl-edit", func(body map[string]any) { body["data"].(map[string]any)["k"] = "spoilt" }); err != nil {
		s.t.Fatal(err)
	}
}
