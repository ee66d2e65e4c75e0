package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Rollout is what a list shows of a rollout.
type Rollout struct {
	ID       string        `json:"id"`
	Revision uint64        `json:"revision"`
	Bundle   bundle.Ref    `json:"bundle"`
	Digest   bundle.Digest `json:"manifest"`
	Plan     string        `json:"plan"`
	By       string        `json:"by"`
	Started  time.Time     `json:"started"`
	Ended    *time.Time    `json:"ended,omitempty"`
	Phase    rollout.Phase `json:"phase"`
	Cause    string        `json:"cause,omitempty"` // of a phase that is not Running
	Attempt  int           `json:"attempt"`
	Back     bool          `json:"rollback,omitempty"` // it takes sites back
	Parent   string        `json:"parent,omitempty"`   // which rollout it takes back
	BackBy   string        `json:"backBy,omitempty"`   // the rollout that takes it back
	Pulled   bool          `json:"pulled,omitempty"`   // nobody gets the version any more
	Retired  bool          `json:"retired,omitempty"`  // a newer rollout of the bundle has begun
	Sites    int           `json:"sites"`
	// Waves are as they were when the rollout changed last; GET /v1/rollouts/{id}/explanation has them as of now.
	Waves []rollout.WaveProgress `json:"waves"`
}

// RolloutRequest starts a rollout, or with DryRun says what it would be and changes nothing. It has a plan or names one that the hub keeps.
type RolloutRequest struct {
	ID       string          `json:"id,omitempty"` // empty: the hub gives one
	Bundle   bundle.Ref      `json:"bundle"`
	Plan     json.RawMessage `json:"plan,omitempty"` // a RolloutPlan
	PlanName bundle.Name     `json:"planName,omitempty"`
	DryRun   bool            `json:"dryRun,omitempty"`
}

// RolloutStart is the answer: who moves when, and the rollout unless it was a dry run.
type RolloutStart struct {
	Rollout *Rollout      `json:"rollout,omitempty"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Layout  RolloutLayout `json:"layout"`
}

// RolloutLayout says which site is in which wave.
type RolloutLayout struct {
	Bundle bundle.Ref          `json:"bundle"`
	Plan   string              `json:"plan"`
	Fleet  int                 `json:"fleet"` // sites that the plan may move
	Waves  []RolloutLayoutWave `json:"waves"`
	// BlastRadius is the most sites that can be out of service at one time because of it.
	BlastRadius int `json:"blastRadius"`
	// The sites that no wave has.
	Untargeted []bundle.SiteID `json:"untargeted,omitempty"`
	Excluded   []bundle.SiteID `json:"excluded,omitempty"`
	Cordoned   []bundle.SiteID `json:"cordoned,omitempty"`
	Left       []bundle.SiteID `json:"left,omitempty"`
	Unfit      []UnfitSite     `json:"unfit,omitempty"` // the bundle cannot be given to them
	Warnings   []string        `json:"warnings,omitempty"`
}

// RolloutLayoutWave is one wave before it began. Sites are in the order in which they will be offered the version.
type RolloutLayoutWave struct {
	Name           string           `json:"name"`
	Sites          []bundle.SiteID  `json:"sites"`
	Offline        int              `json:"offline,omitempty"` // of these, away now
	Regions        map[string]int   `json:"regions,omitempty"`
	MinSuccess     int              `json:"minSuccess"`
	Ratio          float64          `json:"ratio"`
	LeastReports   int              `json:"leastReports,omitempty"`
	MaxFailures    int              `json:"maxFailures"`
	MaxUnavailable int              `json:"maxUnavailable"`
	PerRegion      int              `json:"maxUnavailablePerRegion,omitempty"`
	Soak           rollout.Duration `json:"soak"`
	Deadline       rollout.Duration `json:"deadline"`
	ApplyBy        rollout.Duration `json:"applyBy"`
	Approvals      int              `json:"approvals,omitempty"`
	Checks         []string         `json:"checks,omitempty"`
}

// UnfitSite is a site that the bundle cannot be given to, and why.
type UnfitSite struct {
	Site bundle.SiteID `json:"site"`
	Why  string        `json:"why"`
}

// RolloutAct asks for an act on a rollout. Which fields count depends on the act.
type RolloutAct struct {
	Why   string               `json:"why,omitempty"`   // pause, resume, abort, rollback
	Wave  string               `json:"wave,omitempty"`  // approve
	Again bool                 `json:"again,omitempty"` // resume: offer the version anew where it failed
	Mode  rollout.RollbackMode `json:"mode,omitempty"`  // rollback: empty is the plan's
}

// RolloutActed is a rollout after an act, and what it was exposed to before and after: of an abort, which sites may apply the version all the same.
type RolloutActed struct {
	Rollout  Rollout          `json:"rollout"`
	Before   rollout.Exposure `json:"before"`
	After    rollout.Exposure `json:"after"`
	Rollback *Rollout         `json:"startedRollback,omitempty"`
	Losses   []Loss           `json:"losses,omitempty"` // of an abort and a rollback: what each site loses
}

// RolloutFleet is what a plan is held against: the input of a simulation at the desk.
type RolloutFleet struct {
	Bundle rollout.Bundle    `json:"bundle"`
	Sites  []RolloutFacts    `json:"sites"`
	Groups map[string]string `json:"groups,omitempty"`
}

// RolloutFacts are rollout.Facts on the wire.
type RolloutFacts struct {
	Site       bundle.SiteID     `json:"site"`
	Labels     map[string]string `json:"labels,omitempty"`
	Region     string            `json:"region,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	LastSeen   time.Time         `json:"lastSeen,omitzero"`
	Connected  bool              `json:"connected,omitempty"`
	Cordoned   bool              `json:"cordoned,omitempty"`
	Current    rollout.Version   `json:"current,omitzero"`
	Unresolved bundle.Digest     `json:"unresolved,omitempty"`
	Conflict   string            `json:"conflict,omitempty"`
	Rollout    string            `json:"rollout,omitempty"`
}

// Rollouts lists the rollouts, the newest first.
func (c *Client) Rollouts(ctx context.Context) ([]Rollout, error) {
	return Whole(c.RolloutPages(ctx, 0))
}

// Rollout gives one of them.
func (c *Client) Rollout(ctx context.Context, id string) (Rollout, error) {
	return ask[Rollout](ctx, c, http.MethodGet, nil, nil, "rollouts", id)
}

// ExplainRollout says where a rollout stands and why it goes no further.
func (c *Client) ExplainRollout(ctx context.Context, id string) (rollout.Explanation, error) {
	return ask[rollout.Explanation](ctx, c, http.MethodGet, nil, nil, "rollouts", id, "explanation")
}

// StartRollout starts a rollout, or says what it would be.
func (c *Client) StartRollout(ctx context.Context, request RolloutRequest) (RolloutStart, error) {
	return askJSON[RolloutStart](ctx, c, request, "rollouts")
}

// ActOnRollout pauses, resumes, approves, aborts or takes back: act is pause, resume, approval, abort or rollback.
func (c *Client) ActOnRollout(ctx context.Context, id, act string, request RolloutAct) (RolloutActed, error) {
	return askJSON[RolloutActed](ctx, c, request, "rollouts", id, act)
}

// RolloutFleet gives what a plan for the bundle is held against.
func (c *Client) RolloutFleet(ctx context.Context, ref bundle.Ref) (RolloutFleet, error) {
	return ask[RolloutFleet](ctx, c, http.MethodGet, nil, nil, "bundles", string(ref.Name), string(ref.Version), "fleet")
}
