package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// ledger is the hub's own count of what its streams hold, kept outside of them: a store that lost acknowledged messages says nothing by itself.
//
//	L1  No site is told that an event is safe before the ledger that counts it is on the disk.
//	L2  What the streams hold at start is compared with it. What is less, or not the same, is a finding, and stays one until somebody settles it.
//	L3  It is for accidents: whoever may write the store may write the ledger too.
//
// A stream that is followed is compared message by message, one that is not by its count and its last sequence. After a start that was not preceded by
// a clean stop, messages that are newer than the ledger are believed, and where a newer one may have replaced an older one only counts are compared.
type ledger struct {
	dir string

	mu       sync.Mutex
	tallies  map[string]*tally
	findings []Finding
	dirty    bool
	saved    uint64 // sequence of the newest event in the ledger on the disk
	slot     int    // that counts
	failure  error  // of the last write
	number   uint64 // of the ledger on the disk
}

// tally is the account of one stream.
type tally struct {
	Messages uint64 `json:"messages"`
	Last     uint64 `json:"last"`
	Sum      sum    `json:"sum"` // of all messages that are there; of a stream that ages: of all there ever were
	// Marks are accounts of a stream that ages, a day apart, so that what is left of it can be compared.
	Marks []mark `json:"marks,omitempty"`

	bySubject map[string]sum    // of a stream that keeps the newest
	newest    map[string]uint64 // of a stream that ages: sequences by subject
}

// line is what is counted of a message.
type line struct {
	sequence uint64
	subject  string
	sum      sum
	time     time.Time
}

func lineOf(m stream.Message) line { return line{m.Sequence, m.Subject, sumOf(m), m.Time} }

type mark struct {
	Sequence uint64    `json:"sequence"`
	Messages uint64    `json:"messages"`
	Sum      sum       `json:"sum"`
	Time     time.Time `json:"time"` // of the message
}

// sum is the exclusive or of message digests: order does not matter, and a message leaves it as it came.
type sum [16]byte

func (s sum) with(other sum) sum {
	for i := range s {
		s[i] ^= other[i]
	}
	return s
}

func (s sum) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

func (s *sum) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return fmt.Errorf("a sum of %d characters, want %d", len(text), 2*len(s))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

func sumOf(m stream.Message) (s sum) {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, m.Sequence)
	_ = binary.Write(h, binary.BigEndian, uint32(len(m.Subject)))
	h.Write([]byte(m.Subject))
	h.Write(m.Data)
	copy(s[:], h.Sum(nil))
	return s
}

// Finding is a stream that does not hold what it held.
type Finding struct {
	At     time.Time `json:"at"` // of the start that noticed
	Stream string    `json:"stream"`
	What   string    `json:"what"`
}

func (f Finding) String() string {
	return fmt.Sprintf("stream %s: %s, noticed %s", f.Stream, f.What, f.At.UTC().Format(time.RFC3339))
}

// maxMarks bounds the marks of a stream: more than a year of days.
const maxMarks = 400

func newTally() *tally {
	return &tally{bySubject: map[string]sum{}, newest: map[string]uint64{}}
}

// add counts a message; one that was counted changes nothing.
func (t *tally) add(keep stream.Keep, m line) {
	if m.sequence <= t.Last {
		return
	}
	t.Last, t.Sum, t.Messages = m.sequence, t.Sum.with(m.sum), t.Messages+1
	switch keep {
	case stream.Newest:
		if old, there := t.bySubject[m.subject]; there {
			t.Sum, t.Messages = t.Sum.with(old), t.Messages-1
		}
		t.bySubject[m.subject] = m.sum
	case stream.All:
		t.newest[m.subject] = m.sequence
		if n := len(t.Marks); n == 0 || m.time.Sub(t.Marks[n-1].Time) >= 24*time.Hour {
			t.Marks = append(t.Marks, mark{m.sequence, t.Messages, t.Sum, m.time})
			t.Marks = t.Marks[max(0, len(t.Marks)-maxMarks):]
		}
	}
}

// compare says what of a remembered account the messages there are now do not bear out; empty is nothing. now and age are of a stream that ages.
func (t *tally) compare(keep stream.Keep, there []line, now time.Time, age time.Duration) string {
	last := uint64(0)
	if len(there) > 0 {
		last = there[len(there)-1].sequence
	}
	aged := keep == stream.All && t.agedOut(now, age)
	if last < t.Last && !aged {
		return fmt.Sprintf("it ends at message %d, it went on to %d", last, t.Last)
	}
	if keep == stream.All {
		return t.compareAging(there, now, age)
	}
	old, newer, found := uint64(0), map[string]bool{}, sum{}
	for _, m := range there {
		if m.sequence > t.Last {
			newer[m.subject] = true
			continue
		}
		old, found = old+1, found.with(m.sum)
	}
	switch {
	case old+uint64(len(newer)) < t.Messages, old > t.Messages:
		return fmt.Sprintf("%d of %d messages are gone", t.Messages-min(old, t.Messages), t.Messages)
	case len(newer) == 0 && found != t.Sum:
		return "messages are not what they were"
	}
	return ""
}

func (t *tally) agedOut(now time.Time, age time.Duration) bool {
	return len(t.Marks) > 0 && now.Sub(t.Marks[len(t.Marks)-1].Time) > age-24*time.Hour
}

func (t *tally) compareAging(there []line, now time.Time, age time.Duration) string {
	first := t.Last + 1
	if len(there) > 0 {
		first = there[0].sequence
	}
	base := mark{}
	for _, m := range t.Marks {
		if m.Sequence < first && now.Sub(m.Time) < age {
			return fmt.Sprintf("it begins at message %d, and message %d is younger than events are kept", first, m.Sequence)
		}
		if base.Sequence == 0 && m.Sequence+1 >= first {
			base = m
		}
	}
	if first == 1 {
		base = mark{}
	} else if base.Sequence == 0 {
		return "" // all that could be compared has aged away
	}
	count, found := base.Messages, base.Sum
	for _, m := range there {
		if m.sequence > base.Sequence && m.sequence <= t.Last {
			count, found = count+1, found.with(m.sum)
		}
	}
	switch {
	case count != t.Messages:
		return fmt.Sprintf("%d of the %d messages since message %d are gone", t.Messages-min(count, t.Messages), t.Messages-base.Messages, base.Sequence)
	case found != t.Sum:
		return "messages are not what they were"
	}
	return ""
}

// The two slots are written in turn, so that a power cut in a write leaves the other.
var ledgerSlots = [2]string{"ledger-a.json", "ledger-b.json"}

// maxLedger bounds a slot, in bytes.
const maxLedger = 4 << 20

// written is what a slot holds.
type written struct {
	Number   uint64            `json:"number"`
	Streams  map[string]*tally `json:"streams"`
	Findings []Finding         `json:"findings,omitempty"`
}

// openLedger reads the newer slot that can be believed. Where there is none of two, that is a finding.
func openLedger(dir string, now time.Time) *ledger {
	l := &ledger{dir: dir, tallies: map[string]*tally{}, slot: 1}
	present, read := 0, false
	var doubts []error
	for slot, name := range ledgerSlots {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		present++
		var w written
		if err == nil {
			w, err = decodeLedger(raw)
		}
		if err != nil {
			doubts = append(doubts, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if !read || w.Number > l.number {
			read, l.slot, l.number, l.tallies, l.findings = true, slot, w.Number, w.Streams, w.Findings
		}
	}
	if present > 0 && !read {
		l.note("ledger", fmt.Sprintf("the account itself is damaged, so that nothing can be compared: %v", errors.Join(doubts...)), now)
	}
	return l
}

// decodeLedger reads a slot: a line of JSON and a line with its digest.
func decodeLedger(raw []byte) (w written, err error) {
	if len(raw) > maxLedger {
		return w, fmt.Errorf("%d bytes are more than it may have (%d)", len(raw), maxLedger)
	}
	line, digest, found := bytes.Cut(raw, []byte("\n"))
	if want := sha256.Sum256(line); !found || string(digest) != hex.EncodeToString(want[:])+"\n" {
		return w, errors.New("its digest is not what it says")
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&w)
	for name, t := range w.Streams {
		if t == nil {
			return w, fmt.Errorf("stream %s: empty", name)
		}
	}
	return w, err
}

// save makes the ledger durable.
func (l *ledger) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write()
}

func (l *ledger) write() error {
	if !l.dirty {
		return nil
	}
	l.failure = l.writeSlot()
	return l.failure
}

// trouble is why the account cannot be written; nil where it can.
func (l *ledger) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

func (l *ledger) writeSlot() error {
	line, err := json.Marshal(written{l.number + 1, l.tallies, l.findings})
	if err != nil {
		return fmt.Errorf("ledger: encode: %w", err)
	}
	digest := sha256.Sum256(line)
	f, err := os.OpenFile(filepath.Join(l.dir, ledgerSlots[1-l.slot]), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	_, err = f.Write(append(line, "\n"+hex.EncodeToString(digest[:])+"\n"...))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && l.number < 2 {
		err = syncFolder(l.dir)
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.slot, l.number, l.dirty = 1-l.slot, l.number+1, false
	if events := l.tallies[stream.Events]; events != nil {
		l.saved = events.Last
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// count takes a message that was folded into the account.
func (l *ledger) count(name string, m stream.Message) {
	rule, err := stream.Named(name)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tallies[name] == nil {
		l.tallies[name] = newTally()
	}
	l.tallies[name].add(rule.Keep, lineOf(m))
	l.dirty = true
}

// counted takes the account of a stream that is not followed.
func (l *ledger) counted(name string, messages, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tallies[name]; t == nil || t.Messages != messages || t.Last != last {
		l.tallies[name] = &tally{Messages: messages, Last: last}
		l.dirty = true
	}
}

// cover makes the ledger durable if it does not yet count the newest event on the subject.
func (l *ledger) cover(subject string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if events := l.tallies[stream.Events]; events == nil || events.newest[subject] <= l.saved {
		return nil
	}
	return l.write()
}

// check compares a stream with its account and takes what is there as the account from now on.
func (l *ledger) check(name string, there []line, now time.Time) (sound bool) {
	rule, err := stream.Named(name)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	what := ""
	before := l.tallies[name]
	if before != nil {
		what = before.compare(rule.Keep, there, now, stream.DefaultEventAge)
	}
	next := newTally()
	if before != nil && rule.Keep == stream.All && what == "" {
		next.Messages, next.Last, next.Sum, next.Marks = before.Messages, before.Last, before.Sum, before.Marks
	}
	for _, m := range there {
		next.add(rule.Keep, m)
		if rule.Keep == stream.All {
			next.newest[m.subject] = m.sequence
		}
	}
	l.tallies[name], l.dirty = next, true
	return l.note(name, what, now)
}

// checkCount compares a stream that is not followed.
func (l *ledger) checkCount(name string, messages, last uint64, now time.Time) (sound bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := ""
	if before := l.tallies[name]; before != nil && (messages < before.Messages || last < before.Last) {
		what = fmt.Sprintf("it has %d messages up to %d, it had %d up to %d", messages, last, before.Messages, before.Last)
	}
	l.tallies[name], l.dirty = &tally{Messages: messages, Last: last}, true
	return l.note(name, what, now)
}

func (l *ledger) note(name, what string, now time.Time) (sound bool) {
	if what == "" {
		return true
	}
	for _, known := range l.findings {
		if known.Stream == name && known.What == what { // noticed at an earlier start
			return false
		}
	}
	l.findings = append(l.findings, Finding{now.UTC().Truncate(time.Second), name, what})
	l.findings = l.findings[max(0, len(l.findings)-maxFindings):]
	return false
}

// maxFindings bounds the findings that are kept.
const maxFindings = 100

// found are the findings nobody has settled.
func (l *ledger) found() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.findings)
}

// counts is what a bus can tell of a stream without reading it.
type counts interface {
	Count(ctx context.Context, name string) (messages, last uint64, err error)
}

// ledgerEvery is the pause between two savings that nobody waits for, recountEvery that between two counts of what is not followed.
const (
	ledgerEvery  = time.Second
	recountEvery = 10 * time.Second
)

// keepLedger saves the ledger from time to time until ctx ends, and then once more.
func (h *Hub) keepLedger(ctx context.Context) {
	saving, counting := time.NewTicker(ledgerEvery), time.NewTicker(recountEvery)
	defer saving.Stop()
	defer counting.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
			h.recount(context.WithoutCancel(ctx), h.ledger.counted)
		case <-counting.C:
			h.recount(ctx, h.ledger.counted)
			continue
		case <-saving.C:
		}
		before := h.ledger.trouble()
		if err := h.ledger.save(); err != nil && before == nil {
			h.log.Error("the account of the store is not written", zap.Error(err))
		}
	}
}

// recount gives the counts of the streams that are not followed.
func (h *Hub) recount(ctx context.Context, take func(name string, messages, last uint64)) {
	if h.counts == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	for _, rule := range stream.Rules {
		if slices.Contains(replayed, rule.Name) || rule.Keep == stream.Newest {
			continue // the newest of a subject may be deleted with it
		}
		messages, last, err := h.counts.Count(ctx, rule.Name)
		if err == nil && rule.Name == stream.Audit { // what a purge removed was there
			var mark auditMark
			mark, err = h.auditMark(ctx)
			messages += mark.Number
		}
		if err == nil {
			take(rule.Name, messages, last)
		}
	}
}

// scrub reads what the catalog promises, because a damaged store still counts what it can no longer give. Offers are read before the hub serves,
// chunks beside that.
func (h *Hub) scrub(ctx context.Context, chunks bool) {
	h.mu.Lock()
	entries := slices.Collect(maps.Values(h.view.catalog))
	h.mu.Unlock()
	read := func(subject, name string) (m stream.Message, ok bool) {
		m, err := h.store.Get(ctx, subject)
		if err == nil || ctx.Err() != nil {
			return m, err == nil
		}
		h.ledger.mu.Lock()
		h.ledger.note(name, fmt.Sprintf("%s cannot be read: %v", subject, err), h.cfg.Now())
		h.ledger.dirty = true
		h.ledger.mu.Unlock()
		h.log.Error("the store lost what it had acknowledged", zap.String("subject", subject), zap.Error(err))
		return m, false
	}
	for _, entry := range entries {
		m, ok := read(fleetsync.BundleSubject(entry.Digest), stream.Bundles)
		var offer fleetsync.Offer
		if !ok || !chunks || json.Unmarshal(m.Data, &offer) != nil {
			continue
		}
		for n := range min(offer.Full.Chunks, bundle.MaxPackedSize/bundle.ChunkSize+1) {
			read(fleetsync.BlobSubject(entry.Content, n), stream.Blobs)
		}
	}
}

// SettleLedger ends the findings of the hub in a data directory, whose hub is stopped: somebody has looked at them.
func SettleLedger(dir string) ([]Finding, error) {
	l := openLedger(dir, time.Now())
	settled := l.findings
	l.findings, l.dirty = nil, len(settled) > 0
	return settled, l.save()
}

// dropLedger forgets the account, after the streams were put back to another time.
func dropLedger(dir string) error {
	for _, name := range ledgerSlots {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
