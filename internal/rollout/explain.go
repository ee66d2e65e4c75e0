package rollout

import (
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Explanation says where a rollout stands and why it goes no further, with the inputs of every reason.
type Explanation struct {
	ID       string            `json:"id"`
	Revision uint64            `json:"revision"`
	At       time.Time         `json:"at"`
	Phase    Phase             `json:"phase"`
	Cause    *Reason           `json:"cause,omitempty"`
	Bundle   bundle.Name       `json:"bundle"`
	Version  bundle.Version    `json:"version"`
	Waves    []WaveExplanation `json:"waves"`
	// Moves is what the engine would do now, Holds why it does nothing else.
	Moves    []Reason          `json:"moves,omitempty"`
	Holds    []Reason          `json:"holds,omitempty"`
	Wake     time.Time         `json:"wake,omitzero"`
	Exposure Exposure          `json:"exposure"`
	Sites    []SiteExplanation `json:"sites,omitempty"` // those that need a look: offered and not succeeded, barred, skipped
	Trail    []Entry           `json:"trail,omitempty"`
	// TrailLost is how many older entries were dropped.
	TrailLost int `json:"trailLost,omitempty"`
}

// WaveExplanation is one wave with its counts.
type WaveExplanation struct {
	Name           string        `json:"name"`
	State          string        `json:"state"` // waiting, open, soaking, passed
	Tally          Tally         `json:"tally"`
	Eligible       int           `json:"eligible"`
	Wanted         int           `json:"wanted"` // successes
	LeastReports   int           `json:"leastReports,omitempty"`
	MaxFailures    int           `json:"maxFailures"`
	Accepted       int           `json:"accepted,omitempty"` // failures accepted by a resume
	MaxUnavailable int           `json:"maxUnavailable"`
	Approvals      int           `json:"approvals,omitempty"` // wanted
	Approved       []Approval    `json:"approved,omitempty"`
	Opened         time.Time     `json:"opened,omitzero"`
	Quorum         time.Time     `json:"quorum,omitzero"`
	Passed         time.Time     `json:"passed,omitzero"`
	Deadline       time.Time     `json:"deadline,omitzero"`
	Sites          bundle.Digest `json:"sites"`
}

// SiteExplanation is one site that needs a look.
type SiteExplanation struct {
	Site    bundle.SiteID `json:"site"`
	Wave    string        `json:"wave"`
	Outcome Outcome       `json:"outcome"`
	Held    Code          `json:"held,omitempty"` // why it is not offered
	Why     string        `json:"why,omitempty"`
	Offered time.Time     `json:"offered,omitzero"`
	ApplyBy time.Time     `json:"applyBy,omitzero"`
	Heard   time.Time     `json:"heard,omitzero"`
	Epoch   string        `json:"epoch,omitempty"`
	Seq     uint64        `json:"seq,omitempty"`
}

// Explain asks the same reducer on a copy: nothing changes.
func (r *Rollout) Explain(now time.Time) Explanation { return r.explain(now, r.Clone().Decide(now)) }

func (r *Rollout) explain(now time.Time, d Decision) Explanation {
	e := Explanation{
		ID: r.ID, Revision: r.Revision, At: now, Phase: r.Phase, Cause: r.Cause, Bundle: r.Bundle.Name, Version: r.Bundle.Version.Version,
		Moves: d.Moves, Holds: d.Holds, Wake: d.Wake, Exposure: r.Exposure(now), Trail: r.Trail, TrailLost: r.TrailLost,
	}
	x := r.indexed()
	for w := range r.Waves {
		wave, spec, t := &r.Waves[w], r.Plan.Spec.Waves[w], x.tallies[w]
		we := WaveExplanation{
			Name: wave.Name, State: wave.state(), Tally: t, Eligible: t.eligible(r.Plan.Spec.Offline.Before), Wanted: r.wanted(w),
			LeastReports: wave.LeastReports, MaxFailures: wave.MaxFailures, Accepted: wave.Accepted, MaxUnavailable: wave.MaxUnavailable,
			Approvals: spec.Approvals, Approved: wave.Approved, Opened: wave.Opened, Quorum: wave.Quorum, Passed: wave.Passed, Sites: wave.Sites,
		}
		if !wave.Opened.IsZero() {
			we.Deadline = r.limit(w)
		}
		e.Waves = append(e.Waves, we)
	}
	for i := range r.Sites {
		if site, worth := r.explainSite(i); worth {
			e.Sites = append(e.Sites, site)
		}
	}
	return e
}

// Progress is how far each wave is.
func (r *Rollout) Progress() []WaveProgress {
	x := r.indexed()
	progress := make([]WaveProgress, len(r.Waves))
	for w := range r.Waves {
		progress[w] = WaveProgress{Name: r.Waves[w].Name, State: r.Waves[w].state(), Tally: x.tallies[w]}
	}
	return progress
}

// WaveProgress is a wave's state and counts.
type WaveProgress struct {
	Name  string `json:"name"`
	State string `json:"state"` // waiting, open, soaking, passed
	Tally Tally  `json:"tally"`
}

func (w *Wave) state() string {
	switch {
	case !w.Passed.IsZero():
		return "passed"
	case !w.Quorum.IsZero():
		return "soaking"
	case !w.Opened.IsZero():
		return "open"
	}
	return "waiting"
}

// Waits are the holds, without those that only repeat the cause.
func (e Explanation) Waits() []Reason {
	return slices.DeleteFunc(slices.Clone(e.Holds), func(r Reason) bool { return e.Cause != nil && (r.Code == HoldPaused || r.Code == HoldAborted) })
}

func (r *Rollout) explainSite(i int) (e SiteExplanation, worth bool) {
	s, f := &r.Sites[i], &r.index.facts.members[i]
	e = SiteExplanation{
		Site: s.Site, Wave: r.Waves[s.Wave].Name, Outcome: s.Outcome, Why: s.Why, Offered: s.Offered, ApplyBy: s.ApplyBy,
		Heard: latest(s.Heard, f.LastSeen), Epoch: s.Epoch, Seq: s.Seq,
	}
	switch {
	case s.Outcome == Succeeded:
		return e, false
	case s.Outcome != NotOffered && s.Outcome != Skipped:
		return e, true
	case r.Waves[s.Wave].Opened.IsZero():
		return e, false
	case f.Cordoned:
		e.Held = HoldCordoned
	case !f.Connected:
		e.Held = HoldAway
	default:
		e.Held = r.barred(f)
	}
	if e.Held == HoldConflict {
		e.Why = f.Conflict
	}
	return e, e.Held != ""
}
