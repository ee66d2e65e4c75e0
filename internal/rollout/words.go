package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Words is the reason as a sentence for people: what was counted, what was wanted, of which sites. String is the short form for transcripts and logs.
func (r Reason) Words() string {
	text := r.sentence()
	if r.Wave != "" {
		text = "wave " + r.Wave + ": " + text
	}
	return text
}

func (r Reason) sentence() string {
	until := r.Until.UTC().Format(time.RFC3339)
	switch r.Code {
	case HoldGrace:
		return "the hub has just started and judges nobody before " + until
	case HoldPaused:
		return "paused" + because(r.Detail)
	case HoldAborted:
		return "aborted" + because(r.Detail)
	case HoldCompleted:
		return "everything is done; returning sites are still caught up"
	case HoldApproval:
		return fmt.Sprintf("waits for approval: %d of %d given", r.Have, r.Want)
	case HoldQuorum:
		return fmt.Sprintf("waits for sites to be healthy: %d of %d are", r.Have, r.Want)
	case HoldReports:
		return fmt.Sprintf("waits for sites to report, well or not: %d of %d have", r.Have, r.Want)
	case HoldSoak:
		return fmt.Sprintf("soaks until %s, %d of %d healthy", until, r.Have, r.Want)
	case HoldLateReports:
		return fmt.Sprintf("waits for sites to report healthy once more, after the soak: %d of %d have", r.Have, r.Want)
	case HoldOffers:
		return sites(r.Have) + " not offered yet"
	case HoldVerdict:
		return "waits for check " + r.Detail + " until " + until
	case HoldBudget:
		return fmt.Sprintf("as many sites are out of service as may be: %d of %d", r.Have, r.Want)
	case HoldRegion:
		return fmt.Sprintf("as many sites of region %q are out of service as may be: %d of %d", r.Detail, r.Have, r.Want)
	case HoldRate:
		return fmt.Sprintf("%d offers in the last hour, at most %d: goes on at %s", r.Have, r.Want, until)
	case HoldWindow:
		return "outside the window of the sites that are next: opens at " + until
	case HoldBlackout:
		return "blackout until " + until + because(r.Detail)
	case HoldPriorUnknown:
		return "the site has not ended what it was given before, so it is not known what it would be put back to"
	case HoldConflict:
		return "the site runs a version that nobody here ordered"
	case HoldNewerThere:
		return "the site runs a later release already"
	case HoldTimeless:
		return "the site does not know the time, and this version needs it to"
	case HoldCordoned:
		return "the site is cordoned"
	case HoldAway:
		return "the site was offline when its turn came; it is caught up when it returns"
	case HoldCatchUp:
		return fmt.Sprintf("returning sites failed %d times, at most %d: no more are caught up", r.Have, r.Want)
	case HoldPulled:
		return "the version was rolled back: nobody is offered it any more"
	case HoldRetired:
		return "a newer rollout of this bundle has begun: nobody is offered this version any more"
	}
	return r.move()
}

// move is why something moved.
func (r Reason) move() string {
	switch r.Code {
	case MoveOpened:
		return "opened, " + sites(r.Have)
	case MoveQuorum:
		return fmt.Sprintf("enough sites are healthy: %d of %d", r.Have, r.Want)
	case MoveQuorumLost:
		return fmt.Sprintf("no longer enough sites are healthy: %d of %d; the soak begins anew", r.Have, r.Want)
	case MovePassed:
		return fmt.Sprintf("passed, %d healthy, %d wanted", r.Have, r.Want)
	case MoveCompleted:
		return fmt.Sprintf("all %d waves have passed", r.Want)
	case MoveOffered:
		return "offered to " + r.named()
	case MoveSilent:
		return "silent and therefore unknown: " + r.named()
	case MoveDark:
		return fmt.Sprintf("fell silent while applying and failed: %s; %d of %d comparable sites still report", r.named(), r.Have, r.Want)
	case MoveInconclusive:
		return r.inconclusive()
	case MoveFailures:
		text := fmt.Sprintf("%s failed, at most %d may", sites(r.Have), r.Want)
		if len(r.Sites) > 0 {
			text += ": " + r.named()
		}
		return text
	case MoveVerdictBad:
		return "a check says no: " + r.Detail
	case MoveRollback:
		return "rollback ordered" + because(r.Detail)
	case MoveAsked:
		return "check asked: " + r.Detail
	case MoveReturned:
		return "back: " + r.named()
	}
	return r.String()
}

// inconclusive is a stop that blames nobody (R3, R4, R20).
func (r Reason) inconclusive() string {
	text := r.Detail
	if code, is := strings.CutPrefix(r.Detail, deadlinePrefix); is {
		missed := Reason{Code: Code(code), Have: r.Have, Want: r.Want}
		text = "the deadline is over: " + missed.sentence()
	} else if r.Want > 0 {
		text = fmt.Sprintf("%s (%d of %d comparable sites still report)", text, r.Have, r.Want)
	}
	if len(r.Sites) > 0 {
		text += ": " + r.named()
	}
	return text
}

// named are the sites that a reason names. Who may not see all sites of a rollout is told of fewer, or of none.
func (r Reason) named() string {
	counted := r.Code == MoveOffered || r.Code == MoveSilent || r.Code == MoveFailures // Have is of these sites
	if len(r.Sites) == 0 && counted {
		return sites(r.Have)
	}
	if len(r.Sites) == 0 {
		return "some sites"
	}
	names := join(r.Sites)
	if more := r.Have - len(r.Sites); counted && more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return names
}

func join(ids []bundle.SiteID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	return strings.Join(names, ", ")
}

func sites(n int) string {
	if n == 1 {
		return "1 site"
	}
	return fmt.Sprintf("%d sites", n)
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}
