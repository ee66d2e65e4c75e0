package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Schema of an encoded rollout; another one is refused.
const Schema = "holdfast.dev/rollout/v1"

// Rollout is moving a group of sites to a bundle version in waves: everything there is to know of it, as one value that the hub stores under
// compare-and-swap. One goroutine at a time. Its methods change it in place; Revision grows with every change. A holder that loses the
// compare-and-swap throws its copy away, with every effect that it had not carried out.
type Rollout struct {
	Schema   string `json:"schema"`
	ID       string `json:"id"`
	Revision uint64 `json:"revision"`
	// Fence is the highest fencing token of a leader that acted on it.
	Fence    uint64       `json:"fence,omitempty"`
	Back     bool         `json:"back,omitempty"`   // a rollback: every site has its own goal
	Parent   string       `json:"parent,omitempty"` // what is rolled back
	Plan     Plan         `json:"plan"`             // with its defaults
	Bundle   Bundle       `json:"bundle"`
	By       string       `json:"by"` // who started it
	Started  time.Time    `json:"started"`
	Ended    time.Time    `json:"ended,omitzero"`
	Phase    Phase        `json:"phase"`
	Cause    *Reason      `json:"cause,omitempty"` // of a phase that is not Running
	Attempt  int          `json:"attempt"`
	Waves    []Wave       `json:"waves"`
	Sites    []SiteRecord `json:"sites,omitempty"` // by name
	Versions []Version    `json:"versions,omitempty"`
	// Grace is until when no verdict is given (R19). Calm is when silence began to count anew: at a resume.
	Grace time.Time `json:"grace,omitzero"`
	Calm  time.Time `json:"calm,omitzero"`
	// Pulled says that the version was rolled back: nobody gets it any more (R9). Retired says that a newer rollout has begun.
	Pulled  bool `json:"pulled,omitempty"`
	Retired bool `json:"retired,omitempty"`
	// BackOrdered says that the plan orders a rollback which the hub has not begun yet; BackBy is the rollback it began.
	BackOrdered bool   `json:"backOrdered,omitempty"`
	BackBy      string `json:"backBy,omitempty"`
	CatchUpMore int    `json:"catchUpMore,omitempty"` // failures of the last wave when the rollout completed
	// Again are offers of the last hour whose sites were offered it anew since: they count for the rate.
	Again     []time.Time `json:"again,omitempty"`
	Trail     []Entry     `json:"trail,omitempty"`
	TrailLost int         `json:"trailLost,omitempty"` // older entries dropped

	index *index
}

// Bundle is what a rollout brings, with what its signed manifest says about being brought.
type Bundle struct {
	Name bundle.Name `json:"name"` // of an agent upgrade: its ring
	Version
	// AffectsConnectivity: a site reverts, once, unless it reaches the hub again within ConfirmWithin of the apply (R14).
	AffectsConnectivity bool     `json:"affectsConnectivity,omitempty"`
	ConfirmWithin       Duration `json:"confirmWithin,omitempty"`
	// Supersedes: it may be offered where an earlier version's outcome is unknown (R16).
	Supersedes bool `json:"supersedes,omitempty"`
}

// Phase is where a rollout stands.
type Phase string

// The phases.
const (
	Running   Phase = "Running"
	Paused    Phase = "Paused"
	Aborted   Phase = "Aborted"
	Completed Phase = "Completed" // returning sites are still caught up
)

// Active says that the rollout holds its sites: no other rollout of the bundle may have them (R9).
func (r *Rollout) Active() bool { return r.Phase == Running || r.Phase == Paused }

// Entry is one line of the rollout's trail: an act of a person, or a move of the engine with its reason.
type Entry struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"` // "engine" for its own moves
	Act     string    `json:"act"`
	Why     string    `json:"why,omitempty"`
	Reason  *Reason   `json:"reason,omitempty"`
	Attempt int       `json:"attempt"`
}

const (
	maxTrail = 500
	engine   = "engine"
)

func (r *Rollout) note(e Entry) {
	e.Attempt = r.Attempt
	r.Trail = append(r.Trail, e)
	if extra := len(r.Trail) - maxTrail; extra > 0 {
		r.Trail = slices.Delete(r.Trail, 0, extra)
		r.TrailLost += extra
	}
	r.Revision++
}

// Order is a request for a new rollout.
type Order struct {
	ID     string
	By     string
	Plan   Plan
	Bundle Bundle
}

// Start freezes the waves (R9) and makes a rollout that Decide will move. It refuses what Freeze refuses, and a site that another active
// rollout of the bundle has.
func Start(now time.Time, o Order, fleet Fleet) (*Rollout, *Layout, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	layout, err := Freeze(o.Plan, fleet)
	if err != nil {
		return nil, nil, err
	}
	if layout.Plan.Spec.Subject == SubjectAgent { // R21: a watchdog restores the old agent when the new one does not report
		o.Bundle.AffectsConnectivity = true
		o.Bundle.ConfirmWithin = or(o.Bundle.ConfirmWithin, agentConfirmWithin)
	}
	r := &Rollout{
		Schema: Schema, ID: o.ID, Plan: layout.Plan, Bundle: o.Bundle, By: o.By, Started: now, Phase: Running, Attempt: 1,
	}
	for i, w := range layout.Waves {
		r.Waves = append(r.Waves, w.Wave)
		for _, m := range w.Members {
			if m.Rollout != "" {
				return nil, nil, fmt.Errorf("rollout %s: site %s is in rollout %s of %s: a site is in one active rollout per bundle", o.ID, m.Site, m.Rollout, o.Bundle.Name)
			}
			r.Sites = append(r.Sites, SiteRecord{Site: m.Site, Wave: i, Region: m.Region, Before: r.version(m.Current)})
		}
	}
	slices.SortFunc(r.Sites, func(a, b SiteRecord) int { return strings.Compare(string(a.Site), string(b.Site)) })
	r.note(Entry{At: now, By: o.By, Act: "start", Why: fmt.Sprintf("%s@%s to %d sites in %d waves", o.Bundle.Name, o.Bundle.Version.Version, len(r.Sites), len(r.Waves))})
	for _, m := range fleet.Members {
		r.Observe(m)
	}
	return r, layout, nil
}

func (o *Order) check() error {
	if _, err := bundle.ParseName(o.ID); err != nil {
		return fmt.Errorf("rollout %.80q: want an id of lower-case letters, digits and inner dashes, at most 63 characters", o.ID)
	}
	if o.By == "" || len(o.By) > maxText {
		return fmt.Errorf("rollout %s: nobody starts it", o.ID)
	}
	if _, err := bundle.ParseName(string(o.Bundle.Name)); err != nil {
		return fmt.Errorf("rollout %s: %w", o.ID, err)
	}
	if _, err := bundle.ParseVersion(string(o.Bundle.Version.Version)); err != nil {
		return fmt.Errorf("rollout %s: %w", o.ID, err)
	}
	if _, err := bundle.ParseDigest(string(o.Bundle.Digest)); err != nil {
		return fmt.Errorf("rollout %s: %w", o.ID, err)
	}
	return nil
}

// version is the place of v in Versions, plus one; 0 is nothing.
func (r *Rollout) version(v Version) int {
	if v == (Version{}) {
		return 0
	}
	if i := slices.Index(r.Versions, v); i >= 0 {
		return i + 1
	}
	r.Versions = append(r.Versions, v)
	return len(r.Versions)
}

func (r *Rollout) versionAt(place int) Version {
	if place == 0 {
		return Version{}
	}
	return r.Versions[place-1]
}

// goal is what the site is to run; the zero value: nothing of the bundle.
func (r *Rollout) goal(s *SiteRecord) Version {
	if r.Back {
		return r.versionAt(s.Goal)
	}
	return r.Bundle.Version
}

// Site is the record of a site.
func (r *Rollout) Site(id bundle.SiteID) (SiteRecord, bool) {
	i, has := r.find(id)
	if !has {
		return SiteRecord{}, false
	}
	return r.Sites[i], true
}

func (r *Rollout) find(id bundle.SiteID) (int, bool) {
	return slices.BinarySearchFunc(r.Sites, id, func(s SiteRecord, id bundle.SiteID) int { return strings.Compare(string(s.Site), string(id)) })
}

// Clone is a deep copy that knows what r was told by Observe.
func (r *Rollout) Clone() *Rollout {
	c := *r
	c.Waves = slices.Clone(r.Waves)
	for i := range c.Waves {
		c.Waves[i].Approved = slices.Clone(c.Waves[i].Approved)
		c.Waves[i].Verdicts = slices.Clone(c.Waves[i].Verdicts)
	}
	c.Sites = slices.Clone(r.Sites)
	for i := range c.Sites {
		c.Sites[i].Epochs = slices.Clone(c.Sites[i].Epochs)
	}
	c.Again = slices.Clone(r.Again)
	c.Versions, c.Trail = slices.Clone(r.Versions), slices.Clone(r.Trail)
	c.index = nil
	if r.index != nil {
		c.index = newIndex(&c, r.index.facts.clone(), r.index.ranks)
	}
	return &c
}

// check refuses a stored rollout that the engine could not have written and would stumble over.
func (r *Rollout) check() error {
	switch {
	case r.Schema != Schema:
		return fmt.Errorf("schema %.80q: want %s", r.Schema, Schema)
	case !oneOf(r.Phase, Running, Paused, Aborted, Completed):
		return fmt.Errorf("phase %.40q: unknown", r.Phase)
	case len(r.Waves) == 0 || len(r.Waves) != len(r.Plan.Spec.Waves):
		return fmt.Errorf("%d waves for a plan of %d", len(r.Waves), len(r.Plan.Spec.Waves))
	case r.Attempt < 1:
		return errors.New("attempt: want 1 or more")
	}
	if err := (&Order{ID: r.ID, By: r.By, Bundle: r.Bundle}).check(); err != nil {
		return err
	}
	if err := r.Plan.Spec.check(); err != nil {
		return err
	}
	if !r.Plan.complete() {
		return errors.New("the plan is not complete: it was never frozen")
	}
	for i := range r.Sites {
		s := &r.Sites[i]
		switch _, err := bundle.ParseSiteID(string(s.Site)); {
		case err != nil:
			return err
		case i > 0 && r.Sites[i-1].Site >= s.Site:
			return fmt.Errorf("site %s stands after %s", s.Site, r.Sites[i-1].Site)
		case outside(s.Wave, 0, len(r.Waves)-1) || outside(s.Before, 0, len(r.Versions)) || outside(s.Goal, 0, len(r.Versions)):
			return fmt.Errorf("site %s: a wave or a version that is not there", s.Site)
		case s.Withdraw > Withdrawn || s.Attempt > r.Attempt || s.Attempt < 0:
			return fmt.Errorf("site %s: an attempt or a withdrawal that cannot be", s.Site)
		}
	}
	return nil
}

func (p Plan) complete() bool {
	for i := range p.Spec.Waves {
		w := &p.Spec.Waves[i]
		if w.MinSuccess == nil || w.Ratio == nil || w.Soak == nil || w.Deadline == nil || w.ApplyBy == nil {
			return false
		}
		for _, c := range w.Checks {
			if c.Timeout == nil {
				return false
			}
		}
	}
	return p.Spec.Offline.DarkAfter != nil
}
