package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Code names why the engine holds or moves. The set is frozen: codes are added, never changed.
type Code string

// Why nothing moves.
const (
	HoldGrace        Code = "Grace"              // R19: the hub has just started
	HoldPaused       Code = "Paused"             // Detail says by whom and why
	HoldAborted      Code = "Aborted"            //
	HoldCompleted    Code = "Completed"          //
	HoldApproval     Code = "NeedsApproval"      // Have of Want approvals
	HoldQuorum       Code = "AwaitingQuorum"     // Have of Want successes
	HoldReports      Code = "AwaitingReports"    // R5: Have of Want reports of the first wave
	HoldSoak         Code = "Soaking"            // Until
	HoldLateReports  Code = "AwaitingLateReport" // R6: Have of Want late healthy reports
	HoldOffers       Code = "StillOffering"      // Have sites are not offered yet
	HoldVerdict      Code = "AwaitingVerdict"    // R20: Detail names the check
	HoldBudget       Code = "BudgetFull"         // Have of Want sites of the wave are away from service
	HoldRegion       Code = "RegionBudgetFull"   // the same in the region that Detail names
	HoldRate         Code = "RateLimit"          // Have of Want offers in the last hour
	HoldWindow       Code = "OutsideWindow"      // Until
	HoldBlackout     Code = "Blackout"           // Until, Detail says why
	HoldPriorUnknown Code = "PriorUnknown"       // R16
	HoldConflict     Code = "ConflictPaused"     // R19
	HoldNewerThere   Code = "NewerThere"         // the site runs a later release
	HoldTimeless     Code = "TimeUntrusted"      // R17
	HoldCordoned     Code = "Cordoned"
	HoldAway         Code = "Away"             // skipped: offline before the offer
	HoldCatchUp      Code = "CatchUpExhausted" // returning sites failed too often
	HoldPulled       Code = "Pulled"           // the version was rolled back
	HoldRetired      Code = "Retired"          // a newer rollout of the bundle has begun
)

// Why something moved.
const (
	MoveOpened       Code = "WaveOpened"
	MoveQuorum       Code = "QuorumReached"
	MoveQuorumLost   Code = "QuorumLost"
	MovePassed       Code = "WavePassed"
	MoveCompleted    Code = "RolloutCompleted"
	MoveOffered      Code = "Offered"
	MoveSilent       Code = "SilentUnknown"   // R1
	MoveDark         Code = "DarkFailed"      // R3: Have of Want control sites still report
	MoveInconclusive Code = "Inconclusive"    // R3, R4, R20
	MoveFailures     Code = "TooManyFailures" // Have of Want failures
	MoveVerdictBad   Code = "VerdictFailed"   // R20
	MoveRollback     Code = "RollbackOrdered" // R15
	MoveAsked        Code = "CheckAsked"      // R20
	MoveReturned     Code = "Returned"        // R9
)

// Reason is a hold or a move with its inputs: what was counted, what was wanted, and of which sites.
type Reason struct {
	Code   Code            `json:"code"`
	Wave   string          `json:"wave,omitempty"`
	Have   int             `json:"have,omitempty"`
	Want   int             `json:"want,omitempty"`
	Until  time.Time       `json:"until,omitzero"`
	Of     bundle.Digest   `json:"of,omitempty"`    // DigestOfSites of the sites that were counted
	Sites  []bundle.SiteID `json:"sites,omitempty"` // some of those it is about, at most 5
	Detail string          `json:"detail,omitempty"`
}

// maxNamed bounds the sites that a reason names.
const maxNamed = 5

// deadlinePrefix begins the Detail of a MoveInconclusive whose wave met its deadline; the code of what it waited for follows.
const deadlinePrefix = "deadline: "

// String is the reason in short, for transcripts and logs. Words is for people.
func (r Reason) String() string {
	var b strings.Builder
	b.WriteString(string(r.Code))
	if r.Wave != "" {
		fmt.Fprintf(&b, " wave=%s", r.Wave)
	}
	if r.Have != 0 || r.Want != 0 {
		fmt.Fprintf(&b, " %d/%d", r.Have, r.Want)
	}
	if !r.Until.IsZero() {
		fmt.Fprintf(&b, " until=%s", r.Until.UTC().Format(time.RFC3339))
	}
	for _, s := range r.Sites {
		fmt.Fprintf(&b, " %s", s)
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, ": %s", r.Detail)
	}
	return b.String()
}
