package replicas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/fleet"
	"github.com/holdfast-fleet/holdfast/test/light"
)

const hubs = 3

// trio is three hubs on a cluster of three nodes, and a crowd of sites. Each hub reaches each node over a line of its own.
type trio struct {
	t     testing.TB
	nodes *nodes
	fleet *fleet.Fleet // keys, and the desk at hub 0
	bin   string
	dir   string
	api   []string
	hubs  []*process
	lines [hubs][]*fleet.Link
	crowd *light.Crowd
	ids   []bundle.SiteID
	log   *journal
}

// heartBeat of the sites: a hub that takes over knows within twice of it who is there.
const heartBeat = 5 * time.Second

func newTrio(t testing.TB, sites int) *trio {
	t.Helper()
	bin, remove, err := fleet.Build(filepath.Join("..", ".."))
	must(t, err)
	t.Cleanup(remove)
	c := &trio{t: t, nodes: newNodes(t, 3), bin: bin, dir: t.TempDir(), api: free(t, hubs), hubs: make([]*process, hubs), crowd: light.New()}
	c.fleet, err = fleet.New(c.dir, bin)
	must(t, err)
	keys, err := json.Marshal(c.nodes.keys)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(c.dir, "bus.json"), keys, 0o600))
	for i := range hubs {
		for _, address := range c.nodes.addresses {
			line, err := fleet.NewLink(address)
			must(t, err)
			t.Cleanup(line.Close)
			c.lines[i] = append(c.lines[i], line)
		}
	}
	ensured(c.nodes, bus.StreamOptions{})
	c.log = newJournal(c.nodes)
	for i := range hubs {
		c.start(i)
	}
	for i := range hubs {
		eventually(t, time.Minute, "the hub answers", func() error {
			must(t, c.hubs[i].ended())
			_, err := c.client(i)
			return err
		})
	}
	t.Cleanup(c.crowd.Close)
	hub, err := c.client(0)
	must(t, err)
	joining, ctx := errgroup.WithContext(t.Context())
	joining.SetLimit(8)
	for i := range sites {
		id := bundle.SiteID(fmt.Sprintf("shop-%02d", i))
		c.ids = append(c.ids, id)
		joining.Go(func() error { return c.crowd.Join(ctx, hub, id, map[string]string{"region": fmt.Sprintf("r%d", i%4)}) })
	}
	must(t, joining.Wait())
	return c
}

// hubDir is the data directory of a hub. The first one is where package fleet looks for the admin.
func (c *trio) hubDir(i int) string {
	if i == 0 {
		return filepath.Join(c.dir, "hub")
	}
	return filepath.Join(c.dir, fmt.Sprintf("hub-%d", i))
}

// start runs a hub. It connects to the node of its number first.
func (c *trio) start(i int) {
	c.t.Helper()
	var through, direct []string
	for n := range c.lines[i] {
		through = append(through, "tls://"+c.lines[i][(i+n)%len(c.lines[i])].Addr())
		direct = append(direct, "--site-url", "tls://"+c.nodes.addresses[n])
	}
	cmd := exec.Command(filepath.Join(c.bin, "holdfast-hub"), append([]string{"run", "--data", c.hubDir(i), "--trust", c.dir, "--nats-url", strings.Join(through, ","),
		"--nats-keys", filepath.Join(c.dir, "bus.json"), "--nats-ca", filepath.Join(c.nodes.dir, "node.crt"), "--listen-api", c.api[i], "--host", "127.0.0.1",
		"--heartbeat", heartBeat.String()}, direct...)...)
	c.hubs[i] = start(c.t, c.dir, fmt.Sprintf("hub-%d", i), cmd)
}

// leader is the hub that leads the rollouts: the one that has taken the newest token and runs.
func (c *trio) leader() (leads int) {
	c.t.Helper()
	eventually(c.t, time.Minute, "a hub leads", func() error {
		newest := -1
		for i, p := range c.hubs {
			said, err := os.ReadFile(p.log)
			must(c.t, err)
			at := bytes.LastIndex(said, []byte(leadsLine))
			if p.ended() != nil || at < 0 {
				continue
			}
			var token int
			if _, err := fmt.Sscanf(string(said[at+len(leadsLine):]), "{\"token\": %d}", &token); err != nil {
				return err
			}
			if token > newest {
				newest, leads = token, i
			}
		}
		if newest < 0 {
			return errors.New("none says so")
		}
		return nil
	})
	return leads
}

// leadsLine is how a hub says that it leads.
const leadsLine = "this hub leads the rollouts\t"

// client is the admin at a hub.
func (c *trio) client(i int) (*api.Client, error) {
	hub, err := fleet.Admin(c.hubDir(i))
	if err != nil {
		return nil, err
	}
	_, err = hub.Version(c.t.Context())
	return hub, err
}

// any asks the hubs one after another, as a desk does whose hub is gone.
func (c *trio) any(ask func(ctx context.Context, hub *api.Client) error) error {
	var failed error
	for i := range hubs {
		hub, err := fleet.Admin(c.hubDir(i))
		if err == nil {
			ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
			err = ask(ctx, hub)
			cancel()
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("hub %d: %w", i, err))
	}
	return failed
}

func shop(version string) bundle.Ref {
	return bundle.Ref{Name: "shop", Version: bundle.Version(version)}
}

// release pushes a version of the shop at hub 0.
func (c *trio) release(version string) {
	c.t.Helper()
	_, err := c.fleet.Release(filepath.Join("..", "..", "deploy", "examples", "shop"), "shop", version)
	must(c.t, err)
}

// settle waits until every hub that runs knows that all sites run the version and are in sync, after the order with the sequence.
func (c *trio) settle(version string, sequence uint64) {
	c.t.Helper()
	for i := range hubs {
		eventually(c.t, 2*time.Minute, fmt.Sprintf("hub %d knows that all run %s", i, version), func() error {
			must(c.t, c.crowd.Failed())
			hub, err := c.client(i)
			if err != nil {
				return err
			}
			all, err := hub.Sites(c.t.Context(), "")
			if err != nil {
				return err
			}
			if len(all) != len(c.ids) {
				return fmt.Errorf("it knows %d sites", len(all))
			}
			for _, s := range all {
				if err := inSync(s, version, sequence); err != nil {
					return fmt.Errorf("site %s: %w", s.ID, err)
				}
			}
			return nil
		})
	}
}

// holds asserts what no fault may break, once a rollout that brought 1.1.0 has passed: it is completed, every hub knows that every site took it by the one offer
// after the order of 1.0.0, every event is at every hub once and in order, nothing was decided twice, and the audit log is whole.
func (c *trio) holds(id string) {
	c.t.Helper()
	eventually(c.t, time.Minute, "the rollout is completed", func() error {
		return c.any(func(ctx context.Context, hub *api.Client) error {
			r, err := hub.Rollout(ctx, id)
			if err == nil && r.Phase != rollout.Completed {
				err = fmt.Errorf("it is %s %s", r.Phase, r.Cause)
			}
			return err
		})
	})
	c.settle("1.1.0", 2)
	for i := range hubs {
		hub, err := c.client(i)
		must(c.t, err)
		for _, site := range c.ids {
			eventually(c.t, time.Minute, fmt.Sprintf("hub %d has all events of %s, once and in order", i, site), func() error { return everyEvent(c.t.Context(), hub, site) })
		}
		verdict, err := hub.VerifyAudit(c.t.Context())
		must(c.t, err)
		records, err := hub.Audit(c.t.Context(), 1000)
		must(c.t, err)
		completed := 0
		for _, r := range records {
			if r.What == "rollout completed" && r.Target == id {
				completed++
			}
		}
		if verdict.Broken != "" || completed > 1 {
			c.t.Errorf("hub %d: audit log %q, rollout completed %d times", i, verdict.Broken, completed)
		}
	}
	c.log.check(c.t, id)
}

func everyEvent(ctx context.Context, hub *api.Client, site bundle.SiteID) error {
	known, err := hub.Site(ctx, site)
	if err != nil {
		return err
	}
	events, err := hub.Events(ctx, api.EventQuery{Site: site, Limit: 1000})
	if err != nil {
		return err
	}
	for n, e := range events {
		if e.Sequence != uint64(n+1) || e.Epoch != known.Events.Epoch {
			return fmt.Errorf("event %d of epoch %s stands in place %d", e.Sequence, e.Epoch, n+1)
		}
	}
	if box := known.State.Outbox; len(events) == 0 || len(events) < int(box.Next-1) || box.Dropped > 0 || known.Events.Upto != uint64(len(events)) {
		return fmt.Errorf("%d events, and the site says %+v", len(events), box)
	}
	return nil
}

func inSync(s api.Site, version string, sequence uint64) error {
	if s.State == nil || s.State.Assignment != s.Sequence || s.Sequence != sequence {
		return fmt.Errorf("assignment %d of the hub, want %d: %+v", s.Sequence, sequence, s.State)
	}
	for _, b := range s.State.Bundles {
		if b.Name == "shop" && b.Phase == fleetsync.PhaseCurrent && string(b.Current) == version {
			return nil
		}
	}
	return fmt.Errorf("it does not run %s: %+v", version, s.State.Bundles)
}

const inWaves = `{"apiVersion":"holdfast.dev/v1","kind":"RolloutPlan","metadata":{"name":"retail"},"spec":{"offline":{"darkAfter":"1m"},"waves":[
	{"name":"canary","sites":{"names":["shop-00","shop-01","shop-02"]},"soak":"1s"},
	{"name":"early","sites":{"percent":30},"maxUnavailable":3,"soak":"1s"},
	{"name":"rest","sites":{"all":true},"maxUnavailable":5,"soak":"0s"}]}}`

// begin has all sites run 1.0.0 and starts a rollout of 1.1.0 at hub 1.
func (c *trio) begin() (id string) {
	c.t.Helper()
	c.release("1.0.0")
	c.release("1.1.0")
	hub, err := c.client(2)
	must(c.t, err)
	eventually(c.t, time.Minute, "hub 2 knows what hub 0 was told", func() error {
		if known, err := hub.Sites(c.t.Context(), ""); err != nil || len(known) < len(c.ids) {
			return fmt.Errorf("it knows %d sites: %w", len(known), err)
		}
		_, err := hub.Bundle(c.t.Context(), shop("1.1.0"))
		return err
	})
	results, err := hub.Assign(c.t.Context(), api.AssignRequest{Sites: c.ids, Bundle: shop("1.0.0")})
	must(c.t, err)
	for _, r := range results {
		if r.Error != nil {
			c.t.Fatalf("site %s: %v", r.Site, r.Error)
		}
	}
	c.settle("1.0.0", 1)
	hub, err = c.client(1)
	must(c.t, err)
	started, err := hub.StartRollout(c.t.Context(), api.RolloutRequest{Bundle: shop("1.1.0"), Plan: json.RawMessage(inWaves)})
	must(c.t, err)
	return started.Rollout.ID
}

// passed waits until so many sites of a rollout run what it brings, or it has ended.
func (c *trio) passed(id string, sites int) api.Rollout {
	c.t.Helper()
	var r api.Rollout
	eventually(c.t, 2*time.Minute, fmt.Sprintf("%d sites of rollout %s have moved", sites, id), func() error {
		must(c.t, c.crowd.Failed())
		return c.any(func(ctx context.Context, hub *api.Client) (err error) {
			if r, err = hub.Rollout(ctx, id); err != nil {
				return err
			}
			moved := 0
			for _, w := range r.Waves {
				moved += w.Tally.Succeeded
			}
			if moved >= sites {
				return nil
			}
			e, _ := hub.ExplainRollout(ctx, id)
			return fmt.Errorf("%d have: %+v: %v", moved, r, e)
		})
	})
	return r
}

// Without any fault a rollout moves over three hubs and nodes as it does over one: every site is offered it once, takes it, and every hub knows.
func TestF09_ThreeHubsAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	c := newTrio(t, 30)
	id := c.begin()
	c.passed(id, len(c.ids))
	c.holds(id)
	t.Logf("for %d sites, two versions each: %s", len(c.ids), c.log.traffic())
}

// Three hubs, three nodes, thirty sites, a rollout in waves, and one thing breaks in the middle of it. Nothing is lost and nothing is decided twice.
func TestF09_ThreeHubsAndAFaultInARollout(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	for name, fault := range map[string]func(t *testing.T, c *trio, id string){
		"the leading hub is killed": func(t *testing.T, c *trio, id string) {
			led := c.leader()
			c.hubs[led].kill()
			c.passed(id, len(c.ids))
			if now := c.leader(); now == led {
				t.Errorf("hub %d, which was killed, leads", now)
			}
			c.start(led)
		},
		"a node is killed": func(t *testing.T, c *trio, id string) {
			node := c.leader() // a hub connects to the node of its number
			c.nodes.processes[node].kill()
			c.passed(id, len(c.ids)*2/3)
			c.nodes.start(node)
		},
		"the leading hub is cut off": func(t *testing.T, c *trio, id string) {
			led := c.leader()
			for _, line := range c.lines[led] {
				line.Cut()
			}
			c.passed(id, len(c.ids))
			if now := c.leader(); now == led {
				t.Errorf("hub %d, which was cut off, leads", now)
			}
			for _, line := range c.lines[led] {
				line.Mend()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for leases to end
			c := newTrio(t, 20)
			id := c.begin()
			if r := c.passed(id, 5); r.Phase != rollout.Running {
				t.Fatalf("the rollout is %s before anything broke", r.Phase)
			}
			fault(t, c, id)
			c.passed(id, len(c.ids))
			c.holds(id)
		})
	}
}
