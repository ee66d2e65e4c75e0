package sync

import (
	"crypto/ed25519"
	"encoding/json"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// EdgeConfig is what an Edge is told at its start and never changes.
type EdgeConfig struct {
	Site    bundle.SiteID
	Agent   string              // version of the agent, for reports
	HubKeys []ed25519.PublicKey // sign assignments, acks and what is new; Trusted changes them
	// FormerKeys were the hub's before: what is stored may still be signed by one of them, and nothing new.
	FormerKeys []ed25519.PublicKey
	NewEpoch   string // taken as the epoch if the store has none yet: random, 32 hex digits
	Seed       string // of nonces: random, secret and another one in each life; empty: freshness is not asked for
	// AskEvery is how often the hub is asked with a nonce what is newest, besides on every connect; an answer puts off the safety look. 0 is four minutes.
	AskEvery time.Duration
	// FirstApply is the site's policy for what is new; empty: FirstApplyLease.
	FirstApply FirstApply
	// Zone finds a time zone by its IANA name; nil: none but UTC is known.
	Zone    func(name string) (*time.Location, error)
	Metered bool // the line costs by the byte (metered.go)
	// Sealing is the site's signed statement of its sealing key (internal/secret), for reports; nil: secrets cannot be sealed for it.
	Sealing   json.RawMessage
	HeartBeat time.Duration // between hellos; 0 is a minute
	NoteKey   []byte        // seals the site's notes; nil: none are made
	Notebook  bool          // the cluster keeps a note: nothing begins before Noted says what it holds
	// MaxPending and MaxPendingBytes bound the outbox; 0 is 20,000 events and 64 MiB. Beyond them what is worth least becomes gap events (classes.go).
	MaxPending      int
	MaxPendingBytes int
}

// Input is something that happened: a result of an Effect, or a word from outside.
type Input interface{ input() }

// Restored is the first input of every life: all records with the prefix RecordPrefix, in key order, and the marks that were found in
// other places than the store; of two marks for a name the higher wins.
type Restored struct {
	Records []Record
	Outbox  []Stored // a line about each record with the prefix EventPrefix
	Marks   verify.Counters
	Boot    Boot
}

// LinkChanged says that the link came up or went down.
type LinkChanged struct{ Up bool }

// Trusted says that the site's root of trust is a newer one, or that looking for one failed (Trust.Error).
type Trusted struct {
	HubKeys []ed25519.PublicKey
	Trust   TrustStatus
}

// Poked says that the hub has something new, or with a sealed Fresh, which may be anybody's, what is newest.
type Poked struct{ Statement []byte }

// Looked is the result of Effects.Look: the newest sealed assignment and ack, nil where there is none. Err says that the look failed.
type Looked struct {
	Assignment []byte
	Ack        []byte
	Err        string
}

// Fetched is the result of a Fetch: the bundle is verified and durable, or was refused, or could not be had (Err, retried).
type Fetched struct {
	Name          bundle.Name
	Digest        bundle.Digest
	Counter       bundle.Counter
	Epoch         uint64 // counter epoch of the trust document that believed it
	Objects       int
	HealthTimeout time.Duration
	Requires      []bundle.Requirement
	Prefetch      *bundle.Prefetch
	Expires       time.Time     // zero: never
	ConfirmWithin time.Duration // of a bundle that affects connectivity
	Refusal       *Refusal
	// Passing says that the bundle itself may be right and what came of it was not: the refusal is told, and the fetch repeated.
	Passing bool
	Err     string
}

// Refusal is why something is not believed or not taken.
type Refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Outcome is how an Apply ended.
type Outcome string

// The outcomes.
const (
	OutcomeApplied  Outcome = "applied"
	OutcomeRejected Outcome = "rejected" // the API server refused an object; nothing was changed
	OutcomeFailed   Outcome = "failed"   // begun or not even begun, and to be repeated
	OutcomeHalted   Outcome = "halted"   // suspicious: nothing was changed, and nothing is before a new order
)

// Ran is the result of a Run.
type Ran struct {
	Name     bundle.Name
	Spec     string // Run.Spec
	Remove   bool
	Outcome  Outcome
	Rendered bundle.Digest
	Objects  int
	Changed  int    // objects created or changed
	Pruned   int    // objects deleted
	Lost     bool   // the stored bundle is no longer what was verified: it must be fetched again
	Object   string // the one it failed at, where known
	Reason   string
	Message  string
}

// HealthSeen is the whole health of a bundle's objects.
type HealthSeen struct {
	Name      bundle.Name
	Spec      string
	Unhealthy []ObjectStatus
}

// DriftSeen says that an object differs from what was applied, or, with Gone, no longer does without our doing.
type DriftSeen struct {
	Name  bundle.Name
	Drift Drift
	Left  bool // it is to stay so, by the object's drift mode; Drift.Message says why
	Gone  bool
}

// Corrected is the result of a Correct. Err says why it was not corrected; the shell tries again by its own growing pauses.
type Corrected struct {
	Name  bundle.Name
	Drift Drift
	Err   string
}

// ClusterSeen says whether the API server answers.
type ClusterSeen struct {
	Reachable bool
	Version   string
	Message   string
}

// Sent is the result of a Send. Err empty: the hub's stream has it on disk.
type Sent struct {
	Type string
	Upto uint64 // of events: the last sequence that was sent
	Err  string
}

// StoreSeen says why the store takes no writes, or with an empty Message that it does again.
type StoreSeen struct{ Message string }

// Damage says that the store was damaged and set aside, or stored bytes no longer verify and were dropped.
type Damage struct{ Message string }

// Tick says only that time has passed.
type Tick struct{}

func (Restored) input()      {}
func (LinkChanged) input()   {}
func (Poked) input()         {}
func (Trusted) input()       {}
func (Looked) input()        {}
func (Fetched) input()       {}
func (Ran) input()           {}
func (HealthSeen) input()    {}
func (DriftSeen) input()     {}
func (Corrected) input()     {}
func (ClusterSeen) input()   {}
func (Sent) input()          {}
func (StoreSeen) input()     {}
func (Damage) input()        {}
func (Busy) input()          {}
func (BusySeen) input()      {}
func (OverrideSet) input()   {}
func (OverrideClear) input() {}
func (Tick) input()          {}

// Effects is what is to be done, in field order. Nothing below Persist may begin before Persist is durable, except Correct, which must work
// with a full or broken disk; an Effects without Persist may be carried out at once. Results come back as inputs. Where Persist cannot be
// made durable, its records wait in order until they can, and the rest of the Effects fails: its results say so, and it is asked for again.
type Effects struct {
	Persist  []Record   // in one commit
	Look     bool       // read the assignment, the ack and the root of trust -> Trusted, Looked
	Brief    bool       // with Look: the assignment alone, for the hub said that nothing else is newer
	Fetch    []Fetch    // -> Fetched
	Prefetch []Prefetch // -> Prefetched
	Run      *Run       // -> Ran; at most one is under way
	Correct  []Correct  // -> Corrected
	Keep     *Keep      // -> NoteKept
	Send     []Send     // -> Sent; hellos at once, the others one after another: the snapshot is there before the backlog
	// Retain, where not nil, lists the manifests whose bundles must stay in the store; all others may go.
	Retain []bundle.Digest
	Wake   time.Time // zero: nothing to wait for
}

// Fetch asks for a bundle, from the store if it is there and verifies, otherwise from the hub.
type Fetch struct {
	// Again: the bundle was accepted and applied here before, and is to be kept running or gone back to. Its signature must hold; whether
	// it is the newest, still meant and not expired is not asked again.
	Again      bool
	Bundle     AssignedBundle
	Labels     map[string]string // the site's
	Kubernetes string            // version of the API server, empty while it is not known
	Time       time.Time         // what the time is at least, by what is signed; expiry and validity are judged by it
}

// Run applies a bundle (whatever of it is not yet so) and watches it from then on, or removes it.
type Run struct {
	Bundle AssignedBundle
	Labels map[string]string
	// Spec identifies bundle, values and labels; results carry it.
	Spec   string
	Remove bool
}

// Correct puts one object back.
type Correct struct {
	Name  bundle.Name
	Drift Drift
}

// Send delivers a message. For TypeEvents the payload is made from the stored events From to To, as many as fit.
type Send struct {
	Type     string
	State    *State
	Hello    *Hello
	From, To uint64
	Epoch    string // of From and To
	Packed   bool   // the hub reads it compressed
}
