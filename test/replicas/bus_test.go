package replicas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// ensured is a client of a cluster whose streams are there.
func ensured(c *nodes, o bus.StreamOptions) *bus.Hub {
	c.t.Helper()
	client := c.client(0)
	eventually(c.t, time.Minute, "the streams are made", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
		defer cancel()
		return client.EnsureStreams(ctx, o)
	})
	return client
}

// A hub that is cut off with its node does not take for the newest what that node has: it swaps and keeps still by what it reads. A node that led
// the stream finds out within seconds that it no longer does.
func TestF09_AHubThatIsCutOffDoesNotReadWhatWasTrueBefore(t *testing.T) {
	c := newNodes(t, 3)
	writer := ensured(c, bus.StreamOptions{})
	cutOff := c.client(2)
	_, err := writer.Put(t.Context(), "hf.rollout.r1", []byte("running"))
	must(t, err)
	read := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m, err := cutOff.Get(ctx, "hf.rollout.r1")
		return string(m.Data), err
	}
	eventually(t, time.Minute, "what was written is read", func() error { _, err := read(); return err })
	c.cut(2)
	eventually(t, time.Minute, "the others write", func() error {
		_, err := writer.Put(t.Context(), "hf.rollout.r1", []byte("aborted"))
		return err
	})
	eventually(t, 30*time.Second, "the hub that is cut off reads nothing", func() error {
		if text, err := read(); err == nil {
			return fmt.Errorf("it reads %q", text)
		}
		return nil
	})
	c.mend()
	eventually(t, time.Minute, "it reads what was written", func() error {
		text, err := read()
		if err == nil && text != "aborted" {
			err = fmt.Errorf("it reads %q", text)
		}
		return err
	})
}

// Streams of a cluster are on three nodes without anybody saying so; those that were on one are, too, from the next start on.
func TestF09_StreamsOfAClusterAreOnThreeNodes(t *testing.T) {
	c := newNodes(t, 3)
	client := ensured(c, bus.StreamOptions{Replicas: 1})
	replicas := func(want int) {
		t.Helper()
		for _, rule := range stream.Rules {
			if n, err := client.Replicas(t.Context(), rule.Name); err != nil || n != want {
				t.Errorf("stream %s is on %d nodes, want %d: %v", rule.Name, n, want, err)
			}
		}
	}
	replicas(1)
	_, err := client.Put(t.Context(), "hf.rollout.r1", []byte("kept"))
	must(t, err)
	must(t, client.EnsureStreams(t.Context(), bus.StreamOptions{}))
	replicas(3)
	eventually(t, time.Minute, "the message is still there", func() error {
		m, err := client.Get(t.Context(), "hf.rollout.r1")
		if err == nil && string(m.Data) != "kept" {
			t.Fatalf("%q", m.Data)
		}
		return err
	})
	err = client.EnsureStreams(t.Context(), bus.StreamOptions{Replicas: 5})
	if err == nil || !strings.Contains(err.Error(), "--replicas") {
		t.Errorf("five replicas on three nodes: %v", err)
	}
	replicas(3)
}

// Whoever loses a swap finds what won when it reads again, so that a few tries are enough: the cluster refuses it long before the other's write can be read.
func TestF09_WhoLosesASwapReadsWhatWon(t *testing.T) {
	c := newNodes(t, 3)
	client := ensured(c, bus.StreamOptions{})
	const writers, rounds = 4, 10
	var writing errgroup.Group
	for n := range writers {
		writing.Go(func() error {
			for range rounds {
				for {
					m, err := client.Get(t.Context(), "hf.rollout.r1")
					if err != nil && !errors.Is(err, fleetsync.ErrNotFound) {
						return err
					}
					_, err = client.PutIf(t.Context(), "hf.rollout.r1", fmt.Appendf(nil, "%s%d", m.Data, n), m.Sequence)
					if err == nil {
						break
					}
					if !errors.Is(err, stream.ErrConflict) {
						return err
					}
					if now, err := client.Get(t.Context(), "hf.rollout.r1"); err != nil || now.Sequence == m.Sequence {
						return fmt.Errorf("after a conflict it reads what it read before: %d, %v", now.Sequence, err)
					}
				}
			}
			return nil
		})
	}
	must(t, writing.Wait())
	m, err := client.Get(t.Context(), "hf.rollout.r1")
	must(t, err)
	for n := range writers {
		if got := strings.Count(string(m.Data), fmt.Sprint(n)); got != rounds {
			t.Errorf("writer %d swapped %d times, %d of it are there", n, rounds, got)
		}
	}
}

// What was acknowledged while a node dies is there, also once it is back.
func TestF09_AKilledNodeLosesNothing(t *testing.T) {
	c := newNodes(t, 3)
	client := ensured(c, bus.StreamOptions{})
	subject := func(n int) string { return fmt.Sprintf("hf.rollout.r%d", n) }
	acknowledged := map[int]bool{}
	for n := range 60 {
		if n == 20 {
			c.processes[2].kill()
		}
		if n == 40 {
			c.start(2)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := client.Put(ctx, subject(n), []byte("kept"))
		cancel()
		acknowledged[n] = err == nil
	}
	count := 0
	for n, was := range acknowledged {
		if !was {
			continue
		}
		count++
		eventually(t, time.Minute, "an acknowledged write is read", func() error {
			m, err := client.Get(t.Context(), subject(n))
			if err == nil && string(m.Data) != "kept" {
				t.Fatalf("%d: %q", n, m.Data)
			}
			return err
		})
	}
	if count < 30 {
		t.Errorf("only %d of 60 writes were taken", count)
	}
}

// BenchmarkReplicas compares a durable write on three nodes with one on a single node, in turns: a kilobyte, one after the other.
func BenchmarkReplicas(b *testing.B) {
	three, one := ensured(newNodes(b, 3), bus.StreamOptions{}), ensured(newNodes(b, 1), bus.StreamOptions{})
	data := make([]byte, 1024)
	var spent [2]time.Duration
	n := 0
	for b.Loop() {
		n++
		for i, client := range []*bus.Hub{three, one} {
			began := time.Now()
			_, err := client.Put(b.Context(), fmt.Sprintf("hf.state.shop-%d", n%100), data)
			must(b, err)
			spent[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(spent[0].Microseconds())/float64(n), "µs/write-on-3")
	b.ReportMetric(float64(spent[1].Microseconds())/float64(n), "µs/write-on-1")
	b.ReportMetric(spent[0].Seconds()/spent[1].Seconds(), "ratio")
}
