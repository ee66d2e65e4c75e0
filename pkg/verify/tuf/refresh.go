package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// MaxRotations is how many new roots one refresh follows.
const MaxRotations = 256

// Source is where metadata comes from. Nothing it gives is believed.
type Source interface {
	// Get gives what a name holds, or an error that wraps ErrNotFound. It should not read more than the 2 MiB a message of the bus has.
	Get(ctx context.Context, name string) ([]byte, error)
}

// Client refreshes metadata with go-tuf's updater. It keeps nothing; it may be used concurrently if its Source may.
type Client struct {
	Source Source
	// Dir is a folder for the updater's working copies, which are deleted at once; empty is the system's temporary folder.
	Dir string
	// Carried says that it came by hand, and may be as old as the way was long. What the offline keys signed must be in its time as ever, and no version
	// goes back; only that the online key said so lately, which is what expiry of snapshot and timestamp is about, is not asked for.
	Carried bool
}

// Refresh fetches what is newer than the metadata that is trusted. The State is to be stored whether or not there is an error: with an error
// it holds the roots that were verified before, and the trust that goes on counting. An error of the Source is returned as it is.
func (c Client) Refresh(ctx context.Context, have Metadata, now time.Time) (State, error) {
	before, err := Load(have)
	if err != nil {
		return State{}, err
	}
	dir, err := os.MkdirTemp(c.Dir, "holdfast-trust-")
	if err != nil {
		return before, fmt.Errorf("trust metadata: working folder: %w", err)
	}
	defer os.RemoveAll(dir)
	w := &walk{ctx: ctx, source: c.Source, dir: dir, carried: c.Carried}
	after, err := w.refresh(before, now)
	if err == nil {
		return after, nil
	}
	advanced, keptErr := w.advanced(before)
	if keptErr != nil {
		return before, errors.Join(err, keptErr)
	}
	return advanced, err
}

// Unchanged says that the source has nothing newer than what is trusted, and that none of that is expired: no further root, and the very timestamp that
// was verified. Refresh would find the same, and verify everything again for it. have is what Load or Refresh gave; where anything is doubtful it is false.
func (c Client) Unchanged(ctx context.Context, have State, now time.Time) bool {
	if have.Trust == nil || have.Metadata.Under != nil || !now.Before(have.Expires) {
		return false
	}
	if _, err := c.Source.Get(ctx, Name(metadata.ROOT, have.Versions.Root+1)); !errors.Is(err, ErrNotFound) {
		return false
	}
	timestamp, err := c.Source.Get(ctx, TimestampName)
	return err == nil && bytes.Equal(timestamp, have.Metadata.Timestamp)
}

// walk is one refresh. It is the fetcher.Fetcher of the updater.
type walk struct {
	ctx     context.Context
	source  Source
	dir     string
	carried bool
	roots   int    // new roots that were fetched
	last    string // what was asked for last
	failed  error  // of the source
}

func (w *walk) refresh(before State, now time.Time) (state State, err error) {
	defer guard(&state, &err)
	for role, raw := range map[string][]byte{metadata.TIMESTAMP: before.Metadata.Timestamp, metadata.SNAPSHOT: before.Metadata.Snapshot, metadata.TARGETS: before.Metadata.Targets} {
		if raw == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(w.dir, role+".json"), raw, 0o600); err != nil {
			return State{}, fmt.Errorf("trust metadata: working folder: %w", err)
		}
	}
	u, err := updater.New(&config.UpdaterConfig{
		MaxRootRotations: MaxRotations, RootMaxLength: MaxRoot, TimestampMaxLength: MaxTimestamp, SnapshotMaxLength: MaxSnapshot, TargetsMaxLength: MaxTargets,
		Fetcher: w, LocalTrustedRoot: before.Metadata.Root, LocalMetadataDir: w.dir, LocalTargetsDir: w.dir,
		RemoteMetadataURL: baseURL + "metadata", RemoteTargetsURL: baseURL + "targets", PrefixTargetsWithHash: true,
	})
	if err != nil {
		return State{}, refused("root", err)
	}
	u.UnsafeSetRefTime(now.UTC())
	if w.carried {
		u.UnsafeSetRefTime(time.Time{}) // nothing is expired then: offline looks at what may not be
	}
	err = u.Refresh()
	if err := w.atTheEnd(u.GetTrustedMetadataSet().Root); err != nil {
		return State{}, err
	}
	if err != nil {
		return State{}, w.explain(err)
	}
	if w.carried {
		if err := offline(u.GetTrustedMetadataSet(), now); err != nil {
			return State{}, err
		}
	}
	return w.collect(u, before)
}

// offline refuses what the offline keys signed for a time that is over.
func offline(set trustedmetadata.TrustedMetadata, now time.Time) error {
	targets := set.Targets[metadata.TARGETS].Signed
	for role, expires := range map[string]time.Time{metadata.ROOT: set.Root.Signed.Expires, metadata.TARGETS: targets.Expires} {
		if now.After(expires) {
			return fmt.Errorf("trust metadata: %s: %w: it was good until %s", role, ErrExpired, expires.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// atTheEnd refuses to believe in the last root that was followed while there is a later one.
func (w *walk) atTheEnd(last *metadata.Metadata[metadata.RootType]) error {
	if w.roots < MaxRotations {
		return nil
	}
	_, err := w.source.Get(w.ctx, Name(metadata.ROOT, last.Signed.Version+1))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("trust metadata: root: %w (%d)", ErrChainTooLong, MaxRotations)
}

// collect makes a State of what the updater verified.
func (w *walk) collect(u *updater.Updater, before State) (State, error) {
	set := u.GetTrustedMetadataSet()
	targets := set.Targets[metadata.TARGETS]
	file, err := fleetOf(targets)
	if err != nil {
		return State{}, err
	}
	// The updater forgets versions when the online keys change; the offline keys' versions are still comparable.
	if targets.Signed.Version < before.Versions.Targets {
		changed, err := holdersChanged(before, set.Root)
		if err != nil {
			return State{}, err
		}
		if !changed {
			return State{}, fmt.Errorf("trust metadata: targets: %w: %d was seen before, got %d", ErrVersion, before.Versions.Targets, targets.Signed.Version)
		}
	}
	state := State{Versions: Versions{Root: set.Root.Signed.Version}, Expires: set.Root.Signed.Expires}
	for role, into := range map[string]*[]byte{metadata.ROOT: &state.Metadata.Root, metadata.TIMESTAMP: &state.Metadata.Timestamp,
		metadata.SNAPSHOT: &state.Metadata.Snapshot, metadata.TARGETS: &state.Metadata.Targets} {
		if *into, err = os.ReadFile(filepath.Join(w.dir, role+".json")); err != nil {
			return State{}, fmt.Errorf("trust metadata: working folder: %w", err)
		}
	}
	if state.Metadata.Fleet = before.Metadata.Fleet; file.VerifyLengthHashes(state.Metadata.Fleet) != nil {
		file.Path = FleetFile
		if _, state.Metadata.Fleet, err = u.DownloadTarget(file, filepath.Join(w.dir, FleetFile), ""); err != nil {
			return State{}, w.explain(err)
		}
	}
	return state, state.take(set)
}

// holdersChanged says whether other keys hold the role of targets than when the older ones were signed.
func holdersChanged(before State, now *metadata.Metadata[metadata.RootType]) (bool, error) {
	under := before.Metadata.Under
	if under == nil {
		under = before.Metadata.Root
	}
	then, err := metadata.Root().FromBytes(under)
	if err != nil {
		return false, refused("root", err)
	}
	old, held := then.Signed.Roles[metadata.TARGETS], map[string]bool{}
	for _, id := range old.KeyIDs {
		held[id] = true
	}
	for _, id := range now.Signed.Roles[metadata.TARGETS].KeyIDs {
		if !held[id] {
			return true, nil
		}
	}
	return false, nil
}

// advanced keeps the roots that the updater verified before it failed. What came under the older root goes on counting.
func (w *walk) advanced(before State) (State, error) {
	root, err := os.ReadFile(filepath.Join(w.dir, metadata.ROOT+".json"))
	if err != nil || bytes.Equal(root, before.Metadata.Root) {
		return before, nil // the updater did not come so far
	}
	m := before.Metadata
	if m.Root = root; m.complete() && m.Under == nil {
		m.Under = before.Metadata.Root
	}
	return Load(m)
}

// explain gives an error of the updater its kind and says what was asked for last. The source's own errors stay what they are.
func (w *walk) explain(err error) error {
	if w.failed != nil {
		return w.failed
	}
	return refused(strings.TrimPrefix(w.last, prefix), err)
}

// DownloadFile implements fetcher.Fetcher.
func (w *walk) DownloadFile(url string, limit int64, _ time.Duration) ([]byte, error) {
	name, err := nameOf(url)
	if err != nil {
		return nil, err
	}
	w.last = name
	raw, err := w.source.Get(w.ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}
	case err != nil:
		w.failed = err
		return nil, err
	case int64(len(raw)) > limit:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), limit)
	}
	if !strings.HasPrefix(name, prefix+"fleet.") {
		if err := OneReading(raw, int(limit)); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(name, prefix+"root.") {
		w.roots++
	}
	return raw, nil
}
