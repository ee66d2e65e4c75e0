// Package fleet runs a whole fleet of real processes on one machine: the hub, an agent and a Kubernetes control plane for each site, and
// between every site and the hub a line that can be cut. Tests, the demo and the benchmarks stand on it. Everything it starts ends with it.
package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// Password opens the release key of every fleet made here.
const Password = "not a secret: a key for one run"

// Fleet is a hub and its sites.
type Fleet struct {
	Dir   string
	Sites map[string]*Site
	// adding guards Sites while sites are added side by side.
	adding sync.Mutex
	// HubFlags are more flags of the hub, from its next start on.
	HubFlags []string
	// StartPatience is how long StartHub waits. 0 is startPatience.
	StartPatience time.Duration
	bin           string
	nats          string
	api           string
	hub           *process
	env           []string
	count         int // release counter
}

// Site is one site of the fleet.
type Site struct {
	Name    string
	Dir     string
	Cluster *cluster.Cluster
	Link    *Link
	fleet   *Fleet
	edge    *process
}

// New makes a fleet's keys and root of trust in dir; nothing runs yet. bin holds the three programs.
func New(dir, bin string) (*Fleet, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	f := &Fleet{Dir: dir, Sites: map[string]*Site{}, bin: bin, nats: ports[0], api: ports[1]}
	f.env = append(os.Environ(), "COSIGN_PASSWORD="+Password, "HOLDFAST_CONTEXT="+filepath.Join(dir, "hub", "admin.context.json"), "HOME="+dir)
	if _, err := f.CLI("key", "generate", "--out", filepath.Join(dir, "release")); err != nil {
		return nil, err
	}
	_, err = f.CLI("init", dir, "--key", f.PublicKey())
	return f, err
}

// Key is the release key's file.
func (f *Fleet) Key() string { return filepath.Join(f.Dir, "release.key") }

// PublicKey is the file of its public half.
func (f *Fleet) PublicKey() string { return filepath.Join(f.Dir, "release.pub") }

// OnlineKey is the file of the hub's online key.
func (f *Fleet) OnlineKey() string { return filepath.Join(f.Dir, "online.key") }

// Env is the environment in which the CLI finds this fleet's hub.
func (f *Fleet) Env() []string { return f.env }

// StartHub starts the hub and waits until it answers.
func (f *Fleet) StartHub(ctx context.Context) error {
	var err error
	f.hub, err = start(f.Dir, "hub", f.env, filepath.Join(f.bin, "holdfast-hub"), append([]string{"run", "--data", filepath.Join(f.Dir, "hub"),
		"--trust", f.Dir, "--listen-nats", f.nats, "--listen-api", f.api, "--host", "127.0.0.1"}, f.HubFlags...)...)
	if err != nil {
		return err
	}
	return f.hub.until(ctx, cmp.Or(f.StartPatience, startPatience), "the hub to answer", func() error {
		// Asked in this process: a start of the CLI costs more than what it asks.
		hub, err := Admin(filepath.Join(f.Dir, "hub"))
		if err != nil {
			return err
		}
		_, err = hub.Version(ctx)
		return err
	})
}

// startPatience is how long a process may take to start.
const startPatience = 30 * time.Second

// StopHub ends the hub: kindly, or at once.
func (f *Fleet) StopHub(kindly bool) { f.hub.stop(kindly) }

// Bus is where the hub listens for sites, and HubDir where it keeps its keys: all that whoever stole the hub would need.
func (f *Fleet) Bus() (address, hubDir string) { return f.nats, filepath.Join(f.Dir, "hub") }

// Admin is a client of the hub whose folder this is, with the admin's own token.
func Admin(hubDir string) (*api.Client, error) {
	raw, err := os.ReadFile(filepath.Join(hubDir, "admin.context.json"))
	if err != nil {
		return nil, err
	}
	var target api.ContextFile
	if err := json.Unmarshal(raw, &target); err != nil {
		return nil, err
	}
	return api.NewClient(target)
}

// HubPID is the process of the hub.
func (f *Fleet) HubPID() int { return f.hub.cmd.Process.Pid }

// CLI runs holdfast and gives its standard output; the error carries what it said.
func (f *Fleet) CLI(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(f.bin, "holdfast"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = f.env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("holdfast %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// JSON runs holdfast with -o json and decodes what it prints.
func (f *Fleet) JSON(into any, args ...string) error {
	out, err := f.CLI(append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("holdfast %s: %w in %.200q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Release builds, signs and pushes a bundle from a folder of manifests.
func (f *Fleet) Release(from, name, version string, flags ...string) (file string, err error) {
	file = filepath.Join(f.Dir, name+"-"+version+".hfb")
	f.count++
	build := []string{"bundle", "build", from, "--name", name, "--version", version, "--counter", strconv.Itoa(f.count), "-o", file}
	if _, err := f.CLI(append(build, flags...)...); err != nil {
		return "", err
	}
	if _, err := f.CLI("bundle", "sign", file, "--key", f.Key()); err != nil {
		return "", err
	}
	_, err = f.CLI("bundle", "push", file)
	return file, err
}

// AddSite makes a site on a running cluster, connected through a Link. Its agent is not started.
func (f *Fleet) AddSite(name string, c *cluster.Cluster, labels ...string) (*Site, error) {
	s := &Site{Name: name, Dir: filepath.Join(f.Dir, name), Cluster: c, fleet: f}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	args := []string{"site", "add", name, "-o", s.file()}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	if _, err := f.CLI(args...); err != nil {
		return nil, err
	}
	var err error
	if s.Link, err = NewLink(f.nats); err != nil {
		return nil, err
	}
	f.adding.Lock()
	f.Sites[name] = s
	f.adding.Unlock()
	return s, s.throughLink(s.file())
}

func (s *Site) file() string { return filepath.Join(s.Dir, "site.json") }

// throughLink lets a site file name the link instead of the hub.
func (s *Site) throughLink(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var file fleetsync.SiteFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return err
	}
	file.Servers = []string{"tls://" + s.Link.Addr()}
	if raw, err = json.Marshal(file); err != nil {
		return err
	}
	return os.WriteFile(name, raw, 0o600)
}

// OpenSystem is the agent's flags at a site whose platform bundles also go into kube-system, as monitoring does.
func OpenSystem() []string { return []string{"--protect-namespace", "holdfast-system"} }

// StartEdge starts the site's agent.
func (s *Site) StartEdge(flags ...string) error {
	var err error
	s.edge, err = start(s.Dir, "edge", s.fleet.env, filepath.Join(s.fleet.bin, "holdfast-edge"), s.edgeArgs(flags)...)
	return err
}

func (s *Site) edgeArgs(flags []string) []string {
	return append([]string{"run", "--site-file", s.file(), "--data", filepath.Join(s.Dir, "data"), "--kubeconfig", s.Cluster.Kubeconfig()}, flags...)
}

// EdgeCommand is what StartEdge runs, of another program and for somebody else to run. It says what it says into EdgeLog.
func (s *Site) EdgeCommand(program string, flags ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(s.EdgeLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, s.edgeArgs(flags)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.fleet.env, log, log
	return cmd, nil
}

// StopEdge ends the agent: kindly, or at once.
func (s *Site) StopEdge(kindly bool) { s.edge.stop(kindly) }

// EdgePID is the process of the agent.
func (s *Site) EdgePID() int { return s.edge.cmd.Process.Pid }

// EdgeLog is the file with what the agent says.
func (s *Site) EdgeLog() string { return filepath.Join(s.Dir, "edge.log") }

// Close ends agents, hub and links. Clusters are their owner's.
func (f *Fleet) Close() {
	for _, s := range f.Sites {
		s.edge.stop(true)
		s.Link.Close()
	}
	f.hub.stop(true)
}

func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// process is a program that was started here.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	once sync.Once
}

func start(dir, name string, env []string, program string, args ...string) (*process, error) {
	p := &process{log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) stop(kindly bool) {
	if p == nil {
		return
	}
	p.once.Do(func() {
		signal := syscall.SIGKILL
		if kindly {
			signal = syscall.SIGTERM
		}
		_ = p.cmd.Process.Signal(signal)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	})
}

// until waits for a condition of the process; it gives up when the process ends.
func (p *process) until(ctx context.Context, patience time.Duration, what string, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("waiting for %s: it ended: %s", what, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %s", what, err, tail(p.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tail(file string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-2000):])
}

// Site asks the hub what it knows of a site.
func (f *Fleet) Site(name string) (api.Site, error) {
	var site api.Site
	err := f.JSON(&site, "site", "show", name)
	return site, err
}

// Runs says whether the hub knows, from a fresh report, that a site runs a bundle at a version and is healthy; the error says what is missing.
func (f *Fleet) Runs(name, bundleName, version string) error {
	site, err := f.Site(name)
	if err != nil {
		return err
	}
	if site.State == nil {
		return fmt.Errorf("%s has not reported yet", name)
	}
	for _, b := range site.State.Bundles {
		if string(b.Name) == bundleName {
			if b.Phase == fleetsync.PhaseCurrent && string(b.Current) == version && string(b.Desired) == version && site.State.Assignment == site.Sequence {
				return nil
			}
			return fmt.Errorf("%s: %s is %s, desired %s, current %s: %s %s", name, bundleName, b.Phase, b.Desired, b.Current, b.Message, unhealthy(b))
		}
	}
	return fmt.Errorf("%s does not have %s", name, bundleName)
}

func unhealthy(b fleetsync.BundleStatus) string {
	var words []string
	for _, o := range b.Unhealthy {
		words = append(words, o.Object+" "+o.Status+" "+o.Message)
	}
	return strings.Join(words, "; ")
}

// Until waits for a condition, asking every 50 ms, and returns its last error when the time is up.
func Until(ctx context.Context, limit time.Duration, what string, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", limit, what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ErrNotYet is a condition that needs no more words.
var ErrNotYet = errors.New("not yet")
