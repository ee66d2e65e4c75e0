package anchor

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

const (
	schema      = "holdfast.dev/anchor/v1"
	maxSlotSize = verify.MaxCountersSize + 8<<10
	maxText     = 1024 // bytes of store head and epoch each
)

type encoded struct {
	Schema     string          `json:"schema"`
	Generation uint64          `json:"generation"`
	StoreHead  string          `json:"storeHead"`
	Epoch      string          `json:"epoch"`
	Counters   json.RawMessage `json:"counters"`
}

const macPrefix = "hmac-sha256:"

func ending(line, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("holdfast.dev/anchor/v1\n"))
	mac.Write(line)
	return macPrefix + hex.EncodeToString(mac.Sum(nil)) + "\n"
}

// Encode writes a slot.
func Encode(a Anchor, key []byte) ([]byte, error) {
	if len(a.StoreHead) > maxText || len(a.Epoch) > maxText {
		return nil, fmt.Errorf("anchor: store head or epoch longer than %d bytes", maxText)
	}
	counters, err := verify.EncodeCounters(a.Counters)
	if err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	line, err := json.Marshal(encoded{schema, a.Generation, a.StoreHead, a.Epoch, counters})
	if err != nil {
		return nil, fmt.Errorf("anchor: encode: %w", err)
	}
	end := ending(line, key)
	return append(append(line, '\n'), end...), nil
}

// Decode reads a slot and checks that it is whole, and whether the site sealed it.
func Decode(raw, key []byte) (a Anchor, sealed bool, err error) {
	if len(raw) > maxSlotSize {
		return Anchor{}, false, fmt.Errorf("more than the %d bytes it may have", maxSlotSize)
	}
	line, end, cut := bytes.Cut(raw, []byte("\n"))
	sealed = bytes.HasPrefix(end, []byte(macPrefix))
	switch {
	case sealed && !hmac.Equal(end, []byte(ending(line, key))):
		return Anchor{}, false, errors.New("this site did not write it, or it was changed since")
	case !cut || !sealed && string(end) != string(bundle.DigestOf(line))+"\n":
		return Anchor{}, false, errors.New("its checksum does not match")
	}
	a, err = decodeLine(line)
	return a, sealed, err
}

func decodeLine(line []byte) (Anchor, error) {
	var e encoded
	if err := strict.Decode(line, maxSlotSize, &e); err != nil {
		return Anchor{}, err
	}
	if e.Schema != schema {
		return Anchor{}, fmt.Errorf("schema %.80q, want %s", e.Schema, schema)
	}
	if e.Generation == 0 || len(e.StoreHead) > maxText || len(e.Epoch) > maxText {
		return Anchor{}, errors.New("generation, store head or epoch out of bounds")
	}
	counters, err := verify.DecodeCounters(e.Counters)
	if err != nil {
		return Anchor{}, err
	}
	return Anchor{Generation: e.Generation, Counters: counters, StoreHead: e.StoreHead, Epoch: e.Epoch}, nil
}
