package tuf

import (
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Load verifies stored metadata again: root by itself, the rest by the root it came under, the trust document by the targets. It asks for no
// time: expiry stops nothing that was trusted.
func Load(m Metadata) (state State, err error) {
	defer guard(&state, &err)
	if err := m.check(); err != nil {
		return State{}, err
	}
	newest, err := trustedmetadata.New(m.Root)
	if err != nil {
		return State{}, refused("root", err)
	}
	state = State{Metadata: m, Versions: Versions{Root: newest.Root.Signed.Version}, Expires: newest.Root.Signed.Expires}
	if !m.complete() {
		return state, nil
	}
	set := newest
	if m.Under != nil {
		if set, err = trustedmetadata.New(m.Under); err != nil {
			return State{}, refused("older root", err)
		}
		if set.Root.Signed.Version >= newest.Root.Signed.Version {
			return State{}, fmt.Errorf("trust metadata: older root: %w: %d is not before %d", ErrVersion, set.Root.Signed.Version, newest.Root.Signed.Version)
		}
	}
	set.RefTime = time.Time{} // before everything: nothing is expired
	if _, err := set.UpdateTimestamp(m.Timestamp); err != nil {
		return State{}, refused("timestamp", err)
	}
	if _, err := set.UpdateSnapshot(m.Snapshot, false); err != nil {
		return State{}, refused("snapshot", err)
	}
	if _, err := set.UpdateTargets(m.Targets); err != nil {
		return State{}, refused("targets", err)
	}
	if err := state.take(*set); err != nil {
		return State{}, err
	}
	return state, nil
}

// take fills in what verified metadata says.
func (s *State) take(set trustedmetadata.TrustedMetadata) error {
	targets := set.Targets[metadata.TARGETS]
	file, err := fleetOf(targets)
	if err != nil {
		return err
	}
	if err := file.VerifyLengthHashes(s.Metadata.Fleet); err != nil {
		return refused("fleet", err)
	}
	if s.Trust, err = verify.DecodeTrust(s.Metadata.Fleet); err != nil {
		return fmt.Errorf("trust metadata: fleet: %w: %w", ErrMalformed, err)
	}
	s.Versions.Timestamp, s.Versions.Snapshot, s.Versions.Targets = set.Timestamp.Signed.Version, set.Snapshot.Signed.Version, targets.Signed.Version
	s.Stamp = set.Timestamp.Signed.Expires
	if snapshot := set.Snapshot.Signed.Expires; snapshot.Before(s.Stamp) {
		s.Stamp = snapshot
	}
	for _, expires := range []time.Time{set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, targets.Signed.Expires} {
		if expires.Before(s.Expires) {
			s.Expires = expires
		}
	}
	return nil
}

// fleetOf finds the trust document among the targets: with one hash, so that it has one name.
func fleetOf(targets *metadata.Metadata[metadata.TargetsType]) (*metadata.TargetFiles, error) {
	file := targets.Signed.Targets[FleetFile]
	if file == nil {
		return nil, fmt.Errorf("trust metadata: targets: %w: no %s", ErrMissing, FleetFile)
	}
	if len(file.Hashes) != 1 || len(file.Hashes["sha256"]) != 32 {
		return nil, fmt.Errorf("trust metadata: targets: %w: %s: want one sha256", ErrMalformed, FleetFile)
	}
	if file.Length < 1 || file.Length > MaxFleet {
		return nil, fmt.Errorf("trust metadata: targets: %w: %s: %d bytes, at most %d", ErrTooLarge, FleetFile, file.Length, MaxFleet)
	}
	return file, nil
}

// refused gives go-tuf's errors the kinds of this package.
func refused(what string, err error) error {
	var (
		unsigned *metadata.ErrUnsignedMetadata
		version  *metadata.ErrBadVersionNumber
		expired  *metadata.ErrExpiredMetadata
		mismatch *metadata.ErrLengthOrHashMismatch
		large    *metadata.ErrDownloadLengthMismatch
		missing  *metadata.ErrDownloadHTTP
		kind     = ErrMalformed
	)
	for _, own := range []error{ErrTooLarge, ErrMalformed, ErrMissing, ErrVersion} {
		if errors.Is(err, own) {
			return fmt.Errorf("trust metadata: %s: %w", what, err)
		}
	}
	switch {
	case errors.As(err, &unsigned):
		kind = ErrUnsigned
	case errors.As(err, &version):
		kind = ErrVersion
	case errors.As(err, &expired):
		kind = ErrExpired
	case errors.As(err, &mismatch):
		kind = ErrMismatch
	case errors.As(err, &large):
		kind = ErrTooLarge
	case errors.As(err, &missing):
		kind = ErrMissing
	}
	return fmt.Errorf("trust metadata: %s: %w: %.300s", what, kind, err.Error())
}

func guard(state *State, err *error) {
	if p := recover(); p != nil {
		*state, *err = State{}, fmt.Errorf("trust metadata: %w: panic: %.200v", ErrMalformed, p)
	}
}
