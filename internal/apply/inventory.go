package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Limits of an encoded inventory.
const (
	// MaxRecord is the largest record Encode makes and Decode takes, in bytes.
	MaxRecord = 256 << 10
	// MaxItems is the largest inventory.
	MaxItems = 50_000

	recordItems = 500
	recordBytes = 192 << 10
)

// Item is an object that a bundle owns at the site, and how it was left.
type Item struct {
	Ref
	Stage int
	UID   string
	// ResourceVersion and Generation are those of our last write, or of the last look that found no drift.
	ResourceVersion string
	Generation      int64
	// Hash names what was applied (Object.Hash). Empty: an apply was begun and its end is unknown.
	Hash string
	// Print names the labels and annotations that were there then.
	Print string
	// Adopted objects existed before the bundle came.
	Adopted bool
	// Base names the fields of what was applied last in full; of objects that are respected only.
	Base Base
	// Left says that fields were left to others then.
	Left bool
}

// Inventory is what a bundle owns at the site, in apply order. The zero value owns nothing.
type Inventory struct {
	Bundle bundle.Name
	// Account is who applied it last, and so who may take it away; empty: the agent itself.
	Account bundle.Account
	Items   []Item
}

// index finds items by identity.
func (inv Inventory) index() map[bundle.ObjectID]int {
	m := make(map[bundle.ObjectID]int, len(inv.Items))
	for i, it := range inv.Items {
		m[it.ObjectID] = i
	}
	return m
}

// Get finds one item.
func (inv Inventory) Get(id bundle.ObjectID) (Item, bool) {
	for _, it := range inv.Items {
		if it.ObjectID == id {
			return it, true
		}
	}
	return Item{}, false
}

type record struct {
	Bundle  bundle.Name    `json:"bundle"`
	Account bundle.Account `json:"account,omitempty"`
	Part    int            `json:"part"`
	Of      int            `json:"of"`
	Items   []recordItem   `json:"items"`
}

type recordItem struct {
	Group      string `json:"g,omitempty"`
	Version    string `json:"v"`
	Kind       string `json:"k"`
	Namespace  string `json:"ns,omitempty"`
	Name       string `json:"n"`
	Stage      int    `json:"s,omitempty"`
	UID        string `json:"u,omitempty"`
	Revision   string `json:"r,omitempty"`
	Generation int64  `json:"e,omitempty"`
	Hash       string `json:"h,omitempty"`
	Print      string `json:"p,omitempty"`
	Adopted    bool   `json:"a,omitempty"`
	Base       Base   `json:"b,omitempty"`
	Left       bool   `json:"l,omitempty"`
}

// Encode cuts the inventory into records of at most MaxRecord bytes; there is always at least one.
func (inv Inventory) Encode() ([][]byte, error) {
	if len(inv.Items) > MaxItems {
		return nil, fmt.Errorf("inventory of %s: %d objects: at most %d", inv.Bundle, len(inv.Items), MaxItems)
	}
	parts := [][]recordItem{nil}
	size := 0
	for _, it := range inv.Items {
		r := recordItem{it.Group, it.Version, it.Kind, it.Namespace, it.Name, it.Stage, it.UID, it.ResourceVersion, it.Generation, it.Hash, it.Print, it.Adopted, it.Base, it.Left}
		// A generous bound of the encoded length: every byte of a name could need no more than six.
		length := 160 + 6*(len(r.Group)+len(r.Version)+len(r.Kind)+len(r.Namespace)+len(r.Name)) + len(r.UID) + len(r.Revision) + len(r.Hash) + len(r.Print) + len(r.Base)
		last := len(parts) - 1
		if len(parts[last]) == recordItems || size+length > recordBytes && len(parts[last]) > 0 {
			parts, last, size = append(parts, nil), last+1, 0
		}
		parts[last] = append(parts[last], r)
		size += length
	}
	out := make([][]byte, len(parts))
	for i, items := range parts {
		if items == nil {
			items = []recordItem{}
		}
		b, err := json.Marshal(record{inv.Bundle, inv.Account, i + 1, len(parts), items})
		if err != nil {
			return nil, fmt.Errorf("inventory of %s: encode: %w", inv.Bundle, err)
		}
		if len(b) > MaxRecord {
			return nil, fmt.Errorf("inventory of %s: record of %d bytes: at most %d", inv.Bundle, len(b), MaxRecord)
		}
		out[i] = b
	}
	return out, nil
}

// DecodeInventory reads the records of one inventory in their order. It refuses unknown fields, missing or misplaced parts,
// doubled objects and anything over the limits.
func DecodeInventory(records [][]byte) (Inventory, error) {
	var inv Inventory
	seen := map[bundle.ObjectID]bool{}
	for i, b := range records {
		if len(b) > MaxRecord {
			return Inventory{}, fmt.Errorf("inventory: record %d: %d bytes: at most %d", i+1, len(b), MaxRecord)
		}
		var r record
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return Inventory{}, fmt.Errorf("inventory: record %d: %w", i+1, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return Inventory{}, fmt.Errorf("inventory: record %d: more than one value", i+1)
		}
		if r.Part != i+1 || r.Of != len(records) {
			return Inventory{}, fmt.Errorf("inventory: record %d of %d says it is %d of %d", i+1, len(records), r.Part, r.Of)
		}
		if _, err := bundle.ParseName(string(r.Bundle)); err != nil {
			return Inventory{}, fmt.Errorf("inventory: record %d: %w", i+1, err)
		}
		if r.Account != "" {
			if _, err := bundle.ParseAccount(string(r.Account)); err != nil {
				return Inventory{}, fmt.Errorf("inventory: record %d: %w", i+1, err)
			}
		}
		if i > 0 && (r.Bundle != inv.Bundle || r.Account != inv.Account) {
			return Inventory{}, fmt.Errorf("inventory: record %d belongs to %s as %q, the first to %s as %q", i+1, r.Bundle, r.Account, inv.Bundle, inv.Account)
		}
		inv.Bundle, inv.Account = r.Bundle, r.Account
		for _, it := range r.Items {
			id := bundle.ObjectID{Group: it.Group, Kind: it.Kind, Namespace: it.Namespace, Name: it.Name}
			if it.Kind == "" || it.Name == "" || it.Version == "" {
				return Inventory{}, fmt.Errorf("inventory: record %d: an object without kind, version or name", i+1)
			}
			if seen[id] {
				return Inventory{}, fmt.Errorf("inventory: record %d: %s stands twice", i+1, id)
			}
			seen[id] = true
			inv.Items = append(inv.Items, Item{Ref{id, it.Version}, it.Stage, it.UID, it.Revision, it.Generation, it.Hash, it.Print, it.Adopted, it.Base, it.Left})
		}
		if len(inv.Items) > MaxItems {
			return Inventory{}, fmt.Errorf("inventory: more than %d objects", MaxItems)
		}
	}
	if len(records) == 0 {
		return Inventory{}, errors.New("inventory: no record")
	}
	return inv, nil
}
