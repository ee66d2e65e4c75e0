package rollout

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Decision is what follows from a rollout now. The effects are carried out only after the changed rollout was stored under compare-and-swap;
// they are level-triggered: what was not done and acknowledged (Placed, Withdrew, Verdict, RolledBack) is in the next decision again.
type Decision struct {
	Changed bool // the rollout is not what it was: store it before doing anything
	Phase   Phase
	Moves   []Reason // what changed, each is in the trail too
	Holds   []Reason // why nothing else does
	Offers  []Offer  // to put into assignments, by site
	// Withdrawals are to take back: put Goal into the assignment instead, where it still carries this rollout's offer.
	Withdrawals []Offer
	Checks      []Asked
	// RollBack says that the plan wants a rollback which was not begun: see Rollback and RolledBack.
	RollBack RollbackMode
	// Wake is when to decide again if nothing happens; zero: only when something does.
	Wake time.Time
}

// Offer is one site's part of a decision.
type Offer struct {
	Site    bundle.SiteID
	Attempt int
	// Goal is what the site is to run; the zero value: nothing of the bundle.
	Goal Version
	// ApplyBy is the lease: a site that is away does not begin after it.
	ApplyBy time.Time
	// Schedule is checked again by the site at the apply, in its time zone (R17).
	Schedule            fleetsync.Schedule
	AffectsConnectivity bool
	ConfirmWithin       Duration
	// AcceptLoss permits what the site would halt as suspicious.
	AcceptLoss bool
}

// Asked is an outside verdict to obtain (R20). The answer counts until Until.
type Asked struct {
	Wave  string
	Check Check
	Until time.Time
}

// Decide moves the rollout as far as the rules and the evidence allow, and says why it goes no further. Deciding again changes nothing.
func (r *Rollout) Decide(now time.Time) Decision {
	was := r.Revision
	d := Decision{}
	switch {
	case r.Active() && now.Before(r.Grace):
		d.hold(Reason{Code: HoldGrace, Until: r.Grace, Detail: "no verdict shortly after the hub's start"})
		d.wake(r.Grace)
	case r.Phase == Running:
		r.run(now, &d)
		if r.Phase == Completed { // a site of an earlier wave may be due to be caught up at once
			r.catchUp(now, &d)
		}
	case r.Phase == Completed:
		r.catchUp(now, &d)
	}
	switch r.Phase {
	case Paused:
		d.hold(Reason{Code: HoldPaused, Detail: r.cause()})
	case Aborted:
		d.hold(Reason{Code: HoldAborted, Detail: r.cause()})
	}
	d.Phase, d.Changed = r.Phase, r.Revision != was
	r.effects(now, &d)
	return d
}

func (r *Rollout) cause() string {
	if r.Cause == nil {
		return ""
	}
	return r.Cause.String()
}

func (r *Rollout) run(now time.Time, d *Decision) {
	r.darkness(now, d)
	// An offer can be the last thing that a wave waited for, and an open wave has offers to make.
	for more := true; more && r.Phase == Running; {
		d.Holds, d.Checks, d.Wake = nil, nil, time.Time{}
		r.gates(now, d)
		more = r.Phase == Running && r.offer(now, d)
	}
	if r.Phase != Running {
		return
	}
	r.barredHolds(d)
	if x := r.index; len(x.silence) > 0 {
		d.wake(x.silence[0].at)
	}
}

// catchUp offers a completed version to sites that return (R9), with the last wave's budget. A rollback waits for everybody.
func (r *Rollout) catchUp(now time.Time, d *Decision) {
	last := len(r.Waves) - 1
	t := r.indexed().tallies[last]
	r.darkness(now, d)
	switch failed := t.Failed + t.Reverted - r.CatchUpMore; {
	case r.Pulled:
		d.hold(Reason{Code: HoldPulled})
	case r.Retired:
		d.hold(Reason{Code: HoldRetired})
	case r.Plan.Spec.Offline.CatchUp == CatchUpNever && !r.Back:
		d.hold(Reason{Code: HoldCompleted})
	case failed > r.Waves[last].MaxFailures:
		d.hold(Reason{Code: HoldCatchUp, Wave: r.Waves[last].Name, Have: failed, Want: r.Waves[last].MaxFailures})
	default:
		d.hold(Reason{Code: HoldCompleted})
		r.offer(now, d)
	}
	if x := r.index; len(x.silence) > 0 {
		d.wake(x.silence[0].at)
	}
}

// effects lists what is decided and not yet acknowledged.
func (r *Rollout) effects(now time.Time, d *Decision) {
	x := r.indexed()
	offering := !now.Before(r.Grace) && (r.Phase == Running || r.Phase == Completed && !r.Pulled && !r.Retired)
	if offering {
		for _, i := range slices.Sorted(maps.Keys(x.unplaced)) {
			d.Offers = append(d.Offers, r.offerOf(i))
		}
	}
	for _, i := range slices.Sorted(maps.Keys(x.pulling)) {
		if r.BackBy != "" { // the rollback offers the same, later: two hands must not write one assignment
			break
		}
		s := &r.Sites[i]
		d.Withdrawals = append(d.Withdrawals, Offer{Site: s.Site, Attempt: s.Attempt, Goal: r.versionAt(s.Before)})
	}
	if r.BackOrdered && r.BackBy == "" {
		d.RollBack = r.Plan.Spec.Rollback
	}
}

// Withdrawing says that offers are still to be taken back.
func (r *Rollout) Withdrawing() bool { return len(r.indexed().pulling) > 0 && r.BackBy == "" }

func (r *Rollout) offerOf(i int) Offer {
	s := &r.Sites[i]
	return Offer{
		Site: s.Site, Attempt: s.Attempt, Goal: r.goal(s), ApplyBy: s.ApplyBy, Schedule: r.schedule(),
		AffectsConnectivity: r.Bundle.AffectsConnectivity, ConfirmWithin: r.Bundle.ConfirmWithin, AcceptLoss: r.Plan.Spec.AcceptLoss && !r.Back,
	}
}

func (d *Decision) hold(reason Reason) { d.Holds = append(d.Holds, reason) }

func (d *Decision) wake(at time.Time) {
	if !at.IsZero() && (d.Wake.IsZero() || at.Before(d.Wake)) {
		d.Wake = at
	}
}

// move notes what changed, with its reason.
func (r *Rollout) move(now time.Time, d *Decision, reason Reason) {
	d.Moves = append(d.Moves, reason)
	r.note(Entry{At: now, By: engine, Act: string(reason.Code), Reason: &reason})
}

// halt pauses or ends the rollout by the engine's own decision.
func (r *Rollout) halt(now time.Time, d *Decision, phase Phase, reason Reason) {
	r.Phase, r.Cause = phase, &reason
	r.move(now, d, reason)
}

// barredHolds says which sites are not offered for reasons of their own.
func (r *Rollout) barredHolds(d *Decision) {
	type group struct {
		wave int
		code Code
	}
	why := map[group][]int{}
	for _, i := range slices.Sorted(maps.Keys(r.index.barred)) {
		if s := &r.Sites[i]; !r.Waves[s.Wave].Opened.IsZero() {
			g := group{s.Wave, r.barred(&r.index.facts.members[i])}
			why[g] = append(why[g], i)
		}
	}
	for _, g := range slices.SortedFunc(maps.Keys(why), func(a, b group) int { return cmp.Or(a.wave-b.wave, cmp.Compare(a.code, b.code)) }) {
		reason := r.about(g.code, why[g])
		reason.Have = len(why[g])
		d.hold(reason)
	}
}
