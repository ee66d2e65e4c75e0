package rollout

import (
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Evidence is one signed word of a site about its part in a rollout.
type Evidence struct {
	Site   bundle.SiteID
	Signer bundle.SiteID // the site whose key verified the message; empty: nobody's did
	// Rollout and Attempt are whose offer the site speaks of: that of the assignment it reports.
	Rollout string
	Attempt int
	// Digest is of the version that the site was told to run and speaks of; empty: it was told to run nothing of the bundle.
	Digest   bundle.Digest
	Epoch    string
	Seq      uint64    // of the state snapshot
	Beat     time.Time // zero: the snapshot itself; else the site's clock in a heartbeat that says the snapshot Seq is still true
	Received time.Time // hub's clock
	Phase    fleetsync.Phase
	// Runs is the digest that is applied and healthy.
	Runs   bundle.Digest
	Reason string
	// Unreachable says that the site's cluster does not answer: what fails then is no verdict on the version.
	Unreachable bool
}

// Refusal says why evidence does not count. The set is closed.
type Refusal string

// The refusals of R8.
const (
	Counted       Refusal = ""
	NotSigned     Refusal = "NotSigned"     // or by another site's key
	NotInWave     Refusal = "NotInWave"     // the site is not in the rollout
	NotOfferedYet Refusal = "NotOfferedYet" // nothing was offered
	OtherRollout  Refusal = "OtherRollout"
	OtherAttempt  Refusal = "OtherAttempt"
	OtherDigest   Refusal = "OtherDigest"
	NotNew        Refusal = "NotNew"     // (epoch, seq) was heard, or a newer one
	AfterAbort    Refusal = "AfterAbort" // R7: noted for the rollback, changes nothing
)

// maxEpochs bounds the ended lives that are remembered of one site.
const maxEpochs = 8

// Report makes evidence of a site's snapshot. It is bound to the offer by the assignment that the site reports: not older than the one that
// carried the offer. signer is the site whose key verified it. ok is false where the snapshot says nothing of the offer.
func (r *Rollout) Report(state *fleetsync.State, received time.Time, signer bundle.SiteID) (e Evidence, ok bool) {
	s, member := r.Site(state.Site)
	if !member || s.Placed == 0 || state.Assignment < s.Placed {
		return Evidence{}, false
	}
	e = Evidence{
		Site: state.Site, Signer: signer, Rollout: r.ID, Attempt: s.Attempt, Epoch: state.Epoch, Seq: state.Sequence, Received: received,
		Unreachable: !state.Cluster.Reachable,
	}
	if r.Plan.Spec.Subject == SubjectAgent {
		return r.agentReport(e, state, r.goal(&s)), true
	}
	for _, b := range state.Bundles {
		if b.Name == r.Bundle.Name {
			e.Digest, e.Phase, e.Runs, e.Reason = b.Digest, b.Phase, b.CurrentDigest, b.Reason
			return e, true
		}
	}
	return e, true
}

// agentReport makes evidence of an agent's own version: a site whose bundles are in trouble is no trouble of the agent's (R21), but for the bundle
// that brings the agent, when it is not taken or was taken back.
func (r *Rollout) agentReport(e Evidence, state *fleetsync.State, goal Version) Evidence {
	e.Digest, e.Phase = goal.Digest, fleetsync.PhaseAccepted
	e.Unreachable = false
	if state.Agent == string(goal.Version) {
		e.Phase, e.Runs = fleetsync.PhaseCurrent, goal.Digest
		return e
	}
	for _, b := range state.Bundles {
		if b.Name == r.Bundle.Name && b.Digest == goal.Digest && oneOf(b.Phase, fleetsync.PhaseRefused, fleetsync.PhaseHalted, fleetsync.PhaseReverting, fleetsync.PhaseReverted) {
			e.Phase, e.Reason = b.Phase, b.Reason
		}
	}
	return e
}

// Beat makes evidence of a heartbeat: the snapshot it names is still true. ok is false where the hub does not hold that snapshot.
func (r *Rollout) Beat(hello *fleetsync.Hello, state *fleetsync.State, received time.Time, signer bundle.SiteID) (Evidence, bool) {
	if hello.Site != state.Site || hello.Epoch != state.Epoch || hello.State != state.Sequence {
		return Evidence{}, false
	}
	e, ok := r.Report(state, received, signer)
	e.Beat = hello.At
	return e, ok
}

// Fold takes evidence in, or says why it does not count (R8). After an abort outcomes stay as they are (R7).
func (r *Rollout) Fold(e Evidence) Refusal {
	i, member := r.find(e.Site)
	if !member {
		return NotInWave
	}
	s := &r.Sites[i]
	if refusal := r.admit(s, e); refusal != Counted {
		return refusal
	}
	outcome, why := r.judge(s, e)
	if r.Phase == Aborted {
		r.foldLate(i, e, outcome)
		return AfterAbort
	}
	if e.Beat.IsZero() || outcome != s.Outcome || r.lateReport(s, e) || e.Epoch != s.Epoch || e.Seq != s.Seq {
		r.change(i, func(s *SiteRecord) { r.take(s, e, outcome, why) })
		return Counted
	}
	// A heartbeat that says nothing new is worth no write: a hub that forgets it has lost nothing.
	s.Beat, s.Heard = e.Beat, e.Received
	return Counted
}

func (r *Rollout) admit(s *SiteRecord, e Evidence) Refusal {
	switch {
	case e.Signer != e.Site:
		return NotSigned
	case e.Rollout != r.ID:
		return OtherRollout
	case s.Outcome == NotOffered || s.Outcome == Skipped:
		return NotOfferedYet
	case e.Attempt != s.Attempt:
		return OtherAttempt
	case e.Digest != r.goal(s).Digest:
		return OtherDigest
	case e.Epoch == s.Epoch && (e.Seq < s.Seq || e.Seq == s.Seq && !e.Beat.After(s.Beat)):
		return NotNew
	case slices.Contains(s.Epochs, e.Epoch):
		return NotNew
	}
	return Counted
}

// judge says what the evidence makes of the site: the newest word of the site decides.
func (r *Rollout) judge(s *SiteRecord, e Evidence) (outcome Outcome, why string) {
	goal := r.goal(s)
	if goal.Digest == "" && e.Phase == "" {
		return Succeeded, "" // a rollback to nothing: the site no longer speaks of the bundle
	}
	switch e.Phase {
	case fleetsync.PhaseAccepted:
		return Accepted, ""
	case fleetsync.PhaseApplying, fleetsync.PhaseSettling:
		return Applying, ""
	case fleetsync.PhaseCurrent:
		if e.Runs == goal.Digest {
			return Succeeded, ""
		}
	case fleetsync.PhaseUnhealthy, fleetsync.PhaseReverting, fleetsync.PhaseRefused, fleetsync.PhaseHalted:
		return Failed, or(e.Reason, string(e.Phase))
	case fleetsync.PhaseReverted:
		return Reverted, or(e.Reason, string(e.Phase))
	case fleetsync.PhaseFailed:
		if !e.Unreachable && e.Reason != reasonFetch {
			return Failed, or(e.Reason, string(e.Phase))
		}
		if s.Outcome == Failed || s.Outcome == Unknown || s.Outcome == Succeeded {
			return Accepted, ""
		}
		return s.Outcome, ""
	}
	return Offered, ""
}

// reasonFetch is the edge's word for content that does not arrive: it keeps trying, the deadline decides.
const reasonFetch = "FetchFailed"

// take writes the evidence into the record.
func (r *Rollout) take(s *SiteRecord, e Evidence, outcome Outcome, why string) {
	late := r.lateReport(s, e)
	if outcome == Succeeded && s.Outcome != Succeeded {
		s.Applied, s.Late = e.Received, r.soak(s) == 0
	}
	if outcome != Succeeded {
		s.Applied, s.Late = time.Time{}, false
	}
	s.Late = s.Late || late
	if e.Epoch != s.Epoch && s.Epoch != "" {
		s.Epochs = append(s.Epochs, s.Epoch)
		s.Epochs = s.Epochs[max(0, len(s.Epochs)-maxEpochs):]
	}
	s.Outcome, s.Why, s.Was = outcome, why, NotOffered
	s.Epoch, s.Seq, s.Beat, s.Heard = e.Epoch, e.Seq, e.Beat, e.Received
	s.Took = s.Took || touched(outcome)
}

// touched says that the version has been at work in the site's cluster.
func touched(o Outcome) bool { return o == Applying || o == Succeeded || o == Failed || o == Reverted }

// lateReport is R6's: the site says again that it is healthy, at least soak after it first said so.
func (r *Rollout) lateReport(s *SiteRecord, e Evidence) bool {
	return s.Outcome == Succeeded && !s.Late && e.Phase == fleetsync.PhaseCurrent && !e.Received.Before(r.soak(s).after(s.Applied))
}

func (r *Rollout) soak(s *SiteRecord) Duration { return *r.Plan.Spec.Waves[s.Wave].Soak }

// foldLate remembers after an abort that the version was at work, so that a rollback goes there, and nothing else.
func (r *Rollout) foldLate(i int, e Evidence, outcome Outcome) {
	if !touched(outcome) || r.Sites[i].Took {
		return
	}
	r.change(i, func(s *SiteRecord) { s.Took = true })
	r.note(Entry{At: e.Received, By: string(e.Site), Act: actLate, Why: "the rollout is aborted: nothing changes but what a rollback has to reach"})
}
