package sync

import (
	"encoding/json"
	"strings"
)

// maxDetails bounds the objects that a snapshot names with what is said of them, in encoded bytes, and shortMessage a bundle's message beyond that: however
// many objects are unwell and however long their words, a snapshot fits a message (F27).
const (
	maxDetails   = 320 << 10
	shortMessage = 80
	// maxEchoed bounds the note in a snapshot, in bytes: some five hundred bundle names. A larger one is in the cluster alone.
	maxEchoed = 64 << 10
)

// fit leaves out objects, the last first, until the snapshot fits. Counts stay right: DriftCount and a bundle's message say how many there are.
func fit(s *State) {
	left := maxDetails - len(s.Note)
	take := func(said any) bool {
		raw, err := json.Marshal(said)
		if err != nil || len(raw) > left {
			return false
		}
		left -= len(raw)
		return true
	}
	for i := range s.Bundles {
		b := &s.Bundles[i]
		if !take(b.Message) {
			b.Message = strings.ToValidUTF8(b.Message[:min(len(b.Message), shortMessage)], "") + "…"
		}
		b.Unhealthy = fitting(b.Unhealthy, take)
		b.Drift = fitting(b.Drift, take)
	}
	s.Busy, s.Overrides = fitting(s.Busy, take), fitting(s.Overrides, take)
}

// fitting is how much of a list is taken.
func fitting[T any](list []T, take func(any) bool) []T {
	for i := range list {
		if !take(list[i]) {
			return list[:i:i]
		}
	}
	return list
}
