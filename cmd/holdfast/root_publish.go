package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/spf13/cobra"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// onlineLife is how long a snapshot and timestamp made at the desk are good.
const onlineLife = 30 * 24 * time.Hour

// shelf takes published metadata by its name. The fleet's folder is one; a hub that takes metadata is another.
type shelf interface {
	Put(d *desk, name string, raw []byte) error
}

func newRootPublish(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Publish a change of the root of trust that enough key holders have signed",
		Long: `Publish the draft in the fleet's folder into its tuf directory, which is laid out as any TUF repository, and write trust.json anew. A draft
that lacks signatures is refused. Where the hub's online key lies in the folder (online.key), snapshot and timestamp are signed, too;
otherwise that is the hub's work. Without a draft, they are only renewed.`,
		Example: "  holdfast root publish --dir fleet",
		Args:    exactly(),
	}
	dir := dirFlag(cmd)
	online := cmd.Flags().String("online-key", "", "the hub's online private `key`; DIR/online.key if that is there")
	cmd.RunE = func(*cobra.Command, []string) error {
		f := fleetFolder{*dir}
		return d.publish(f, f, *online)
	}
	return cmd
}

// publish puts a folder's draft on a shelf.
func (d *desk) publish(f fleetFolder, to shelf, onlineKey string) error {
	made, err := f.finished()
	if err != nil {
		return err
	}
	signer, err := f.online(onlineKey)
	if err != nil {
		return err
	}
	if signer != nil {
		if made, err = author.Renew(made, made.Root, made.Targets, made.Fleet, signer, d.now(), onlineLife); err != nil {
			return err
		}
	}
	if err := d.putAll(to, made, signer != nil); err != nil {
		return err
	}
	if err := d.writeWhole(f.trustPath(), made.Fleet, 0o644); err != nil {
		return err
	}
	// Crash before this: the draft is published again, with the same bytes.
	if err := os.Remove(f.draftPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.sayf("published in %s", f.path(""))
	if signer == nil {
		d.sayf("snapshot and timestamp are the hub's to sign: its online key is not here")
	}
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

// online opens the hub's online key, or gives nothing where it is not at the desk.
func (f fleetFolder) online(path string) (signature.Signer, error) {
	wanted := path != ""
	if !wanted {
		path = filepath.Join(f.dir, "online.key")
	}
	raw, err := readLimited(path, tuf.MaxTimestamp)
	if errors.Is(err, fs.ErrNotExist) && !wanted {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: want one PEM block of type PRIVATE KEY", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// putAll puts the files in the order in which they may be believed: the timestamp, which makes them count, last.
func (d *desk) putAll(to shelf, m tuf.Metadata, complete bool) error {
	root, err := metadata.Root().FromBytes(m.Root)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	targets, err := metadata.Targets().FromBytes(m.Targets)
	if err != nil {
		return fmt.Errorf("targets: %w", err)
	}
	type file struct {
		name string
		raw  []byte
	}
	files := []file{{tuf.Name(metadata.ROOT, root.Signed.Version), m.Root}, {tuf.FleetName(m.Fleet), m.Fleet}, {tuf.Name(metadata.TARGETS, targets.Signed.Version), m.Targets}}
	if complete {
		snapshot, err := metadata.Snapshot().FromBytes(m.Snapshot)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		files = append(files, file{tuf.Name(metadata.SNAPSHOT, snapshot.Signed.Version), m.Snapshot}, file{tuf.TimestampName, m.Timestamp})
	}
	for _, f := range files {
		if err := to.Put(d, f.name, f.raw); err != nil {
			return err
		}
	}
	return nil
}
