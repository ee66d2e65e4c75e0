package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Outcome is how far a site is in a rollout; the package's documentation has the diagram.
type Outcome uint8

// The outcomes.
const (
	NotOffered Outcome = iota
	Offered            // the hub decided to put the version into the site's assignment
	Accepted           // the site verified it and keeps it
	Applying           // the site recorded its intent; objects are being applied
	Succeeded          // applied and healthy, by the site's own report
	Failed             // unhealthy, refused, or dark while applying
	Reverted           // failed, and back on its last good version
	Unknown            // silent for too long: never success
	Skipped            // offline before the offer, and its wave is over
)

var outcomeNames = []string{"NotOffered", "Offered", "Accepted", "Applying", "Succeeded", "Failed", "Reverted", "Unknown", "Skipped"}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "Outcome?"
}

// MarshalText writes the outcome's name.
func (o Outcome) MarshalText() ([]byte, error) {
	if int(o) >= len(outcomeNames) {
		return nil, fmt.Errorf("outcome %d: there is none", o)
	}
	return []byte(outcomeNames[o]), nil
}

// UnmarshalText reads an outcome's name.
func (o *Outcome) UnmarshalText(text []byte) error {
	i := slices.Index(outcomeNames, string(text))
	if i < 0 {
		return fmt.Errorf("outcome %.40q: unknown", text)
	}
	*o = Outcome(i)
	return nil
}

// inFlight says that the offer is out and no end was reported.
func (o Outcome) inFlight() bool { return o == Offered || o == Accepted || o == Applying }

// SiteRecord is what a rollout knows of one site. Its keys are short because there are ten thousand of it in one value.
type SiteRecord struct {
	Site    bundle.SiteID `json:"s"`
	Wave    int           `json:"w,omitempty"` // index
	Region  string        `json:"r,omitempty"`
	Before  int           `json:"b,omitempty"`  // what it ran: index+1 into Rollout.Versions, 0 nothing
	Goal    int           `json:"g,omitempty"`  // of a rollback, what it goes back to: the same
	Outcome Outcome       `json:"o,omitempty"`  //
	Was     Outcome       `json:"p,omitempty"`  // before it was Unknown
	Dark    time.Time     `json:"d,omitzero"`   // when silence was judged
	Attempt int           `json:"a,omitempty"`  // in which it was offered
	Offered time.Time     `json:"t,omitzero"`   // decided, hub's clock
	ApplyBy time.Time     `json:"by,omitzero"`  // lease of the offer
	Placed  uint64        `json:"n,omitempty"`  // sequence of the assignment that carries the offer; 0: not yet signed
	Applied time.Time     `json:"ok,omitzero"`  // success was reported, hub's clock
	Late    bool          `json:"l,omitempty"`  // and again at least soak later
	Epoch   string        `json:"e,omitempty"`  // of the newest report
	Seq     uint64        `json:"q,omitempty"`  // of the newest report
	Beat    time.Time     `json:"h,omitzero"`   // site's clock in the newest heartbeat
	Heard   time.Time     `json:"at,omitzero"`  // of the newest report or heartbeat that counted, hub's clock
	Epochs  []string      `json:"es,omitempty"` // lives of the site's store that are over
	Why     string        `json:"y,omitempty"`  // of a failure
	Joined  bool          `json:"j,omitempty"`  // after the start (R9)
	// Took says that the version was seen being applied, also after an abort: a rollback has to go there.
	Took bool `json:"k,omitempty"`
	// Slot says that an earlier attempt's offer may still be at work: the site keeps its place in the budget until it is offered anew.
	Slot bool `json:"z,omitempty"`
	// Withdraw is how far taking the offer back is.
	Withdraw Withdrawing `json:"x,omitempty"`
}

// Withdrawing is how far a withdrawal is.
type Withdrawing uint8

// The stages of a withdrawal.
const (
	NotWithdrawn Withdrawing = iota
	ToWithdraw               // decided, not yet signed
	Withdrawn                // signed under a higher sequence
)

// unavailable says that the site counts against the budget: offered and not known to serve again (P5: silence counts).
func (s *SiteRecord) unavailable() bool {
	return s.Outcome.inFlight() || s.Outcome == Unknown || s.Outcome == Failed || s.Slot
}

// DarkReason is SiteRecord.Why of a site that went dark while applying (R3).
const DarkReason = "Dark"
