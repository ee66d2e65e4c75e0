package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// Token makes a join token and gives its enrolment file. flags are those of `holdfast token create`.
func (f *Fleet) Token(name string, flags ...string) (file string, err error) {
	file = filepath.Join(f.Dir, name+".enrol.json")
	_, err = f.CLI(append([]string{"token", "create", "-o", file, "--trust", f.Dir}, flags...)...)
	return file, err
}

// Enrol makes a device on a running cluster a site: its agent asks with the enrolment file and, where nobody approved in advance, is approved by
// the words that it says itself. The machine has name as its serial number. The agent is stopped again; StartEnrolled starts it, connected through
// the site's Link.
func (f *Fleet) Enrol(ctx context.Context, name string, c *cluster.Cluster, file string) (*Site, error) {
	s := &Site{Name: name, Dir: filepath.Join(f.Dir, name), Cluster: c, fleet: f}
	firmware := filepath.Join(s.root(), "proc", "device-tree")
	if err := os.MkdirAll(firmware, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(firmware, "serial-number"), []byte(name+"\x00"), 0o600); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.enrolment(), raw, 0o600); err != nil {
		return nil, err
	}
	if err := s.StartEnrolled("--log-format", "json"); err != nil {
		return nil, err
	}
	defer s.StopEdge(true)
	if err := s.edge.until(ctx, startPatience, "site "+name+" to be enrolled", func() error { return f.approve(s) }); err != nil {
		return nil, err
	}
	s.StopEdge(true)
	if s.Link, err = NewLink(f.nats); err != nil {
		return nil, err
	}
	f.Sites[name] = s
	return s, s.throughLink(s.enrolled())
}

// approve does what an operator does who looks at the list and at the device's log.
func (f *Fleet) approve(s *Site) error {
	if _, err := os.Stat(s.enrolled()); err == nil {
		return nil
	}
	var waiting []enrol.Enrolment
	if err := f.JSON(&waiting, "site", "pending"); err != nil {
		return err
	}
	log, err := os.ReadFile(s.EdgeLog())
	if err != nil {
		return err
	}
	for _, e := range waiting {
		if strings.Contains(string(log), e.Fingerprint) {
			if _, err := f.CLI("site", "approve", e.Fingerprint, "--yes"); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("site %s: %w", s.Name, ErrNotYet)
}

func (s *Site) root() string      { return filepath.Join(s.Dir, "root") }
func (s *Site) enrolment() string { return filepath.Join(s.Dir, "enrol.json") }
func (s *Site) enrolled() string  { return filepath.Join(s.Dir, "data", "site.json") }

// StartEnrolled starts the agent of a site that was enrolled.
func (s *Site) StartEnrolled(flags ...string) error {
	args := append([]string{"run", "--enrol", s.enrolment(), "--host-root", s.root(), "--data", filepath.Join(s.Dir, "data"), "--kubeconfig", s.Cluster.Kubeconfig()}, flags...)
	var err error
	s.edge, err = start(s.Dir, "edge", s.fleet.env, filepath.Join(s.fleet.bin, "holdfast-edge"), args...)
	return err
}

// AwaitGone waits until the site's live connection is cut and no other stands.
func (s *Site) AwaitGone(ctx context.Context, limit time.Duration) error {
	return Until(ctx, limit, "site "+s.Name+" to be cut off", func() error {
		s.Link.mu.Lock()
		defer s.Link.mu.Unlock()
		if n := len(s.Link.open); n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
}
