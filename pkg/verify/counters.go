package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

const (
	countersSchema = "holdfast.dev/counters/v1"
	// MaxCountersSize is the most bytes that encoded Counters may have.
	MaxCountersSize = 1 << 20
	maxCounters     = 4096

	// MaxStep is how far a counter may be above the last accepted one, and MaxFirst how high the first one of an epoch. Counters made of
	// versions, dates or milliseconds stay far below. Whoever stole a release key cannot use up all counters at one stroke.
	MaxStep  bundle.Counter = 1 << 44
	MaxFirst bundle.Counter = 1 << 50
)

// Mark is the newest release of a bundle name that was accepted.
type Mark struct {
	Counter bundle.Counter `json:"counter"`
	Digest  bundle.Digest  `json:"digest"` // of the manifest
	// Epoch is the trust document's counter epoch at acceptance. A higher epoch is newer, whatever the counters.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Older says whether m is of a lower counter epoch, or has a lower counter in the same.
func (m Mark) Older(than Mark) bool {
	if m.Epoch != than.Epoch {
		return m.Epoch < than.Epoch
	}
	return m.Counter < than.Counter
}

// Counters is the high-water mark of each bundle name. A nil Counters has seen nothing. Its methods never change it.
type Counters map[bundle.Name]Mark

// Check refuses a manifest with an older counter than was accepted before, another manifest under the same counter, and a counter that is
// far too high. A counter epoch that is higher than the mark's begins anew; a lower one is older.
func (c Counters) Check(s Signed) error {
	if !s.Valid() {
		return notVerified()
	}
	counter := s.manifest.Counter
	mark, seen := c[s.manifest.Name]
	switch {
	case seen && s.epoch < mark.Epoch:
		return s.refuse(OlderCounter, "a release of a newer counter epoch was accepted before",
			fmt.Sprintf("counter epoch %d or higher", mark.Epoch), fmt.Sprint(s.epoch))
	case seen && s.digest == mark.Digest:
		return nil
	case !seen || s.epoch > mark.Epoch:
		return s.notAbove(counter, MaxFirst)
	case counter < mark.Counter:
		return s.refuse(OlderCounter, "a newer release was accepted before",
			"counter "+format(mark.Counter)+" or higher", format(counter))
	case counter == mark.Counter:
		return s.refuse(CounterReused, "another manifest was accepted under counter "+format(mark.Counter), text(mark.Digest), string(s.digest))
	case mark.Counter > math.MaxUint64-MaxStep:
		return nil
	}
	return s.notAbove(counter, mark.Counter+MaxStep)
}

func (s Signed) notAbove(counter, limit bundle.Counter) error {
	if counter > limit {
		return s.refuse(CounterTooFar, "its counter is too far above the last one", "counter "+format(limit)+" or lower", format(counter))
	}
	return nil
}

// Advance is c with the manifest's counter, if that is higher. It never goes back.
func (c Counters) Advance(s Signed) Counters {
	if !s.Valid() {
		return maps.Clone(c)
	}
	return Merge(c, Counters{s.manifest.Name: s.Mark()})
}

// Mark is what an accepted manifest leaves behind.
func (s Signed) Mark() Mark {
	if !s.Valid() {
		return Mark{}
	}
	return Mark{Counter: s.manifest.Counter, Digest: s.digest, Epoch: s.epoch}
}

// Merge takes the higher mark of each name; a higher epoch is higher than any counter. Where both have the same counter with different digests, it takes the lower digest,
// so that the order of merging does not matter; Check then refuses the other one.
func Merge(a, b Counters) Counters {
	merged := make(Counters, len(a)+len(b))
	maps.Copy(merged, a)
	for name, mark := range b {
		have, seen := merged[name]
		if !seen || have.Older(mark) || !mark.Older(have) && mark.Digest < have.Digest {
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
