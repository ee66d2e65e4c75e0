package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// StartRollout freezes a plan over the fleet and stores the rollout that the leader will move. A dry run says what it would be and changes nothing.
func (h *Hub) StartRollout(ctx context.Context, request api.RolloutRequest, by rollout.Actor) (api.RolloutStart, error) {
	asked, err := h.planAsked(request)
	if err != nil {
		return api.RolloutStart{}, err
	}
	plan, err := rollout.DecodePlan(asked)
	if err != nil {
		return api.RolloutStart{}, badPlan(err)
	}
	if err := h.checkable(plan); err != nil {
		return api.RolloutStart{}, err
	}
	what, manifest, err := h.rolloutBundle(ctx, request.Bundle)
	if err != nil {
		return api.RolloutStart{}, err
	}
	fleet, unfit, err := h.rolloutFleet(ctx, manifest)
	if err != nil {
		return api.RolloutStart{}, err
	}
	for range assignTries {
		id := request.ID
		if id == "" {
			id = h.freeID(request.Bundle)
		}
		r, layout, err := rollout.Start(h.cfg.Now().UTC(), rollout.Order{ID: id, By: by.Name, Plan: plan, Bundle: what}, fleet)
		if err != nil {
			return api.RolloutStart{}, badStart(err, unfit)
		}
		started := api.RolloutStart{Layout: layoutOf(layout, request.Bundle, unfit)}
		started.Layout.Warnings = h.warnings(r)
		if request.DryRun {
			return started, nil
		}
		// Commit point: with its head the rollout is the leader's to move.
		head, err := h.storeRollout(ctx, r, rolloutHead{})
		if errors.Is(err, stream.ErrConflict) && request.ID == "" {
			continue
		}
		if errors.Is(err, stream.ErrConflict) {
			return api.RolloutStart{}, refuse(http.StatusConflict, "RolloutExists", fmt.Sprintf("rollout %s exists", id), "", "choose another id, or leave it to the hub")
		}
		if err != nil {
			return api.RolloutStart{}, err
		}
		h.rollouts.know(head)
		h.log.Info("rollout started", zap.String("rollout", id), zap.Stringer("bundle", request.Bundle), zap.Int("sites", len(r.Sites)), zap.String("by", by.Name))
		started.Rollout = &head.Rollout
		return started, nil
	}
	return api.RolloutStart{}, fmt.Errorf("rollout of %s: no id is free", request.Bundle)
}

func badPlan(err error) *api.Error {
	return refuse(http.StatusUnprocessableEntity, "BadPlan", "the plan is refused", err.Error(), "")
}

// badStart is the refusal of a plan for this fleet, with the sites that cannot have the bundle where that may be why.
func badStart(err error, unfit []api.UnfitSite) *api.Error {
	refusal := badPlan(err)
	if len(unfit) > 0 {
		refusal.Problem.Hint = fmt.Sprintf("%d sites cannot be given the bundle, for example %s: %s", len(unfit), unfit[0].Site, unfit[0].Why)
	}
	return refusal
}

// rolloutBundle is what a rollout brings. Its signature is verified anew: a bundle may have been pushed before a key was revoked or a floor was set.
func (h *Hub) rolloutBundle(ctx context.Context, asked bundle.Ref) (rollout.Bundle, *bundle.Manifest, error) {
	ref, err := bundle.ParseRef(asked.String())
	if err != nil {
		return rollout.Bundle{}, nil, malformed("not a bundle", err)
	}
	h.mu.Lock()
	entry, known := h.view.Entry(ref)
	h.mu.Unlock()
	if !known {
		return rollout.Bundle{}, nil, unknownBundle(ref)
	}
	_, signed, err := h.offer(ctx, entry.Digest)
	if err != nil {
		return rollout.Bundle{}, nil, fmt.Errorf("bundle %s: %w", ref, err)
	}
	m := signed.Manifest()
	what := rollout.Bundle{
		Name: ref.Name, Version: rollout.Version{Version: ref.Version, Digest: entry.Digest, Counter: entry.Counter},
		AffectsConnectivity: m.Policy.AffectsConnectivity, Supersedes: m.Policy.Supersedes,
	}
	if m.Policy.AffectsConnectivity {
		seconds := m.Policy.ConfirmWithinSeconds
		if seconds == 0 {
			seconds = bundle.DefaultConfirmWithin
		}
		what.ConfirmWithin = rollout.Duration(seconds) * rollout.Duration(time.Second)
	}
	return what, m, nil
}

// rolloutFleet is what a plan for the bundle is held against: the sites that can be given it, and those that cannot.
func (h *Hub) rolloutFleet(ctx context.Context, manifest *bundle.Manifest) (rollout.Fleet, []api.UnfitSite, error) {
	taken, err := h.taken(ctx, manifest.Name)
	if err != nil {
		return rollout.Fleet{}, nil, err
	}
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	fleet := rollout.Fleet{Groups: h.view.Selectors()}
	unfit := []api.UnfitSite{}
	for _, id := range h.view.ids() {
		site := h.view.sites[id]
		if site.record.Gone != nil {
			continue
		}
		why := site.record.refusal()
		if why == nil {
			why = fits(site.record, site.desired, manifest)
		}
		if why != nil {
			unfit = append(unfit, api.UnfitSite{Site: id, Why: why.Error()})
			continue
		}
		f, _ := h.view.Facts(now, id, manifest.Name, manifest)
		f.Rollout = taken[id]
		fleet.Members = append(fleet.Members, f)
	}
	return fleet, unfit, nil
}

// taken says which sites are in an active rollout of the bundle.
func (h *Hub) taken(ctx context.Context, name bundle.Name) (map[bundle.SiteID]string, error) {
	taken := map[bundle.SiteID]string{}
	for _, head := range h.rollouts.list() {
		if head.Bundle.Name != name || head.Phase != rollout.Running && head.Phase != rollout.Paused {
			continue
		}
		r, _, err := h.loadRollout(ctx, head.ID)
		if err != nil {
			return nil, err
		}
		if !r.Active() {
			continue
		}
		for i := range r.Sites {
			taken[r.Sites[i].Site] = r.ID
		}
	}
	return taken, nil
}

// freeID is name-version, with a number behind it where that is taken.
func (h *Hub) freeID(ref bundle.Ref) string {
	version := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, string(ref.Version))
	base := string(ref.Name) + "-" + version
	base = strings.Trim(base[:min(len(base), 52)], "-")
	h.rollouts.mu.Lock()
	defer h.rollouts.mu.Unlock()
	id := base
	for n := 2; ; n++ {
		if _, has := h.rollouts.heads[id]; !has {
			return id
		}
		id = fmt.Sprintf("%s-%d", base, n)
	}
}

// warnings are what an operator should know before the start.
func (h *Hub) warnings(r *rollout.Rollout) []string {
	var warnings []string
	h.mu.Lock()
	defer h.mu.Unlock()
	stuck := map[string]bool{}
	for _, v := range r.Versions {
		was, known := h.view.releases[v.Digest]
		back := known && slices.ContainsFunc(h.view.Releases(r.Bundle.Name), func(e CatalogEntry) bool { return e.Content == was.Content && e.Counter > r.Bundle.Counter })
		if v.Counter < r.Bundle.Counter && !back {
			stuck[string(v.Version)] = true
		}
	}
	if len(stuck) > 0 {
		names := make([]string, 0, len(stuck))
		for name := range stuck {
			names = append(names, name)
		}
		slices.Sort(names)
		warnings = append(warnings, fmt.Sprintf("no release has the content of %s under a counter above %d: a site that took %s refuses to go back, until one is built, signed and pushed",
			strings.Join(names, ", "), r.Bundle.Counter, r.Bundle.Version.Version))
	}
	return warnings
}

func layoutOf(l *rollout.Layout, ref bundle.Ref, unfit []api.UnfitSite) api.RolloutLayout {
	out := api.RolloutLayout{
		Bundle: ref, Plan: l.Plan.Metadata.Name, Fleet: l.Fleet, BlastRadius: l.BlastRadius(), Untargeted: l.Untargeted, Excluded: l.Excluded, Cordoned: l.Cordoned,
		Left: l.Left, Unfit: unfit, Waves: make([]api.RolloutLayoutWave, len(l.Waves)),
	}
	for i := range l.Waves {
		w, spec := &l.Waves[i], &l.Plan.Spec.Waves[i]
		wave := api.RolloutLayoutWave{
			Name: w.Name, Sites: make([]bundle.SiteID, len(w.Members)), Offline: w.Offline, Regions: w.Regions, MinSuccess: *spec.MinSuccess, Ratio: *spec.Ratio,
			LeastReports: w.LeastReports, MaxFailures: w.MaxFailures, MaxUnavailable: w.MaxUnavailable, PerRegion: w.PerRegion, Soak: *spec.Soak, Deadline: *spec.Deadline,
			ApplyBy: *spec.ApplyBy, Approvals: spec.Approvals,
		}
		for j, m := range w.Members {
			wave.Sites[j] = m.Site
		}
		for _, c := range spec.Checks {
			wave.Checks = append(wave.Checks, c.Name)
		}
		out.Waves[i] = wave
	}
	return out
}

// RolloutFleet is what a plan for the bundle would be held against now.
func (h *Hub) RolloutFleet(ctx context.Context, ref bundle.Ref) (api.RolloutFleet, error) {
	what, manifest, err := h.rolloutBundle(ctx, ref)
	if err != nil {
		return api.RolloutFleet{}, err
	}
	fleet, _, err := h.rolloutFleet(ctx, manifest)
	if err != nil {
		return api.RolloutFleet{}, err
	}
	out := api.RolloutFleet{Bundle: what, Groups: fleet.Groups, Sites: make([]api.RolloutFacts, len(fleet.Members))}
	for i, f := range fleet.Members {
		out.Sites[i] = api.RolloutFacts{
			Site: f.Site, Labels: f.Labels, Region: f.Region, Zone: zoneName(f.Labels), LastSeen: f.LastSeen, Connected: f.Connected, Cordoned: f.Cordoned,
			Current: f.Current, Unresolved: f.Unresolved, Conflict: f.Conflict, Rollout: f.Rollout,
		}
	}
	return out, nil
}

// ActOnRollout carries a person's act out: read, change, swap. It needs no leader; the leader's next swap fails, and it reads again.
func (h *Hub) ActOnRollout(ctx context.Context, id, act string, request api.RolloutAct, by rollout.Actor) (api.RolloutActed, error) {
	for range assignTries {
		r, head, err := h.loadRollout(ctx, id)
		if err != nil {
			return api.RolloutActed{}, err
		}
		now := h.cfg.Now().UTC()
		acted := api.RolloutActed{Before: r.Exposure(now)}
		if act == "abort" {
			acted.Losses = impactOfAbort(now, r).Losses
		}
		back, err := h.act(r, now, act, request, by)
		if err != nil {
			return api.RolloutActed{}, notNow(r, err)
		}
		if back != nil {
			acted.Losses = impactOfRollback(r, back).Losses
		}
		if back != nil {
			head, err = h.beginRollback(ctx, r, head, back)
		} else {
			head, err = h.storeRollout(ctx, r, head)
		}
		if errors.Is(err, stream.ErrConflict) {
			continue
		}
		if err != nil {
			return api.RolloutActed{}, err
		}
		h.rollouts.know(head)
		acted.Rollout, acted.After = head.Rollout, r.Exposure(now)
		if back != nil {
			begun := headOf(back)
			acted.Rollback = &begun
		}
		h.log.Info("rollout", zap.String("rollout", id), zap.String("act", act), zap.String("by", by.Name))
		return acted, nil
	}
	return api.RolloutActed{}, fmt.Errorf("rollout %s: %w %d times", id, stream.ErrConflict, assignTries)
}

// act changes the rollout, or says why it does not. A rollback makes another one.
func (h *Hub) act(r *rollout.Rollout, now time.Time, act string, request api.RolloutAct, by rollout.Actor) (back *rollout.Rollout, err error) {
	switch act {
	case "pause":
		return nil, r.Pause(now, by, request.Why)
	case "resume":
		return nil, r.Resume(now, by, request.Why, request.Again)
	case "approval":
		return nil, r.Approve(now, by, request.Wave)
	case "abort":
		return nil, r.Abort(now, by, request.Why)
	case "rollback":
		return r.Rollback(now, h.backOrder(r, by.Name, request.Why, request.Mode), nil)
	}
	return nil, refuse(http.StatusNotFound, "NoSuchEndpoint", fmt.Sprintf("%.40q is nothing that can be done with a rollout", act), "", "want pause, resume, approval, abort or rollback")
}

// notNow is the engine's refusal as the client is told it.
func notNow(r *rollout.Rollout, err error) error {
	var refused *rollout.Refused
	if !errors.As(err, &refused) {
		return err
	}
	return refuse(http.StatusConflict, "NotAllowed", fmt.Sprintf("rollout %s: %s refused", r.ID, refused.Act), refused.Why, "")
}

// ExplainRollout says where a rollout stands and why it goes no further.
func (h *Hub) ExplainRollout(ctx context.Context, id string) (e rollout.Explanation, err error) {
	err = h.seeRollout(ctx, id, func(r *rollout.Rollout) { e = r.Explain(h.cfg.Now()) })
	return e, err
}

// seeRollout shows a rollout as of now, with what is known of the fleet's sites; see keeps nothing of it and changes nothing.
func (h *Hub) seeRollout(ctx context.Context, id string, see func(*rollout.Rollout)) error {
	if h.rollouts.seeLed(id, see) {
		return nil
	}
	r, _, err := h.loadRollout(ctx, id)
	if err != nil {
		return err
	}
	now := h.cfg.Now()
	h.mu.Lock()
	for id := range h.view.sites {
		if f, known := h.view.Facts(now, id, r.Bundle.Name, nil); known {
			r.Observe(f)
		}
	}
	h.mu.Unlock()
	see(r)
	return nil
}

// seeLed shows the leader's own copy, if it is as new as the bus.
func (s *rollouts) seeLed(id string, see func(*rollout.Rollout)) bool {
	s.mu.Lock()
	head := s.heads[id]
	s.mu.Unlock()
	s.deciding.Lock()
	defer s.deciding.Unlock()
	l := s.led[id]
	if l == nil || l.head.sequence < head.sequence {
		return false
	}
	see(l.r)
	return true
}
