package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// shop is a site that signs what it says, and does what it is told about each version.
type shop struct {
	t    *testing.T
	id   bundle.SiteID
	key  ed25519.PrivateKey
	hub  ed25519.PublicKey
	link fleetsync.Link
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	mute     bool // says nothing: no heartbeat either
	does     map[bundle.Version]rollout.Behaviour
	epoch    string
	have     fleetsync.Assignment
	sequence uint64 // of the newest snapshot
	lie      uint64 // added to the assignment it reports
	bundles  []fleetsync.BundleStatus
	offers   []string // every order of the bundle it saw: version, rollout and attempt
	clock    fleetsync.TimeQuality
	agent    bool // its bundle is its agent: what it runs of it is what speaks
}

// beat is how often shops say hello; their hubs take twice a second for silence.
const beat = 200 * time.Millisecond

// openShop adds a site to the fleet and opens it. Without a memory bus it connects over NATS.
func openShop(t *testing.T, client *api.Client, id bundle.SiteID, labels map[string]string, memory *membus.Bus) *shop {
	t.Helper()
	seed, name, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	grant, err := client.AddSite(context.Background(), api.SiteRequest{ID: id, Labels: labels, PublicKey: name})
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, id: id, key: ed25519.NewKeyFromSeed(raw), hub: hubKeyOf(t, grant.Trust), does: map[bundle.Version]rollout.Behaviour{}, epoch: fmt.Sprintf("%032x", len(id))}
	if memory != nil {
		s.link = memory.Link(id)
	} else {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(grant.CA))
		s.link, err = link.Dial(link.Options{
			Site: id, Servers: grant.Servers, CA: roots, JWT: grant.JWT, Seed: seed, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.run(ctx) })
	t.Cleanup(func() {
		s.stop()
		s.done.Wait()
		s.link.Close()
	})
	return s
}

func (s *shop) run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case notice := <-s.link.Notices():
			if notice.Kind != fleetsync.LinkDown {
				s.look(ctx)
			}
		case <-ticker.C:
			s.hello(ctx)
		}
	}
}

func (s *shop) hello(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mute {
		hello := fleetsync.Hello{Site: s.id, Epoch: s.epoch, At: time.Now(), State: s.sequence}
		_ = s.link.Hello(ctx, fleetsync.HelloSubject(s.id), sealed(s.t, fleetsync.TypeHello, hello, s.key))
	}
}

// look reads the assignment and does what it says, unless the shop is mute.
func (s *shop) look(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return
	}
	raw, err := s.link.Get(ctx, fleetsync.DesiredSubject(s.id))
	var next fleetsync.Assignment
	if err != nil || fleetsync.Open(fleetsync.TypeAssignment, raw, s.hub, &next) != nil {
		s.say(ctx)
		return
	}
	if next.Sequence < s.have.Sequence {
		s.t.Errorf("site %s: assignment %d after %d", s.id, next.Sequence, s.have.Sequence)
	}
	if next.Sequence == s.have.Sequence {
		return
	}
	s.have = next
	s.bundles = slices.DeleteFunc(s.bundles, func(b fleetsync.BundleStatus) bool { _, wanted := assignedIn(next, b.Name); return !wanted })
	for _, b := range next.Bundles {
		s.take(ctx, b)
	}
	s.say(ctx)
}

func (s *shop) take(ctx context.Context, b fleetsync.AssignedBundle) {
	order := string(b.Version)
	if b.Rollout != nil {
		order = fmt.Sprintf("%s %s/%d", b.Version, b.Rollout.ID, b.Rollout.Attempt)
	}
	if len(s.offers) == 0 || s.offers[len(s.offers)-1] != order {
		s.offers = append(s.offers, order)
	}
	i := slices.IndexFunc(s.bundles, func(has fleetsync.BundleStatus) bool { return has.Name == b.Name })
	if i < 0 {
		i, s.bundles = len(s.bundles), append(s.bundles, fleetsync.BundleStatus{Name: b.Name})
	}
	status := &s.bundles[i]
	status.Desired, status.Digest, status.Reason = b.Version, b.Digest, ""
	phases := []fleetsync.Phase{fleetsync.PhaseAccepted, fleetsync.PhaseApplying, fleetsync.PhaseCurrent}
	switch does := s.does[b.Version]; does {
	case rollout.DoesFail:
		phases = []fleetsync.Phase{fleetsync.PhaseApplying, fleetsync.PhaseReverting, fleetsync.PhaseReverted}
		status.Reason = "Unhealthy"
	case rollout.DoesDie, rollout.DoesSilent:
		phases = []fleetsync.Phase{fleetsync.PhaseApplying}
		if does == rollout.DoesSilent {
			phases = nil
		}
		defer func() { s.mute = true }()
	case "wait":
		phases = phases[:1]
	}
	for _, status.Phase = range phases {
		if status.Phase == fleetsync.PhaseCurrent {
			status.Current, status.CurrentDigest = b.Version, b.Digest
		}
		s.say(ctx)
	}
}

// say reports what is true now. The caller holds mu.
func (s *shop) say(ctx context.Context) {
	if s.mute {
		return
	}
	s.sequence++
	speaks := "test"
	if s.agent && len(s.bundles) > 0 {
		speaks = string(s.bundles[0].Current)
	}
	state := fleetsync.State{
		Site: s.id, Epoch: s.epoch, Sequence: s.sequence, At: time.Now().UTC(), Started: noon, Agent: speaks, Assignment: s.have.Sequence + s.lie,
		Cluster: fleetsync.ClusterStatus{Reachable: true}, Bundles: s.bundles, Clock: fleetsync.ClockStatus{Quality: s.clock},
	}
	_ = s.link.Report(ctx, fleetsync.StateSubject(s.id), sealed(s.t, fleetsync.TypeState, state, s.key))
}

// told tells the shop something and has it look.
func (s *shop) told(change func(s *shop)) {
	s.mu.Lock()
	change(s)
	s.mu.Unlock()
	s.look(context.Background())
}

func (s *shop) runs(name bundle.Name) bundle.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bundles {
		if b.Name == name {
			return b.Current
		}
	}
	return ""
}

func (s *shop) saw() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.offers)
}

// district is a hub with shops that run shop@1.0.0.
type district struct {
	t      *testing.T
	cfg    Config
	memory *membus.Bus
	h      *Hub
	client *api.Client
	shops  map[bundle.SiteID]*shop
}

// newDistrict opens n shops named shop-1 to shop-n, on a bus in memory or on an embedded server.
func newDistrict(t *testing.T, n int, inMemory bool) *district {
	t.Helper()
	d := &district{t: t, cfg: configOf(t, t.TempDir()), shops: map[bundle.SiteID]*shop{}}
	d.cfg.HeartBeat, d.cfg.LeaseSpan, d.cfg.noticeEvery = time.Second, time.Second, beat
	if inMemory {
		d.memory = membus.New(nil)
		d.cfg.Bus = d.memory
	}
	d.h = startHub(t, d.cfg)
	d.client = clientOf(t, d.h)
	push(t, d.client, releaseOf(t, "1.0.0", 1, ours()))
	var ids []bundle.SiteID
	for i := range n {
		d.open(i+1, nil)
		ids = append(ids, shopID(i+1))
	}
	if n > 0 {
		if _, err := d.client.Assign(t.Context(), api.AssignRequest{Sites: ids, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		eventually(t, string(id)+" runs 1.0.0 and the hub knows", func() bool {
			site, err := d.client.Site(t.Context(), id)
			return err == nil && site.Connected && site.State != nil && len(site.State.Bundles) == 1 && site.State.Bundles[0].Current == "1.0.0" &&
				site.State.Bundles[0].Phase == fleetsync.PhaseCurrent
		})
	}
	return d
}

func shopID(i int) bundle.SiteID { return bundle.SiteID(fmt.Sprintf("shop-%d", i)) }

func (d *district) open(i int, labels map[string]string) *shop {
	d.t.Helper()
	if labels == nil {
		labels = map[string]string{"region": []string{"north", "south"}[i%2], "number": fmt.Sprint(i)}
	}
	s := openShop(d.t, d.client, shopID(i), labels, d.memory)
	d.shops[s.id] = s
	return s
}

// release pushes a version of shop, and says what some sites do with it.
func (d *district) release(version bundle.Version, counter bundle.Counter, does map[int]rollout.Behaviour, edits ...func(*bundle.Manifest)) {
	d.t.Helper()
	for i, b := range does {
		d.shops[shopID(i)].told(func(s *shop) { s.does[version] = b })
	}
	push(d.t, d.client, releaseOf(d.t, version, counter, ours(), edits...))
}

func planOf(spec string) json.RawMessage {
	return json.RawMessage(`{"apiVersion":"holdfast.dev/v1","kind":"RolloutPlan","metadata":{"name":"retail"},"spec":` + spec + `}`)
}

// quick is a canary by name, then everybody else.
const quick = `{"waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"0s"},{"name":"rest","sites":{"all":true},"maxUnavailable":3,"soak":"0s"}]}`

func (d *district) start(version bundle.Version, spec string) api.Rollout {
	d.t.Helper()
	started, err := d.client.StartRollout(d.t.Context(), api.RolloutRequest{Bundle: bundle.Ref{Name: "shop", Version: version}, Plan: planOf(spec)})
	if err != nil {
		d.t.Fatal(err)
	}
	return *started.Rollout
}

// reaches waits until the rollout is in the phase, and says why it is not.
func (d *district) reaches(id string, phase rollout.Phase) rollout.Explanation {
	d.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(30 * time.Second)
	for {
		e, err := d.client.ExplainRollout(d.t.Context(), id)
		if err == nil && e.Phase == phase {
			return e
		}
		select {
		case <-ticker.C:
		case <-limit:
			d.t.Fatalf("rollout %s never %s, but %s: %v; holds %v, sites %+v, waves %+v", id, phase, e.Phase, err, e.Holds, e.Sites, e.Waves)
		}
	}
}

func (d *district) act(id, act string, request api.RolloutAct) api.RolloutActed {
	d.t.Helper()
	acted, err := d.client.ActOnRollout(d.t.Context(), id, act, request)
	if err != nil {
		d.t.Fatal(err)
	}
	return acted
}

func (d *district) allRun(version bundle.Version, but ...int) {
	d.t.Helper()
	for i := range len(d.shops) {
		if !slices.Contains(but, i+1) {
			eventually(d.t, fmt.Sprintf("%s runs %s", shopID(i+1), version), func() bool { return d.shops[shopID(i+1)].runs("shop") == version })
		}
	}
}

func refOfShop(version bundle.Version) bundle.Ref { return bundle.Ref{Name: "shop", Version: version} }
