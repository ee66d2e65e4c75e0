package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

const (
	countersSchema = "holdfast.dev/counters/v1"
	// MaxCountersSize is the most bytes that encoded Counters may have.
	MaxCountersSize = 1 << 20
	maxCounters     = 4096
)

// Mark is the newest release of a bundle name that was accepted.
type Mark struct {
	Counter bundle.Counter `json:"counter"`
	Digest  bundle.Digest  `json:"digest"` // of the manifest
}

// Counters is the high-water mark of each bundle name. A nil Counters has seen nothing. Its methods never change it.
type Counters map[bundle.Name]Mark

// Check refuses a manifest with an older counter than was accepted before, and another manifest under the same counter.
func (c Counters) Check(s Signed) error {
	if !s.Valid() {
		return notVerified()
	}
	mark, seen := c[s.manifest.Name]
	switch {
	case !seen || s.manifest.Counter > mark.Counter:
		return nil
	case s.manifest.Counter < mark.Counter:
		return s.refuse(OlderCounter, "a newer release was accepted before",
			"counter "+format(mark.Counter)+" or higher", format(s.manifest.Counter))
	case s.digest != mark.Digest:
		return s.refuse(CounterReused, "another manifest was accepted under counter "+format(mark.Counter), text(mark.Digest), string(s.digest))
	}
	return nil
}

// Advance is c with the manifest's counter, if that is higher. It never goes back.
func (c Counters) Advance(s Signed) Counters {
	if !s.Valid() {
		return maps.Clone(c)
	}
	return Merge(c, Counters{s.manifest.Name: {s.manifest.Counter, s.digest}})
}

// Merge takes the higher mark of each name. Where both have the same counter with different digests, it takes the lower digest,
// so that the order of merging does not matter; Check then refuses the other one.
func Merge(a, b Counters) Counters {
	merged := make(Counters, len(a)+len(b))
	maps.Copy(merged, a)
	for name, mark := range b {
		have, seen := merged[name]
		if !seen || mark.Counter > have.Counter || mark.Counter == have.Counter && mark.Digest < have.Digest {
			merged[name] = mark
		}
	}
	return merged
}

func (c Counters) valid() error {
	if len(c) > maxCounters {
		return fmt.Errorf("counters: %d names are more than the %d there may be", len(c), maxCounters)
	}
	for name, mark := range c {
		if _, err := bundle.ParseName(string(name)); err != nil {
			return fmt.Errorf("counters: %w", err)
		}
		if _, err := bundle.ParseDigest(string(mark.Digest)); err != nil {
			return fmt.Errorf("counters: %s: %w", name, err)
		}
	}
	return nil
}

type encodedCounters struct {
	Schema string   `json:"schema"`
	Marks  Counters `json:"marks"`
}

// EncodeCounters writes counters. Equal counters give equal bytes.
func EncodeCounters(c Counters) ([]byte, error) {
	if err := c.valid(); err != nil {
		return nil, err
	}
	if c == nil {
		c = Counters{}
	}
	raw, err := json.Marshal(encodedCounters{countersSchema, c})
	if err != nil {
		return nil, fmt.Errorf("counters: encode: %w", err)
	}
	return raw, nil
}

// DecodeCounters reads counters of at most MaxCountersSize bytes.
func DecodeCounters(raw []byte) (Counters, error) {
	var e encodedCounters
	if err := strict.Decode(raw, MaxCountersSize, &e); err != nil {
		return nil, fmt.Errorf("counters: %w", err)
	}
	if e.Schema != countersSchema {
		return nil, fmt.Errorf("counters: schema %.80q, want %s", e.Schema, countersSchema)
	}
	if e.Marks == nil {
		return nil, errors.New("counters: no marks")
	}
	if err := e.Marks.valid(); err != nil {
		return nil, err
	}
	return e.Marks, nil
}
