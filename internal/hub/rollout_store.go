package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// rolloutHead is what RolloutSubject holds: what a list shows, and where the whole is.
type rolloutHead struct {
	api.Rollout
	// Digest is of the packed rollout, which is in Parts chunks under partSubject and has Size bytes unpacked.
	Digest bundle.Digest `json:"digest"`
	Parts  int           `json:"parts"`
	Size   int64         `json:"size"`

	sequence uint64 // of the message
}

// maxRolloutParts bounds the chunks of a rollout: it never compresses to more than it has.
const maxRolloutParts = rollout.MaxRolloutSize/bundle.ChunkSize + 1

func decodeHead(m stream.Message) (rolloutHead, error) {
	var head rolloutHead
	if err := decodeRecord(m.Data, &head); err != nil {
		return head, fmt.Errorf("%s: %w", m.Subject, err)
	}
	if RolloutSubject(head.ID) != m.Subject || head.Parts < 1 || head.Parts > maxRolloutParts || head.Size < 1 || head.Size > rollout.MaxRolloutSize {
		return head, fmt.Errorf("%s: a head of %.80q with %d parts and %d bytes cannot be", m.Subject, head.ID, head.Parts, head.Size)
	}
	head.sequence = m.Sequence
	return head, nil
}

// headOf is what a list shows of the rollout.
func headOf(r *rollout.Rollout) api.Rollout {
	head := api.Rollout{
		ID: r.ID, Revision: r.Revision, Bundle: bundle.Ref{Name: r.Bundle.Name, Version: r.Bundle.Version.Version}, Digest: r.Bundle.Digest, Plan: r.Plan.Metadata.Name,
		By: r.By, Started: r.Started, Phase: r.Phase, Attempt: r.Attempt, Back: r.Back, Parent: r.Parent, BackBy: r.BackBy, Pulled: r.Pulled, Retired: r.Retired,
		Sites: len(r.Sites), Waves: r.Progress(),
	}
	if !r.Ended.IsZero() {
		head.Ended = &r.Ended
	}
	if r.Cause != nil {
		head.Cause = r.Cause.Words()
	}
	return head
}

func unknownRollout(id string) *api.Error {
	return refuse(404, "UnknownRollout", fmt.Sprintf("rollout %.80s is not known", id), "", "holdfast rollout list shows the rollouts")
}

// readHead gives the head as the bus has it.
func (h *Hub) readHead(ctx context.Context, id string) (rolloutHead, error) {
	if _, err := bundle.ParseName(id); err != nil {
		return rolloutHead{}, malformed("not a rollout's id", fmt.Errorf("%.80q: want lower-case letters, digits and inner dashes, at most 63 characters", id))
	}
	m, err := h.store.Get(ctx, RolloutSubject(id))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return rolloutHead{}, unknownRollout(id)
	}
	if err != nil {
		return rolloutHead{}, fmt.Errorf("rollout %s: %w", id, err)
	}
	return decodeHead(m)
}

// loadRollout reads a rollout and its head. Between head and parts another hub may have stored a newer one: then the newer is read.
func (h *Hub) loadRollout(ctx context.Context, id string) (*rollout.Rollout, rolloutHead, error) {
	for try := 0; ; try++ {
		head, err := h.readHead(ctx, id)
		if err != nil {
			return nil, head, err
		}
		raw, err := h.readParts(ctx, head)
		if errors.Is(err, fleetsync.ErrNotFound) && try < assignTries {
			continue
		}
		if err != nil {
			return nil, head, fmt.Errorf("rollout %s: %w", id, err)
		}
		r, err := rollout.Decode(raw)
		if err == nil && r.ID != id {
			err = fmt.Errorf("it is rollout %s", r.ID)
		}
		if err != nil {
			return nil, head, fmt.Errorf("rollout %s: the store holds something else: %w", id, err)
		}
		return r, head, nil
	}
}

func (h *Hub) readParts(ctx context.Context, head rolloutHead) ([]byte, error) {
	var packed []byte
	for n := range head.Parts {
		m, err := h.store.Get(ctx, partSubject(head.ID, head.Digest, strconv.Itoa(n)))
		if err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", n+1, head.Parts, err)
		}
		packed = append(packed, m.Data...)
	}
	if digest := bundle.DigestOf(packed); digest != head.Digest {
		return nil, fmt.Errorf("expected %s, got %s: the store is damaged", head.Digest, digest)
	}
	return wire.Decompress(packed, head.Size)
}

// storeRollout writes a rollout in the place of the one with the head was; stream.ErrConflict says that somebody else did before. Parts come
// first, so that a head always finds its own; a crash in between leaves parts that nothing names.
func (h *Hub) storeRollout(ctx context.Context, r *rollout.Rollout, was rolloutHead) (rolloutHead, error) {
	raw, err := r.Encode()
	if err != nil {
		return was, err
	}
	packed, err := wire.CompressForKeeping(raw)
	if err != nil {
		return was, fmt.Errorf("rollout %s: %w", r.ID, err)
	}
	chunks := bundle.Chunks(packed)
	head := rolloutHead{Rollout: headOf(r), Digest: bundle.DigestOf(packed), Parts: len(chunks), Size: int64(len(raw))}
	for n, chunk := range chunks {
		if _, err := h.store.Put(ctx, partSubject(r.ID, head.Digest, strconv.Itoa(n)), chunk); err != nil {
			return was, fmt.Errorf("rollout %s: part %d of %d: %w", r.ID, n+1, len(chunks), err)
		}
	}
	message, err := json.Marshal(head)
	if err != nil {
		return was, fmt.Errorf("rollout %s: encode: %w", r.ID, err)
	}
	// Commit point: with the head the rollout is what it says.
	head.sequence, err = h.store.PutIf(ctx, RolloutSubject(r.ID), message, was.sequence)
	if err != nil {
		// A failure says nothing of what was stored, and a conflict may be with our own first try.
		there, readErr := h.store.Get(ctx, RolloutSubject(r.ID))
		if readErr != nil || !bytes.Equal(there.Data, message) {
			return was, fmt.Errorf("rollout %s: %w", r.ID, err)
		}
		head.sequence = there.Sequence
	}
	if was.Digest != "" && was.Digest != head.Digest {
		if err := h.store.Delete(ctx, stream.RolloutParts, partSubject(r.ID, was.Digest, "*")); err != nil {
			h.log.Warn("parts of an older state stay in the store", zap.String("rollout", r.ID), zap.Error(err))
		}
	}
	return head, nil
}
