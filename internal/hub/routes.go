package hub

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
)

// reach says what becomes of a user's scope at an endpoint.
type reach int

const (
	// fleetWide is about the whole fleet: a user with a scope is refused.
	fleetWide reach = iota
	// inScope has a handler that shows and touches only what is in the user's scope.
	inScope
	// siteless says and touches nothing of sites.
	siteless
)

// route is one endpoint with who may use it. All there is to be known of the API is in the table of them.
type route struct {
	pattern string
	least   access.Role
	reach   reach
	what    string // as the audit log calls it; empty for what changes nothing
	about   string // one line for people
	handler http.HandlerFunc
	takes   reflect.Type // of the JSON body; nil: none, or it is no JSON
	gives   reflect.Type // of the JSON answer; nil: it is no JSON, but of kind
	kind    string       // media type
	// foresees says that dryRun=true gives an Impact instead.
	foresees bool
	query    []parameter
}

// table are the endpoints that want a token. What two endpoints may be told apart by is in their patterns; the order says nothing.
func (h *Hub) table() []route {
	const viewer, operator, approver, admin = access.Viewer, access.Operator, access.Approver, access.Admin
	type none = struct{}
	return []route{
		reads("/v1/version", viewer, siteless, "The hub's version and fleet", h.getVersion),
		{pattern: "GET /v1/openapi.json", least: viewer, reach: siteless, about: "This document", kind: "application/json", handler: h.getOpenAPI()},
		reads("/v1/whoami", viewer, siteless, "The user of the token", h.getWhoAmI),

		writes[none](h, "POST /v1/bundles", operator, fleetWide, "bundle push", "Take a bundle file into the catalog", h.postBundle),
		reads("/v1/bundles", viewer, inScope, "The catalog", h.getBundles).asking(labelsAsk, groupAsks, limitAsks, continueAsks),
		reads("/v1/bundles/{name}/{version}", viewer, inScope, "One entry of the catalog", h.getBundle),
		{pattern: "GET /v1/bundles/{name}/{version}/file", least: viewer, reach: siteless, about: "The bundle file", kind: "application/octet-stream", handler: h.getBundleFile},

		writes[api.SiteRequest](h, "POST /v1/sites", operator, inScope, "site add", "Make a site known", h.postSite),
		reads("/v1/sites", viewer, inScope, "The sites", h.getSites).asking(labelsAsk, groupAsks, freshAsks, limitAsks, continueAsks),
		reads("/v1/sites/{site}", viewer, inScope, "What is known of one site", h.getSite),
		reads("/v1/sites/{site}/assignment", operator, inScope, "A site's signed assignment, to be carried there", h.getSealedAssignment),
		writes[none](h, "POST /v1/reports", operator, fleetWide, "report import", "Take what a site reported by hand", h.postReport),
		writes[api.AssignRequest](h, "POST /v1/assignments", operator, inScope, "assign", "Put a bundle into the assignments of sites", h.postAssignment),
		writes[api.UnassignRequest](h, "POST /v1/unassignments", operator, inScope, "unassign", "Take a bundle out of the assignments of sites", h.postUnassignment),
		writes[none](h, "POST /v1/trust", admin, fleetWide, "root publish", "Take what the holders of the root of trust have signed", h.postTrust),
		reads("/v1/trust", viewer, siteless, "The root of trust that is served", h.getTrust),
		reads("/v1/drift", viewer, inScope, "Drift that is not corrected", h.getDrift).asking(siteAsks, labelsAsk, groupAsks, freshAsks, limitAsks, continueAsks),
		reads("/v1/events", viewer, inScope, "Events, the oldest first; a list that goes on goes on with older ones", h.getEvents).asking(siteAsks, labelsAsk, groupAsks, sinceAsks, limitAsks, continueAsks),
		reads("/v1/story", viewer, inScope, "Events with what they mean together: offline periods, gaps, new stores", h.getStory).asking(siteAsks, labelsAsk, groupAsks, sinceAsks, limitAsks, continueAsks),

		{pattern: "GET /v1/watch", least: viewer, reach: inScope, about: "What happens, as server-sent events: site, event, rollout, reset", kind: "text/event-stream", handler: h.getWatch,
			query: []parameter{kindsAsk, siteAsks, labelsAsk, groupAsks}},

		destroys[api.Because](h, "POST /v1/sites/{site}/revocation", operator, inScope, "site revoke", "Shut a site out", rule(h, h.revokeSite), foresightOfSite(h, always[api.Because](endRevoked))),
		writes[api.Because](h, "POST /v1/sites/{site}/release", operator, inScope, "site release", "End a hold", rule(h, h.releaseSite)),
		destroys[api.TokenRequest](h, "POST /v1/sites/{site}/replacement", operator, inScope, "site replace", "Make the token with which other hardware takes a site's place", h.postReplacement, foresightOfSite(h, always[api.TokenRequest](endReplaced))),
		destroys[api.Decommission](h, "POST /v1/sites/{site}/decommission", operator, inScope, "site decommission", "Let a site leave the fleet", rule(h, h.DecommissionSite), foresightOfSite(h, decommissioning)),
		writes[api.LabelChange](h, "POST /v1/sites/{site}/labels", operator, inScope, "site label", "Set and remove labels of a site", rule(h, h.labelSite)),
		writes[api.Because](h, "POST /v1/sites/{site}/cordon", operator, inScope, "site cordon", "Keep rollouts from giving a site anything new", rule(h, h.CordonSite)),
		writes[api.Because](h, "POST /v1/sites/{site}/uncordon", operator, inScope, "site uncordon", "Let rollouts give a site something new again", rule(h, h.UncordonSite)),

		writes[api.TokenRequest](h, "POST /v1/tokens", operator, fleetWide, "token create", "Make a join token", h.postToken),
		reads("/v1/tokens", operator, fleetWide, "The join tokens", h.getTokens),
		destroys[api.Because](h, "POST /v1/tokens/{id}/revocation", operator, fleetWide, "token revoke", "End a join token", h.postTokenRevocation, foreseenOf("id", h.foreseeTokenRevocation)),
		reads("/v1/enrolments", operator, fleetWide, "The devices that asked to join", h.getEnrolments),
		writes[api.Decision](h, "POST /v1/enrolments/{key}/decision", operator, fleetWide, "site decide", "Approve or reject a device by its fingerprint", h.postDecision),

		reads("/v1/groups", viewer, fleetWide, "The groups", h.getGroups),
		reads("/v1/groups/{group}", viewer, fleetWide, "One group", h.getGroup),
		writes[api.GroupRequest](h, "PUT /v1/groups/{group}", operator, fleetWide, "group set", "Make a group or give it another selector", h.putGroup),
		destroys[none](h, "DELETE /v1/groups/{group}", operator, fleetWide, "group delete", "Forget a group that nobody names", h.deleteGroup, foreseenOf("group", h.foreseeGroupDelete)),

		reads("/v1/plans", viewer, fleetWide, "The stored rollout plans", h.getPlans).asking(limitAsks, continueAsks),
		reads("/v1/plans/{plan}", viewer, fleetWide, "One stored rollout plan", h.getPlan),
		writes[api.PlanRequest](h, "PUT /v1/plans/{plan}", operator, fleetWide, "plan set", "Store a rollout plan", h.putPlan),
		destroys[none](h, "DELETE /v1/plans/{plan}", operator, fleetWide, "plan delete", "Forget a rollout plan", h.deletePlan, foreseenOf("plan", h.foreseePlanDelete)),

		reads("/v1/rollouts", viewer, inScope, "The rollouts, the newest first", h.getRollouts).asking(limitAsks, continueAsks),
		writes[api.RolloutRequest](h, "POST /v1/rollouts", operator, fleetWide, "rollout start", "Start a rollout, or say what it would be", h.postRollout),
		reads("/v1/rollouts/{id}", viewer, inScope, "One rollout", h.getRollout),
		reads("/v1/rollouts/{id}/explanation", viewer, inScope, "Where a rollout stands and why it goes no further", h.getExplanation),
		reads("/v1/bundles/{name}/{version}/fleet", viewer, fleetWide, "What a plan for the bundle is held against", h.getRolloutFleet),
		writes[api.RolloutAct](h, "POST /v1/rollouts/{id}/pause", operator, fleetWide, "rollout pause", "Make no new offers", h.actsOn("pause")),
		writes[api.RolloutAct](h, "POST /v1/rollouts/{id}/resume", operator, fleetWide, "rollout resume", "Go on after a pause or an abort", h.actsOn("resume")),
		writes[api.RolloutAct](h, "POST /v1/rollouts/{id}/approval", approver, fleetWide, "rollout approve", "Let a wave open", h.actsOn("approval")),
		destroys[api.RolloutAct](h, "POST /v1/rollouts/{id}/abort", operator, fleetWide, "rollout abort", "Stop a rollout and take its offers back", h.actsOn("abort"), foreseenOf("id", h.foreseeAct("abort"))),
		destroys[api.RolloutAct](h, "POST /v1/rollouts/{id}/rollback", operator, fleetWide, "rollout rollback", "Bring sites back to what they ran before", h.actsOn("rollback"), foreseenOf("id", h.foreseeAct("rollback"))),

		reads("/v1/notifications", admin, fleetWide, "Whom the hub tells, of what, and how that goes", h.getNotifications),
		reads("/v1/notifications/{notification}", admin, fleetWide, "One notification", h.getNotification()),
		writes[api.NotificationSpec](h, "PUT /v1/notifications/{notification}", admin, fleetWide, "notification set", "Have somebody told what happens", h.putNotification),
		destroys[none](h, "DELETE /v1/notifications/{notification}", admin, fleetWide, "notification delete", "Have somebody told no more", h.deleteNotification(), h.foreseeNotificationDelete),
		writes[api.Because](h, "POST /v1/notifications/{notification}/test", admin, fleetWide, "notification test", "Send a notice that is a test", h.postNotificationTest()),
		writes[api.Because](h, "POST /v1/notifications/{notification}/key", admin, fleetWide, "notification key", "The secret that signatures are checked with", h.postNotificationKey()),

		destroys[api.Because](h, "POST /v1/purge", admin, fleetWide, "purge", "Remove what is over", h.postPurge, h.foreseePurge),

		writes[api.UserRequest](h, "POST /v1/users", admin, fleetWide, "user add", "Make a user and its token", h.postUser),
		reads("/v1/users", admin, fleetWide, "The users", h.getUsers),
		writes[api.UserRenewal](h, "POST /v1/users/{user}/renewal", admin, fleetWide, "user renew", "Give a user another token", h.postUserRenewal),
		writes[api.UserRights](h, "POST /v1/users/{user}/rights", admin, fleetWide, "user change", "Give a user another role or scope", h.postUserRights),
		destroys[api.Because](h, "POST /v1/users/{user}/revocation", admin, fleetWide, "user revoke", "End a user's token", h.postUserRevocation, foreseenOf("user", h.foreseeUserRevocation)),

		{pattern: "GET /metrics", least: viewer, reach: fleetWide, about: "Metrics for Prometheus", kind: "text/plain", handler: h.metrics.handler().ServeHTTP},

		reads("/v1/troubles", viewer, fleetWide, "What is not well at the hub itself, a line each", h.getTroubles),
		reads("/v1/audit", viewer, fleetWide, "Who did what, the oldest first; a list that goes on goes on with older records", h.getAudit).asking(limitAsks, continueAsks),
		reads("/v1/audit/verification", viewer, fleetWide, "Whether the audit log is whole", h.getAuditVerdict),
	}
}

// endpoint gives a value or an error.
type endpoint[T any] func(w http.ResponseWriter, r *http.Request) (T, error)

// reads is the route of an endpoint that changes nothing.
func reads[Out any](path string, least access.Role, reach reach, about string, f endpoint[Out]) route {
	return route{pattern: "GET " + path, least: least, reach: reach, about: about, handler: answer(f), gives: reflect.TypeFor[Out]()}
}

// writes is the route of an endpoint that changes something: what became of it is in the audit log before it is answered.
// In is what it takes as JSON, struct{} for nothing.
func writes[In, Out any](h *Hub, pattern string, least access.Role, reach reach, what, about string, f endpoint[Out]) route {
	takes := reflect.TypeFor[In]()
	if takes == reflect.TypeFor[struct{}]() {
		takes = nil
	}
	return route{pattern: pattern, least: least, reach: reach, what: what, about: about, handler: write(h, what, f), takes: takes, gives: reflect.TypeFor[Out]()}
}

// refusal is why a user may not use the endpoint at all; nil for one who may.
func (rt route) refusal(a actor) error {
	switch {
	case !a.role.Covers(rt.least):
		return refuse(http.StatusForbidden, "Forbidden", fmt.Sprintf("this takes the role %s", rt.least), fmt.Sprintf("%s has the role %s", a.name, a.role), "ask an admin: holdfast user list")
	case rt.reach == fleetWide && !a.scope.Empty():
		return refuse(http.StatusForbidden, "OutOfScope", "this is about the whole fleet", "the scope of "+a.name+" is "+a.scope.String(), "ask somebody without a scope")
	}
	return nil
}

// guarded lets in who may use the endpoint. A refusal is in the audit log, whether or not anything would have changed.
func (h *Hub) guarded(rt route) http.HandlerFunc {
	handler := rt.handler
	if rt.what != "" {
		limit := int64(api.MaxRequest)
		if rt.takes == nil {
			limit = api.MaxFile
		}
		handler = h.once(limit, handler)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		err := rt.refusal(actorOf(r.Context()))
		if err == nil {
			if err = rt.unknownParameter(r.URL.Query()); err == nil {
				handler(w, r)
				return
			}
		}
		problem, what := problemOf(err), rt.what
		if what == "" {
			what = rt.pattern
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
		defer cancel()
		h.auditRefusal(ctx, api.AuditRecord{Who: who(r), What: what, Target: targetOf(r, nil), Outcome: problem.Reason, Detail: problem.Title})
		writeProblem(w, problem)
	}
}

// auditTime is how long an answer waits for its record.
const auditTime = 10 * time.Second

func (h *Hub) routes() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range h.table() {
		mux.HandleFunc(rt.pattern, h.guarded(rt))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern == "" {
			// ServeMux answers in plain text; it is asked only for the status, 404 or 405.
			probe := &statusOnly{header: http.Header{}}
			handler.ServeHTTP(probe, r)
			if allow := probe.header.Get("Allow"); allow != "" {
				w.Header().Set("Allow", allow)
			}
			status := max(probe.status, http.StatusNotFound)
			writeProblem(w, api.Problem{Status: status, Title: fmt.Sprintf("%s %.200q is not part of this API", r.Method, r.URL.Path), Reason: "NoSuchEndpoint"})
			return
		}
		counted(r, pattern)
		mux.ServeHTTP(w, r)
	})
}
