// Command demo runs the main job on this machine and shows it: a hub, three sites with a Kubernetes control plane each, a signed bundle that
// becomes healthy everywhere, a cut line during which one site keeps itself right, and a new version that reaches it when the line is mended. Then a
// broken version stops at its canary, and the repaired one goes out in waves.
//
//	KEEP=1        leaves everything running until Ctrl-C and prints how to use it
//	BUNDLE=<dir>  takes any folder of manifests instead of deploy/examples/shop
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// patience is how long the demo waits for one thing on a slow machine.
const patience = 3 * time.Minute

var siteNames = []string{"lisbon", "oslo", "vienna"}

// edgeFlags open the demo's own clusters to whatever BUNDLE brings.
func edgeFlags() []string { return append(fleet.OpenSystem(), "--reconnect-max", "2s") }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "error: demo: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("demo: ok in %s\n", time.Since(began).Round(time.Second))
}

// demo is one showing.
type demo struct {
	*teller
	fleet    *fleet.Fleet
	clusters []*cluster.Cluster
	release  release
	since    time.Time // of the last assignment, or of the mended line
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	keep := os.Getenv("KEEP") != ""
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{teller: newTeller(os.Stdout), release: shop}
	if from := os.Getenv("BUNDLE"); from != "" {
		if d.release, err = anyRelease(from, filepath.Join(dir, "next")); err != nil {
			return err
		}
	}
	if d.fleet, err = fleet.New(dir, "bin"); err != nil {
		return err
	}
	d.fleet.HubFlags = []string{"--heartbeat", "2s"} // a site that is away is missed soon
	defer func() {
		d.fleet.Close()
		for _, c := range d.clusters {
			_ = c.Stop()
		}
	}()
	for _, act := range []func(context.Context) error{d.open, d.firstRelease, d.outage, d.mend, d.canary, d.fixed} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	if keep {
		d.leaveOpen(ctx)
	}
	return nil
}

// open starts the hub and the sites.
func (d *demo) open(ctx context.Context) error {
	d.scene("A hub, and three sites with a Kubernetes control plane each")
	var group errgroup.Group
	d.clusters = make([]*cluster.Cluster, len(siteNames))
	for i, name := range siteNames {
		group.Go(func() (err error) {
			d.clusters[i], err = cluster.Start(ctx, cluster.Options{Name: name, Dir: filepath.Join(d.fleet.Dir, "cluster-"+name)})
			return err
		})
	}
	if err := d.fleet.StartHub(ctx); err != nil {
		return err
	}
	d.done("the hub answers; its root of trust is one release key, its own keys cannot sign software")
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range siteNames {
		region := "region=north"
		if name == "lisbon" {
			region = "region=south"
		}
		site, err := d.fleet.AddSite(name, d.clusters[i], region)
		if err != nil {
			return err
		}
		if err := site.StartEdge(edgeFlags()...); err != nil {
			return err
		}
	}
	for _, name := range siteNames {
		if err := fleet.Until(ctx, patience, name+" to report", func() error {
			site, err := d.fleet.Site(name)
			if err == nil && site.State == nil {
				err = fleet.ErrNotYet
			}
			return err
		}); err != nil {
			return err
		}
	}
	d.done("%s are connected", strings.Join(siteNames, ", "))
	return nil
}

// firstRelease brings the first version to all sites.
func (d *demo) firstRelease(ctx context.Context) error {
	d.scene("%s 1.0.0: built, signed, pushed, assigned", d.release.name)
	if _, err := d.fleet.Release(d.release.first, d.release.name, "1.0.0", d.release.flags...); err != nil {
		return err
	}
	if err := d.show("bundle", "list"); err != nil {
		return err
	}
	if err := d.assign("1.0.0"); err != nil {
		return err
	}
	for _, name := range siteNames {
		if err := d.waitFor(ctx, name, "1.0.0"); err != nil {
			return err
		}
	}
	return d.show("site", "list")
}

func (d *demo) assign(version string) error {
	args := append([]string{"assign"}, siteNames...)
	_, err := d.fleet.CLI(append(args, d.release.name+"@"+version)...)
	d.since = time.Now()
	return err
}

func (d *demo) waitFor(ctx context.Context, site, version string) error {
	if err := fleet.Until(ctx, patience, site+" to run "+version, func() error { return d.fleet.Runs(site, d.release.name, version) }); err != nil {
		return err
	}
	d.done("%s runs %s@%s, healthy after %s", site, d.release.name, version, time.Since(d.since).Round(100*time.Millisecond))
	return nil
}

// outage cuts oslo's line, does damage there, restarts its agent in the middle, and publishes a new version meanwhile.
func (d *demo) outage(ctx context.Context) error {
	d.scene("Oslo's line is cut; somebody deletes and edits objects there, and the power fails")
	oslo := d.fleet.Sites["oslo"]
	oslo.Link.Cut()
	d.done("the line is cut")
	vandal, err := newVandal(oslo.Cluster.Config(), d.release.name)
	if err != nil {
		return err
	}
	if err := d.damage(ctx, vandal, "while the agent runs"); err != nil {
		return err
	}
	oslo.StopEdge(false)
	d.done("the agent is killed")
	undo, err := vandal.Damage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := oslo.StartEdge(edgeFlags()...); err != nil {
		return err
	}
	if err := fleet.Until(ctx, patience, "the damage to be undone", func() error { return undo.Done(ctx) }); err != nil {
		return err
	}
	d.done("restarted without the hub, it had undone %s after %s", undo.What, time.Since(began).Round(10*time.Millisecond))

	d.scene("%s 1.1.0 is released meanwhile", d.release.name)
	if _, err := d.fleet.Release(d.release.next, d.release.name, "1.1.0", d.release.flags...); err != nil {
		return err
	}
	if err := d.assign("1.1.0"); err != nil {
		return err
	}
	for _, name := range siteNames {
		if name != "oslo" {
			if err := d.waitFor(ctx, name, "1.1.0"); err != nil {
				return err
			}
		}
	}
	if err := d.fleet.Runs("oslo", d.release.name, "1.1.0"); err == nil {
		return errors.New("oslo is shown with the new version although its line is cut")
	}
	return d.show("site", "list")
}

func (d *demo) damage(ctx context.Context, vandal *vandal, when string) error {
	began := time.Now()
	undo, err := vandal.Damage(ctx)
	if err != nil {
		return err
	}
	if err := fleet.Until(ctx, patience, "the damage to be undone", func() error { return undo.Done(ctx) }); err != nil {
		return err
	}
	d.done("%s: %s, undone after %s", when, undo.What, time.Since(began).Round(10*time.Millisecond))
	return nil
}

// mend brings oslo back.
func (d *demo) mend(ctx context.Context) error {
	d.scene("The line is mended: Oslo catches up and tells what happened")
	d.fleet.Sites["oslo"].Link.Mend()
	d.since = time.Now()
	if err := d.waitFor(ctx, "oslo", "1.1.0"); err != nil {
		return err
	}
	if err := d.show("site", "list"); err != nil {
		return err
	}
	var story string
	if err := fleet.Until(ctx, patience, "oslo's events", func() (err error) {
		story, err = d.fleet.CLI("events", "--site", "oslo")
		if err == nil && !(strings.Contains(story, "DriftCorrected") && strings.Contains(story, "1.1.0")) {
			err = fleet.ErrNotYet
		}
		return err
	}); err != nil {
		return err
	}
	d.print("holdfast events --site oslo", story)
	return nil
}

func (d *demo) show(args ...string) error {
	out, err := d.fleet.CLI(args...)
	if err == nil {
		d.print("holdfast "+strings.Join(args, " "), out)
	}
	return err
}

func (d *demo) leaveOpen(ctx context.Context) {
	d.scene("It stays open until Ctrl-C")
	here, _ := filepath.Abs("bin/holdfast")
	d.print("in another terminal", fmt.Sprintf("export HOLDFAST_CONTEXT=%s\n%s site list\n%s site show oslo\n",
		filepath.Join(d.fleet.Dir, "hub", "admin.context.json"), here, here))
	for i, name := range siteNames {
		d.print(name+"'s cluster", "export KUBECONFIG="+d.clusters[i].Kubeconfig()+"\n")
	}
	<-ctx.Done()
}
