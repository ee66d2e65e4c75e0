package api

import (
	"fmt"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Standing is how a site stands, in one word.
type Standing string

// The standings, the one that most wants a person first.
const (
	StandingHeld    Standing = "held"    // two copies of it are alive: it is given nothing new
	StandingFailing Standing = "failing" // a bundle, its cluster or its store is not well
	StandingAlarmed Standing = "alarmed" // it runs what it should; something about it wants a look
	StandingDrifted Standing = "drifted" // drift is not corrected
	StandingStale   Standing = "stale"   // its last word is too old to say
	StandingUnknown Standing = "unknown" // never heard from
	StandingWorking Standing = "working" // on its way to what it should run
	StandingCurrent Standing = "current" // runs what it should, healthy, and said so lately
	StandingGone    Standing = "gone"    // revoked, or it left the fleet
)

// Standings are all of them, in that order.
var Standings = []Standing{StandingHeld, StandingFailing, StandingAlarmed, StandingDrifted, StandingStale, StandingUnknown, StandingWorking, StandingCurrent, StandingGone}

// Standing says how the site stands and why. What a silent site said last is never what it stands at (P8).
func (s Site) Standing() (Standing, string) {
	switch {
	case s.Status == "held":
		return StandingHeld, strings.Join(s.Alarms, "; ")
	case s.Status == "revoked" || s.Status == "gone":
		return StandingGone, s.Status
	case s.Freshness == Unknown:
		return StandingUnknown, "never heard from"
	case s.Freshness != Fresh:
		return StandingStale, "its last word is too old"
	case s.State == nil:
		return StandingWorking, "it has not reported yet"
	case s.State.Store != "":
		return StandingFailing, s.State.Store
	case !s.State.Cluster.Reachable:
		return StandingFailing, "its cluster does not answer: " + s.State.Cluster.Message
	}
	working, drift := "", 0
	for _, b := range s.State.Bundles {
		switch word := bundleWord(b); b.Phase {
		case fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseUnhealthy, fleetsync.PhaseReverting, fleetsync.PhaseReverted, fleetsync.PhaseHalted:
			return StandingFailing, word
		case fleetsync.PhaseCurrent:
		default:
			working = word
		}
		drift += b.DriftCount
	}
	switch {
	case len(s.Alarms) > 0:
		return StandingAlarmed, s.Alarms[0]
	case drift > 0:
		return StandingDrifted, fmt.Sprintf("objects that differ: %d", drift)
	case working != "":
		return StandingWorking, working
	}
	if name := s.behind(); name != "" {
		return StandingWorking, fmt.Sprintf("%s: not yet told", name)
	}
	return StandingCurrent, ""
}

func bundleWord(b fleetsync.BundleStatus) string {
	word := fmt.Sprintf("%s: %s", b.Name, b.Phase)
	for _, more := range []string{b.Reason, b.Message} {
		if more != "" {
			word += ": " + more
		}
	}
	return word
}

// behind is a bundle of the newest assignment that the site's last snapshot does not know yet, or empty.
func (s Site) behind() bundle.Name {
	said := make(map[bundle.Name]bundle.Digest, len(s.State.Bundles))
	for _, b := range s.State.Bundles {
		said[b.Name] = b.Digest
	}
	for _, want := range s.Assigned {
		if said[want.Name] != want.Digest {
			return want.Name
		}
	}
	return ""
}
