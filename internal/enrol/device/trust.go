package device

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// Believer is whom a site believes, and how it learns that the hub's key is another now.
type Believer interface {
	// HubKeys are the keys whose signature answers carry, and those that carried it before.
	HubKeys() (now, former []ed25519.PublicKey)
	// Follow takes newer trust metadata from a source that is not believed: the offline keys' signatures prove it.
	Follow(ctx context.Context, from tuf.Source) error
}

// trustAtHub is what the hub publishes of its root of trust as a tuf.Source, for who cannot read it on the bus.
type trustAtHub struct{ *caller }

// Get implements tuf.Source.
func (t trustAtHub) Get(ctx context.Context, name string) ([]byte, error) {
	raw, err := t.call(ctx, "GET", "/v1/trust/files/"+name, nil)
	var no *refused
	if errors.As(err, &no) && no.reason == enrol.NotThere {
		return nil, fmt.Errorf("%s: %w", name, tuf.ErrNotFound)
	}
	return raw, err
}

// forged says that an answer is signed by a key that is not believed: perhaps by one that took the place of that.
func forged(err error) bool {
	var no *enrol.Refusal
	return errors.As(err, &no) && no.Reason == enrol.Forged
}

// follow walks from the metadata to the newest that the offline keys prove. Time is left out: a device's clock may say anything, and that the
// answer is of now its nonce says.
func follow(ctx context.Context, from tuf.Source, raw []byte) (newer []byte, hub []ed25519.PublicKey, err error) {
	have, err := tuf.Decode(raw)
	if err != nil {
		return nil, nil, err
	}
	state, err := tuf.Client{Source: from}.Refresh(ctx, have, time.Time{})
	for errors.Is(err, tuf.ErrChainTooLong) && ctx.Err() == nil {
		state, err = tuf.Client{Source: from}.Refresh(ctx, state.Metadata, time.Time{})
	}
	if err != nil {
		return nil, nil, err
	}
	if hub, err = online.Assignment(state.Trust); err != nil {
		return nil, nil, err
	}
	newer, err = tuf.Encode(state.Metadata)
	return newer, hub, err
}
