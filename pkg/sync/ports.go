package sync

import (
	"context"
	"errors"
)

// ErrNotFound says that a key or subject holds nothing.
var ErrNotFound = errors.New("not found")

// ErrNoLink says that the hub cannot be reached now.
var ErrNoLink = errors.New("no link to the hub")

// ErrNoSpace says that the store refused a write to keep its reserve of free space.
var ErrNoSpace = errors.New("not enough free space")

// Record is one change to the store: Value nil deletes the key.
type Record struct {
	Key   string
	Value []byte
}

// Store is the edge's durable memory: ordered keys (at most 512 bytes) and values (at most 256 KiB + 1 KiB).
// All methods may be called concurrently. Commit is atomic, and durable when it returns nil.
// internal/store keeps it in Badger, internal/store/memstore in memory; both run internal/store/storetest.
type Store interface {
	// Get gives the value of a key, or ErrNotFound. The caller owns the bytes.
	Get(key string) ([]byte, error)
	// Scan calls visit for the keys that begin with prefix, in ascending order, until it returns an error, which Scan returns.
	// The value is valid during the call only.
	Scan(prefix string, visit func(key string, value []byte) error) error
	// Commit applies all records or none.
	Commit(records ...Record) error
	Close() error
}

// NoticeKind is what a Link has to tell.
type NoticeKind string

// The notices.
const (
	LinkUp   NoticeKind = "up"   // connected, also after each reconnect
	LinkDown NoticeKind = "down" // disconnected; Notice.Err says why where known
	LinkPoke NoticeKind = "poke" // the hub has something new on one of the site's subjects
)

// Notice is one word from a Link.
type Notice struct {
	Kind NoticeKind
	Err  error
	// Data is what a poke carries: nothing, or a statement (Fresh) that the reader has yet to verify.
	Data []byte
}

// Link is the edge's side of the bus. It reconnects by itself for ever.
// internal/bus keeps it over NATS, internal/bus/membus in memory with faults; both run internal/bus/bustest.
type Link interface {
	// Get gives the newest message of a subject, ErrNotFound, or ErrNoLink.
	Get(ctx context.Context, subject string) ([]byte, error)
	// Report stores a message on one of the site's own subjects and returns nil only once the hub's stream has it on disk.
	Report(ctx context.Context, subject string, data []byte) error
	// Hello sends a message that nobody stores.
	Hello(ctx context.Context, subject string, data []byte) error
	// Notices is a channel that never blocks the link: pokes that wait may be folded into one without data, the newest up or down is always delivered.
	Notices() <-chan Notice
	Close() error
}
