// Package anchor keeps a site's high-water marks in two small files beside its store, so that a store that was restored from an older
// copy, or lost its tail, cannot roll the site back.
//
// # The format
//
// Each of the two slots, anchor-a.json and anchor-b.json, is one line of JSON, a newline, "hmac-sha256:" with the hex of that line's MAC by the
// site's key, and a newline. The valid slot with the higher generation counts. Slots of before are ended by "sha256:" with the line's digest: they
// count where no slot has a MAC, and Doubt says so.
//
// # Guarantees
//
//   - A1 Save writes the slot that does not count, by a temporary file that is synced, renamed over it and made durable by syncing the
//     folder. Whatever happens in between, Load gives what the last successful Save wrote, or what this Save was writing.
//   - A2 A slot that is damaged is not believed; the other one counts, and Doubt says so. If no valid slot is left, Load is an error,
//     never an empty anchor.
//   - A3 Counters in the files never go back: Save takes the higher of what is there and what it is given.
//
// An anchor protects against accidents and restored images. Whoever may write the files but has not the site's key cannot make one (T26); an older one
// put back together with the store is found out by the note in the cluster.
package anchor

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Anchor is what a site must not forget.
type Anchor struct {
	// Generation grows by one with each Save; 0 says that there is no anchor yet. Save sets it.
	Generation uint64
	// Counters are the highest releases accepted.
	Counters verify.Counters
	// StoreHead says how far the store had come. Its meaning is its owner's.
	StoreHead string
	// Epoch is the store's life.
	Epoch string
}

// ErrDamaged says that there are slots and none can be believed.
var ErrDamaged = errors.New("the anchor is damaged")

// ErrUnsealed says that the anchor is of an agent that made no MACs yet, or of somebody else.
var ErrUnsealed = errors.New("the anchor bears no seal of this site: an agent from before wrote it, or somebody else")

var slots = [2]string{"anchor-a.json", "anchor-b.json"}

const temporary = "anchor.tmp"

// File is an anchor on disk. It belongs to one process and one goroutine.
type File struct {
	disk  disk
	key   []byte
	doubt error
}

// Open gives the anchor in a folder, which must exist. It reads nothing yet. key is the site's, for MACs.
func Open(dir string, key []byte) (*File, error) {
	root, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	return &File{disk: root, key: key}, nil
}

// Close gives the folder back.
func (f *File) Close() error { return f.disk.close() }

// Doubt says what was wrong with a slot at the last Load or Save, or nil. The other slot was valid, but may be one generation older.
func (f *File) Doubt() error { return f.doubt }

// Load gives the anchor: the zero Anchor if none was ever saved, and ErrDamaged if none can be believed.
func (f *File) Load() (Anchor, error) {
	newest, _, err := f.load()
	return newest, err
}

// load also gives the slot the newest anchor is in, or -1.
func (f *File) load() (newest Anchor, slot int, err error) {
	f.doubt, slot = nil, -1
	var present int
	var doubts []error
	var sealed bool
	for i, name := range slots {
		raw, err := f.disk.read(name, maxSlotSize+1)
		if errors.Is(err, errAbsent) {
			continue
		}
		present++
		var a Anchor
		var hasMAC bool
		if err == nil {
			a, hasMAC, err = Decode(raw, f.key)
		}
		if err != nil {
			doubts = append(doubts, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if slot < 0 || hasMAC && !sealed || hasMAC == sealed && a.Generation > newest.Generation {
			newest, slot, sealed = a, i, hasMAC
		}
	}
	if slot >= 0 && !sealed {
		doubts = append(doubts, ErrUnsealed)
	}
	if slot < 0 && present > 0 {
		return Anchor{}, -1, fmt.Errorf("anchor: %w: %w", ErrDamaged, errors.Join(doubts...))
	}
	f.doubt = errors.Join(doubts...)
	return newest, slot, nil
}

// Save makes the anchor durable, with counters no lower than those already on disk. If it fails, either the old or the new anchor counts.
// Over a damaged anchor it writes a first one again: whoever calls it then has decided what to believe instead.
func (f *File) Save(a Anchor) error {
	last, slot, err := f.load()
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	a.Generation = last.Generation + 1
	a.Counters = verify.Merge(last.Counters, a.Counters)
	raw, err := Encode(a, f.key)
	if err != nil {
		return err
	}
	target := slots[0]
	if slot == 0 {
		target = slots[1]
	}
	// Crash before the rename: the temporary file is never read. Crash after it: the slot is whole, because it was synced before; the
	// rename itself may be undone until the folder is synced, and then the older slot still counts.
	for _, step := range []func() error{
		func() error { return f.disk.writeSynced(temporary, raw) },
		func() error { return f.disk.rename(temporary, target) },
		f.disk.sync,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("anchor: save: %w", err)
		}
	}
	return nil
}
