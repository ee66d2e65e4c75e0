package hub

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// The blast radius of every act that takes something away is decided here, without a clock, the bus or a change: blasts.go asks.

// ending is how a site's time, or its device's, comes to an end.
type ending int

const (
	endRevoked ending = iota
	endReplaced
	endLeft    // what it runs stays
	endCleared // it removes what it runs first
)

var endingActs = map[ending]string{endRevoked: "site revoke", endReplaced: "site replace", endLeft: "site decommission", endCleared: "site decommission --remove-workloads"}

// seat is a site's place in a rollout that has not ended.
type seat struct {
	rollout api.Rollout
	wave    string
	outcome rollout.Outcome
}

// impactOfEnding is what an ending takes from a site, its bundles, the rollouts it has a seat in and its groups.
func (v *View) impactOfEnding(id bundle.SiteID, end ending, seats []seat) api.Impact {
	site := v.sites[id]
	impact := api.Impact{Act: endingActs[end], Target: string(id), Losses: []api.Loss{}}
	record := site.record
	switch {
	case end == endReplaced && record.Gone != nil:
		impact.Refused = refusedBy(notReplaceable(id))
	case end == endCleared && record.Leaving == nil && record.refusal() != nil && record.Gone == nil:
		impact.Refused = refusedBy(record.refusal())
	}
	impact.Changed = impact.Refused == nil && record.Gone == nil && (end != endRevoked || record.Revoked == nil) && (end != endCleared || record.Leaving == nil)
	if !impact.Changed {
		return impact
	}
	impact.Sites = 1
	heard := "never heard"
	if at := site.ingest.Heard(); !at.IsZero() {
		heard = "last heard " + at.UTC().Format(time.RFC3339)
	}
	impact.Lose("site", string(id), "", "%s (%s)", map[ending]string{
		endRevoked:  "its connection and its way back: nothing it says is believed and nothing is given to it",
		endReplaced: "its key, as soon as other hardware is approved in its place: the device it is now is shut out for good",
		endLeft:     "its place in the fleet, for good; its name is not used again",
		endCleared:  "everything it runs, and then its place in the fleet, for good; its name is not used again",
	}[end], heard)
	for _, b := range site.bundles() {
		impact.Lose("bundle", string(b.name)+"@"+string(b.version), id, "%s", b.ending(end))
	}
	for _, s := range seats {
		impact.Lose("rollout", s.rollout.ID, id, "a site of wave %s (%s): it can bring %s there no more", s.wave, s.outcome, s.rollout.Bundle)
	}
	if end == endLeft || end == endCleared {
		for _, group := range v.Groups() {
			if selector, err := bundle.ParseSelector(group.Selector); err == nil && selector.Matches(record.Labels) {
				impact.Lose("group", string(group.Name), id, "one site of %d", group.Sites)
			}
		}
	}
	return impact
}

// held is a bundle that a site runs, or was told to.
type held struct {
	name    bundle.Name
	version bundle.Version
	objects int // 0: it has not been seen there
}

func (s *siteView) bundles() (all []held) {
	if state, _ := s.ingest.Snapshot(); state != nil {
		for _, b := range state.Bundles {
			if b.Current != "" {
				all = append(all, held{b.Name, b.Current, b.Objects})
			}
		}
	}
	for _, b := range s.desired.Bundles {
		if !slices.ContainsFunc(all, func(h held) bool { return h.name == b.Name }) {
			all = append(all, held{b.Name, b.Version, 0})
		}
	}
	slices.SortFunc(all, func(a, b held) int { return strings.Compare(string(a.name), string(b.name)) })
	return all
}

func (b held) ending(end ending) string {
	seen := "not yet seen there"
	if b.objects > 0 {
		seen = fmt.Sprintf("%d objects", b.objects)
	}
	_, _, sealed := secret.OfBundle(b.name)
	switch {
	case end == endCleared:
		return "it is removed from the site: " + seen
	case end == endReplaced && sealed:
		return "the new device cannot open it: it was sealed for the key before, and has to be set again"
	case end == endReplaced:
		return "the new device applies it anew; the old one keeps what it runs: " + seen
	}
	return "it stays at the site as it is, and gets no further version: " + seen
}

// inUse are those that name a group.
type inUse struct {
	rollouts []api.Rollout // that still give their version to sites, and whose plan names it
	users    []access.User
	tokens   []api.Token
}

// impactOfGroup is what forgetting a group takes away. Who names it and still acts by it keeps it: it is refused.
func (v *View) impactOfGroup(now time.Time, name bundle.Name, use inUse) api.Impact {
	group, known := v.Group(name)
	impact := api.Impact{Act: "group delete", Target: string(name), Changed: known, Sites: group.Sites, Losses: []api.Loss{}}
	impact.Lose("group", string(name), "", "its name for the sites with %s (%d now)", group.Selector, group.Sites)
	var by []string
	for _, plan := range v.Plans() {
		if p, err := rollout.DecodePlan(plan.Plan); err == nil && slices.Contains(p.Groups(), string(name)) {
			impact.Lose("plan", string(plan.Name), "", "the sites it names by this group: no rollout starts by it")
			by = append(by, "plan "+string(plan.Name))
		}
	}
	for _, r := range use.rollouts {
		if r.Phase == rollout.Running || r.Phase == rollout.Paused {
			impact.Lose("rollout", r.ID, "", "sites that would join it by this group; it keeps those it has")
			by = append(by, "rollout "+r.ID)
			continue
		}
		impact.Lose("rollout", r.ID, "", "new sites that would catch up by this group")
	}
	for _, user := range use.users {
		if user.Scope.Group == name && user.Barred(now) == "" {
			impact.Lose("user", user.Name, "", "every site: its scope is this group")
			by = append(by, "user "+user.Name)
		}
	}
	for _, token := range use.tokens {
		if token.Revoked == nil && now.Before(token.Expires) && len(token.Used) < token.Uses && token.Labels[groupLabel] == string(name) {
			impact.Lose("token", token.ID, "", "what its label %s=%s says of the devices that it may still let in (%d)", groupLabel, name, token.Uses-len(token.Used))
			by = append(by, "token "+token.ID)
		}
	}
	if len(by) > 0 {
		impact.Changed, impact.Refused = false, refusedBy(groupInUse(name, by))
	}
	return impact
}

// groupLabel is the label that join tokens for a group give.
const groupLabel = "group"

func groupInUse(name bundle.Name, by []string) *api.Error {
	shown := by[:min(len(by), 10)]
	if more := len(by) - len(shown); more > 0 {
		shown = append(slices.Clone(shown), fmt.Sprintf("%d more", more))
	}
	return refuse(http.StatusConflict, "GroupInUse", fmt.Sprintf("group %s is in use", name), "by "+strings.Join(shown, ", "), "change or end these first")
}

func refusedBy(err error) *api.Problem {
	problem := problemOf(err)
	return &problem
}

// impactOfPlan is what forgetting a plan takes away.
func impactOfPlan(plan api.Plan, rollouts []api.Rollout) api.Impact {
	impact := api.Impact{Act: "plan delete", Target: string(plan.Name), Changed: true, Losses: []api.Loss{}}
	impact.Lose("plan", string(plan.Name), "", "its waves: no rollout starts by its name any more")
	for _, r := range rollouts {
		if r.Plan == string(plan.Name) && (r.Phase == rollout.Running || r.Phase == rollout.Paused) {
			impact.Lose("rollout", r.ID, "", "nothing: it goes on by the plan it was started with")
		}
	}
	return impact
}

// impactOfToken is what the end of a join token takes away.
func impactOfToken(now time.Time, token api.Token) api.Impact {
	impact := api.Impact{Act: "token revoke", Target: token.ID, Changed: token.Revoked == nil, Losses: []api.Loss{}}
	if !impact.Changed {
		return impact
	}
	left := max(token.Uses-len(token.Used), 0)
	switch {
	case !now.Before(token.Expires):
		impact.Lose("token", token.ID, "", "nothing: it expired at %s", token.Expires.UTC().Format(time.RFC3339))
	case left == 0:
		impact.Lose("token", token.ID, "", "nothing: it is spent")
	default:
		impact.Lose("token", token.ID, "", "the uses that are left: %d of %d", left, token.Uses)
	}
	for _, site := range token.Used {
		impact.Lose("site", string(site), "", "nothing: it stays")
	}
	return impact
}

// impactOfUser is what the end of a user's token takes away; watches is how many streams of the user are open.
func impactOfUser(user access.User, watches int) api.Impact {
	impact := api.Impact{Act: "user revoke", Target: user.Name, Changed: user.Revoked == nil, Losses: []api.Loss{}}
	if !impact.Changed {
		return impact
	}
	scope := "every site"
	if !user.Scope.Empty() {
		scope = user.Scope.String()
	}
	impact.Lose("user", user.Name, "", "its token, with the role %s over %s; what it began goes on, what it watches ends (%d now)", user.Role, scope, watches)
	return impact
}

// impactOfAbort is what taking back its offers takes from the sites of a rollout that has not ended.
func impactOfAbort(now time.Time, r *rollout.Rollout) api.Impact {
	impact := api.Impact{Act: "rollout abort", Target: r.ID, Changed: true, Losses: []api.Loss{}}
	ref := bundle.Ref{Name: r.Bundle.Name, Version: r.Bundle.Version.Version}
	impact.Lose("rollout", r.ID, "", "every offer of %s that it has not made yet", ref)
	for _, stake := range r.Stakes() {
		switch {
		case stake.Outstanding && stake.ApplyBy.After(now):
			impact.Lose("site", string(stake.Site), "", "its offer of %s; it may apply it all the same until %s where it does not hear of that", ref, stake.ApplyBy.UTC().Format(time.RFC3339))
		case stake.Outstanding:
			impact.Lose("site", string(stake.Site), "", "its offer of %s", ref)
		default:
			impact.Lose("site", string(stake.Site), "", "nothing: it keeps %s", ref)
			continue
		}
		impact.Sites++
	}
	return impact
}

// impactOfRollback is what each site of a rollback goes back to.
func impactOfRollback(r, back *rollout.Rollout) api.Impact {
	impact := api.Impact{Act: "rollout rollback", Target: r.ID, Changed: true, Losses: []api.Loss{}}
	impact.Lose("rollout", r.ID, "", "its version %s@%s: nobody gets it any more", r.Bundle.Name, r.Bundle.Version.Version)
	for _, site := range back.Returns() {
		impact.Sites++
		if site.To == "" {
			impact.Lose("site", string(site.Site), "", "%s, all of it: it ran none before", r.Bundle.Name)
			continue
		}
		impact.Lose("site", string(site.Site), "", "%s@%s for %s", r.Bundle.Name, site.From, site.To)
	}
	return impact
}
