package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
)

// exampleDir is the shop of the demo.
const exampleDir = "deploy/examples/shop"

// example measures how long the example takes from the desk to a healthy site: `holdfast bundle push` of a signed file and an assignment, until
// the hub has the site's word. Building and signing are not in it.
func (s *stand) example(ctx context.Context) error {
	const name = "shop"
	var edge, bare []float64
	for round := range min(s.rounds, 4) {
		s.tell("the example: round %d of %d", round+1, min(s.rounds, 4))
		version := fmt.Sprintf("1.0.%d", round)
		file, err := s.seal(exampleDir, name, version, round+1)
		if err != nil {
			return err
		}
		began := time.Now()
		if _, err := s.fleet.CLI("bundle", "push", file); err != nil {
			return err
		}
		if _, err := s.assign(ctx, siteName, name, version); err != nil {
			return err
		}
		healthy, err := s.event(ctx, siteName, began, fleetsync.EventHealthy, name, version)
		if err != nil {
			return err
		}
		edge = append(edge, healthy.Received.Sub(began).Seconds())
		if err := s.unassign(ctx, name); err != nil {
			return err
		}
		seconds, err := s.bareHealthy(ctx, file)
		if err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		bare = append(bare, seconds)
	}
	s.Note("push_to_healthy_seconds", figures.Median(edge), "s")
	s.Note("bare_to_healthy_seconds", figures.Median(bare), "s")
	s.Put("latency_ratio", figures.Median(figures.Ratios(edge, bare)), "× bare loop", figures.AtMost(1.5))
	return nil
}

// seal builds and signs a bundle and leaves it at the desk.
func (s *stand) seal(from, name, version string, counter int) (file string, err error) {
	file = filepath.Join(s.dir, name+"-"+version+".hfb")
	if _, err := s.fleet.CLI("bundle", "build", from, "--name", name, "--version", version, "--counter", strconv.Itoa(counter), "-o", file); err != nil {
		return "", err
	}
	_, err = s.fleet.CLI("bundle", "sign", file, "--key", s.fleet.Key())
	return file, err
}

func (s *stand) bareHealthy(ctx context.Context, file string) (float64, error) {
	objects, err := s.rendered(file)
	if err != nil {
		return 0, err
	}
	targets, err := s.bare.targets(objects)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := s.bare.apply(ctx, targets); err != nil {
		return 0, err
	}
	if err := s.bare.healthy(ctx, targets); err != nil {
		return 0, err
	}
	seconds := time.Since(began).Seconds()
	return seconds, s.bare.remove(ctx, targets)
}

// rendered are the objects as they are applied at the site, which has no labels.
func (s *stand) rendered(file string) (objects []bundle.Object, err error) {
	out, err := s.fleet.CLI("bundle", "render", file, "-o", "json")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		o, err := bundle.NewObject([]byte(strings.TrimSpace(line)))
		if err != nil {
			return nil, fmt.Errorf("bundle render: %w", err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// content are the objects in a bundle file, and how large its content is compressed.
func content(file string) (objects []bundle.Object, packed int, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	parts, err := bundle.DecodeFile(raw)
	if err != nil {
		return nil, 0, err
	}
	m, err := bundle.DecodeManifest(parts.Manifest)
	if err != nil {
		return nil, 0, err
	}
	plain, err := wire.Decompress(parts.Content, m.Content.Size)
	if err != nil {
		return nil, 0, err
	}
	objects, err = bundle.DecodeContent(plain, m.Content)
	return objects, len(parts.Content), err
}
