package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Identifiers of a plan document.
const (
	APIVersion = "holdfast.dev/v1"
	KindPlan   = "RolloutPlan"
)

// Plan is how a rollout is to move. DecodePlan reads one strictly; Freeze fills in what it leaves out.
type Plan struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names a plan.
type Metadata struct {
	Name string `json:"name"`
}

// Spec is the plan itself.
type Spec struct {
	// Subject is what moves: a bundle, or the agent (R21).
	Subject Subject `json:"subject,omitempty"`
	// Targets narrows the fleet; empty is every site. Exclude takes sites out of it again.
	Targets Target     `json:"targets,omitzero"`
	Exclude Target     `json:"exclude,omitzero"`
	Waves   []PlanWave `json:"waves,omitempty"`
	// MaxFailures is how many failures each wave may have; nil is 0, or for the agent a small share after the first wave.
	MaxFailures *int `json:"maxFailures,omitempty"`
	// MaxUnavailablePerRegion bounds the sites of one region that are away from service because of this rollout.
	MaxUnavailablePerRegion *Amount `json:"maxUnavailablePerRegion,omitempty"`
	// SitesPerHour bounds the offers of any hour; 0 is no bound.
	SitesPerHour int                  `json:"sitesPerHour,omitempty"`
	Windows      []fleetsync.Window   `json:"windows,omitempty"`
	Blackouts    []fleetsync.Blackout `json:"blackouts,omitempty"`
	OnFailure    OnFailure            `json:"onFailure,omitempty"`
	// Rollback is how an automatic rollback goes.
	Rollback  RollbackMode `json:"rollback,omitempty"`
	Offline   Offline      `json:"offline,omitzero"`
	Emergency bool         `json:"emergency,omitempty"`
	// AcceptLoss lets sites apply what they would halt as suspicious. It stands in each signed offer of this rollout, and in none of its rollback.
	AcceptLoss bool `json:"acceptLoss,omitempty"`
}

// Subject is what a rollout moves.
type Subject string

// The subjects.
const (
	SubjectBundle Subject = "bundle"
	SubjectAgent  Subject = "agent"
)

// OnFailure is what happens when a wave has more failures than it may have.
type OnFailure string

// The reactions.
const (
	FailurePause    OnFailure = "pause"
	FailureRollback OnFailure = "rollback"
)

// RollbackMode is the order in which sites go back.
type RollbackMode string

// The modes.
const (
	Backwards RollbackMode = "backwards" // the same waves, the last one first
	AtOnce    RollbackMode = "at-once"   // one wave
)

// Offline is how the rollout treats sites that are away.
type Offline struct {
	// Before is for sites that are away when their wave offers: leave them out of its judgement, or wait for them until the deadline.
	Before OfflineBefore `json:"before,omitempty"`
	// CatchUp is for sites that return after the rollout completed.
	CatchUp CatchUp `json:"catchUp,omitempty"`
	// DarkAfter is the silence after which a site is Unknown, or Failed if it was applying and others still report.
	DarkAfter *Duration `json:"darkAfter,omitempty"`
}

// OfflineBefore is what a wave does about sites that are away.
type OfflineBefore string

// The choices.
const (
	BeforeSkip OfflineBefore = "skip"
	BeforeWait OfflineBefore = "wait"
)

// CatchUp is what returning sites get.
type CatchUp string

// The choices.
const (
	CatchUpNewest CatchUp = "newest-completed"
	CatchUpNever  CatchUp = "never"
)

// PlanWave is one wave of a plan.
type PlanWave struct {
	Name  string    `json:"name"`
	Sites Selection `json:"sites,omitzero"`
	// MinSuccess is the least number of successes; nil is 1.
	MinSuccess *int `json:"minSuccess,omitempty"`
	// Ratio is the least share of successes among the eligible, 0 to 1; nil is 0.9.
	Ratio                   *float64  `json:"ratio,omitempty"`
	MaxFailures             *int      `json:"maxFailures,omitempty"` // nil: the plan's
	MaxUnavailable          *Amount   `json:"maxUnavailable,omitempty"`
	MaxUnavailablePerRegion *Amount   `json:"maxUnavailablePerRegion,omitempty"` // nil: the plan's
	Soak                    *Duration `json:"soak,omitempty"`
	Deadline                *Duration `json:"deadline,omitempty"`
	ApplyBy                 *Duration `json:"applyBy,omitempty"`
	// Approvals are needed before the wave opens.
	Approvals int `json:"approvals,omitempty"`
	// Checks are asked before the wave passes.
	Checks []Check `json:"checks,omitempty"`
}

// Check is an outside verdict: an HTTP check or a Prometheus query that the hub carries out.
type Check struct {
	Name    string    `json:"name"`
	URL     string    `json:"url,omitempty"`
	Query   string    `json:"query,omitempty"`
	Timeout *Duration `json:"timeout,omitempty"` // nil: 1m; an answer that comes later is Inconclusive
}

// Target chooses sites. Empty fields choose all; of several fields all must hold.
type Target struct {
	Group  string          `json:"group,omitempty"`
	Labels string          `json:"labels,omitempty"` // label selector
	Names  []bundle.SiteID `json:"names,omitempty"`
}

// Selection chooses the sites of a wave: a target, or a stable part of it, or everything that is left.
type Selection struct {
	Group   string          `json:"group,omitempty"`
	Labels  string          `json:"labels,omitempty"`
	Names   []bundle.SiteID `json:"names,omitempty"`
	Percent int             `json:"percent,omitempty"` // of the fleet, or of the target where one is given
	Count   int             `json:"count,omitempty"`
	All     bool            `json:"all,omitempty"` // every site that no other wave has
}

// The limits of a plan.
const (
	MaxPlanSize  = 256 << 10 // bytes
	maxWaves     = 64
	maxSites     = 100_000
	maxNames     = 10_000
	maxChecks    = 16 // of a wave
	maxApprovals = 10
	maxText      = 4096 // selectors, addresses, queries
	maxLabel     = 63   // names of waves and checks
)

// Defaults that a plan may leave to the engine (R5, R10, R12).
const (
	defaultDarkAfter     = Duration(15 * time.Minute)
	defaultRatio         = 0.9
	defaultFirstSoak     = Duration(30 * time.Minute)
	defaultSoak          = Duration(10 * time.Minute)
	defaultFirstDeadline = Duration(24 * time.Hour)
	defaultDeadline      = Duration(14 * 24 * time.Hour)
	defaultFirstApplyBy  = Duration(24 * time.Hour)
	defaultApplyBy       = Duration(72 * time.Hour)
	defaultCheckTimeout  = Duration(time.Minute)
	defaultFirstWave     = 5 // most sites of a first wave that nobody sized, and most of any first wave at once
	leastReports         = 3 // of a first wave that is not one named site
	emergencySoak        = Duration(5 * time.Minute)
	emergencyApprovals   = 2
	agentConfirmWithin   = Duration(10 * time.Minute)
)

// withDefaults is the plan with everything said that it left unsaid, but for amounts, which need the waves' sizes.
func (p Plan) withDefaults() Plan {
	s := &p.Spec
	s.Subject = or(s.Subject, SubjectBundle)
	s.OnFailure = or(s.OnFailure, FailurePause)
	s.Rollback = or(s.Rollback, Backwards)
	s.Offline.Before = or(s.Offline.Before, BeforeSkip)
	s.Offline.CatchUp = or(s.Offline.CatchUp, CatchUpNewest)
	s.Offline.DarkAfter = orPointer(s.Offline.DarkAfter, defaultDarkAfter)
	if len(s.Waves) == 0 {
		s.Waves = []PlanWave{{Name: "canary"}, {Name: "rest", Sites: Selection{All: true}}}
	}
	waves := make([]PlanWave, len(s.Waves))
	for i, w := range s.Waves {
		waves[i] = w.withDefaults(i, s)
	}
	s.Waves = waves
	return p
}

func (w PlanWave) withDefaults(i int, s *Spec) PlanWave {
	first := i == 0
	w.MinSuccess = orPointer(w.MinSuccess, 1)
	w.Ratio = orPointer(w.Ratio, defaultRatio)
	w.Soak = orPointer(w.Soak, choose(first, defaultFirstSoak, defaultSoak))
	w.Deadline = orPointer(w.Deadline, choose(first, defaultFirstDeadline, defaultDeadline))
	w.ApplyBy = orPointer(w.ApplyBy, choose(first, defaultFirstApplyBy, defaultApplyBy))
	if w.MaxFailures == nil && s.MaxFailures != nil {
		w.MaxFailures = s.MaxFailures
	}
	if w.MaxUnavailablePerRegion == nil {
		w.MaxUnavailablePerRegion = s.MaxUnavailablePerRegion
	}
	checks := make([]Check, len(w.Checks))
	for j, c := range w.Checks {
		c.Timeout = orPointer(c.Timeout, defaultCheckTimeout)
		checks[j] = c
	}
	w.Checks = checks
	if s.Emergency { // R18: the same waves, short soaks, two approvers before anything moves
		w.Soak = orPointer(nil, min(*w.Soak, emergencySoak))
		w.Approvals = choose(first, max(w.Approvals, emergencyApprovals), 0)
	}
	return w
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func orPointer[T any](v *T, otherwise T) *T {
	if v == nil {
		return &otherwise
	}
	return v
}

func choose[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// check refuses what is wrong with a plan whatever the fleet is.
func (p *Plan) check() error {
	if p.APIVersion != APIVersion || p.Kind != KindPlan {
		return fmt.Errorf("plan: apiVersion %.40q kind %.40q: want %s %s", p.APIVersion, p.Kind, APIVersion, KindPlan)
	}
	if _, err := bundle.ParseName(p.Metadata.Name); err != nil {
		return fmt.Errorf("plan: metadata.name %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", p.Metadata.Name)
	}
	if err := errors.Join(p.Spec.check(), p.Spec.checkSubject()); err != nil {
		return fmt.Errorf("plan %s: %w", p.Metadata.Name, err)
	}
	return nil
}
