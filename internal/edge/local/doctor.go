package local

import (
	"fmt"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Finding is one thing the doctor looked at.
type Finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Hint string `json:"hint,omitempty"`
}

// Diagnose looks at what an agent says of its site.
func Diagnose(s Status) []Finding {
	find := func(what string, ok bool, good, bad, hint string) Finding {
		if ok {
			return Finding{What: what, OK: true, Says: good}
		}
		return Finding{What: what, Says: bad, Hint: hint}
	}
	state := s.State
	found := []Finding{
		find("store", state.Store == "", "takes writes", state.Store, "make room on the disk of the data folder, or replace it"),
		find("memory", state.PutBack == "", "is what the site was last", state.PutBack, "reach the hub, which has what is newest; for a note that is not kept give the agent its ConfigMap and role (deploy/edge)"),
		find("cluster", state.Cluster.Reachable, "answers, version "+state.Cluster.Version, "does not answer: "+state.Cluster.Message, "the agent keeps trying; look at the API server"),
		find("hub", s.Linked, "connected", "not connected", "nothing that runs depends on it; what is to be reported waits in the outbox"),
		find("time", state.Clock.Quality != fleetsync.TimeUntrusted, string(state.Clock.Quality), "nobody has told the time since the machine was started", "it is trusted once the hub was reached; leases and windows wait until then"),
		find("desired state", state.Desired.Stale == "", fmt.Sprintf("assignment %d", state.Assignment), state.Desired.Stale, "the hub or the way to it serves what is old"),
		find("outbox", state.Outbox.Dropped == 0, fmt.Sprintf("%d events wait", state.Outbox.Next-1-state.Outbox.Acked), fmt.Sprintf("%d events were dropped", state.Outbox.Dropped), "each is covered by a gap event"),
	}
	for _, b := range state.Bundles {
		found = append(found, find("bundle "+string(b.Name), b.Phase == fleetsync.PhaseCurrent && b.DriftCount == 0, fmt.Sprintf("%s, %d objects", b.Current, b.Objects),
			fmt.Sprintf("%s %s: %s", b.Phase, b.Reason, b.Message), driftHint(b)))
	}
	return found
}

func driftHint(b fleetsync.BundleStatus) string {
	if b.DriftCount > 0 {
		return fmt.Sprintf("%d objects differ and are left: holdfast-edge status shows them", b.DriftCount)
	}
	return ""
}
