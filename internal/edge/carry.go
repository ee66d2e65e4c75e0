package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/edge/local"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Import takes a carried file under the rules of the bus: nothing is stored that is not verified, nothing that the assignment does not name, and
// whether it is newer, still meant and within its lease is the core's to say.
func (a *Agent) Import(ctx context.Context, r io.Reader) (got local.Imported, err error) {
	a.importing.Lock()
	defer a.importing.Unlock()
	var brought fleetsync.Brought
	var assignment fleetsync.Assignment
	var unbelieved error // why the root of trust in the file is not believed: the assignment may be all the same
	trust, size := map[string][]byte{}, 0
	err = fleetsync.ReadCarried(r, func(site bundle.SiteID, kind fleetsync.CarriedKind, data []byte) error {
		if site != a.opts.Site.Site {
			return fmt.Errorf("import: the file is for site %s, this is %s", site, a.opts.Site.Site)
		}
		switch kind {
		case fleetsync.CarriedTrust:
			name, file, _ := bytes.Cut(data, []byte("\n"))
			if size += len(data); size > maxTrust {
				return fmt.Errorf("import: the root of trust in the file has more than %d bytes", maxTrust)
			}
			trust[string(name)] = file
			return nil
		case fleetsync.CarriedAssignment:
			if brought.Assignment != nil {
				return errors.New("import: two assignments are in the file")
			}
			if unbelieved, err = a.bringTrust(ctx, trust); err != nil {
				return err
			}
			hub, _ := a.opts.Trust.HubKeys()
			if err := fleetsync.OpenBy(fleetsync.TypeAssignment, data, hub, &assignment); err != nil {
				if unbelieved != nil {
					err = fmt.Errorf("%w; the root of trust in the file is not believed: %w", err, unbelieved)
				}
				return fmt.Errorf("import: %w", err)
			}
			brought.Assignment = data
			return nil
		case fleetsync.CarriedBundle:
			digest, err := a.bring(data, assignment)
			brought.Bundles = append(brought.Bundles, digest)
			return err
		}
		return fmt.Errorf("import: the file holds something (kind %d) that is not for a site", kind)
	})
	if err != nil {
		return got, err
	}
	if brought.Assignment == nil {
		return got, errors.New("import: no assignment is in the file")
	}
	if err := a.Tell(ctx, brought); err != nil {
		return got, err
	}
	status, err := a.Status(ctx)
	if err != nil {
		return got, err
	}
	got = local.Imported{Assignment: assignment.Sequence, Bundles: len(brought.Bundles), Has: status.State.Assignment}
	if got.Has != got.Assignment {
		return got, fmt.Errorf("import: assignment %d was not taken, the site has %d; `holdfast-edge events` says why", got.Assignment, got.Has)
	}
	return got, nil
}

// maxTrust bounds the files of a root of trust that comes by hand, in bytes.
const maxTrust = 8 << 20

// bringTrust follows the root of trust in a carried file, by the rules of the bus, and tells the core of it. unbelieved is why it was not followed to its end.
func (a *Agent) bringTrust(ctx context.Context, files map[string][]byte) (unbelieved, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	var at time.Time
	if err := a.ask(ctx, nil, func() { at = a.core.Time(time.Now()) }); err != nil {
		return nil, err
	}
	trusted, unbelieved := a.opts.Trust.RefreshFrom(ctx, files, a.opts.Store, at)
	return unbelieved, a.Tell(ctx, trusted)
}

// bring verifies one bundle and stores it.
func (a *Agent) bring(raw []byte, assignment fleetsync.Assignment) (bundle.Digest, error) {
	file, err := bundle.DecodeFile(raw)
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	digest := bundle.DigestOf(file.Manifest)
	if !slices.ContainsFunc(assignment.Bundles, func(b fleetsync.AssignedBundle) bool { return b.Digest == digest }) {
		return "", fmt.Errorf("import: bundle %s is in the file, and not in the assignment before it", digest.Short())
	}
	signed, err := a.contents.trust.Document().Manifest(a.contents.sigs, file.Manifest, file.Signatures)
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	info := signed.Manifest().Content
	content, err := wire.Decompress(file.Content, info.Size)
	if err != nil {
		return "", fmt.Errorf("import: bundle %s: content: %w", signed.Manifest().Ref(), err)
	}
	if _, err := signed.WithContent(content); err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	chunks := (len(file.Content) + bundle.ChunkSize - 1) / bundle.ChunkSize
	offer, err := json.Marshal(fleetsync.Offer{Manifest: file.Manifest, Signatures: file.Signatures, Full: fleetsync.Blob{Size: int64(len(file.Content)), Chunks: chunks}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(a.contents.putOffer(digest, offer), a.contents.putChunks(blobKey(info.Digest), file.Content)); err != nil {
		return "", fmt.Errorf("import: bundle %s: %w", signed.Manifest().Ref(), err)
	}
	return digest, a.contents.complete(signed)
}

// Report gives what the site has to say as a carried file: a signed snapshot, and the signed events that it keeps.
func (a *Agent) Report(ctx context.Context) ([]byte, error) {
	var state fleetsync.State
	if err := a.ask(ctx, fleetsync.Exported{}, func() { state = a.core.Exported() }); err != nil {
		return nil, err
	}
	var file bytes.Buffer
	add, err := fleetsync.WriteCarried(&file, a.opts.Site.Site)
	if err != nil {
		return nil, err
	}
	put := func(kind fleetsync.CarriedKind, messageType string, payload any) error {
		sealed, err := fleetsync.Seal(messageType, payload, a.opts.Key)
		if err != nil {
			return err
		}
		return add(kind, sealed)
	}
	if err := put(fleetsync.CarriedState, fleetsync.TypeState, state); err != nil {
		return nil, err
	}
	for from := state.Outbox.Acked + 1; from < state.Outbox.Next && file.Len() < maxReport; {
		batch, err := a.batch(state.Epoch, from, state.Outbox.Next-1)
		if err != nil {
			return nil, err
		}
		if err := put(fleetsync.CarriedEvents, fleetsync.TypeEvents, batch); err != nil {
			return nil, err
		}
		from = batch.Events[len(batch.Events)-1].Sequence + 1
	}
	return file.Bytes(), nil
}

// maxReport bounds a report by hand, in bytes. What does not fit comes with the next one, after this one was acknowledged.
const maxReport = 12 << 20
