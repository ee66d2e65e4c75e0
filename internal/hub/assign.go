package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// withBundle is the site's assignment with the bundle in it; changed is false where it says so already.
// It refuses a bundle that is not meant for the site and values that the manifest does not declare. The scope that the bundle had at the site
// stays where nothing is said of it, so that a mere update never widens it; an empty one lifts it.
func withBundle(current fleetsync.Assignment, site SiteRecord, manifest *bundle.Manifest, wanted fleetsync.AssignedBundle, now time.Time) (next fleetsync.Assignment, changed bool, err error) {
	selector, err := bundle.ParseSelector(manifest.Target.Selector)
	if err != nil {
		return current, false, fmt.Errorf("bundle %s: %w", manifest.Ref(), err)
	}
	if !selector.Matches(site.Labels) {
		return current, false, refuse(http.StatusUnprocessableEntity, "WrongTarget", fmt.Sprintf("bundle %s is not meant for site %s", manifest.Ref(), site.Site),
			fmt.Sprintf("its target is %q, the site's labels are %q", manifest.Target.Selector, labelText(site.Labels)), "")
	}
	if _, err := bundle.ParseDriftMode(string(wanted.Drift)); wanted.Drift != "" && err != nil {
		return current, false, refuse(http.StatusBadRequest, "BadDriftMode", fmt.Sprintf("drift mode %.40q is not known", wanted.Drift), "", "use enforce, report or respect, or leave it to the bundle")
	}
	switch {
	case wanted.Scope == nil:
		has, _ := assignedIn(current, wanted.Name)
		wanted.Scope = has.Scope
	case wanted.Scope.Empty():
		wanted.Scope = nil
	}
	if err := wanted.Scope.Check(); err != nil {
		return current, false, refuse(http.StatusBadRequest, "BadScope", fmt.Sprintf("bundle %s: the scope cannot be used", manifest.Ref()), err.Error(), "")
	}
	if err := checkValues(manifest, wanted.Values); err != nil {
		return current, false, err
	}
	return successor(current, site, withSorted(without(current.Bundles, wanted.Name), wanted), now)
}

// attemptOf is the attempt of an order by hand: one more than of the same version before, if it is to be tried again.
func attemptOf(current fleetsync.Assignment, wanted fleetsync.AssignedBundle, again bool) int {
	has, there := assignedIn(current, wanted.Name)
	switch {
	case !there || has.Digest != wanted.Digest:
		return 0
	case again:
		return has.Attempt + 1
	}
	return has.Attempt
}

// withoutBundle is the site's assignment without the bundle.
func withoutBundle(current fleetsync.Assignment, site SiteRecord, name bundle.Name, now time.Time) (fleetsync.Assignment, bool, error) {
	return successor(current, site, without(current.Bundles, name), now)
}

func without(bundles []fleetsync.AssignedBundle, name bundle.Name) []fleetsync.AssignedBundle {
	return slices.DeleteFunc(slices.Clone(bundles), func(b fleetsync.AssignedBundle) bool { return b.Name == name })
}

// successor has the next sequence, or is current itself where nothing changed.
func successor(current fleetsync.Assignment, site SiteRecord, bundles []fleetsync.AssignedBundle, now time.Time) (fleetsync.Assignment, bool, error) {
	if bundles == nil {
		bundles = []fleetsync.AssignedBundle{}
	}
	next := fleetsync.Assignment{Site: site.Site, Sequence: current.Sequence + 1, Issued: now.UTC().Truncate(time.Second), Labels: site.Labels, Bundles: bundles, Zone: zoneName(site.Labels)}
	same, err := sameOrder(current, next)
	if err != nil || same {
		return current, false, err
	}
	return next, true, nil
}

// sameOrder compares what two assignments order, as they travel.
func sameOrder(a, b fleetsync.Assignment) (bool, error) {
	if len(a.Bundles) == 0 && len(b.Bundles) == 0 {
		return true, nil
	}
	left, err := json.Marshal(a.Bundles)
	if err != nil {
		return false, fmt.Errorf("assignment: encode: %w", err)
	}
	right, err := json.Marshal(b.Bundles)
	if err != nil {
		return false, fmt.Errorf("assignment: encode: %w", err)
	}
	return string(left) == string(right) && maps.Equal(a.Labels, b.Labels) && a.Zone == b.Zone, nil
}

// checkValues refuses unknown, wrongly typed and missing values. It never repeats a value, which may be a secret.
func checkValues(manifest *bundle.Manifest, values fleetsync.Values) error {
	declared := map[string]bundle.Parameter{}
	for _, parameter := range manifest.Parameters {
		declared[parameter.Name] = parameter
		if _, given := values[parameter.Name]; parameter.Required && !given {
			return refuse(http.StatusUnprocessableEntity, "MissingValue", fmt.Sprintf("bundle %s needs a value for parameter %s", manifest.Ref(), parameter.Name),
				parameter.Description, fmt.Sprintf("add --set %s=…", parameter.Name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parameter, known := declared[name]
		if !known {
			return refuse(http.StatusUnprocessableEntity, "UnknownParameter", fmt.Sprintf("bundle %s has no parameter %.80q", manifest.Ref(), name),
				"", "its parameters are: "+listed(slices.Sorted(maps.Keys(declared))))
		}
		if err := parameter.CheckValue(values[name]); err != nil {
			return refuse(http.StatusUnprocessableEntity, "BadValue", fmt.Sprintf("bundle %s: a value does not fit", manifest.Ref()), err.Error(), parameter.Description)
		}
	}
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func labelText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return strings.Join(pairs, ",")
}

// checkSites refuses an empty, oversized or repeating list of sites and names that are none.
func checkSites(sites []bundle.SiteID) error {
	if len(sites) == 0 || len(sites) > api.MaxSites {
		return refuse(http.StatusBadRequest, "BadSites", fmt.Sprintf("the request is for %d sites", len(sites)), fmt.Sprintf("want 1 to %d", api.MaxSites), "")
	}
	seen := map[bundle.SiteID]bool{}
	for _, site := range sites {
		if _, err := bundle.ParseSiteID(string(site)); err != nil {
			return malformed("the request names no site", err)
		}
		if seen[site] {
			return refuse(http.StatusBadRequest, "BadSites", fmt.Sprintf("the request names site %s twice", site), "", "")
		}
		seen[site] = true
	}
	return nil
}
