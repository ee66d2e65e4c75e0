package sync

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// MaxNote is the most bytes of a sealed Note: the counters of all that an assignment holds fit several times, and so does the note into a ConfigMap.
const MaxNote = 128 << 10

// Note is what a site must not forget. Besides the store it is in one object of the site's cluster and at the hub, so that an old image of the site's disk
// does not take the site back (T3, F8). The highest of all places counts. Nobody but the site can make one: it is sealed with a key made of the site's.
type Note struct {
	Site       bundle.SiteID   `json:"site"`
	Number     uint64          `json:"number"` // grows with each note of the site
	Epoch      string          `json:"epoch"`  // of the store that it was made by
	Marks      verify.Counters `json:"marks"`
	Floor      time.Time       `json:"floor,omitzero"`       // it is later than that
	Assignment uint64          `json:"assignment,omitempty"` // sequence of the newest that was taken
	Root       uint64          `json:"root,omitempty"`       // version of the root of trust
	Targets    uint64          `json:"targets,omitempty"`    // version of its trust document
}

// merge is the higher of each. Epoch is n's own.
func (n Note) merge(other Note) Note {
	n.Number, n.Assignment, n.Floor = max(n.Number, other.Number), max(n.Assignment, other.Assignment), later(n.Floor, other.Floor)
	n.Marks = verify.Merge(n.Marks, other.Marks)
	if other.trustAbove(n.Root, n.Targets) {
		n.Root, n.Targets = other.Root, other.Targets
	}
	return n
}

// trustAbove says whether the note knows a newer root of trust. Only with a new root may versions of the trust document begin anew.
func (n Note) trustAbove(root, targets uint64) bool {
	return n.Root > root || n.Root == root && n.Targets > targets
}

// noteFloorEvery is how far the time goes on before that alone is worth a new note.
const noteFloorEvery = 12 * time.Hour

// beyond says whether n holds what the note before does not.
func (n Note) beyond(before Note) bool {
	return n.Epoch != before.Epoch || n.Assignment > before.Assignment || n.trustAbove(before.Root, before.Targets) || !maps.Equal(n.Marks, before.Marks) ||
		n.Floor.Sub(before.Floor) >= noteFloorEvery
}

type sealedNote struct {
	Body json.RawMessage `json:"body"`
	MAC  []byte          `json:"mac"`
}

func noteMAC(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("holdfast.dev/note/v1\n"))
	mac.Write(body)
	return mac.Sum(nil)
}

// SealNote encodes a note and marks it with the site's key.
func SealNote(key []byte, n Note) ([]byte, error) {
	body, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("note: encode: %w", err)
	}
	sealed, err := json.Marshal(sealedNote{body, noteMAC(key, body)})
	if err != nil {
		return nil, fmt.Errorf("note: encode: %w", err)
	}
	if len(sealed) > MaxNote {
		return nil, fmt.Errorf("note: %d bytes are more than the %d it may have", len(sealed), MaxNote)
	}
	return sealed, nil
}

// OpenNote believes a note that the site itself sealed.
func OpenNote(key []byte, site bundle.SiteID, raw []byte) (n Note, err error) {
	if len(raw) > MaxNote {
		return Note{}, fmt.Errorf("%d bytes are more than the %d it may have", len(raw), MaxNote)
	}
	var in sealedNote
	if err := decodeStrict(raw, &in); err != nil {
		return Note{}, errors.New("it is none")
	}
	ours := hmac.Equal(in.MAC, noteMAC(key, in.Body))
	if err := decodeKnown(in.Body, &n); err != nil { // a newer agent's may hold more
		return Note{}, errors.New("it is none")
	}
	switch {
	case n.Site != site:
		return Note{}, fmt.Errorf("it is of site %.80q, this is %s", n.Site, site)
	case !ours:
		return Note{}, errors.New("it was not written by this site, or was changed since")
	}
	return n, nil
}

// NoteNumber is the number that a sealed note bears, for whoever only keeps it; 0: it is none. Nothing of it is believed.
func NoteNumber(raw []byte) uint64 {
	var in struct {
		Body struct {
			Number uint64 `json:"number"`
		} `json:"body"`
	}
	if len(raw) == 0 || len(raw) > MaxNote || json.Unmarshal(raw, &in) != nil {
		return 0
	}
	return in.Body.Number
}

// NotePlace is where a note is kept.
type NotePlace string

// The places beside the store.
const (
	NoteInCluster NotePlace = "the cluster"
	NoteAtHub     NotePlace = "the hub"
)

// Noted is what the cluster holds as the site's note; no bytes and no Err: there is none. Where EdgeConfig.Notebook is set nothing begins before it.
type Noted struct {
	Note []byte
	Err  string
	// Waits says that the cluster does not answer, and will be asked again.
	Waits bool
}

// Keep asks for a note to be put into the cluster -> NoteKept. At most one is under way.
type Keep struct {
	Number uint64
	Note   []byte
}

// NoteKept is the result of a Keep.
type NoteKept struct {
	Number uint64
	Err    string
}

func (Noted) input()    {}
func (NoteKept) input() {}

// noteRecord is what the store has of the site's notes. It is durable before the note is anywhere else, so a note with a higher number proves that the store
// is older than what the site was; one that is lower than Kept, that the place is.
type noteRecord struct {
	Number uint64          `json:"number"`
	Kept   uint64          `json:"kept,omitempty"` // that the cluster holds, as far as is known
	Sealed json.RawMessage `json:"sealed,omitempty"`
}

// Noting says whether a store is of an agent that makes notes.
func Noting(store Store) bool {
	_, err := store.Get(keyNote)
	return err == nil
}

// remembered is what an Edge knows of its notes.
type remembered struct {
	noteRecord
	last     Note // the newest, with what others that were found know beyond it
	awaited  bool // the cluster's was not read yet
	alone    bool // no note of this site is known, and the hub, which may have one, was not heard yet
	inFlight bool
	credit   time.Time // notes of anything but a counter are made while it lies in the past; each puts it a minute on, and a pause gives a few back
	retryAt  time.Time
	tries    int
	failed   bool   // told that the cluster does not keep it
	trouble  string // why it does not, or does not yet; empty: it does
	said     map[string]bool
}

const (
	notePause = time.Minute
	noteBurst = 5
)

// begin knows what an earlier life noted.
func (r *remembered) begin(key []byte, site bundle.SiteID, notebook bool) {
	r.awaited, r.said = notebook, map[string]bool{}
	r.alone = notebook && r.Number == 0
	if last, err := OpenNote(key, site, r.Sealed); err == nil {
		r.last = last
	}
}

// once says whether something is said for the first time in this life.
func (r *remembered) once(text string) bool {
	if r.said[text] {
		return false
	}
	r.said[text] = true
	return true
}

// noteOfNow is what must not be forgotten as of now.
func (e *Edge) noteOfNow() Note {
	own := Note{Site: e.cfg.Site, Epoch: e.identity.Epoch, Marks: e.marks, Floor: e.clock.Floor, Assignment: e.sequence(), Root: e.trust.Root, Targets: e.trust.Targets}
	return own.merge(e.note.last)
}

// keep makes a note of what is new and has it put into the cluster. That what it says is durable here first is Persist's order; a cluster that takes none
// stops nothing, and is told.
func (e *Edge) keep(now time.Time, out *Effects) {
	r := &e.note
	if e.cfg.NoteKey == nil || r.awaited || e.store.why != "" {
		return
	}
	if next := e.noteOfNow(); next.beyond(r.last) || r.Sealed == nil {
		if r.credit.After(now) && maps.Equal(next.Marks, r.last.Marks) {
			return
		}
		next.Number = max(r.Number, next.Number) + 1
		r.credit = later(r.credit, now.Add(-noteBurst*notePause)).Add(notePause)
		sealed, err := SealNote(e.cfg.NoteKey, next)
		if err != nil {
			e.noteTrouble(now, err.Error(), out)
			return
		}
		r.Number, r.Sealed, r.last = next.Number, sealed, next
		r.tries, r.retryAt = 0, now
		out.Persist = append(out.Persist, record(keyNote, r.noteRecord))
		e.snapshot.dirty = true
	}
	if e.cfg.Notebook && r.Kept < r.Number && !r.inFlight && !r.retryAt.After(now) {
		r.inFlight = true
		out.Keep = &Keep{r.Number, r.Sealed}
	}
}

func (e *Edge) noteKept(now time.Time, in NoteKept, out *Effects) {
	r := &e.note
	r.inFlight = false
	if in.Err != "" {
		r.tries++
		r.retryAt = now.Add(pause(r.tries))
		e.noteTrouble(now, in.Err, out)
		return
	}
	r.tries, r.Kept = 0, max(r.Kept, in.Number)
	if r.failed = false; r.trouble != "" {
		r.trouble, e.snapshot.dirty = "", true
	}
	out.Persist = append(out.Persist, record(keyNote, r.noteRecord))
}

// noteTrouble says once that the cluster does not keep the note.
func (e *Edge) noteTrouble(now time.Time, why string, out *Effects) {
	if !e.note.failed {
		e.say(now, out, Event{Kind: EventNoteFailed, Message: why})
	}
	e.note.failed = true
	e.note.trouble, e.snapshot.dirty = clip(why), true
}

// noted takes what the cluster holds.
func (e *Edge) noted(now time.Time, in Noted, out *Effects) {
	r := &e.note
	if in.Waits {
		r.trouble, e.snapshot.dirty = clip(in.Err), true
		return
	}
	r.awaited = false
	switch {
	case in.Err != "":
		e.noteTrouble(now, in.Err, out)
	case len(in.Note) == 0:
		if r.trouble = ""; r.Kept > 0 {
			e.say(now, out, Event{Kind: EventNoteBehind, Reason: ReasonGone, Message: fmt.Sprintf("there is no note in the cluster, and number %d was put there: it is written anew", r.Kept)})
		}
		r.Kept = 0
	default:
		r.trouble = ""
		n, err := e.openNote(now, NoteInCluster, in.Note, out)
		if err == nil && n.Number < r.Kept {
			e.say(now, out, Event{Kind: EventNoteBehind, Reason: ReasonPutBack, Message: fmt.Sprintf("the note in the cluster is number %d, and %d was put there: it was put back to an earlier time, and is written anew", n.Number, r.Kept)})
		}
		if r.Kept = n.Number; err == nil {
			e.recall(now, NoteInCluster, n, out)
		}
	}
	e.doubtTrust(now, out)
}

// echoed takes the note that the hub gives back. The hub cannot make one, only keep it to itself.
func (e *Edge) echoed(now time.Time, raw []byte, out *Effects) {
	if len(raw) == 0 || e.cfg.NoteKey == nil {
		return
	}
	if n, err := e.openNote(now, NoteAtHub, raw, out); err == nil {
		e.recall(now, NoteAtHub, n, out)
		e.doubtTrust(now, out)
	}
}

func (e *Edge) openNote(now time.Time, place NotePlace, raw []byte, out *Effects) (Note, error) {
	n, err := OpenNote(e.cfg.NoteKey, e.cfg.Site, raw)
	if err != nil && e.note.once(string(place)+err.Error()) {
		e.say(now, out, Event{Kind: EventNoteRefused, Message: fmt.Sprintf("the note in %s is not believed: %v", place, err)})
	}
	return n, err
}

// recall takes from a note of this site what the store does not know, and tells it.
func (e *Edge) recall(now time.Time, place NotePlace, n Note, out *Effects) {
	more := e.raiseMarks(now, n.Marks, out)
	if n.Assignment > max(e.sequence(), e.note.last.Assignment) { // what an earlier life recalled was told then
		more = append(more, fmt.Sprintf("assignment %d, here %d", n.Assignment, e.sequence()))
	}
	r := &e.note
	number := r.Number
	if n.Number > number && len(more) == 0 {
		more = append(more, "nothing that counts")
	}
	e.raiseFloor(now, n.Floor, out)
	r.last = r.last.merge(n)
	if r.alone = false; n.Number > number {
		r.Number, r.Sealed = n.Number, nil // another one is made, with what both know
	}
	if len(more) == 0 {
		return
	}
	ev := Event{Kind: EventPutBack, Reason: ReasonPutBack, Message: fmt.Sprintf("%s knows more than the store, which was put back to an earlier time: note %d, here %d; ", place, n.Number, number)}
	if number == 0 {
		ev.Reason, ev.Message = ReasonNewStore, fmt.Sprintf("%s knows more than the store, which never made a note, so it is a new one or from before there were notes: note %d; ", place, n.Number)
	}
	ev.Message += strings.Join(more[:min(len(more), maxRecalled)], "; ")
	e.say(now, out, ev)
}

// maxRecalled bounds what one event names.
const maxRecalled = 20

// raiseMarks takes counters that were found outside the store, and gives words for those that are higher there. What the store says of a bundle whose counter is lower there is of an earlier time: the
// cluster may hold something newer, so nothing of it is put back, and the order is judged by the higher counter.
func (e *Edge) raiseMarks(now time.Time, marks verify.Counters, out *Effects) (more []string) {
	merged := verify.Merge(e.marks, marks)
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		if merged[name] == e.marks[name] {
			continue
		}
		out.Persist = append(out.Persist, record(markKey(name), merged[name]))
		h, here := e.bundles[name], e.marks[name]
		if !here.Older(merged[name]) { // another digest under the same counter
			continue
		}
		more = append(more, fmt.Sprintf("%s counter %d, here %d", name, merged[name].Counter, here.Counter))
		if h == nil {
			continue
		}
		clear(h.loaded)
		if h.watched != "" { // it is in force by now, and is kept right until a newer order
			continue
		}
		h.Intent, h.Applied, h.Good, h.Confirm, h.Current, h.CurrentDigest = nil, nil, nil, nil, "", ""
		if h.Want != nil {
			h.refused, h.retryAt = false, now
			e.enter(now, name, h, PhaseFetching, ReasonPutBack, "something newer was accepted here than the store knows of", out)
		}
	}
	e.marks = merged
	return more
}

// ordersBehind says that the site had a newer assignment than the store has. What is ordered here is kept running and not begun.
func (e *Edge) ordersBehind() bool { return e.note.last.Assignment > e.sequence() }

// trustBehind says that the site had a newer root of trust than it has. Who may have been revoked since would be believed: nothing new is taken.
func (e *Edge) trustBehind() bool { return e.note.last.trustAbove(e.trust.Root, e.trust.Targets) }

// doubtTrust says once that the root of trust is older than one that the site had (T26).
func (e *Edge) doubtTrust(now time.Time, out *Effects) {
	if last := e.note.last; e.trust.Root > 0 && e.trustBehind() && e.note.once("trust") {
		e.say(now, out, Event{Kind: EventPutBack, Reason: ReasonTrustPutBack, Message: e.trustText(last)})
	}
}

func (e *Edge) trustText(last Note) string {
	return fmt.Sprintf("the root of trust is %d with document %d, and this site had %d with %d: nothing new is taken before it has it again", e.trust.Root, e.trust.Targets, last.Root, last.Targets)
}

// putBack is what speaks against what the site remembers, in words; empty: nothing.
func (e *Edge) putBack() string {
	var all []string
	if e.trust.Root > 0 && e.trustBehind() {
		all = append(all, e.trustText(e.note.last))
	}
	if e.ordersBehind() {
		all = append(all, fmt.Sprintf("the store was put back to an earlier time: this site had assignment %d and has %d: nothing is begun before a newer order", e.note.last.Assignment, e.sequence()))
	}
	if e.note.trouble != "" {
		all = append(all, "noteNotKept: "+e.note.trouble)
	}
	return clip(strings.Join(all, "; "))
}

// Reasons of EventPutBack and EventNoteBehind.
const (
	ReasonPutBack      = "PutBack"
	ReasonNewStore     = "NewStore"
	ReasonTrustPutBack = "TrustPutBack"
	ReasonGone         = "Gone"
)
