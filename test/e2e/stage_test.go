package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// patience is how long one thing may take on a slow, busy machine. Nothing waits so long when it works.
var patience = func() time.Duration {
	if os.Getenv("HOLDFAST_CLUSTER") == "kind" { // real images are pulled there
		return 10 * time.Minute
	}
	return 2 * time.Minute
}()

// stage is a fleet of one test.
type stage struct {
	*fleet.Fleet
	t *testing.T
}

// newStage starts a hub.
func newStage(t *testing.T) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a cluster and processes")
	}
	f, err := fleet.New(t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if err := f.StartHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &stage{f, t}
}

// ownCluster is a cluster for this test alone. An existing cluster is everybody's: tests on it do not run side by side.
func ownCluster(t *testing.T, options cluster.Options) *cluster.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	if os.Getenv("HOLDFAST_CLUSTER") != "kubeconfig" {
		t.Parallel()
	}
	return cluster.ForTest(t, options)
}

// sharedCluster is one that tests share: they keep apart by the names of namespaces and bundles.
func sharedCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a cluster")
	}
	t.Parallel()
	return cluster.Shared(t)
}

// site adds a site and starts its agent.
func (s *stage) site(name string, c *cluster.Cluster) *site {
	s.t.Helper()
	return s.siteThrough(name, c, nil)
}

// siteThrough is site with a line to its API server that can be watched; nil is a direct one.
func (s *stage) siteThrough(name string, c *cluster.Cluster, line *fleet.Link) *site {
	s.t.Helper()
	added, err := s.AddSite(name, c)
	if err != nil {
		s.t.Fatal(err)
	}
	one := &site{Site: added, stage: s, flags: append(fleet.OpenSystem(), "--reconnect-max", "1s", "--reserve-mib", "1")}
	if line != nil {
		one.flags = append(one.flags, "--kubeconfig", s.kubeconfig(c, line))
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("agent of %s:\n%s", name, lastLines(added.EdgeLog(), 30))
		}
	})
	one.start()
	return one
}

// kubeconfig leads to a cluster through a line.
func (s *stage) kubeconfig(c *cluster.Cluster, line *fleet.Link) string {
	s.t.Helper()
	config, err := clientcmd.LoadFromFile(c.Kubeconfig())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, to := range config.Clusters {
		to.Server = "https://" + line.Addr()
	}
	file := filepath.Join(s.Dir, "through-line.kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		s.t.Fatal(err)
	}
	return file
}

func lastLines(file string, n int) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// cli runs holdfast, which must succeed.
func (s *stage) cli(args ...string) string {
	s.t.Helper()
	out, err := s.CLI(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// refused runs holdfast, which must end with the code and say all of the words.
func (s *stage) refused(code int, words []string, args ...string) {
	s.t.Helper()
	_, err := s.CLI(args...)
	if err == nil {
		s.t.Errorf("holdfast %s: done, want exit code %d", strings.Join(args, " "), code)
		return
	}
	if got := exitCode(err); got != code {
		s.t.Errorf("%v: exit code %d, want %d", err, got, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("%v: want the words %q", err, word)
		}
	}
}

func exitCode(err error) int {
	for e := err; e != nil; {
		if exit, ok := e.(*exec.ExitError); ok {
			return exit.ExitCode()
		}
		inner, ok := e.(interface{ Unwrap() error })
		if !ok {
			break
		}
		e = inner.Unwrap()
	}
	return -1
}

// release builds, signs and pushes a folder.
func (s *stage) release(from, name, version string, flags ...string) (file string) {
	s.t.Helper()
	file, err := s.Release(from, name, version, flags...)
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// folder is a new folder with files: name, text, name, text …
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for pair := range slices.Chunk(files, 2) {
		if err := os.WriteFile(filepath.Join(dir, pair[0]), []byte(pair[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// eventually waits for a condition.
func (s *stage) eventually(what string, ready func() error) {
	s.t.Helper()
	s.within(patience, what, ready)
}

func (s *stage) within(limit time.Duration, what string, ready func() error) {
	s.t.Helper()
	if err := fleet.Until(s.t.Context(), limit, what, ready); err != nil {
		s.t.Fatal(err)
	}
}

// site is one site of a stage.
type site struct {
	*fleet.Site
	stage *stage
	flags []string // of the agent
}

func (s *site) start() {
	s.stage.t.Helper()
	if err := s.StartEdge(s.flags...); err != nil {
		s.stage.t.Fatal(err)
	}
}

// restart kills the agent, starts it again and waits until the new one has reported that everything runs.
func (s *site) restart() {
	s.stage.t.Helper()
	s.StopEdge(false)
	stopped := time.Now()
	s.start()
	s.stage.eventually("the restarted agent to report", func() error {
		shown, err := s.stage.Site(s.Name)
		if err != nil {
			return err
		}
		if shown.State == nil || shown.State.Started.Before(stopped) {
			return fleet.ErrNotYet
		}
		for _, b := range shown.State.Bundles {
			if b.Phase != fleetsync.PhaseCurrent {
				return fmt.Errorf("%s is %s", b.Name, b.Phase)
			}
		}
		return nil
	})
}

func (s *site) assign(ref string, flags ...string) {
	s.stage.t.Helper()
	s.stage.cli(append([]string{"assign", s.Name, ref}, flags...)...)
}

// assignAgain assigns what is assigned: nothing may change by it.
func (s *site) assignAgain(ref string) {
	s.stage.t.Helper()
	var results []api.AssignResult
	if err := s.stage.JSON(&results, "assign", s.Name, ref); err != nil {
		s.stage.t.Fatal(err)
	}
	if len(results) != 1 || results[0].Changed {
		s.stage.t.Errorf("assigned the same again: %+v, want nothing changed", results)
	}
}

// runs waits until the site reports a version applied and healthy.
func (s *site) runs(name, version string) {
	s.stage.t.Helper()
	s.stage.eventually(fmt.Sprintf("%s to run %s@%s", s.Name, name, version), func() error { return s.stage.Runs(s.Name, name, version) })
}

// status is what the hub knows of a bundle at the site, from a report on the newest assignment.
func (s *site) status(name string) (status fleetsync.BundleStatus, err error) {
	shown, err := s.stage.Site(s.Name)
	switch {
	case err != nil:
		return status, err
	case shown.State == nil:
		return status, fmt.Errorf("%s has not reported", s.Name)
	case shown.State.Assignment != shown.Sequence:
		return status, fmt.Errorf("%s has assignment %d of %d", s.Name, shown.State.Assignment, shown.Sequence)
	}
	for _, b := range shown.State.Bundles {
		if string(b.Name) == name {
			return b, nil
		}
	}
	return status, fmt.Errorf("%s does not have %s", s.Name, name)
}

// stands waits until a bundle is in a phase and gives its status.
func (s *site) stands(name string, phase fleetsync.Phase) (status fleetsync.BundleStatus) {
	s.stage.t.Helper()
	s.stage.eventually(fmt.Sprintf("%s at %s to be %s", name, s.Name, phase), func() (err error) {
		if status, err = s.status(name); err == nil && status.Phase != phase {
			err = fmt.Errorf("it is %s: %s: %s", status.Phase, status.Reason, status.Message)
		}
		return err
	})
	return status
}

// unassign takes a bundle away and waits until the site says that it is gone.
func (s *site) unassign(name string) {
	s.stage.t.Helper()
	s.stage.cli("unassign", s.Name, name, "--yes")
	s.stage.eventually(name+" to be removed", func() error {
		status, err := s.status(name)
		if err == nil {
			return fmt.Errorf("it is %s: %s %s", status.Phase, status.Reason, status.Message)
		}
		if strings.Contains(err.Error(), "does not have") {
			return nil
		}
		return err
	})
}

// events are all the hub has of the site, oldest first.
func (s *site) events() (events []api.SiteEvent) {
	s.stage.t.Helper()
	if err := s.stage.JSON(&events, "events", "--site", s.Name, "--limit", "5000"); err != nil {
		s.stage.t.Fatal(err)
	}
	return slices.DeleteFunc(events, func(e api.SiteEvent) bool { return e.Kind == "" }) // marks
}

// tells waits for an event that matches and gives it.
func (s *site) tells(what string, matches func(api.SiteEvent) bool) (found api.SiteEvent) {
	s.stage.t.Helper()
	s.stage.eventually("the event of "+what, func() error {
		events := s.events()
		at := slices.IndexFunc(events, matches)
		if at < 0 {
			return fleet.ErrNotYet
		}
		found = events[at]
		return nil
	})
	return found
}

// context of a request to a cluster.
func (s *stage) context() context.Context { return s.t.Context() }
