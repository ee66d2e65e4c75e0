package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Labels that rollouts read of a site. A label's value has no slash: the zone Europe/Berlin is written Europe.Berlin.
const (
	labelRegion = "region"
	labelZone   = "holdfast.dev/zone"
	shortZone   = "zone"
)

// zones are the time zones that were asked for: reading one takes a file.
var zones sync.Map // string -> *time.Location, nil for one that there is not

// zoneOf is the site's time zone, or nil, which is UTC.
func zoneOf(labels map[string]string) *time.Location {
	name := labels[labelZone]
	if name == "" {
		name = labels[shortZone]
	}
	if name == "" {
		return nil
	}
	if known, has := zones.Load(name); has {
		return known.(*time.Location)
	}
	zone, err := time.LoadLocation(strings.ReplaceAll(name, ".", "/"))
	if err != nil || zone == time.UTC || zone == time.Local {
		zone = nil
	}
	zones.Store(name, zone)
	return zone
}

// zoneName is how an assignment names the zone: empty is UTC.
func zoneName(labels map[string]string) string {
	if zone := zoneOf(labels); zone != nil {
		return zone.String()
	}
	return ""
}

// Facts is what is known of a site that a rollout of the bundle asks for. With a manifest it says, as a conflict, why the site cannot be given it.
func (v *View) Facts(now time.Time, id bundle.SiteID, name bundle.Name, manifest *bundle.Manifest) (rollout.Facts, bool) {
	site, known := v.sites[id]
	if !known {
		return rollout.Facts{}, false
	}
	f := rollout.Facts{
		Site: id, Labels: site.record.Labels, Region: site.record.Labels[labelRegion], Zone: zoneOf(site.record.Labels),
		LastSeen: site.ingest.Heard(), Connected: site.connected(now, v.heartBeat), Patience: site.silentAfter(v.heartBeat).Sub(site.ingest.Heard()) - 2*v.heartBeat,
		Cordoned: site.record.Cordoned != nil,
	}
	state, _ := site.ingest.Snapshot()
	var status fleetsync.BundleStatus
	if state != nil {
		status = bundleStatus(state, name)
		f.ClockUntrusted = state.Clock.Quality == fleetsync.TimeUntrusted
		f.Conflict = rollout.Conflict(state.Assignment, site.desired.Sequence, status.CurrentDigest, v.knows(status.CurrentDigest))
	}
	if status.CurrentDigest != "" {
		f.Current = rollout.Version{Version: status.Current, Digest: status.CurrentDigest, Counter: v.releases[status.CurrentDigest].Counter}
	}
	assigned, has := assignedIn(site.desired, name)
	if has && !settled(status, assigned.Digest) {
		f.Unresolved = assigned.Digest
	}
	if err := site.record.refusal(); err != nil {
		f.Conflict = err.Error()
	} else if manifest != nil && f.Conflict == "" {
		if err := fits(site.record, site.desired, manifest); err != nil {
			f.Conflict = err.Error()
		}
	}
	return f, true
}

func (v *View) knows(digest bundle.Digest) bool {
	_, known := v.releases[digest]
	return known
}

func bundleStatus(state *fleetsync.State, name bundle.Name) fleetsync.BundleStatus {
	for _, b := range state.Bundles {
		if b.Name == name {
			return b
		}
	}
	return fleetsync.BundleStatus{}
}

func assignedIn(a fleetsync.Assignment, name bundle.Name) (fleetsync.AssignedBundle, bool) {
	for _, b := range a.Bundles {
		if b.Name == name {
			return b, true
		}
	}
	return fleetsync.AssignedBundle{}, false
}

// settled says that the site's word about the version is a last one.
func settled(status fleetsync.BundleStatus, digest bundle.Digest) bool {
	return status.Digest == digest && slices.Contains([]fleetsync.Phase{
		fleetsync.PhaseCurrent, fleetsync.PhaseUnhealthy, fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseReverted,
	}, status.Phase)
}

// fits says why a site cannot be given the bundle with the values that it has.
func fits(site SiteRecord, current fleetsync.Assignment, manifest *bundle.Manifest) error {
	selector, err := bundle.ParseSelector(manifest.Target.Selector)
	if err != nil {
		return err
	}
	if !selector.Matches(site.Labels) {
		return fmt.Errorf("bundle %s is not meant for it: its target is %q", manifest.Ref(), manifest.Target.Selector)
	}
	for _, r := range manifest.Requires {
		if _, has := assignedIn(current, r.Name); !has {
			return fmt.Errorf("bundle %s requires bundle %s, which it is not assigned", manifest.Ref(), r.Name)
		}
	}
	assigned, _ := assignedIn(current, manifest.Name)
	var misfit *api.Error
	if err := checkValues(manifest, assigned.Values); errors.As(err, &misfit) {
		return errors.New(misfit.Title)
	}
	return nil
}

// offered is the site's assignment with a rollout's offer in it: what the site has for the bundle besides the version stays. A goal without a
// digest is nothing of the bundle.
func offered(current fleetsync.Assignment, site SiteRecord, name bundle.Name, id string, o rollout.Offer, now time.Time) (fleetsync.Assignment, bool, error) {
	bundles := without(current.Bundles, name)
	if o.Goal.Digest != "" {
		next := goalIn(current, name, o.Goal)
		next.Rollout, next.ApplyBy = &fleetsync.RolloutRef{ID: id, Attempt: o.Attempt}, o.ApplyBy.UTC()
		next.AcceptLoss = o.AcceptLoss
		if !o.Schedule.Empty() {
			next.Schedule = &o.Schedule
		}
		bundles = withSorted(bundles, next)
	}
	return successor(current, site, bundles, now)
}

// withdrawn is the site's assignment without a rollout's offer. It is always a new one, also where the offer is not in it: who still holds an
// older copy of the assignment and means to put the offer in loses the compare-and-swap.
func withdrawn(current fleetsync.Assignment, site SiteRecord, name bundle.Name, id string, o rollout.Offer, now time.Time) (fleetsync.Assignment, bool, error) {
	bundles := current.Bundles
	// A later attempt is not this one's to take back.
	if has, _ := assignedIn(current, name); has.Rollout != nil && has.Rollout.ID == id && has.Rollout.Attempt <= o.Attempt {
		bundles = without(current.Bundles, name)
		if o.Goal.Digest != "" {
			bundles = withSorted(bundles, goalIn(current, name, o.Goal))
		}
	}
	next, changed, err := successor(current, site, bundles, now)
	if err == nil && !changed {
		next.Sequence, next.Issued = current.Sequence+1, now.UTC().Truncate(time.Second)
		next.Site, next.Labels, next.Bundles, next.Zone = site.Site, site.Labels, append([]fleetsync.AssignedBundle{}, bundles...), zoneName(site.Labels)
	}
	return next, true, err
}

// goalIn is the version with the values, drift mode and scope that the site has for the bundle.
func goalIn(current fleetsync.Assignment, name bundle.Name, goal rollout.Version) fleetsync.AssignedBundle {
	has, _ := assignedIn(current, name)
	return fleetsync.AssignedBundle{Name: name, Version: goal.Version, Digest: goal.Digest, Values: has.Values, Drift: has.Drift, Scope: has.Scope}
}

func withSorted(bundles []fleetsync.AssignedBundle, b fleetsync.AssignedBundle) []fleetsync.AssignedBundle {
	bundles = append(bundles, b)
	slices.SortFunc(bundles, func(a, b fleetsync.AssignedBundle) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return bundles
}

// word is the newest that a site said.
type word struct {
	state   *fleetsync.State
	stateAt time.Time
	hello   fleetsync.Hello
	helloAt time.Time
}

// Word is the newest that the site said, its snapshot and its heartbeat; both were verified by the site's key when they were folded.
func (v *View) Word(id bundle.SiteID) (w word) {
	if site, known := v.sites[id]; known {
		w.state, w.stateAt = site.ingest.Snapshot()
		w.hello, w.helloAt = site.hello, site.helloAt
	}
	return w
}
