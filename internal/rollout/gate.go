package rollout

import (
	"math"
	"slices"
	"time"
)

// eligible is R2's: everybody but the sites that were offline, or taken out of service by a person, before they were offered.
func (t Tally) eligible(before OfflineBefore) int {
	left := t.Skipped
	if before == BeforeSkip {
		left += t.Away
	}
	return t.Size - left
}

// reports are the sites that gave a verdict of their own or were given one.
func (t Tally) reports() int { return t.Succeeded + t.Failed + t.Reverted }

// enough is R2's: successes among the eligible.
func (r *Rollout) enough(w, successes int) bool { return successes >= r.wanted(w) }

// wanted is how many successes are enough.
func (r *Rollout) wanted(w int) int {
	if r.Back {
		return 0
	}
	spec, t := r.Plan.Spec.Waves[w], r.index.tallies[w]
	return max(*spec.MinSuccess, int(math.Ceil(*spec.Ratio*float64(t.eligible(r.Plan.Spec.Offline.Before))-rounding)))
}

// rounding keeps 0.7 × 10 from being a little more than 7.
const rounding = 1e-9

// gates opens and passes waves in their order, as far as evidence goes. Too many failures stop everything, in whichever wave they are.
func (r *Rollout) gates(now time.Time, d *Decision) {
	if r.failures(now, d) {
		return
	}
	for w := range r.Waves {
		wave := &r.Waves[w]
		if !wave.Passed.IsZero() {
			continue
		}
		if wave.Opened.IsZero() && !r.open(now, d, w) {
			return
		}
		if !r.gate(now, d, w) {
			return
		}
		r.pass(now, d, w)
	}
	r.Phase, r.Ended = Completed, now
	t := r.index.tallies[len(r.Waves)-1]
	r.CatchUpMore = t.Failed + t.Reverted
	r.move(now, d, Reason{Code: MoveCompleted, Have: len(r.Waves), Want: len(r.Waves)})
}

// failures is R2's third condition and R15.
func (r *Rollout) failures(now time.Time, d *Decision) (stopped bool) {
	x := r.indexed()
	for w := range r.Waves {
		wave, t := &r.Waves[w], x.tallies[w]
		have := t.Failed + t.Reverted - wave.Accepted
		if have <= wave.MaxFailures || r.Back {
			continue
		}
		var failed []int
		for i := range r.Sites {
			if s := &r.Sites[i]; s.Wave == w && (s.Outcome == Failed || s.Outcome == Reverted) {
				failed = append(failed, i)
			}
		}
		reason := r.about(MoveFailures, failed)
		reason.Have, reason.Want = have, wave.MaxFailures
		r.fail(now, d, reason)
		return true
	}
	return false
}

// fail does what the plan says about failure.
func (r *Rollout) fail(now time.Time, d *Decision, reason Reason) {
	if r.Plan.Spec.OnFailure != FailureRollback || r.Back {
		r.halt(now, d, Paused, reason)
		return
	}
	r.halt(now, d, Aborted, reason)
	r.Ended, r.BackOrdered, r.Pulled = now, true, true
	r.withdraw()
	r.move(now, d, Reason{Code: MoveRollback, Detail: string(r.Plan.Spec.Rollback)})
}

// open opens a wave once it has its approvals (R20).
func (r *Rollout) open(now time.Time, d *Decision, w int) bool {
	wave := &r.Waves[w]
	if have, want := len(wave.Approved), r.Plan.Spec.Waves[w].Approvals; have < want {
		d.hold(Reason{Code: HoldApproval, Wave: wave.Name, Have: have, Want: want, Of: wave.Sites})
		return false
	}
	wave.Opened, wave.From = now, now
	r.move(now, d, Reason{Code: MoveOpened, Wave: wave.Name, Have: r.index.tallies[w].Size, Of: wave.Sites})
	return true
}

// gate says whether an open wave has everything it needs, and if not, what it waits for.
func (r *Rollout) gate(now time.Time, d *Decision, w int) bool {
	r.quorum(now, d, w)
	reason, until := r.waiting(now, w)
	if reason == nil {
		asked, stopped := r.ask(now, d, w)
		if stopped || asked == nil {
			return !stopped
		}
		reason = asked
	}
	// R4: time never passes a wave, it only stops it. A check that was asked has its own time.
	if limit := r.limit(w); reason.Code != HoldVerdict {
		if !now.Before(limit) {
			r.halt(now, d, Paused, Reason{
				Code: MoveInconclusive, Wave: reason.Wave, Have: reason.Have, Want: reason.Want, Of: reason.Of, Detail: deadlinePrefix + string(reason.Code),
			})
			return false
		}
		d.wake(limit)
	}
	d.hold(*reason)
	d.wake(until)
	return false
}

// limit is the wave's deadline. A wave that has its quorum is given the time to soak.
func (r *Rollout) limit(w int) time.Time {
	wave, spec := &r.Waves[w], r.Plan.Spec.Waves[w]
	limit := spec.Deadline.after(wave.From)
	if !wave.Quorum.IsZero() {
		limit = latest(limit, (2**spec.Soak + *r.Plan.Spec.Offline.DarkAfter).after(wave.Quorum))
	}
	return limit
}

// quorum keeps the time since when there is one: soak runs from it (R6).
func (r *Rollout) quorum(now time.Time, d *Decision, w int) {
	wave, t := &r.Waves[w], r.index.tallies[w]
	reached := r.enough(w, t.Succeeded) && t.reports() >= wave.LeastReports
	reason := Reason{Wave: wave.Name, Have: t.Succeeded, Want: r.wanted(w), Of: wave.Sites}
	switch {
	case reached && wave.Quorum.IsZero():
		wave.Quorum, reason.Code = now, MoveQuorum
		r.move(now, d, reason)
	case !reached && !wave.Quorum.IsZero():
		wave.Quorum, reason.Code = time.Time{}, MoveQuorumLost
		r.move(now, d, reason)
	}
}

// waiting is the first thing that an open wave waits for, or nil.
func (r *Rollout) waiting(now time.Time, w int) (reason *Reason, until time.Time) {
	wave, spec, t := &r.Waves[w], r.Plan.Spec.Waves[w], r.index.tallies[w]
	hold := func(code Code, have, want int) (*Reason, time.Time) {
		return &Reason{Code: code, Wave: wave.Name, Have: have, Want: want, Until: until, Of: wave.Sites}, until
	}
	switch {
	case t.reports() < wave.LeastReports:
		return hold(HoldReports, t.reports(), wave.LeastReports)
	case wave.Quorum.IsZero():
		return hold(HoldQuorum, t.Succeeded, r.wanted(w))
	case now.Before(spec.Soak.after(wave.Quorum)):
		until = spec.Soak.after(wave.Quorum)
		return hold(HoldSoak, t.Succeeded, r.wanted(w))
	case !r.enough(w, t.Late):
		return hold(HoldLateReports, t.Late, r.wanted(w))
	case t.Ready > 0:
		return hold(HoldOffers, t.Ready, 0)
	case r.Back && t.InFlight > 0:
		return hold(HoldQuorum, t.Succeeded, t.Succeeded+t.InFlight)
	}
	return nil, until
}

// pass closes a wave. Its sites that were away before the offer are skipped; when they return they are in the last wave.
func (r *Rollout) pass(now time.Time, d *Decision, w int) {
	wave, t := &r.Waves[w], r.index.tallies[w]
	wave.Passed = now
	r.move(now, d, Reason{Code: MovePassed, Wave: wave.Name, Have: t.Late, Want: r.wanted(w), Of: wave.Sites})
	if t.Away == 0 {
		return
	}
	for i := range r.Sites {
		if s := &r.Sites[i]; s.Wave == w && s.Outcome == NotOffered && !r.index.facts.members[i].Connected {
			r.change(i, func(s *SiteRecord) { s.Outcome = Skipped })
		}
	}
}

// ask obtains outside verdicts (R20). It returns what is waited for, or nil when every check passed.
func (r *Rollout) ask(now time.Time, d *Decision, w int) (reason *Reason, stopped bool) {
	wave := &r.Waves[w]
	for _, check := range r.Plan.Spec.Waves[w].Checks {
		i := slices.IndexFunc(wave.Verdicts, func(a Answer) bool { return a.Check == check.Name })
		if i < 0 {
			i = len(wave.Verdicts)
			wave.Verdicts = append(wave.Verdicts, Answer{Check: check.Name, Asked: now})
			r.move(now, d, Reason{Code: MoveAsked, Wave: wave.Name, Detail: check.Name})
		}
		answer := &wave.Verdicts[i]
		until := check.Timeout.after(answer.Asked)
		about := Reason{Wave: wave.Name, Detail: check.Name + ": " + answer.Detail, Of: wave.Sites}
		switch {
		case answer.Result == Pass:
			continue
		case answer.Result == Fail:
			about.Code = MoveVerdictBad
			r.fail(now, d, about)
			return nil, true
		case answer.Result == Inconclusive || !now.Before(until):
			about.Code, about.Detail = MoveInconclusive, about.Detail+choose(answer.Result == "", "no answer in time", "")
			r.halt(now, d, Paused, about)
			return nil, true
		}
		d.Checks = append(d.Checks, Asked{Wave: wave.Name, Check: check, Until: until})
		d.wake(until)
		if reason == nil {
			reason = &Reason{Code: HoldVerdict, Wave: wave.Name, Until: until, Of: wave.Sites, Detail: check.Name}
		}
	}
	return reason, false
}

// Answer is an outside verdict, asked and perhaps given.
type Answer struct {
	Check  string    `json:"check"`
	Asked  time.Time `json:"asked"`
	Result Verdict   `json:"result,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Verdict is what an outside check says.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)
