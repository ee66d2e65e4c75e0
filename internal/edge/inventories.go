package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// An inventory is stored in parts under prefixInventory + name + "/". The head names the generation whose parts count; without one it is the first, whose
// parts have bare numbers. What fits in one commit is changed in place. What does not becomes a new generation: its parts are written one by one, beside
// those that count; the head that names them is the commit point; then the old ones go. A crash at any write leaves one whole generation, and
// what the next record does not need of the rest it deletes.
const (
	prefixInventory = "inventory/"
	inventoryHead   = "head" // inventoryState, JSON
	// inventoryCommit is what one commit may hold of parts, in bytes: the store takes a little more.
	inventoryCommit = 512 << 10
)

type inventoryState struct {
	Generation uint64 `json:"generation"`
	Parts      int    `json:"parts"`
}

func inventoryPrefix(name bundle.Name) string { return prefixInventory + string(name) + "/" }

// part is the key of a part of the generation.
func (s inventoryState) part(name bundle.Name, n int) string {
	if s.Generation == 0 {
		return chunkKey(inventoryPrefix(name), n)
	}
	return chunkKey(fmt.Sprintf("%sg%020d/", inventoryPrefix(name), s.Generation), n)
}

// storedInventory reads the head and everything else that is stored of a bundle's inventory, by key.
func (w *KubeWorkloads) storedInventory(name bundle.Name) (head inventoryState, parts map[string][]byte, err error) {
	parts = map[string][]byte{}
	err = w.store.Scan(inventoryPrefix(name), func(key string, value []byte) error {
		if key == inventoryPrefix(name)+inventoryHead {
			return json.Unmarshal(value, &head)
		}
		parts[key] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return head, nil, fmt.Errorf("inventory of %s: %w", name, err)
	}
	if head.Generation == 0 { // as many as there are
		for parts[head.part(name, head.Parts)] != nil {
			head.Parts++
		}
	}
	return head, parts, nil
}

// inventory reads what a bundle owns.
func (w *KubeWorkloads) inventory(name bundle.Name) (apply.Inventory, error) {
	head, stored, err := w.storedInventory(name)
	if err != nil {
		return apply.Inventory{}, err
	}
	if head.Parts == 0 {
		return apply.Inventory{Bundle: name}, nil
	}
	records := make([][]byte, head.Parts)
	for n := range records {
		if records[n] = stored[head.part(name, n)]; records[n] == nil {
			return apply.Inventory{}, fmt.Errorf("inventory of %s: part %d of %d is missing", name, n+1, head.Parts)
		}
	}
	inventory, err := apply.DecodeInventory(records)
	if err != nil {
		return apply.Inventory{}, fmt.Errorf("inventory of %s: %w", name, err)
	}
	return inventory, nil
}

// record replaces the stored inventory of a bundle; an empty one leaves no records. What is stored already is not written, so that an apply
// that is repeated needs no room on a full disk.
func (w *KubeWorkloads) record(name bundle.Name, inventory apply.Inventory) error {
	var parts [][]byte
	if len(inventory.Items) > 0 {
		var err error
		if parts, err = inventory.Encode(); err != nil {
			return err
		}
	}
	head, stored, err := w.storedInventory(name)
	if err != nil {
		return err
	}
	headKey := inventoryPrefix(name) + inventoryHead
	next := inventoryState{Generation: head.Generation, Parts: len(parts)}
	var changes []fleetsync.Record
	size := 0
	kept := map[string]bool{}
	for n, part := range parts {
		key := next.part(name, n)
		kept[key] = true
		if !bytes.Equal(stored[key], part) {
			changes, size = append(changes, fleetsync.Record{Key: key, Value: part}), size+len(part)
		}
	}
	if size <= inventoryCommit {
		changes = append(changes, surplus(stored, kept)...)
		switch {
		case len(parts) == 0 && head.Generation > 0:
			changes = append(changes, fleetsync.Record{Key: headKey})
		case next != head && head.Generation > 0:
			changes = append(changes, fleetsync.Record{Key: headKey, Value: encoded(next)})
		}
		if len(changes) == 0 {
			return nil
		}
		return w.store.Commit(changes...)
	}
	next.Generation++
	clear(kept)
	for n, part := range parts {
		key := next.part(name, n)
		kept[key] = true
		if bytes.Equal(stored[key], part) { // of a generation that was begun and never came to count
			continue
		}
		if err := w.store.Commit(fleetsync.Record{Key: key, Value: part}); err != nil {
			return fmt.Errorf("inventory of %s: part %d of %d: %w", name, n+1, len(parts), err)
		}
	}
	// Commit point: from here on the new generation counts.
	if err := w.store.Commit(fleetsync.Record{Key: headKey, Value: encoded(next)}); err != nil {
		return fmt.Errorf("inventory of %s: %w", name, err)
	}
	if old := surplus(stored, kept); len(old) > 0 {
		if err := w.store.Commit(old...); err != nil && !errors.Is(err, fleetsync.ErrNoSpace) { // the next record deletes them
			return fmt.Errorf("inventory of %s: %w", name, err)
		}
	}
	return nil
}

// surplus deletes what is stored and not kept.
func surplus(stored map[string][]byte, kept map[string]bool) (deletions []fleetsync.Record) {
	for _, key := range slices.Sorted(maps.Keys(stored)) {
		if !kept[key] {
			deletions = append(deletions, fleetsync.Record{Key: key})
		}
	}
	return deletions
}

func encoded(s inventoryState) []byte {
	return fmt.Appendf(nil, `{"generation":%d,"parts":%d}`, s.Generation, s.Parts)
}
