// Package api is the hub's HTTP API: the request and response types, and the client. Hub and CLI share it and nothing else.
//
// JSON over TLS, a bearer token on every request. Refusals are problem details (RFC 9457) with a hint where there is one.
//
//	GET    /v1/version                        Version
//	POST   /v1/bundles                        a bundle file -> Bundle            409 for other bytes under a known name@version
//	GET    /v1/bundles                        []Bundle
//	GET    /v1/bundles/{name}/{version}       Bundle
//	GET    /v1/bundles/{name}/{version}/file  the bundle file
//	POST   /v1/sites                          SiteRequest -> SiteGrant           409 where the site exists
//	GET    /v1/sites                          []Site          ?labels=selector
//	GET    /v1/sites/{site}                   Site
//	POST   /v1/assignments                    AssignRequest -> []AssignResult
//	POST   /v1/unassignments                  UnassignRequest -> []AssignResult
//	GET    /v1/drift                          []SiteDrift     ?site=
//	GET    /v1/events                         []SiteEvent     ?site=&since=RFC3339&limit=
//	GET    /v1/story                          []StoryLine     the same with what the events mean together
//	POST   /v1/tokens                         TokenRequest -> TokenGrant
//	GET    /v1/tokens                         []Token
//	POST   /v1/tokens/{id}/revocation         Token
//	GET    /v1/enrolments                     []enrol.Enrolment
//	POST   /v1/enrolments/{key}/decision      Decision -> enrol.Enrolment       {key} is a fingerprint
//	POST   /v1/sites/{site}/revocation        Because -> Site
//	POST   /v1/sites/{site}/release           Because -> Site
//	POST   /v1/sites/{site}/replacement       TokenRequest -> TokenGrant
//	POST   /v1/sites/{site}/decommission      Decommission -> Site
//	POST   /v1/sites/{site}/labels            LabelChange -> Site
//	POST   /v1/sites/{site}/cordon            Because -> Site                    wants a reason
//	POST   /v1/sites/{site}/uncordon          Because -> Site
//	GET    /v1/groups                         []Group
//	GET    /v1/groups/{group}                 Group
//	PUT    /v1/groups/{group}                 GroupRequest -> Group
//	DELETE /v1/groups/{group}                 Group
//	GET    /v1/plans                          []Plan
//	GET    /v1/plans/{plan}                   Plan
//	PUT    /v1/plans/{plan}                   PlanRequest -> Plan
//	DELETE /v1/plans/{plan}                   Plan
//	GET    /v1/rollouts                       []Rollout
//	POST   /v1/rollouts                       RolloutRequest -> RolloutStart
//	GET    /v1/rollouts/{id}                  Rollout
//	GET    /v1/rollouts/{id}/explanation      rollout.Explanation
//	POST   /v1/rollouts/{id}/{act}            RolloutAct -> RolloutActed         {act} is pause, resume, approval, abort or rollback
//	GET    /v1/bundles/{name}/{version}/fleet RolloutFleet
//	GET    /v1/whoami                         User
//	GET    /v1/users                          []User
//	POST   /v1/users                          UserRequest -> UserGrant           409 where the user exists
//	POST   /v1/users/{user}/renewal           UserRenewal -> UserGrant
//	POST   /v1/users/{user}/rights            UserRights -> User
//	POST   /v1/users/{user}/revocation        Because -> User
//	GET    /v1/troubles                       []string        what is not well at the hub itself
//	GET    /v1/audit                          []AuditRecord   ?limit=
//	GET    /v1/audit/verification             AuditVerdict
//
// Two doors need no bearer token, because who knocks proves itself otherwise (package enrol): POST /v1/enrol takes and gives a signed
// envelope; GET /v1/renewal gives a challenge and POST /v1/renewal takes and gives a signed envelope. Both are rate limited.
package api

import (
	"encoding/json"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Problem is a refusal (RFC 9457, media type application/problem+json).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`            // what was refused
	Detail string `json:"detail,omitempty"` // why
	Hint   string `json:"hint,omitempty"`   // what to do
	Reason string `json:"reason,omitempty"` // machine-readable, for example verify.Reason
}

// Version of the hub.
type Version struct {
	Version string `json:"version"`
	Fleet   string `json:"fleet"`
	// Warnings are what an operator has to see to although the hub serves, each "part: words".
	Warnings []string `json:"warnings,omitempty"`
}

// Bundle is one entry of the catalog.
type Bundle struct {
	Name      bundle.Name    `json:"name"`
	Version   bundle.Version `json:"version"`
	Counter   bundle.Counter `json:"counter"`
	Digest    bundle.Digest  `json:"digest"` // of the manifest
	Content   bundle.Digest  `json:"content"`
	Objects   int            `json:"objects"`
	Size      int64          `json:"size"` // content, bytes
	Wire      int64          `json:"wire"` // compressed, bytes
	Deltas    []BundleDelta  `json:"deltas,omitempty"`
	Key       string         `json:"key"` // release key that signed it
	Created   time.Time      `json:"created"`
	Pushed    time.Time      `json:"pushed"`
	Sites     int            `json:"sites"`   // assigned
	Current   int            `json:"current"` // of these, sites that run it and say so
	Duplicate bool           `json:"duplicate,omitempty"`
}

// BundleDelta is a delta the hub holds.
type BundleDelta struct {
	From bundle.Version `json:"from"`
	Wire int64          `json:"wire"` // bytes
}

// SiteRequest asks for a new site. PublicKey is the site's NATS user key ("U…"); its seed never leaves the desk or the device.
type SiteRequest struct {
	ID        bundle.SiteID     `json:"id"`
	Labels    map[string]string `json:"labels,omitempty"`
	PublicKey string            `json:"publicKey"`
}

// SiteGrant is what the hub gives a new site: with the seed it makes the site file.
type SiteGrant struct {
	Site      bundle.SiteID   `json:"site"`
	Servers   []string        `json:"servers"` // NATS URLs
	CA        string          `json:"ca"`      // PEM
	JWT       string          `json:"jwt"`
	HeartBeat int             `json:"heartbeatSeconds"`
	Trust     json.RawMessage `json:"trust"` // tuf.Metadata, encoded
	Hubs      []string        `json:"hubs"`  // https URLs, for renewals
	HubCA     string          `json:"hubCA"` // PEM
}

// Trust is the root of trust that a hub serves: versions, and when the first of its files expires.
type Trust struct {
	Fleet     string    `json:"fleet"`
	Root      int64     `json:"root"`
	Targets   int64     `json:"targets"`
	Snapshot  int64     `json:"snapshot"`
	Timestamp int64     `json:"timestamp"`
	Expires   time.Time `json:"expires"`
	OnlineKey string    `json:"onlineKey"` // that signs now ("U…")
	Changed   bool      `json:"changed,omitempty"`
}

// Freshness says how far a fact can be believed.
type Freshness string

// The kinds of freshness.
const (
	Fresh   Freshness = "fresh"   // heard from within two heartbeats
	Stale   Freshness = "stale"   // the last word is older
	Unknown Freshness = "unknown" // never heard from
)

// Site is what the hub knows about a site, dated.
type Site struct {
	ID        bundle.SiteID     `json:"id"`
	Labels    map[string]string `json:"labels,omitempty"`
	Added     time.Time         `json:"added"`
	Connected bool              `json:"connected"` // heard from within two heartbeats
	LastSeen  *time.Time        `json:"lastSeen,omitempty"`
	Freshness Freshness         `json:"freshness"`
	// Sequence is of the newest assignment; State.Assignment tells which one the site has.
	Sequence uint64                     `json:"sequence"`
	Assigned []fleetsync.AssignedBundle `json:"assigned"`
	// State is the last snapshot; nil if there was none. StateAt is when the hub received it.
	State   *fleetsync.State `json:"state,omitempty"`
	StateAt *time.Time       `json:"stateAt,omitempty"`
	Events  EventWindow      `json:"events"`
	// Status is empty for a site like any other, or held, revoked, leaving or gone.
	Status string `json:"status,omitempty"`
	// Cordoned is set while rollouts give the site nothing new.
	Cordoned *Ruling `json:"cordoned,omitempty"`
	// Throttled is set while the site is shut out because it sent too much.
	Throttled *fleetsync.Throttle `json:"throttled,omitempty"`
	// Alarms are what a person should look at: gaps, refused reports, two epochs alive.
	Alarms []string `json:"alarms,omitempty"`
}

// Ruling is a decision of a person: when, by whom and why.
type Ruling struct {
	At  time.Time `json:"at"`
	By  string    `json:"by"`
	Why string    `json:"why,omitempty"`
}

// EventWindow is what the hub has of a site's events in its newest epoch.
type EventWindow struct {
	Epoch string `json:"epoch,omitempty"`
	Upto  uint64 `json:"upto"` // folded without a hole
	// Flaws are events, of older epochs too, that are not here or do not follow those before them; at most 32 of an epoch.
	Flaws []fleetsync.Flaw `json:"flaws,omitempty"`
}

// AssignRequest puts a bundle into the assignment of sites.
type AssignRequest struct {
	Sites  []bundle.SiteID  `json:"sites"`
	Bundle bundle.Ref       `json:"bundle"`
	Values fleetsync.Values `json:"values,omitempty"`
	Drift  bundle.DriftMode `json:"drift,omitempty"`
	// Scope limits what the bundle may touch at the sites. Without one each site keeps the scope it had for the bundle; an empty one lifts it.
	Scope *fleetsync.Scope `json:"scope,omitempty"`
	// AcceptLoss permits what the sites would halt as suspicious. It is for this order only.
	AcceptLoss bool `json:"acceptLoss,omitempty"`
	// Retry has the sites try again what failed or was quarantined there, though nothing else of the order is new.
	Retry  bool   `json:"retry,omitempty"`
	DryRun bool   `json:"dryRun,omitempty"` // say what would change, and change nothing
	Why    string `json:"why,omitempty"`    // for the audit log, at most 500 bytes
}

// UnassignRequest takes a bundle out of the assignment of sites; the sites remove its objects.
type UnassignRequest struct {
	Sites  []bundle.SiteID `json:"sites"`
	Name   bundle.Name     `json:"name"`
	DryRun bool            `json:"dryRun,omitempty"` // say what would change, and change nothing
}

// AssignResult is the outcome for one site.
type AssignResult struct {
	Site     bundle.SiteID `json:"site"`
	Sequence uint64        `json:"sequence,omitempty"`
	Changed  bool          `json:"changed"`
	Error    *Problem      `json:"error,omitempty"`
	// Of a dry run: the versions that the site is assigned now and would be then; empty for none. Changed with both the same is about values, drift or scope.
	DryRun bool           `json:"dryRun,omitempty"`
	From   bundle.Version `json:"from,omitempty"`
	To     bundle.Version `json:"to,omitempty"`
	Why    string         `json:"why,omitempty"` // of the request
}

// SiteDrift is uncorrected drift of one bundle at one site, as of At.
type SiteDrift struct {
	Site      bundle.SiteID     `json:"site"`
	Bundle    bundle.Name       `json:"bundle"`
	At        time.Time         `json:"at"`
	Freshness Freshness         `json:"freshness"`
	Corrected uint64            `json:"corrected"`
	Drift     []fleetsync.Drift `json:"drift"`
	Count     int               `json:"count"`
}

// SiteEvent is an event with what the hub adds to it.
type SiteEvent struct {
	Site     bundle.SiteID `json:"site"`
	Epoch    string        `json:"epoch"`
	Received time.Time     `json:"received"`
	fleetsync.Event
}

// ContextFile tells the CLI where a hub is: the hub writes one for its admin at first start.
type ContextFile struct {
	URL   string `json:"url"`
	CA    string `json:"ca"` // PEM
	Token string `json:"token"`
}
