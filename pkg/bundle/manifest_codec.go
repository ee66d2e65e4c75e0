package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/holdfast-fleet/holdfast/pkg/bundle/internal/strict"
)

// EncodeManifest returns the one spelling of m, the bytes that are signed: canonical JSON on one line, without a newline.
// It refuses what DecodeManifest would refuse. Untyped numbers in m may be json.Number.
func EncodeManifest(m *Manifest) ([]byte, error) {
	b, err := encodeManifest(m)
	if err != nil {
		return nil, err
	}
	if _, err := DecodeManifest(b); err != nil {
		return nil, err
	}
	return b, nil
}

func encodeManifest(m *Manifest) ([]byte, error) {
	loose, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	tree, err := DecodeValue(loose, 4*MaxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	b, err := Canonical(tree)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(b) > MaxManifestSize {
		return nil, fmt.Errorf("manifest: %d bytes, more than the %d allowed", len(b), MaxManifestSize)
	}
	return b, nil
}

// DecodeManifest reads a manifest that EncodeManifest could have written and refuses everything else (B1): unknown, duplicate and
// differently-cased keys, bytes after the end, other spellings of a value, and values that Check refuses. It says nothing about signatures.
func DecodeManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifestSize {
		return nil, fmt.Errorf("manifest: %d bytes, more than the %d allowed", len(b), MaxManifestSize)
	}
	if err := CheckCanonical(b); err != nil {
		return nil, fmt.Errorf("manifest: not canonical JSON: %w", err)
	}
	tree, err := DecodeValue(b, MaxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := strict.Keys(tree, reflect.TypeFor[Manifest]()); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m.settleNumbers()
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	again, err := encodeManifest(m)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("manifest: not in its one spelling: %s", firstDifference(b, again))
	}
	return m, nil
}

// firstDifference shows where two spellings part.
func firstDifference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%.40q where %.40q belongs", got[i:], want[i:])
}

// settleNumbers turns the numbers of untyped values into int64 and float64.
func (m *Manifest) settleNumbers() {
	for i := range m.Parameters {
		m.Parameters[i].Default = settle(m.Parameters[i].Default)
	}
	for i := range m.Variants {
		for j := range m.Variants[i].Patches {
			p := &m.Variants[i].Patches[j]
			for k, v := range p.Merge {
				p.Merge[k] = settle(v)
			}
			for k, v := range p.JSON {
				p.JSON[k] = settle(v)
			}
		}
	}
}

func settle(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := parseNumber(string(v)); err == nil {
			return n
		}
	case map[string]any:
		for k, member := range v {
			v[k] = settle(member)
		}
	case []any:
		for i, member := range v {
			v[i] = settle(member)
		}
	}
	return v
}
