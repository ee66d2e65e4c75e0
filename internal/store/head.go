package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

type hash [sha256.Size]byte

// Head names a commit of a store: which store, which commit, and the hash chained over all commits up to it.
type Head struct {
	Store    string // 32 hex digits, random, made with the store
	Sequence uint64
	Chain    string // 64 hex digits
}

// String is Store:Sequence:Chain.
func (h Head) String() string {
	return h.Store + ":" + strconv.FormatUint(h.Sequence, 10) + ":" + h.Chain
}

// ParseHead is the inverse of Head.String.
func ParseHead(s string) (Head, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || !isHex(parts[0], 16) || !isHex(parts[2], sha256.Size) {
		return Head{}, fmt.Errorf("store head %.120q: want store:sequence:chain", s)
	}
	n, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("store head %.120q: sequence: %w", s, err)
	}
	return Head{parts[0], n, parts[2]}, nil
}

func isHex(s string, bytes int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == bytes && strings.ToLower(s) == s
}

// covers says what is wrong if a store at h was once at want.
func (h Head) covers(want Head) error {
	switch {
	case h.Store != want.Store:
		return fmt.Errorf("it is store %.8s, and %.8s was here before", h.Store, want.Store)
	case h.Sequence < want.Sequence:
		return fmt.Errorf("it ends at commit %d and lost the %d after it", h.Sequence, want.Sequence-h.Sequence)
	case h.Sequence == want.Sequence && h.Chain != want.Chain:
		return fmt.Errorf("its commit %d is not the one that was here before", h.Sequence)
	}
	return nil
}

// head is the record under headKey.
type head struct {
	store    [16]byte
	sequence uint64
	chain    hash // over every record of every commit, in order
	count    uint64
	sum      hash // exclusive or of the seals of all live records
}

const (
	headVersion  = 1
	headBodySize = 1 + 16 + 8 + sha256.Size + 8 + sha256.Size
	headSize     = headBodySize + 8 // a short hash over the body
)

func newHead() (head, error) {
	var h head
	if _, err := rand.Read(h.store[:]); err != nil {
		return head{}, fmt.Errorf("store: random identity: %w", err)
	}
	h.chain = sha256.Sum256(h.store[:])
	return h, nil
}

func (h head) name() Head {
	return Head{hex.EncodeToString(h.store[:]), h.sequence, hex.EncodeToString(h.chain[:])}
}

func (h head) next() head {
	h.sequence++
	h.link(hash{})
	return h
}

// link chains one change in.
func (h *head) link(change hash) {
	b := make([]byte, 0, 2*sha256.Size+8)
	b = append(b, h.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, h.sequence)
	h.chain = sha256.Sum256(append(b, change[:]...))
}

func (h *head) add(sum hash)  { h.count++; h.mix(sum) }
func (h *head) drop(sum hash) { h.count--; h.mix(sum) }

func (h *head) mix(sum hash) {
	for i := range h.sum {
		h.sum[i] ^= sum[i]
	}
}

func (h head) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, headVersion)
	b = append(b, h.store[:]...)
	b = binary.BigEndian.AppendUint64(b, h.sequence)
	b = append(b, h.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, h.count)
	b = append(b, h.sum[:]...)
	check := sha256.Sum256(b)
	return append(b, check[:8]...)
}

func decodeHead(b []byte) (head, error) {
	if len(b) != headSize || b[0] != headVersion {
		return head{}, fmt.Errorf("head of %d bytes: not one of this version", len(b))
	}
	if check := sha256.Sum256(b[:headBodySize]); string(check[:8]) != string(b[headBodySize:]) {
		return head{}, errors.New("head: its hash does not match")
	}
	var h head
	b = b[1:]
	b = b[copy(h.store[:], b):]
	h.sequence, b = binary.BigEndian.Uint64(b), b[8:]
	b = b[copy(h.chain[:], b):]
	h.count, b = binary.BigEndian.Uint64(b), b[8:]
	copy(h.sum[:], b)
	return h, nil
}

func readHead(db *badger.DB) (head, error) {
	var h head
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(headKey))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			h, err = decodeHead(b)
			return err
		})
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return head{}, fmt.Errorf("its head is gone: %w", fleetsync.ErrNotFound)
	}
	return h, err
}

// keepHead writes the second copy. It is not synced: that would double the cost of a commit, and a copy that is behind is harmless.
func (s *Store) keepHead() { _, _ = s.headFile.WriteAt(s.head.encode(), 0) }

// wantedHeads are the head the owner knows and the one beside the database, where there is one that can be read.
func wantedHead(o Options) ([]Head, error) {
	var want []Head
	if o.WantHead != "" {
		h, err := ParseHead(o.WantHead)
		if err != nil {
			return nil, err
		}
		want = append(want, h)
	}
	b, err := os.ReadFile(filepath.Join(o.Dir, headFileName))
	if err != nil {
		return want, nil
	}
	// A copy that was torn or damaged says nothing; the store is then judged by the rest.
	if h, err := decodeHead(b); err == nil {
		want = append(want, h.name())
	}
	return want, nil
}

// checkAll reads every record and compares with what the head counts.
func checkAll(db *badger.DB, h head, want []Head) error {
	for _, w := range want {
		if err := h.name().covers(w); err != nil {
			return err
		}
	}
	var found head
	err := db.View(func(txn *badger.Txn) error {
		return scan(txn, "", func(_ string, _ []byte, sum hash) error {
			found.add(sum)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if found.count != h.count {
		return fmt.Errorf("it holds %d records where %d were written", found.count, h.count)
	}
	if found.sum != h.sum {
		return errors.New("its records are not the ones that were written")
	}
	return nil
}
