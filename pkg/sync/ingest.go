package sync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Limits of what is folded. A site that exceeds them harms only the hub's memory of itself.
const (
	MaxBatch    = 500 // events of a batch
	MaxEpochID  = 64  // bytes of an epoch
	maxEpochs   = 16  // epochs remembered for a site, the newest
	MaxSequence = 1 << 53
)

// Ingest is the hub's memory of one site's reports: which events it has, which snapshot is the newest, which epochs it heard and when.
// It is pure: times are the bus's own, handed in. One goroutine at a time.
//
//	I1  An event counts once, for ever: (epoch, sequence) decides, never a window of time. Folding any report again changes nothing.
//	I2  The acknowledgement is cumulative and never falls: everything up to Upto was received, or a gap event says why it never will be.
//	I3  The order in which reports are folded does not matter, only the times at which the bus received them:
//	    an epoch is newer than another if it was first heard later.
//	I4  An older epoch that is heard after a newer one began is a second live copy of the site: both are kept, Alarms says so.
type Ingest struct {
	site   bundle.SiteID
	epochs []*epochIntake // ordered by first heard, newest last
	state  *State
	at     time.Time // State was received
}

// epochIntake is what is known of one life of the site's store.
type epochIntake struct {
	id          string
	first, last time.Time // heard
	events      ranges    // in, or covered by a gap event
	highest     uint64    // in
	dropped     ranges    // covered by gap events
	why         string    // message of the newest gap event
	whySequence uint64
	// The chain, where batches met: what the newest batches ended with, and what they say they began after. Bounded.
	ends, begins map[uint64]string
	broken       ranges // where it does not hold: the first events of what does not follow
}

// Folded says what a batch of events brought.
type Folded struct {
	Epoch      string
	New        []Event // in order of sequence, never seen before
	Duplicates int
	NewEpoch   bool
	// Missing is the first hole below something already received; zero From is none. The site sends again from Missing.From
	// as soon as it sees that the acknowledgement stays below.
	Missing Range
	// Broken is the first event that does not follow what was received before it; 0 is none.
	Broken uint64
}

// NewIngest knows nothing of the site yet.
func NewIngest(site bundle.SiteID) *Ingest { return &Ingest{site: site} }

// Events folds a batch that the bus received at the time. A batch that cannot be the site's is refused whole and changes nothing.
func (in *Ingest) Events(batch EventBatch, received time.Time) (Folded, error) {
	if err := in.checkBatch(batch); err != nil {
		return Folded{}, err
	}
	epoch, isNew := in.hear(batch.Epoch, received)
	folded := Folded{Epoch: batch.Epoch, NewEpoch: isNew}
	if epoch == nil {
		// Older than every epoch that is remembered: whatever it says was said before it was forgotten.
		folded.Duplicates = len(batch.Events)
		return folded, nil
	}
	folded.Broken = epoch.link(batch)
	for _, event := range batch.Events {
		known := epoch.events.has(event.Sequence)
		epoch.events = epoch.events.with(Range{event.Sequence, event.Sequence})
		epoch.highest = max(epoch.highest, event.Sequence)
		if event.Kind == EventGap {
			epoch.cover(event)
		}
		switch {
		case known:
			folded.Duplicates++
		case epoch.events.has(event.Sequence):
			folded.New = append(folded.New, event)
		}
	}
	folded.Missing = epoch.hole()
	return folded, nil
}

func (in *Ingest) checkBatch(batch EventBatch) error {
	if err := in.checkSource(batch.Site, batch.Epoch); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	if len(batch.Events) == 0 || len(batch.Events) > MaxBatch {
		return fmt.Errorf("events: a batch of %d: want 1 to %d", len(batch.Events), MaxBatch)
	}
	last := uint64(0)
	for _, event := range batch.Events {
		if event.Sequence <= last || event.Sequence > MaxSequence {
			return fmt.Errorf("events: sequence %d after %d: want growing sequences from 1", event.Sequence, last)
		}
		last = event.Sequence
		if err := checkGap(event); err != nil {
			return err
		}
		if event.Kind == EventGap && (event.From == 0 || event.From > event.To || event.From > event.Sequence || event.To > MaxSequence) {
			return fmt.Errorf("events: gap event %d covers %d to %d: want a range that begins before it", event.Sequence, event.From, event.To)
		}
	}
	return nil
}

func (in *Ingest) checkSource(site bundle.SiteID, epoch string) error {
	if site != in.site {
		return fmt.Errorf("the report names site %.80q, its subject proves %s", site, in.site)
	}
	if epoch == "" || len(epoch) > MaxEpochID {
		return fmt.Errorf("epoch %.80q: want 1 to %d bytes", epoch, MaxEpochID)
	}
	return nil
}

// ErrNotNewer says that a snapshot is older than the one already held: replayed, or of an older epoch.
var ErrNotNewer = errors.New("older than the snapshot already held")

// State folds a snapshot that the bus received at the time and says whether it is news; the very snapshot that is held is none.
// An error leaves the held one as it is.
func (in *Ingest) State(state State, received time.Time) (news bool, err error) {
	if err := in.checkSource(state.Site, state.Epoch); err != nil {
		return false, fmt.Errorf("state: %w", err)
	}
	if state.Sequence == 0 || state.Sequence > MaxSequence {
		return false, fmt.Errorf("state: sequence %d: want sequences from 1", state.Sequence)
	}
	in.hear(state.Epoch, received)
	switch {
	case in.state == nil || in.newer(state):
		in.state, in.at = &state, received
		return true, nil
	case state.Epoch == in.state.Epoch && state.Sequence == in.state.Sequence:
		return false, nil
	}
	return false, fmt.Errorf("state: epoch %s sequence %d: %w (epoch %s sequence %d)", state.Epoch, state.Sequence, ErrNotNewer, in.state.Epoch, in.state.Sequence)
}

func (in *Ingest) newer(state State) bool {
	if state.Epoch == in.state.Epoch {
		return state.Sequence > in.state.Sequence
	}
	return in.age(state.Epoch) > in.age(in.state.Epoch)
}

// age is the place of an epoch in the order in which they were first heard; a forgotten one is older than all.
func (in *Ingest) age(epoch string) int {
	for i, e := range in.epochs {
		if e.id == epoch {
			return i
		}
	}
	return -1
}

// Hello folds a heartbeat.
func (in *Ingest) Hello(hello Hello, received time.Time) error {
	if err := in.checkSource(hello.Site, hello.Epoch); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	in.hear(hello.Epoch, received)
	return nil
}

// Acked reads back the hub's own acknowledgement, sent at the time: the events below may have left the stream by age.
// It says nothing about when the site was heard, so it is folded after the reports.
func (in *Ingest) Acked(ack Ack, sent time.Time) error {
	if err := in.checkSource(ack.Site, ack.Epoch); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	if ack.Upto == 0 || ack.Upto > MaxSequence {
		return nil
	}
	var epoch *epochIntake
	if i := in.age(ack.Epoch); i >= 0 {
		epoch = in.epochs[i]
	} else if epoch, _ = in.hear(ack.Epoch, sent); epoch == nil {
		return nil
	}
	epoch.events = epoch.events.with(Range{1, ack.Upto})
	return nil
}

// Ack is what to acknowledge now: the newest epoch's events. ok is false while no event was ever received.
func (in *Ingest) Ack() (ack Ack, ok bool) {
	epoch := in.newest()
	if epoch == nil {
		return Ack{}, false
	}
	ack = Ack{Site: in.site, Epoch: epoch.id, Upto: epoch.events.upto()}
	made := epoch.highest
	if in.state != nil && in.state.Epoch == epoch.id {
		// What the site was told is safe and is not here: this hub was restored from a backup, or its store damaged.
		made = max(made, min(in.state.Outbox.Acked, MaxSequence))
	}
	ack.Missing = epoch.missing(made)
	return ack, len(epoch.events) > 0 || len(ack.Missing) > 0
}

// Snapshot is the newest state and when the bus received it; nil if there was none. The caller does not change it.
func (in *Ingest) Snapshot() (*State, time.Time) { return in.state, in.at }

// Heard is when the newest epoch was last heard; zero if the site never was.
func (in *Ingest) Heard() time.Time {
	if epoch := in.newest(); epoch != nil {
		return epoch.last
	}
	return time.Time{}
}

// Window is the newest epoch and how far its events are in without a hole.
func (in *Ingest) Window() (epoch string, upto uint64) {
	if newest := in.newest(); newest != nil {
		return newest.id, newest.events.upto()
	}
	return "", 0
}

// Missing is the first hole in the newest epoch's events; zero From is none.
func (in *Ingest) Missing() Range {
	if newest := in.newest(); newest != nil {
		return newest.hole()
	}
	return Range{}
}

// Alarms are what a person should look at, in words: two live epochs, holes, events dropped, acknowledged events the hub no longer has.
func (in *Ingest) Alarms() []string {
	var alarms []string
	for i, epoch := range in.epochs {
		for _, newer := range in.epochs[i+1:] {
			if epoch.last.After(newer.first) {
				alarms = append(alarms, fmt.Sprintf("two live copies of the site: epoch %s was heard at %s, after epoch %s began at %s",
					epoch.id, epoch.last.UTC().Format(time.RFC3339), newer.id, newer.first.UTC().Format(time.RFC3339)))
				break
			}
		}
		if hole := epoch.hole(); hole.From != 0 {
			alarms = append(alarms, fmt.Sprintf("events %d to %d of epoch %s are missing", hole.From, hole.To, epoch.id))
		}
		if len(epoch.broken) > 0 {
			alarms = append(alarms, fmt.Sprintf("the chain of events of epoch %s breaks at event %d: what is here before it is not what the site recorded before it", epoch.id, epoch.broken[0].From))
		}
		if dropped := epoch.dropped.count(); dropped > 0 {
			alarms = append(alarms, fmt.Sprintf("%d events of epoch %s were dropped at the site: %s", dropped, epoch.id, epoch.why))
		}
		if in.state != nil && in.state.Epoch == epoch.id && in.state.Outbox.Acked > epoch.events.upto() {
			alarms = append(alarms, fmt.Sprintf("the site was told that its events up to %d are safe, the hub has them up to %d: the hub's store was lost or put back", in.state.Outbox.Acked, epoch.events.upto()))
		}
	}
	return alarms
}

func (in *Ingest) newest() *epochIntake {
	if len(in.epochs) == 0 {
		return nil
	}
	return in.epochs[len(in.epochs)-1]
}

// hear notes that the epoch was alive at the time. It gives nil for an epoch older than all that are remembered.
func (in *Ingest) hear(id string, at time.Time) (epoch *epochIntake, isNew bool) {
	if i := in.age(id); i >= 0 {
		epoch = in.epochs[i]
	} else {
		epoch, isNew = &epochIntake{id: id, first: at, last: at}, true
		in.epochs = append(in.epochs, epoch)
	}
	if at.Before(epoch.first) {
		epoch.first = at
	}
	if at.After(epoch.last) {
		epoch.last = at
	}
	sort.SliceStable(in.epochs, func(i, j int) bool {
		a, b := in.epochs[i], in.epochs[j]
		if !a.first.Equal(b.first) {
			return a.first.Before(b.first)
		}
		return a.id < b.id
	})
	if len(in.epochs) > maxEpochs {
		in.epochs = in.epochs[1:]
	}
	if in.age(id) < 0 {
		return nil, false
	}
	return epoch, isNew
}

// missing are the first runs up to a sequence that are neither in nor covered. A gap event covers what comes after it too, so what is merely
// not here yet is above what is in.
func (e *epochIntake) missing(upto uint64) []Range {
	if upto == 0 {
		return nil
	}
	missing := ranges{{1, upto}}.except(e.events)
	return missing[:min(len(missing), maxMissing)]
}

// hole is the first run that is missing below what is in; zero if there is none.
func (e *epochIntake) hole() Range {
	if missing := e.missing(e.highest); len(missing) > 0 {
		return missing[0]
	}
	return Range{}
}

// maxJoints bounds the places where batches met that are remembered.
const maxJoints = 64

// link checks a batch against what it should follow and what should follow it. It gives the first event that does not follow; 0 is none.
func (e *epochIntake) link(batch EventBatch) (broken uint64) {
	if e.ends == nil {
		e.ends, e.begins = map[uint64]string{}, map[uint64]string{}
	}
	events := batch.Relinked()
	breaks := func(sequence uint64) {
		e.broken = e.broken.with(Range{sequence, sequence})
		if broken == 0 || sequence < broken {
			broken = sequence
		}
	}
	for i, ev := range events {
		switch {
		case ev.Kind == EventGap || ev.Prev == "":
		case i > 0 && events[i-1].Sequence+1 == ev.Sequence:
			if events[i-1].Kind != EventGap && events[i-1].digest() != ev.Prev {
				breaks(ev.Sequence)
			}
		default:
			if end, known := e.ends[ev.Sequence-1]; known && end != ev.Prev {
				breaks(ev.Sequence)
			}
			remember(e.begins, ev.Sequence, ev.Prev)
		}
	}
	if last := events[len(events)-1]; last.Kind != EventGap && last.Prev != "" || last.Sequence == 1 {
		end := last.digest()
		if prev, known := e.begins[last.Sequence+1]; known && prev != end {
			breaks(last.Sequence + 1)
		}
		if _, known := e.ends[last.Sequence]; !known { // what came first counts, and so does its digest
			remember(e.ends, last.Sequence, end)
		}
	}
	return broken
}

func remember(joints map[uint64]string, sequence uint64, digest string) {
	if joints[sequence] = digest; len(joints) > maxJoints {
		delete(joints, slices.Min(slices.Collect(maps.Keys(joints))))
	}
}

// checkGap bounds what a gap event names.
func checkGap(event Event) error {
	if len(event.Gaps) > maxGapRuns || len(event.Lost) > maxLost || (event.Kind != EventGap && len(event.Gaps)+len(event.Lost) > 0) {
		return fmt.Errorf("events: event %d names %d runs and %d kinds of what was dropped: want at most %d and %d, of a gap", event.Sequence, len(event.Gaps), len(event.Lost), maxGapRuns, maxLost)
	}
	if len(event.Prev) > 32 {
		return fmt.Errorf("events: event %d: the name of the event before it has %d bytes", event.Sequence, len(event.Prev))
	}
	next := event.From
	for _, run := range event.Gaps {
		if run.From < next || run.To < run.From || run.To > event.To {
			return fmt.Errorf("events: gap event %d: runs must grow within %d to %d", event.Sequence, event.From, event.To)
		}
		next = run.To + 1
	}
	return nil
}

// maxLost bounds the kinds and reasons of one gap event.
const maxLost = 256

// cover takes a gap event's word that a range will never come.
func (e *epochIntake) cover(gap Event) {
	for _, run := range gap.covered() {
		e.events = e.events.with(run)
		e.dropped = e.dropped.with(run)
	}
	if gap.Sequence > e.whySequence {
		e.why, e.whySequence = gap.Message, gap.Sequence
	}
}
