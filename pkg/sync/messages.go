package sync

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Message types of an Envelope. The type is part of what is signed, so that a message of one type is never taken for another.
const (
	TypeAssignment = "assignment/v1"
	TypeState      = "state/v1"
	TypeEvents     = "events/v1"
	TypeAck        = "ack/v1"
	TypeHello      = "hello/v1"
)

// Offer is what BundleSubject holds: everything of a bundle but its content. Nothing in it is believed but what the manifest's
// signature covers; sizes and chunk counts are only hints for fetching and are bounded by the reader.
type Offer struct {
	Manifest   []byte   `json:"manifest"`   // exact signed bytes
	Signatures [][]byte `json:"signatures"` // Sigstore bundles v0.3
	Full       Blob     `json:"full"`
	Deltas     []Delta  `json:"deltas,omitempty"`
}

// Blob describes compressed bytes cut into chunks of at most bundle.ChunkSize.
type Blob struct {
	Size   int64 `json:"size"` // bytes on the wire
	Chunks int   `json:"chunks"`
}

// Delta describes a delta from an older content of the same bundle name.
type Delta struct {
	From bundle.Digest `json:"from"` // content digest
	Blob
}

// Assignment is signed by the hub for one site: what it should run. A lower or equal sequence than the site has is ignored.
type Assignment struct {
	Site     bundle.SiteID     `json:"site"`
	Sequence uint64            `json:"sequence"`
	Issued   time.Time         `json:"issued"`
	Labels   map[string]string `json:"labels,omitempty"`
	Bundles  []AssignedBundle  `json:"bundles"`
	// Zone is the IANA time zone in which schedules hold at the site; empty is UTC.
	Zone string `json:"zone,omitempty"`
}

// AssignedBundle is one bundle of an assignment. A name stands at most once.
type AssignedBundle struct {
	Name    bundle.Name    `json:"name"`
	Version bundle.Version `json:"version"`
	Digest  bundle.Digest  `json:"digest"` // of the manifest
	Values  Values         `json:"values,omitempty"`
	// Drift overrides the manifest's policy; empty leaves it.
	Drift bundle.DriftMode `json:"drift,omitempty"`
	// Scope limits what the bundle may touch; nil leaves that to the site.
	Scope *Scope `json:"scope,omitempty"`
	// AcceptLoss permits an apply that the site would halt as suspicious: one that deletes most of what the bundle has there, or stops all of it.
	AcceptLoss bool `json:"acceptLoss,omitempty"`
	// Attempt grows when the same is ordered anew by hand: what failed or was quarantined at the site is tried again.
	Attempt int `json:"attempt,omitempty"`
	// Rollout is whose offer this is; nil: ordered by hand. Another one, or another attempt, is a new order also of the same version.
	Rollout *RolloutRef `json:"rollout,omitempty"`
	// ApplyBy is the lease: a first apply does not begin after it (R12). Zero: no lease.
	ApplyBy time.Time `json:"applyBy,omitzero"`
	// Schedule is when an apply may begin, in the site's zone and by its trusted time (R17); nil: any time.
	Schedule *Schedule `json:"schedule,omitempty"`
}

// RolloutRef names the rollout that an offer belongs to, and which attempt of it.
type RolloutRef struct {
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
}

// Phase is where a bundle stands at a site.
type Phase string

// The phases. Every phase but PhaseCurrent carries a reason or a progress message.
const (
	PhaseFetching  Phase = "Fetching"  // manifest or content still coming
	PhaseAccepted  Phase = "Accepted"  // verified and durable, not begun
	PhaseApplying  Phase = "Applying"  // intent recorded, objects being applied
	PhaseSettling  Phase = "Settling"  // applied, waiting for health
	PhaseCurrent   Phase = "Current"   // applied and healthy
	PhaseUnhealthy Phase = "Unhealthy" // applied, not healthy in time or any more
	PhaseRefused   Phase = "Refused"   // verification refused it
	PhaseFailed    Phase = "Failed"    // the API server refused it, or it cannot be fetched or reached; retried
	PhaseReverting Phase = "Reverting" // not healthy in time: going back to the last good version
	PhaseReverted  Phase = "Reverted"  // the last good version is in force again; the wanted one is quarantined until a new order
	PhaseHalted    Phase = "Halted"    // not applied, because what it would do is suspicious: what was in force stays so until a new order
	PhaseRemoving  Phase = "Removing"  // unassigned, objects being deleted
)

// Phases are all of them.
var Phases = []Phase{
	PhaseFetching, PhaseAccepted, PhaseApplying, PhaseSettling, PhaseCurrent, PhaseUnhealthy, PhaseRefused, PhaseFailed, PhaseReverting, PhaseReverted, PhaseHalted, PhaseRemoving,
}

// State is what is true at a site now: one snapshot, the latest wins by (Epoch's age at the hub, Sequence).
type State struct {
	Site       bundle.SiteID    `json:"site"`
	Epoch      string           `json:"epoch"`
	Sequence   uint64           `json:"sequence"` // grows with every snapshot of the epoch
	At         time.Time        `json:"at"`       // by the trusted time, or else the site's clock: Clock says which
	Started    time.Time        `json:"started"`  // of the agent process
	Agent      string           `json:"agent"`    // version of holdfast-edge
	Assignment uint64           `json:"assignment"`
	Cluster    ClusterStatus    `json:"cluster"`
	Bundles    []BundleStatus   `json:"bundles"`
	Outbox     OutboxStatus     `json:"outbox"`
	Clock      ClockStatus      `json:"clock,omitzero"`
	Desired    DesiredStatus    `json:"desired,omitzero"`
	Busy       []BusyStatus     `json:"busy,omitempty"`
	Overrides  []OverrideStatus `json:"overrides,omitempty"`
	// Store is empty, or says what is wrong with the store ("storageDegraded: …").
	Store string `json:"store,omitempty"`
	// Trust is the root of trust that the site believes.
	Trust TrustStatus `json:"trust,omitzero"`
	// Sealing is the site's signed statement of the key that secrets are sealed with for it (internal/secret).
	Sealing json.RawMessage `json:"sealing,omitempty"`
	// Traffic is what went over the line to the hub, by the site's count.
	Traffic TrafficStatus `json:"traffic,omitzero"`
	// Metered: the line costs by the byte.
	Metered bool `json:"metered,omitempty"`
	// HeartBeat is how often the site says hello, in seconds, where that is not as often as the hub asked for; 0: it is.
	HeartBeat int `json:"heartbeatSeconds,omitempty"`
	// Note is the site's newest sealed Note: the hub gives it back to a site that knows only an older one.
	Note json.RawMessage `json:"note,omitempty"`
	// PutBack is empty, or says why what the site remembers is older than what it was, or could become so: its disk was put back, or the cluster keeps no note.
	PutBack string `json:"putBack,omitempty"`
	// Credential is when the site's credential for the bus expires; zero: never, or the site does not say.
	Credential time.Time `json:"credential,omitzero"`
}

// TrafficStatus counts bytes on the line since the agent started, TLS with them, TCP and IP headers not.
type TrafficStatus struct {
	In          uint64 `json:"in"`  // from the hub
	Out         uint64 `json:"out"` // to the hub
	Connections uint64 `json:"connections"`
}

// TrustStatus is a root of trust by its versions.
type TrustStatus struct {
	Root    uint64    `json:"root"`
	Targets uint64    `json:"targets"`
	Expires time.Time `json:"expires,omitzero"` // the first of its files: until then nothing newer needs to be seen
	Error   string    `json:"error,omitempty"`  // why the last look for a newer one failed
}

// ClockStatus says what the site knows of the time.
type ClockStatus struct {
	Quality TimeQuality `json:"quality"`
	// Time is what it is at least, by signed words only; zero: nothing signed has a time yet. State.At is by the wall clock where it is not trusted.
	Time time.Time `json:"time,omitzero"`
	// Wall is what the site's own clock says.
	Wall time.Time `json:"wall"`
}

// DesiredStatus says how old the desired state may be.
type DesiredStatus struct {
	// AsOf is when, by the hub's clock, the hub last proved that the site has its newest assignment; zero: not since the agent started.
	AsOf time.Time `json:"asOf,omitzero"`
	// Newest is the sequence that the hub last said is the newest; 0: it has not.
	Newest uint64 `json:"newest,omitempty"`
	// Stale says why the assignment may not be the newest though there is a link; empty: nothing speaks against it.
	Stale string `json:"stale,omitempty"`
}

// ClusterStatus says whether the site's API server answers.
type ClusterStatus struct {
	Reachable bool      `json:"reachable"`
	Version   string    `json:"version,omitempty"`
	Since     time.Time `json:"since"`
	Message   string    `json:"message,omitempty"`
}

// BundleStatus is one bundle at a site.
type BundleStatus struct {
	Name    bundle.Name    `json:"name"`
	Desired bundle.Version `json:"desired,omitempty"` // empty: being removed
	// Digest is the desired manifest's.
	Digest        bundle.Digest  `json:"digest,omitempty"`
	Current       bundle.Version `json:"current,omitempty"` // last version applied and healthy
	CurrentDigest bundle.Digest  `json:"currentDigest,omitempty"`
	Phase         Phase          `json:"phase"`
	Since         time.Time      `json:"since"`
	Reason        string         `json:"reason,omitempty"`
	Message       string         `json:"message,omitempty"`
	Until         time.Time      `json:"until,omitzero"` // when a hold ends, where that is known
	Objects       int            `json:"objects"`
	Rendered      bundle.Digest  `json:"rendered,omitempty"`
	Unhealthy     []ObjectStatus `json:"unhealthy,omitempty"` // at most 20
	Drift         []Drift        `json:"drift,omitempty"`     // uncorrected, at most 50
	DriftCount    int            `json:"driftCount"`          // uncorrected now
	Corrected     uint64         `json:"corrected"`           // corrections since the bundle came
	// Rollout is whose offer the desired version is; nil: ordered by hand.
	Rollout *RolloutRef `json:"rollout,omitempty"`
}

// ObjectStatus is an object that is not healthy.
type ObjectStatus struct {
	Object  string `json:"object"` // bundle.ObjectID.String
	Status  string `json:"status"` // kstatus: InProgress, Failed, Terminating, NotFound, Unknown
	Message string `json:"message,omitempty"`
}

// DriftKind is how an object differs from what was applied.
type DriftKind string

// The kinds of drift.
const (
	DriftDeleted DriftKind = "deleted"
	DriftChanged DriftKind = "changed"
)

// Drift is one object that differs from what was applied: paths, never values.
type Drift struct {
	Object   string    `json:"object"`
	Kind     DriftKind `json:"kind"`
	Paths    []string  `json:"paths,omitempty"`    // JSON pointers, at most 20
	Managers []string  `json:"managers,omitempty"` // field managers that changed it, where known
	At       time.Time `json:"at"`
	Message  string    `json:"message,omitempty"` // why it is not corrected
}

// OutboxStatus is the edge's queue of events.
type OutboxStatus struct {
	Next    uint64 `json:"next"` // sequence the next event gets
	Acked   uint64 `json:"acked"`
	Dropped uint64 `json:"dropped"` // events dropped in this epoch, each covered by a gap event
}

// EventKind names what happened. The set is frozen: kinds are added, never changed.
type EventKind string

// The event kinds.
const (
	EventStarted        EventKind = "AgentStarted"
	EventLinkUp         EventKind = "LinkUp"
	EventLinkDown       EventKind = "LinkDown"
	EventAssigned       EventKind = "Assigned"
	EventAssignRefused  EventKind = "AssignmentRefused"
	EventAccepted       EventKind = "BundleAccepted"
	EventRefused        EventKind = "BundleRefused"
	EventApplying       EventKind = "ApplyStarted"
	EventApplied        EventKind = "Applied"
	EventApplyFailed    EventKind = "ApplyFailed"
	EventHealthy        EventKind = "Healthy"
	EventUnhealthy      EventKind = "Unhealthy"
	EventReverting      EventKind = "RevertStarted"
	EventReverted       EventKind = "Reverted"
	EventPrefetched     EventKind = "ImagesPrefetched" // every node has the images of a version that is not applied yet
	EventPrefetchFailed EventKind = "PrefetchFailed"   // not every node has them; Message says which image failed where
	EventHalted         EventKind = "Halted"           // an apply was not begun because what it would do is suspicious
	EventRemoved        EventKind = "Removed"
	EventDriftCorrected EventKind = "DriftCorrected"
	EventDriftFound     EventKind = "DriftFound"
	EventDriftGone      EventKind = "DriftGone"
	EventClusterDown    EventKind = "ClusterUnreachable"
	EventClusterUp      EventKind = "ClusterReachable"
	EventStoreDamaged   EventKind = "StoreDamaged"
	EventStoreDegraded  EventKind = "StorageDegraded"  // the store takes no writes: what runs is kept right from memory, nothing new is taken
	EventStoreRecovered EventKind = "StorageRecovered" // it takes writes again; Message says how long it did not and what is not recorded
	EventHeld           EventKind = "Held"             // what is accepted does not begin yet: Reason and Message say why
	EventConfirmed      EventKind = "Confirmed"        // the hub was reached again after an apply that affects connectivity
	EventBusy           EventKind = "Busy"             // somebody at the site says that it is not to be moved
	EventBusyEnded      EventKind = "BusyEnded"
	EventOverride       EventKind = "OverrideDeclared" // drift at the object is left as it is for a while
	EventOverrideEnded  EventKind = "OverrideEnded"
	EventOverwritten    EventKind = "OverrideOverwritten" // an apply put back what an override had let stand; the override lasts
	EventStale          EventKind = "DesiredStateStale"   // the hub did not prove, or disproved, that the assignment is the newest
	EventTrustChanged   EventKind = "TrustChanged"        // a newer root of trust is believed
	EventTrustRefused   EventKind = "TrustRefused"        // what the hub has is not believed: the older one goes on counting
	EventCopySeen       EventKind = "CopySeen"            // the hub has events of the site's epoch that this store never made: a new epoch begins
	EventPutBack        EventKind = "StorePutBack"        // the store, or the root of trust in it, is older than what the site was: an old image of its disk was put back
	EventNoteBehind     EventKind = "NotePutBack"         // the note in the cluster is older than what was put there, or gone
	EventNoteRefused    EventKind = "NoteRefused"         // what is in the place of the site's note is not its own
	EventNoteFailed     EventKind = "NoteNotKept"         // the cluster does not keep the site's note: what runs and what is taken goes on
	EventGap            EventKind = "Gap"                 // events were dropped: From, To, Message says why
)

// Event is something that happened at a site.
type Event struct {
	Sequence uint64         `json:"seq"` // from 1, without holes within an epoch
	At       time.Time      `json:"at"`  // by the trusted time, or else the site's clock: Clock says which
	Clock    TimeQuality    `json:"clock,omitempty"`
	Kind     EventKind      `json:"kind"`
	Bundle   bundle.Name    `json:"bundle,omitempty"`
	Version  bundle.Version `json:"version,omitempty"`
	Digest   bundle.Digest  `json:"digest,omitempty"`
	Object   string         `json:"object,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Message  string         `json:"message,omitempty"`
	Paths    []string       `json:"paths,omitempty"`
	Offline  bool           `json:"offline,omitempty"` // the link was away when it happened
	Rollout  *RolloutRef    `json:"rollout,omitempty"` // whose offer the bundle's version is
	From     uint64         `json:"from,omitempty"`    // of a gap, inclusive
	To       uint64         `json:"to,omitempty"`      // of a gap, inclusive
	Gaps     []Range        `json:"gaps,omitempty"`    // of a gap: the runs that were dropped, where others between From and To were not; at most 64
	Lost     []Lost         `json:"lost,omitempty"`    // of a gap: what was dropped and why
	// Prev names the event before as it was recorded, so that the events of an epoch are one chain. In a batch it is left out where the batch shows it.
	Prev string `json:"prev,omitempty"`
}

// Lost says how many events of a kind were dropped, and why.
type Lost struct {
	Kind  EventKind `json:"kind"`
	Why   string    `json:"why"`
	Count uint64    `json:"count"`
}

// covered are the sequences that a gap event stands for.
func (ev Event) covered() []Range {
	if len(ev.Gaps) > 0 {
		return ev.Gaps
	}
	return []Range{{ev.From, ev.To}}
}

// Covers says whether a gap event stands for the sequence.
func (ev Event) Covers(sequence uint64) bool {
	return ev.Kind == EventGap && slices.ContainsFunc(ev.covered(), func(r Range) bool { return r.From <= sequence && sequence <= r.To })
}

// EventBatch is a run of events. Sequences are consecutive except where a gap event covers what is missing.
type EventBatch struct {
	Site   bundle.SiteID `json:"site"`
	Epoch  string        `json:"epoch"`
	Events []Event       `json:"events"` // at most 500
}

// Ack is signed by the hub: it has folded every event of the epoch up to and including Upto.
type Ack struct {
	Site  bundle.SiteID `json:"site"`
	Epoch string        `json:"epoch"`
	Upto  uint64        `json:"upto"`
	// Missing is what the hub does not have and is to get again, or a gap event for it; at most 16 runs. Also below Upto of an older Ack: a hub that
	// was restored from a backup asks for what it once had.
	Missing []Range `json:"missing,omitempty"`
	// Snapshot asks for a snapshot above this sequence: the site has sent it and the hub does not have it, or the hub holds it and the site knows nothing
	// of it, because the life that sent it could not write.
	Snapshot uint64 `json:"snapshot,omitempty"`
	// Pace is how long the site is to rest between two batches, in milliseconds.
	Pace int `json:"pace,omitempty"`
}

// Hello is a site's heartbeat; it proves nothing but that the site's key is alive and connected.
type Hello struct {
	Site  bundle.SiteID `json:"site"`
	Epoch string        `json:"epoch"`
	At    time.Time     `json:"at"`
	// State is the sequence of the newest snapshot the site has sent, so that the hub knows what it holds is still true.
	State uint64 `json:"state"`
	// Nonce, if not empty, asks the hub for a Fresh that carries it: NonceSize hex digits.
	Nonce string `json:"nonce,omitempty"`
	// Note, beside a nonce, is the number of the newest Note that the site knows: the hub echoes a newer one.
	Note uint64 `json:"note,omitempty"`
}
