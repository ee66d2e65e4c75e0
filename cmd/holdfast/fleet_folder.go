package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// fleetFolder is where the desk keeps a fleet's root of trust:
//
//	draft.json    a change that is being signed
//	tuf/          what is published, laid out as any TUF repository but for what the hub signs; the hub is started with it
//	online.key    the hub's private key, if init made it
//	*.key, *.pub  other keys that init made
type fleetFolder struct{ dir string }

func (f fleetFolder) draftPath() string { return filepath.Join(f.dir, "draft.json") }
func (f fleetFolder) path(in string) string {
	return filepath.Join(f.dir, "tuf", filepath.FromSlash(in))
}

var versionedFile = regexp.MustCompile(`^([1-9][0-9]{0,17})\.(root|targets)\.json$`)

// newest gives the file with the highest version of a role, or nothing.
func (f fleetFolder) newest(role string) (raw []byte, version int64, err error) {
	entries, err := os.ReadDir(f.path("metadata"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		m := versionedFile.FindStringSubmatch(entry.Name())
		if m == nil || m[2] != role {
			continue
		}
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
			version = max(version, n)
		}
	}
	if version == 0 {
		return nil, 0, nil
	}
	raw, err = f.version(role, version)
	return raw, version, err
}

// version gives one version of a role, or nothing for version 0.
func (f fleetFolder) version(role string, version int64) ([]byte, error) {
	if version == 0 {
		return nil, nil
	}
	in, err := tuf.Path(tuf.Name(role, version))
	if err != nil {
		return nil, err
	}
	return readLimited(f.path(in), tuf.MaxRoot)
}

// published gives what the folder's repository holds: Root, Targets and Fleet. The hub signs the others.
func (f fleetFolder) published() (m tuf.Metadata, err error) {
	if m.Root, _, err = f.newest(metadata.ROOT); err != nil {
		return m, err
	}
	if m.Targets, _, err = f.newest(metadata.TARGETS); err != nil {
		return m, err
	}
	if m.Targets != nil {
		m.Fleet, err = f.fleetOf(m.Targets)
		return m, err
	}
	return m, nil
}

// fleetOf reads the trust document that targets commit to.
func (f fleetFolder) fleetOf(targets []byte) ([]byte, error) {
	t, err := metadata.Targets().FromBytes(targets)
	if err != nil {
		return nil, fmt.Errorf("%s: targets: %w", f.dir, err)
	}
	file := t.Signed.Targets[tuf.FleetFile]
	if file == nil {
		return nil, fmt.Errorf("%s: targets without %s", f.dir, tuf.FleetFile)
	}
	raw, err := readLimited(f.path(fmt.Sprintf("targets/%x.%s", []byte(file.Hashes["sha256"]), tuf.FleetFile)), tuf.MaxFleet)
	if err != nil {
		return nil, err
	}
	if err := file.VerifyLengthHashes(raw); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", f.dir, tuf.FleetFile, err)
	}
	return raw, nil
}

// publication is everything that is published once made counts.
func (f fleetFolder) publication(made tuf.Metadata) (tuf.Publication, error) {
	p := tuf.Publication{Targets: made.Targets, Fleet: made.Fleet}
	newest, err := tuf.RootVersion(made.Root)
	if err != nil {
		return p, err
	}
	for version := int64(1); version < newest; version++ {
		root, err := f.version(metadata.ROOT, version)
		if errors.Is(err, fs.ErrNotExist) && len(p.Roots) == 0 {
			continue // the folder began with a later one
		}
		if err != nil {
			return p, err
		}
		p.Roots = append(p.Roots, root)
	}
	p.Roots = append(p.Roots, made.Root)
	return p, nil
}

// draft gives the change that is being signed, or nil.
func (f fleetFolder) draft() (*author.Draft, error) {
	raw, err := readLimited(f.draftPath(), author.MaxDraft)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	draft, err := author.DecodeDraft(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.draftPath(), err)
	}
	return draft, nil
}

// put writes a file of the repository by its name.
func (f fleetFolder) put(d *desk, name string, raw []byte) error {
	in, err := tuf.Path(name)
	if err != nil {
		return err
	}
	path := f.path(in)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return d.writeWhole(path, raw, 0o644)
}

// current is what a change begins from: the draft that is there already, or what is published.
func (f fleetFolder) current() (*verify.Trust, author.Holders, tuf.Metadata, error) {
	published, err := f.published()
	if err != nil {
		return nil, author.Holders{}, published, err
	}
	draft, err := f.draft()
	if err != nil {
		return nil, author.Holders{}, published, err
	}
	root, fleet := published.Root, published.Fleet
	if draft != nil {
		if draft.NewRoot != nil {
			root = draft.NewRoot
		}
		if draft.Fleet != nil {
			fleet = draft.Fleet
		}
	}
	if root == nil || fleet == nil {
		return nil, author.Holders{}, published, &failure{code: exitNotFound, message: f.dir + ": no root of trust here",
			hint: "holdfast init DIR makes one; then give the same DIR", cause: fs.ErrNotExist}
	}
	holders, err := author.HoldersOf(root)
	if err != nil {
		return nil, holders, published, fmt.Errorf("%s: %w", f.dir, err)
	}
	trust, err := verify.DecodeTrust(fleet)
	return trust, holders, published, err
}
