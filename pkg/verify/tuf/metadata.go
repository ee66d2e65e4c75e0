package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

// The limits of files, in bytes.
const (
	MaxRoot      = 128 << 10
	MaxTargets   = 128 << 10
	MaxSnapshot  = 16 << 10
	MaxTimestamp = 16 << 10
	MaxFleet     = verify.MaxTrustSize
	// MaxStored is the most bytes that encoded Metadata may have.
	MaxStored = 2 << 20
)

const storedSchema = "holdfast.dev/trust-metadata/v1"

// Metadata are the files that a site or a desk trusts. Root alone is enough to begin with; the others come together or not at all.
type Metadata struct {
	Root []byte // the newest root that is trusted
	// Under is the root that the others were verified under, where a later one is trusted and nothing newer came under it yet.
	Under     []byte
	Timestamp []byte
	Snapshot  []byte
	Targets   []byte
	Fleet     []byte // the verify.Trust document
}

// Versions are the versions of the files; 0 is a file that is not there.
type Versions struct {
	Root      int64 `json:"root"`
	Timestamp int64 `json:"timestamp"`
	Snapshot  int64 `json:"snapshot"`
	Targets   int64 `json:"targets"`
}

// State is what is trusted.
type State struct {
	Metadata Metadata
	Versions Versions
	// Trust is the fleet's document, or nil where only a root is there yet.
	Trust *verify.Trust
	// Expires is when the first of the files expires: until then nothing newer needs to be seen.
	Expires time.Time
	// Stamp is when snapshot or timestamp expires: what the hub renews.
	Stamp time.Time
}

type stored struct {
	Schema    string `json:"schema"`
	Root      []byte `json:"root"`
	Under     []byte `json:"under,omitempty"`
	Timestamp []byte `json:"timestamp,omitempty"`
	Snapshot  []byte `json:"snapshot,omitempty"`
	Targets   []byte `json:"targets,omitempty"`
	Fleet     []byte `json:"fleet,omitempty"`
}

// Encode writes metadata for a store.
func Encode(m Metadata) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(stored{storedSchema, m.Root, m.Under, m.Timestamp, m.Snapshot, m.Targets, m.Fleet})
	if err != nil {
		return nil, fmt.Errorf("trust metadata: encode: %w", err)
	}
	return raw, nil
}

// Decode reads what Encode wrote. It believes nothing: that is Load's.
func Decode(raw []byte) (Metadata, error) {
	var s stored
	if err := strict.Decode(raw, MaxStored, &s); err != nil {
		return Metadata{}, fmt.Errorf("trust metadata: %w: %w", ErrMalformed, err)
	}
	if s.Schema != storedSchema {
		return Metadata{}, fmt.Errorf("trust metadata: %w: schema %.80q, want %s", ErrMalformed, s.Schema, storedSchema)
	}
	m := Metadata{s.Root, s.Under, s.Timestamp, s.Snapshot, s.Targets, s.Fleet}
	return m, m.check()
}

// check looks at sizes, shapes and what is there.
func (m Metadata) check() error {
	for _, f := range []struct {
		name  string
		raw   []byte
		limit int
	}{
		{"root", m.Root, MaxRoot}, {"root", m.Under, MaxRoot}, {"timestamp", m.Timestamp, MaxTimestamp},
		{"snapshot", m.Snapshot, MaxSnapshot}, {"targets", m.Targets, MaxTargets},
	} {
		if len(f.raw) == 0 {
			continue
		}
		if err := OneReading(f.raw, f.limit); err != nil {
			return fmt.Errorf("trust metadata: %s: %w", f.name, err)
		}
	}
	if len(m.Fleet) > MaxFleet {
		return fmt.Errorf("trust metadata: fleet: %w: %d bytes, at most %d", ErrTooLarge, len(m.Fleet), MaxFleet)
	}
	if len(m.Root) == 0 {
		return fmt.Errorf("trust metadata: %w: no root", ErrMalformed)
	}
	if there := m.complete(); !there && len(m.Timestamp)+len(m.Snapshot)+len(m.Targets)+len(m.Fleet)+len(m.Under) > 0 {
		return fmt.Errorf("trust metadata: %w: timestamp, snapshot, targets and fleet belong together", ErrMalformed)
	}
	return nil
}

func (m Metadata) complete() bool {
	return len(m.Timestamp) > 0 && len(m.Snapshot) > 0 && len(m.Targets) > 0 && len(m.Fleet) > 0
}

// OneReading is the gate before go-tuf: it refuses metadata that is larger than limit bytes, or that another parser may read otherwise.
func OneReading(raw []byte, limit int) error {
	if len(raw) > limit {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), limit)
	}
	var shape struct {
		Signed     json.RawMessage `json:"signed"`
		Signatures json.RawMessage `json:"signatures"`
	}
	if err := strict.Decode(raw, limit, &shape); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if shape.Signed == nil || shape.Signatures == nil {
		return fmt.Errorf("%w: want signed and signatures", ErrMalformed)
	}
	return nil
}

// Errors of this package. ErrNotFound is a Source's; the others say why metadata is not believed.
var (
	ErrNotFound     = errors.New("not found")
	ErrTooLarge     = errors.New("too large")
	ErrMalformed    = errors.New("malformed")
	ErrMissing      = errors.New("missing")
	ErrUnsigned     = errors.New("too few valid signatures")
	ErrVersion      = errors.New("wrong version")
	ErrExpired      = errors.New("expired")
	ErrMismatch     = errors.New("not the bytes that were committed to")
	ErrChainTooLong = errors.New("more root rotations than one refresh follows")
)
