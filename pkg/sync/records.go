package sync

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// RecordPrefix begins the keys of all records of an Edge.
const RecordPrefix = "edge/"

// Keys of the records. Values are JSON of the types named, or as said.
const (
	keyIdentity   = RecordPrefix + "identity"   // identityRecord
	keyAssignment = RecordPrefix + "assignment" // the sealed message as it came, so that it is verified again at every start
	keyClock      = RecordPrefix + "clock"      // clockRecord
	keyBusy       = RecordPrefix + "busy"       // []busySignal
	keyOverrides  = RecordPrefix + "overrides"  // override by object
	keyOutbox     = RecordPrefix + "outbox"     // outboxRecord
	keyNote       = RecordPrefix + "note"       // noteRecord
	prefixBundle  = RecordPrefix + "bundle/"    // + name: held
	prefixMark    = RecordPrefix + "mark/"      // + name: verify.Mark
	// EventPrefix + twenty digits is an Event.
	EventPrefix = "event/"
)

type identityRecord struct {
	Epoch     string `json:"epoch"`
	Snapshots uint64 `json:"snapshots"` // no snapshot above this sequence was ever sent
}

type outboxRecord struct {
	Next    uint64 `json:"next"`
	Acked   uint64 `json:"acked"`
	Dropped uint64 `json:"dropped"`
	Head    string `json:"head,omitempty"` // digest of the newest event as it was recorded
}

// order is a bundle with everything that decides what it renders to at the site. Spec identifies it.
type order struct {
	Bundle AssignedBundle    `json:"bundle"`
	Labels map[string]string `json:"labels,omitempty"`
	Spec   string            `json:"spec"`
	// Confirm is how soon after its apply the hub is to be reached again; 0: it was, or it does not matter.
	Confirm time.Duration `json:"confirm,omitempty"`
	// Begun: some of it may be in the cluster, and its apply has not ended well.
	Begun bool `json:"begun,omitempty"`
}

// held is what the edge keeps of one bundle name.
type held struct {
	Want *order `json:"want,omitempty"` // nil: to be removed
	// Accepted is the newest manifest that was verified and stored; it may be Want's or still an older one's.
	Accepted bundle.Digest `json:"accepted,omitempty"`
	// Intent is an apply that was begun and has not ended: objects of it may be in the cluster.
	Intent *order `json:"intent,omitempty"`
	// Applied is the last apply that ended well: it is watched and kept right until another one replaces it.
	Applied *order `json:"applied,omitempty"`
	// Good is the last order that became healthy: what a failed one is reverted to.
	Good *order `json:"good,omitempty"`
	// Quarantined is the spec of the last order that was reverted or halted. It is not tried again before a new order.
	Quarantined   string         `json:"quarantined,omitempty"`
	Current       bundle.Version `json:"current,omitempty"`
	CurrentDigest bundle.Digest  `json:"currentDigest,omitempty"`
	Phase         Phase          `json:"phase"`
	Since         time.Time      `json:"since"`
	Reason        string         `json:"reason,omitempty"`
	Message       string         `json:"message,omitempty"`
	Objects       int            `json:"objects,omitempty"`
	Rendered      bundle.Digest  `json:"rendered,omitempty"`
	Corrected     uint64         `json:"corrected,omitempty"`
	// Until is when a hold ends, where that is known.
	Until time.Time `json:"until,omitzero"`
	// Expires is the accepted manifest's: a first apply begins before it.
	Expires time.Time `json:"expires,omitzero"`
	// ConfirmWithin is how soon after its apply the accepted manifest wants the hub to be reached again; 0: it does not matter.
	ConfirmWithin time.Duration `json:"confirmWithin,omitempty"`
	// Confirm is how long the hub may still take to be reached; nil: it is not waited for.
	Confirm       *span                `json:"confirm,omitempty"`
	HealthTimeout time.Duration        `json:"healthTimeout,omitempty"`
	Requires      []bundle.Requirement `json:"requires,omitempty"`
	Prefetch      *bundle.Prefetch     `json:"prefetch,omitempty"`

	// Not stored: found out anew in every life.
	loaded                  map[bundle.Digest]bool // verified in this life
	fetching                map[bundle.Digest]bool
	prefetching, prefetched string // specs whose images are being pulled, and are on the nodes or gone without
	refused                 bool   // Want was refused in this life: it is not asked for again
	watched                 string // spec of the order that is watched
	attempts                int    // of Want
	retryAt                 time.Time
	setbacks                int // of resuming
	resumeAt                time.Time
	deadline                time.Time // of health
	unhealthy               []ObjectStatus
	healthy                 bool // all objects of the watched order, as last seen
	// confirmFrom is when what is to be confirmed was applied in this life, confirmBy when the hub is to be reached.
	confirmFrom, confirmBy time.Time
	heldUntil              time.Time       // when a hold may be over
	overridden             map[string]bool // objects whose drift is left because of an override
	drifted                map[string]Drift
}

func newHeld() *held {
	return &held{loaded: map[bundle.Digest]bool{}, fetching: map[bundle.Digest]bool{}}
}

// resumable is what an earlier life left in the cluster: the unfinished apply, or else the last finished one.
func (h *held) resumable() *order {
	if h.Intent != nil {
		return h.Intent
	}
	return h.Applied
}

// drop gives up an intent. What may be in the cluster of it is kept, where nothing else is to be.
func (h *held) drop() {
	if h.Intent != nil && h.Intent.Begun && (h.Applied == nil || h.Applied.Begun) {
		begun := *h.Intent
		h.Applied = &begun
	}
	h.Intent = nil
}

func bundleKey(name bundle.Name) string { return prefixBundle + string(name) }
func markKey(name bundle.Name) string   { return prefixMark + string(name) }

// EventKey is where the event with the sequence is stored.
func EventKey(sequence uint64) string { return fmt.Sprintf("%s%020d", EventPrefix, sequence) }

func record(key string, value any) Record {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%s: our own record does not encode: %v", key, err))
	}
	return Record{key, raw}
}

// restore reads the records of an earlier life.
func (e *Edge) restore(records []Record) error {
	for _, r := range records {
		var err error
		switch {
		case r.Key == keyIdentity:
			err = json.Unmarshal(r.Value, &e.identity)
		case r.Key == keyOutbox:
			err = json.Unmarshal(r.Value, &e.outbox.outboxRecord)
		case r.Key == keyNote:
			err = json.Unmarshal(r.Value, &e.note.noteRecord)
		case r.Key == keyClock:
			err = json.Unmarshal(r.Value, &e.clock.clockRecord)
		case r.Key == keyBusy:
			err = json.Unmarshal(r.Value, &e.busy)
		case r.Key == keyOverrides:
			err = json.Unmarshal(r.Value, &e.overrides)
		case r.Key == keyAssignment:
			err = e.restoreAssignment(r.Value)
		case strings.HasPrefix(r.Key, prefixBundle):
			h := newHeld()
			if err = json.Unmarshal(r.Value, h); err == nil {
				if h.Intent != nil {
					h.Intent.Begun = true
				}
				e.bundles[bundle.Name(strings.TrimPrefix(r.Key, prefixBundle))] = h
			}
		case strings.HasPrefix(r.Key, prefixMark):
			var mark verify.Mark
			if err = json.Unmarshal(r.Value, &mark); err == nil {
				e.marks[bundle.Name(strings.TrimPrefix(r.Key, prefixMark))] = mark
			}
		}
		if err != nil {
			return fmt.Errorf("stored record %s: %w", r.Key, err)
		}
	}
	return nil
}

func (e *Edge) restoreAssignment(sealed []byte) error {
	var a Assignment
	if err := OpenBy(TypeAssignment, sealed, slices.Concat(e.cfg.HubKeys, e.cfg.FormerKeys), &a); err != nil {
		return err
	}
	e.assignment = &a
	e.rekeyed = OpenBy(TypeAssignment, sealed, e.cfg.HubKeys, new(Assignment)) != nil
	return nil
}
