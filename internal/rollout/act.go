package rollout

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Actor is a person who acts on a rollout.
type Actor struct {
	Name     string
	Approver bool // has the role approver
}

// Refused is an act that is not allowed now. It changed nothing.
type Refused struct {
	Act string
	Why string
}

func (e *Refused) Error() string { return e.Act + ": refused: " + e.Why }

func refuse(act, format string, args ...any) error {
	return &Refused{act, fmt.Sprintf(format, args...)}
}

// Approve lets a wave open. The one who started the rollout may not; nor does anybody count twice, or after the wave has opened (R20).
func (r *Rollout) Approve(now time.Time, by Actor, wave string) error {
	w := r.wave(wave)
	switch {
	case by.Name == "":
		return refuse("approve", "nobody approves")
	case !by.Approver:
		return refuse("approve", "%s does not have the role approver", by.Name)
	case by.Name == r.By:
		return refuse("approve", "%s started the rollout: somebody else has to approve", by.Name)
	case w < 0:
		return refuse("approve", "there is no wave %.63q", wave)
	case !r.Active():
		return refuse("approve", "the rollout is %s", r.Phase)
	case !r.Waves[w].Opened.IsZero():
		return refuse("approve", "wave %s has opened", wave)
	case r.Plan.Spec.Waves[w].Approvals == 0:
		return refuse("approve", "wave %s asks for no approval", wave)
	case slices.ContainsFunc(r.Waves[w].Approved, func(a Approval) bool { return a.By == by.Name }):
		return refuse("approve", "%s has approved wave %s", by.Name, wave)
	}
	r.Waves[w].Approved = append(r.Waves[w].Approved, Approval{by.Name, now})
	r.note(Entry{At: now, By: by.Name, Act: "approve", Why: wave})
	return nil
}

func (r *Rollout) wave(name string) int {
	return slices.IndexFunc(r.Waves, func(w Wave) bool { return w.Name == name })
}

// Pause stops new offers. What is offered already goes on.
func (r *Rollout) Pause(now time.Time, by Actor, why string) error {
	if by.Name == "" {
		return refuse("pause", "nobody pauses")
	}
	if r.Phase != Running {
		return refuse("pause", "the rollout is %s", r.Phase)
	}
	r.Phase, r.Cause = Paused, &Reason{Code: HoldPaused, Detail: by.Name + ": " + why}
	r.note(Entry{At: now, By: by.Name, Act: "pause", Why: why})
	return nil
}

// Resume goes on after a pause or an abort, and accepts the failures that there are. With again, sites that failed are offered the version anew.
// After an abort it is a new attempt: nothing that was said about the old one counts (R7).
func (r *Rollout) Resume(now time.Time, by Actor, why string, again bool) error {
	switch {
	case by.Name == "":
		return refuse("resume", "nobody resumes")
	case why == "":
		return refuse("resume", "say why: the reason is kept in the audit log")
	case r.Phase != Paused && r.Phase != Aborted:
		return refuse("resume", "the rollout is %s", r.Phase)
	case r.Pulled:
		return refuse("resume", "the version was rolled back: start a new rollout")
	case r.Retired:
		return refuse("resume", "a newer rollout of %s has begun", r.Bundle.Name)
	}
	if r.Phase == Aborted || again {
		r.Attempt++
	}
	aborted := r.Phase == Aborted
	r.Phase, r.Cause, r.Calm, r.Ended = Running, nil, now, time.Time{}
	for i := range r.Sites {
		r.resumeSite(&r.Sites[i], aborted, again)
	}
	r.recount()
	x := r.indexed()
	for w := range r.Waves {
		wave, t := &r.Waves[w], x.tallies[w]
		wave.Accepted = t.Failed + t.Reverted
		if wave.Passed.IsZero() && !wave.Opened.IsZero() {
			wave.From = now
			wave.Verdicts = slices.DeleteFunc(wave.Verdicts, func(a Answer) bool { return a.Result != Pass })
		}
	}
	r.note(Entry{At: now, By: by.Name, Act: "resume", Why: why})
	return nil
}

// resumeSite sets a record for going on. An offer that was taken back keeps its place in the budget until it is made anew: it may be at work.
func (r *Rollout) resumeSite(s *SiteRecord, aborted, again bool) {
	switch {
	case aborted && (s.Outcome.inFlight() || s.Outcome == Unknown):
		s.Slot = true
		s.Outcome, s.Was = NotOffered, NotOffered
	case again && (s.Outcome == Failed || s.Outcome == Reverted):
		s.Slot = s.Outcome == Failed
		s.Outcome, s.Why = NotOffered, ""
	case s.Outcome == Unknown && s.Was == Applying: // blamed on nobody: judged again
		s.Outcome, s.Was = Applying, NotOffered
	}
	// A withdrawal that was not signed is signed still: until it is offered anew, the site must not find the old offer when it comes back.
	if s.Withdraw == Withdrawn {
		s.Withdraw = NotWithdrawn
	}
}

// Abort stops the rollout for good. It is allowed in every phase that is not an end, it wins over whatever the engine decided on an older
// revision, and every offer that has not ended is taken back (R7, R11).
func (r *Rollout) Abort(now time.Time, by Actor, why string) error {
	if by.Name == "" {
		return refuse("abort", "nobody aborts")
	}
	if !r.Active() {
		return refuse("abort", "the rollout is %s", r.Phase)
	}
	r.Phase, r.Cause, r.Ended = Aborted, &Reason{Code: HoldAborted, Detail: by.Name + ": " + why}, now
	r.withdraw()
	r.note(Entry{At: now, By: by.Name, Act: "abort", Why: why})
	return nil
}

// withdraw takes back every offer that has not ended: a site that failed without a revert still tries.
func (r *Rollout) withdraw() {
	for i := range r.Sites {
		if r.Sites[i].unavailable() {
			r.change(i, func(s *SiteRecord) { s.Withdraw = ToWithdraw })
		}
	}
}

// Exposure is what an abort can and cannot promise (R11): shown before and after it.
type Exposure struct {
	Taken       int       `json:"taken"`       // sites that have been seen with the version
	Outstanding int       `json:"outstanding"` // offers that have not ended
	MayApply    int       `json:"mayApply"`    // of these, sites that are away or have not answered, with a lease that still runs: they may apply whatever is decided
	LastLease   time.Time `json:"lastLease,omitzero"`
}

// Exposure counts as of now.
func (r *Rollout) Exposure(now time.Time) Exposure {
	var e Exposure
	for i := range r.Sites {
		s := r.Sites[i].stake()
		if s.Taken {
			e.Taken++
		}
		if !s.Outstanding {
			continue
		}
		e.Outstanding++
		if s.ApplyBy.After(now) {
			e.MayApply++
			e.LastLease = latest(e.LastLease, s.ApplyBy)
		}
	}
	return e
}

// Verdict takes an outside check's answer in (R20). One that was not asked for, or comes too late, is refused.
func (r *Rollout) Verdict(now time.Time, wave, check string, verdict Verdict, detail string) error {
	w := r.wave(wave)
	if w < 0 || !oneOf(verdict, Pass, Fail, Inconclusive) {
		return refuse("verdict", "there is no wave %.63q or no verdict %.40q", wave, verdict)
	}
	i := slices.IndexFunc(r.Waves[w].Verdicts, func(a Answer) bool { return a.Check == check && a.Result == "" })
	if r.Phase != Running || !r.Waves[w].Passed.IsZero() || i < 0 {
		return refuse("verdict", "check %.63q of wave %s is not waited for", check, wave)
	}
	for _, c := range r.Plan.Spec.Waves[w].Checks {
		if a := &r.Waves[w].Verdicts[i]; c.Name == check && now.After(c.Timeout.after(a.Asked)) {
			verdict, detail = Inconclusive, "no answer in time"
		}
	}
	r.Waves[w].Verdicts[i].Result, r.Waves[w].Verdicts[i].Detail = verdict, detail[:min(len(detail), maxText)]
	r.note(Entry{At: now, By: engine, Act: "verdict", Why: fmt.Sprintf("%s %s: %s", wave, check, verdict)})
	return nil
}

// Lead lets the leader with the fencing token act. One whose token is older than another leader's is refused: it has been replaced.
func (r *Rollout) Lead(token uint64) error {
	if token < r.Fence {
		return refuse("lead", "token %d is older than %d: another hub leads", token, r.Fence)
	}
	if token > r.Fence {
		r.Fence = token
		r.Revision++
	}
	return nil
}

// Restarted begins the grace after a hub's start or restore (R19): twice the heartbeat time without verdicts.
func (r *Rollout) Restarted(now time.Time, heartbeat time.Duration) {
	if grace := now.Add(2 * heartbeat); grace.After(r.Grace) {
		r.Grace = grace
		r.Revision++
	}
}

// Placed says that the offer of the attempt is in a signed assignment of the site, with its sequence. Only now can the site's reports count.
func (r *Rollout) Placed(site bundle.SiteID, attempt int, sequence uint64) error {
	i, member := r.find(site)
	if !member || r.Sites[i].Attempt != attempt || sequence == 0 {
		return errNoOffer(site, attempt)
	}
	if r.Sites[i].Placed == 0 {
		r.change(i, func(s *SiteRecord) { s.Placed = sequence })
	}
	return nil
}

// Withdrew says that the withdrawal is in a signed assignment of the site.
func (r *Rollout) Withdrew(site bundle.SiteID, attempt int) error {
	i, member := r.find(site)
	if !member || r.Sites[i].Attempt != attempt {
		return errNoOffer(site, attempt)
	}
	if r.Sites[i].Withdraw == ToWithdraw {
		r.change(i, func(s *SiteRecord) { s.Withdraw = Withdrawn })
	}
	return nil
}

func errNoOffer(site bundle.SiteID, attempt int) error {
	return fmt.Errorf("site %s: %w in attempt %d", site, errUnoffered, attempt)
}

var errUnoffered = errors.New("it has no offer of this rollout")

// Retire says that a newer rollout of the bundle has begun: returning sites get that one.
func (r *Rollout) Retire(now time.Time, newer string) error {
	if r.Active() {
		return refuse("retire", "the rollout is %s", r.Phase)
	}
	if !r.Retired {
		r.Retired = true
		r.note(Entry{At: now, By: engine, Act: "retire", Why: newer})
	}
	return nil
}
