// Package record states what a store accepts, for the real store and its twin alike.
package record

import (
	"errors"
	"fmt"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// The limits of a store, in bytes and records.
const (
	MaxKey     = 512
	MaxValue   = 256<<10 + 1<<10 // a chunk of content and what surrounds it
	MaxCommit  = 600 << 10       // keys, values and Overhead of all records of one commit
	MaxRecords = 4000            // of one commit
	Overhead   = 64              // what a record costs besides its key and value
)

// ErrTooLarge says that a key, a value or a whole commit is beyond the limits. Nothing was written.
var ErrTooLarge = errors.New("too large")

// Check refuses records that a store cannot hold, and gives the bytes they cost.
func Check(records []fleetsync.Record) (size int, err error) {
	if len(records) > MaxRecords {
		return 0, fmt.Errorf("commit of %d records: %w: at most %d fit into one transaction", len(records), ErrTooLarge, MaxRecords)
	}
	for _, r := range records {
		if err := CheckKey(r.Key); err != nil {
			return 0, err
		}
		if len(r.Value) > MaxValue {
			return 0, fmt.Errorf("value of %q: %w: %d bytes, at most %d", r.Key, ErrTooLarge, len(r.Value), MaxValue)
		}
		size += len(r.Key) + len(r.Value) + Overhead
	}
	if size > MaxCommit {
		return 0, fmt.Errorf("commit of %d records: %w: %d bytes, at most %d fit into one transaction", len(records), ErrTooLarge, size, MaxCommit)
	}
	return size, nil
}

// CheckKey refuses a key that no store can hold.
func CheckKey(key string) error {
	if key == "" {
		return errors.New("key: empty")
	}
	if len(key) > MaxKey {
		return fmt.Errorf("key %.40q…: %w: %d bytes, at most %d", key, ErrTooLarge, len(key), MaxKey)
	}
	return nil
}

// OnlyDeletes tells whether no record needs room for a value.
func OnlyDeletes(records []fleetsync.Record) bool {
	for _, r := range records {
		if r.Value != nil {
			return false
		}
	}
	return true
}
