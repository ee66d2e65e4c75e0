package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// till is a small bundle of its own. Where pods must run on a node that there is not, it never becomes healthy.
const till = `
apiVersion: v1
kind: Namespace
metadata: {name: till}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: till, namespace: till}
spec:
  selector: {matchLabels: {app: till}}
  template:
    metadata: {labels: {app: till}}
    spec: {nodeSelector: {%s}, containers: [{name: till, image: "registry.k8s.io/pause:%s"}]}
`

const tillConfig = "apiVersion: holdfast.dev/v1\nkind: BundleConfig\npolicy: {healthTimeoutSeconds: 5}\n"

const tillPlan = `apiVersion: holdfast.dev/v1
kind: RolloutPlan
metadata: {name: till}
spec:
  waves:
  - {name: canary, sites: {names: [lisbon]}, soak: 2s}
  - {name: rest, sites: {all: true}, maxUnavailable: 1, soak: 2s}
`

func (d *demo) tillRelease(version, node, image string) error {
	dir := filepath.Join(d.fleet.Dir, "till-"+version)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{"till.yaml": fmt.Sprintf(till, node, image), "holdfast.yaml": tillConfig} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	_, err := d.fleet.Release(dir, "till", version)
	return err
}

// canary rolls out a version that is broken: one site takes it, goes back by itself, and everything stops.
func (d *demo) canary(ctx context.Context) error {
	d.scene("till 1.1.0 is broken: one canary takes it and goes back by itself, and nobody else is offered it")
	plan := filepath.Join(d.fleet.Dir, "plan.yaml")
	if err := errors.Join(os.WriteFile(plan, []byte(tillPlan), 0o600), d.tillRelease("1.0.0", "", "3.9"), d.tillRelease("1.1.0", "is: nowhere", "3.10")); err != nil {
		return err
	}
	if _, err := d.fleet.CLI(append(append([]string{"assign"}, siteNames...), "till@1.0.0")...); err != nil {
		return err
	}
	for _, name := range siteNames {
		if err := d.tillAt(ctx, name, "1.0.0"); err != nil {
			return err
		}
	}
	if err := d.show("rollout", "plan", "till@1.1.0", "--plan", plan); err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.fleet.CLI("rollout", "start", "till@1.1.0", "--plan", plan, "--yes"); err != nil {
		return err
	}
	if _, err := d.fleet.CLI("rollout", "watch", "till-1-1-0", "--timeout", patience.String()); err == nil {
		return errors.New("the rollout of a broken version completed")
	}
	d.done("the rollout paused by itself after %s", time.Since(began).Round(100*time.Millisecond))
	if err := d.tillAt(ctx, "lisbon", "1.0.0"); err != nil {
		return err
	}
	if err := fleet.Until(ctx, patience, "lisbon to be back", func() error {
		out, err := d.fleet.CLI("rollout", "explain", "till-1-1-0")
		if err == nil && !strings.Contains(out, "Reverted") {
			err = fleet.ErrNotYet
		}
		return err
	}); err != nil {
		return err
	}
	return d.show("rollout", "explain", "till-1-1-0")
}

// fixed rolls the repaired version out while vienna is dark, which gets it when it comes back.
func (d *demo) fixed(ctx context.Context) error {
	d.scene("till 1.1.1 is repaired and goes out in waves; Vienna is dark, and joins late")
	vienna := d.fleet.Sites["vienna"]
	vienna.Link.Cut()
	if err := fleet.Until(ctx, patience, "the hub to miss vienna", func() error {
		site, err := d.fleet.Site("vienna")
		if err == nil && site.Freshness != api.Stale {
			err = fleet.ErrNotYet
		}
		return err
	}); err != nil {
		return err
	}
	d.done("the hub knows that vienna is away")
	if err := d.tillRelease("1.1.1", "", "3.10"); err != nil {
		return err
	}
	if _, err := d.fleet.CLI("rollout", "abort", "till-1-1-0", "--why", "1.1.1 repairs it", "--yes"); err != nil {
		return err
	}
	if _, err := d.fleet.CLI("rollout", "start", "till@1.1.1", "--plan", filepath.Join(d.fleet.Dir, "plan.yaml"), "--yes"); err != nil {
		return err
	}
	for _, name := range []string{"lisbon", "oslo"} {
		if err := d.tillAt(ctx, name, "1.1.1"); err != nil {
			return err
		}
	}
	out, err := d.fleet.CLI("rollout", "watch", "till-1-1-1", "--timeout", patience.String())
	if err != nil {
		return err
	}
	d.print("holdfast rollout watch till-1-1-1", out)
	vienna.Link.Mend()
	if err := d.tillAt(ctx, "vienna", "1.1.1"); err != nil {
		return err
	}
	return d.show("rollout", "list")
}

func (d *demo) tillAt(ctx context.Context, site, version string) error {
	if err := fleet.Until(ctx, patience, site+" to run till@"+version, func() error {
		out, err := d.fleet.Site(site)
		if err != nil {
			return err
		}
		if out.State != nil {
			for _, b := range out.State.Bundles {
				if b.Name == "till" && string(b.Current) == version {
					return nil
				}
			}
		}
		return fleet.ErrNotYet
	}); err != nil {
		return err
	}
	d.done("%s runs till@%s", site, version)
	return nil
}
