package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
)

const (
	objectCount = 1000
	thousand    = "thousand" // the bundle's name
	edgeSpace   = "bench-edge"
	bareSpace   = "bench-bare"
	ssaSpace    = "bench-ssa"
)

// steadily is how long the steady state is watched.
const steadily = 15 * time.Second

// thousand measures bundles of a thousand ConfigMaps.
func (s *stand) thousand(ctx context.Context) error {
	for _, name := range []string{edgeSpace, bareSpace, ssaSpace} {
		if _, err := s.admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if err := s.releaseThousand("1.0.0", nil); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{s.installThousand, s.changeOne, s.steady, s.drift} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return s.unassign(ctx, thousand)
}

// configMaps are the objects for a namespace; changed overrides the value of some.
func configMaps(namespace string, changed map[int]string) ([]bundle.Object, error) {
	out := make([]bundle.Object, objectCount)
	for i := range out {
		value := fmt.Sprintf("value-%d", i)
		if v, ok := changed[i]; ok {
			value = v
		}
		var err error
		out[i], err = bundle.NewObject(fmt.Appendf(nil, `{"apiVersion":"v1","data":{"a":%q,"b":%q},"kind":"ConfigMap","metadata":{"name":"c-%04d","namespace":%q}}`,
			value, strings.Repeat("x", 200), i, namespace))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *stand) releaseThousand(version string, changed map[int]string) error {
	objects, err := configMaps(edgeSpace, changed)
	if err != nil {
		return err
	}
	from := filepath.Join(s.dir, thousand+"-"+version)
	if err := os.MkdirAll(from, 0o700); err != nil {
		return err
	}
	var file bytes.Buffer
	for _, o := range objects {
		file.WriteString("---\n")
		file.Write(o.JSON)
		file.WriteByte('\n')
	}
	if err := os.WriteFile(filepath.Join(from, "all.yaml"), file.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = s.fleet.Release(from, thousand, version)
	return err
}

// empty deletes what a rival made.
func (s *stand) empty(ctx context.Context, namespace string) error {
	return s.admin.CoreV1().ConfigMaps(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// installThousand takes the edge and its rivals in turn.
func (s *stand) installThousand(ctx context.Context) error {
	objects, err := configMaps(bareSpace, nil)
	if err != nil {
		return err
	}
	bareTargets, err := s.bare.targets(objects)
	if err != nil {
		return err
	}
	best, err := s.bestConcurrency(ctx)
	if err != nil {
		return err
	}
	var edge, bare, ssa []float64
	for round := range s.rounds {
		s.tell("1,000 objects: round %d of %d", round+1, s.rounds)
		seconds, err := s.bare.apply(ctx, bareTargets)
		if err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		bare = append(bare, seconds)
		if err := s.empty(ctx, bareSpace); err != nil {
			return err
		}
		if round > 0 {
			if err := s.unassign(ctx, thousand); err != nil {
				return err
			}
		}
		seconds, _, err = s.run(ctx, thousand, "1.0.0")
		if err != nil {
			return err
		}
		edge = append(edge, seconds)
		if seconds, err = s.plainThousand(ctx, best); err != nil {
			return err
		}
		ssa = append(ssa, seconds)
	}
	s.Put("apply_ratio", figures.Median(figures.Ratios(bare, edge)), "× bare loop", figures.AtLeast(0.8))
	s.Put("apply_vs_ssa", figures.Median(figures.Ratios(ssa, edge)), "× ssa", figures.AtLeast(1.5))
	s.Note("apply_objects_per_second", objectCount/figures.Median(edge), "1/s")
	s.Note("bare_objects_per_second", objectCount/figures.Median(bare), "1/s")
	s.Note("ssa_objects_per_second", objectCount/figures.Median(ssa), "1/s")
	s.Note("ssa_best_concurrency", float64(best), "")
	return nil
}

// bestConcurrency finds at which concurrency plain ssa is fastest here.
func (s *stand) bestConcurrency(ctx context.Context) (best int, err error) {
	fastest := 0.0
	for _, concurrency := range []int{8, 1, 4, 8, 16} { // the first warms up and counts for nothing
		seconds, err := s.plainThousand(ctx, concurrency)
		if err != nil {
			return 0, err
		}
		s.tell("ssa with concurrency %d: %.2f s", concurrency, seconds)
		if best == 0 {
			best = -1
			continue
		}
		if best < 0 || seconds < fastest {
			best, fastest = concurrency, seconds
		}
	}
	return best, nil
}

func (s *stand) plainThousand(ctx context.Context, concurrency int) (float64, error) {
	objects, err := configMaps(ssaSpace, nil)
	if err != nil {
		return 0, err
	}
	config, err := s.cluster.ConfigFor(rivalUser)
	if err != nil {
		return 0, err
	}
	seconds, err := plain(ctx, config, objects, concurrency)
	if err != nil {
		return 0, fmt.Errorf("ssa: %w", err)
	}
	return seconds, s.empty(ctx, ssaSpace)
}

// changeOne brings versions that change one object each.
func (s *stand) changeOne(ctx context.Context) error {
	changed := map[int]string{}
	var seconds, requests []float64
	for round := range s.rounds {
		version := fmt.Sprintf("1.1.%d", round)
		changed[round*5] = version // none that drift will pick
		s.tell("one of 1,000 changes: round %d of %d", round+1, s.rounds)
		if err := s.releaseThousand(version, changed); err != nil {
			return err
		}
		before, err := s.requests(ctx)
		if err != nil {
			return err
		}
		took, _, err := s.run(ctx, thousand, version)
		if err != nil {
			return err
		}
		if err := s.current(ctx, thousand, version); err != nil {
			return err
		}
		after, err := s.requests(ctx)
		if err != nil {
			return err
		}
		seconds, requests = append(seconds, took), append(requests, after-before)
	}
	s.Put("change_one_of_1000_requests", figures.Median(requests), "requests", figures.AtMost(10))
	s.Put("change_one_of_1000_seconds", figures.Median(seconds), "s", figures.AtMost(0.3))
	return s.releaseThousand("1.2.0", changed)
}

// steady counts the requests of a version that changes nothing and of some time in which nothing happens.
func (s *stand) steady(ctx context.Context) error {
	s.tell("nothing changes for %s", steadily)
	before, err := s.requests(ctx)
	if err != nil {
		return err
	}
	if _, _, err := s.run(ctx, thousand, "1.2.0"); err != nil {
		return err
	}
	if err := s.current(ctx, thousand, "1.2.0"); err != nil {
		return err
	}
	if err := pause(ctx, steadily); err != nil {
		return err
	}
	after, err := s.requests(ctx)
	if err != nil {
		return err
	}
	s.Put("noop_requests_per_object", (after-before)/objectCount, "requests", figures.AtMost(0.1))
	return nil
}

// drift deletes and edits objects, one at a time and none twice, and sees by a watch when each is back.
func (s *stand) drift(ctx context.Context) error {
	maps := s.admin.CoreV1().ConfigMaps(edgeSpace)
	list, err := maps.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	s.tell("200 objects drift, one after the other")
	var seconds []float64
	for i := 1; i <= 200; i++ {
		name := fmt.Sprintf("c-%04d", i*5-1)
		began := time.Now()
		if i%2 == 0 {
			err = maps.Delete(ctx, name, metav1.DeleteOptions{})
		} else {
			_, err = maps.Patch(ctx, name, types.MergePatchType, []byte(`{"data":{"a":"vandalised"}}`), metav1.PatchOptions{FieldManager: "vandal"})
		}
		if err != nil {
			return err
		}
		if err := fixed(w, name, fmt.Sprintf("value-%d", i*5-1)); err != nil {
			return err
		}
		seconds = append(seconds, time.Since(began).Seconds())
	}
	s.Put("drift_fix_seconds_p50", figures.Quantile(seconds, 0.5), "s", figures.AtMost(0.25))
	s.Put("drift_fix_seconds_p99", figures.Quantile(seconds, 0.99), "s", figures.AtMost(1))
	return nil
}

// fixed waits until a ConfigMap is seen with its value again.
func fixed(w watch.Interface, name, value string) error {
	limit := time.After(patience)
	for {
		select {
		case event, open := <-w.ResultChan():
			if !open {
				return errors.New("the watch ended")
			}
			m, ok := event.Object.(*corev1.ConfigMap)
			if ok && m.Name == name && event.Type != watch.Deleted && m.Data["a"] == value {
				return nil
			}
		case <-limit:
			return fmt.Errorf("%s is not corrected after %s", name, patience)
		}
	}
}
