package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// onlineKeyFile is where init writes the hub's online key, in the fleet's folder.
const onlineKeyFile = "online.key"

func newRootPublish(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Publish a change of the root of trust that enough key holders have signed",
		Long: `Give the hub the draft in the fleet's folder, and all that was published before, and complete the folder with it. The hub verifies it as a
site would, from what it trusts now, and refuses a draft that lacks signatures, a fork, a hole and a rollback; then it signs snapshot and timestamp
and tells the sites. Without a draft, the hub is given what is published already. Publishing again changes nothing.

With --no-hub only the folder is completed: a hub that is started with it takes it then.`,
		Example: "  holdfast root publish --dir fleet",
		Args:    exactly(),
	}
	dir := dirFlag(cmd)
	alone := cmd.Flags().Bool("no-hub", false, "complete the folder alone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f := fleetFolder{*dir}
		if *alone {
			return d.publish(f, nil)
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return d.publish(f, func(p tuf.Publication) error {
			raw, err := tuf.EncodePublication(p)
			if err != nil {
				return err
			}
			shown, err := hub.PublishTrust(cmd.Context(), raw)
			if err != nil {
				return err
			}
			d.sayf("the hub serves root %d and trust document %d", shown.Root, shown.Targets)
			return nil
		})
	}
	return cmd
}

// publish gives a folder's draft to the hub, if it is to have it, and completes the folder.
func (d *desk) publish(f fleetFolder, give func(tuf.Publication) error) error {
	made, err := f.finished()
	if err != nil {
		return err
	}
	p, err := f.publication(made)
	if err != nil {
		return err
	}
	if give != nil {
		if err := give(p); err != nil {
			return err
		}
	}
	if err := d.putAll(f, made); err != nil {
		return err
	}
	// Crash before this: the draft is published again, with the same bytes.
	if err := os.Remove(f.draftPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.sayf("published in %s", f.path(""))
	return nil
}

// finished gives what counts once the draft is published. A publication that was cut off is taken up again: what came before the draft is looked
// up by version, not by what lies there last.
func (f fleetFolder) finished() (tuf.Metadata, error) {
	published, err := f.published()
	if err != nil {
		return published, err
	}
	draft, err := f.draft()
	if err != nil {
		return published, err
	}
	if draft == nil {
		if published.Root == nil || published.Fleet == nil {
			return published, &failure{code: exitNotFound, message: f.dir + ": nothing to publish", hint: "holdfast init makes a root of trust", cause: fs.ErrNotExist}
		}
		return published, nil
	}
	s, err := draft.Review()
	if err != nil {
		return published, err
	}
	before := published
	if s.RootVersion > 0 {
		if before.Root, err = f.version(metadata.ROOT, s.RootVersion-1); err != nil {
			return published, err
		}
	}
	if s.TargetsVersion > 0 {
		before.Targets, err = f.version(metadata.TARGETS, s.TargetsVersion-1)
		if err != nil {
			return published, err
		}
	}
	made := published
	if made.Root, made.Targets, made.Fleet, err = draft.Finish(before); err != nil {
		return published, &failure{code: exitRefused, message: f.draftPath() + ": " + err.Error(), hint: "holdfast root show " + f.draftPath(), cause: err}
	}
	return made, nil
}

// putAll puts the files in the order in which they may be believed: the targets, which name the trust document, last.
func (d *desk) putAll(f fleetFolder, m tuf.Metadata) error {
	root, err := tuf.RootVersion(m.Root)
	if err != nil {
		return err
	}
	targets, err := tuf.TargetsVersion(m.Targets)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		raw  []byte
	}{{tuf.Name(metadata.ROOT, root), m.Root}, {tuf.FleetName(m.Fleet), m.Fleet}, {tuf.Name(metadata.TARGETS, targets), m.Targets}} {
		if err := f.put(d, file.name, file.raw); err != nil {
			return err
		}
	}
	return nil
}
