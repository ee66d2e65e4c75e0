package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

const stackName = "kube-prometheus"

// settling is how long the agent is left alone before its idle memory is read.
const settling = 20 * time.Second

// stack measures with kube-prometheus: a hundred objects with large definitions, dashboards and workloads.
func (s *stand) stack(ctx context.Context) error {
	folder := filepath.Join(s.corpus, stackName)
	if _, err := os.Stat(folder); err != nil {
		s.Skip("figures with kube-prometheus", err.Error())
		return nil
	}
	if _, err := s.fleet.Release(filepath.Join(folder, "old"), stackName, "1.0.0"); err != nil {
		return err
	}
	file, err := s.fleet.Release(filepath.Join(folder, "new"), stackName, "1.1.0")
	if err != nil {
		return err
	}
	// The old release comes first: a site takes none that is older than what it had.
	for _, measure := range []func(context.Context) error{s.memory, s.coldStart} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	if err := s.unassign(ctx, stackName); err != nil {
		return err
	}
	return s.installStack(ctx, file)
}

func (s *stand) installStack(ctx context.Context, file string) error {
	objects, _, err := content(file)
	if err != nil {
		return err
	}
	targets, err := s.bare.targets(objects)
	if err != nil {
		return err
	}
	var edge, bare []float64
	rounds := min(s.rounds, 3)
	for round := range rounds {
		s.tell("kube-prometheus: round %d of %d", round+1, rounds)
		seconds, _, err := s.run(ctx, stackName, "1.1.0")
		if err != nil {
			return err
		}
		edge = append(edge, seconds)
		s.tell("kube-prometheus: %.2f s, removing", seconds)
		if err := s.unassign(ctx, stackName); err != nil {
			return err
		}
		s.tell("kube-prometheus: the bare loop")
		if seconds, err = s.bare.apply(ctx, targets); err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		bare = append(bare, seconds)
		s.tell("kube-prometheus: %.2f s", seconds)
		if round == rounds-1 {
			break // the cluster goes as a whole
		}
		if err := s.bare.remove(ctx, targets); err != nil {
			s.Skip("further rounds of kube-prometheus", err.Error())
			break
		}
	}
	s.Note("kube_prometheus_install_seconds", figures.Median(edge), "s")
	s.Note("kube_prometheus_bare_seconds", figures.Median(bare), "s")
	s.Put("kube_prometheus_install_ratio", figures.Median(figures.Ratios(edge, bare)), "× bare loop", figures.AtMost(1.5))
	return nil
}

// memory reads what a new agent needs for an older kube-prometheus, the way to the newer one, and for keeping it.
func (s *stand) memory(ctx context.Context) error {
	s.tell("kube-prometheus with a new agent: old, then new")
	s.site.StopEdge(true)
	if err := s.startAgent(); err != nil {
		return err
	}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if _, _, err := s.run(ctx, stackName, version); err != nil {
			return err
		}
		if err := s.current(ctx, stackName, version); err != nil {
			return err
		}
	}
	if err := pause(ctx, settling); err != nil {
		return err
	}
	used, err := fleet.Memory(s.site.EdgePID())
	if err != nil {
		s.Skip("memory of the agent", err.Error())
		return nil
	}
	s.Put("edge_rss_idle_mib", used["Rss"], "MiB", figures.AtMost(60))
	s.Put("edge_anon_idle_mib", used["Anonymous"], "MiB", figures.AtMost(25))
	s.Put("edge_rss_peak_mib", used["VmHWM"], "MiB", figures.AtMost(130))
	return nil
}

// coldStart kills the agent while the hub is away, deletes an object, and starts it again.
func (s *stand) coldStart(ctx context.Context) error {
	s.site.Link.Cut()
	defer s.site.Link.Mend()
	maps := s.admin.CoreV1().ConfigMaps("monitoring")
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "holdfast.dev/bundle=" + stackName})
	if err != nil || len(list.Items) == 0 {
		return fmt.Errorf("no ConfigMap of kube-prometheus: %w", err)
	}
	var seconds []float64
	rounds := min(s.rounds, 3)
	for round := range rounds {
		s.tell("cold start without the hub: round %d of %d", round+1, rounds)
		name := list.Items[round].Name
		s.site.StopEdge(false)
		if err := maps.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		began := time.Now()
		if err := s.startAgent(); err != nil {
			return err
		}
		for {
			_, err := maps.Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				break
			}
			if !apierrors.IsNotFound(err) {
				return err
			}
			if time.Since(began) > patience {
				return fmt.Errorf("%s is not corrected after %s", name, patience)
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		seconds = append(seconds, time.Since(began).Seconds())
	}
	s.Put("cold_start_offline_seconds", figures.Median(seconds), "s", figures.AtMost(3))
	s.site.Link.Mend()
	return fleet.Until(ctx, patience, "the agent to be back", func() error {
		site, err := s.hub.Site(ctx, siteName)
		if err == nil && (site.State == nil || site.State.Bundles[0].Phase != fleetsync.PhaseCurrent || site.State.At.Before(s.began)) {
			err = fleet.ErrNotYet
		}
		return err
	})
}
