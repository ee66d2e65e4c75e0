package verify

import (
	"sort"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Site is what a site knows of itself.
type Site struct {
	ID     bundle.SiteID
	Labels map[string]string
	// Kubernetes is the API server's version ("v1.33.2+k3s1"), or empty while it is not known.
	Kubernetes string
}

// For refuses a manifest that is not meant for the site. A Kubernetes version that is not known meets no range but the empty one.
func (s Signed) For(site Site) error {
	if !s.Valid() {
		return notVerified()
	}
	target := s.manifest.Target
	selector, err := bundle.ParseSelector(target.Selector)
	if err != nil {
		return s.refuse(MalformedManifest, clip(err.Error()), "", "")
	}
	if !selector.Matches(site.Labels) {
		return s.refuse(WrongTarget, "not meant for site "+string(site.ID), "labels that match "+clip(target.Selector), labels(site.Labels))
	}
	versions, err := bundle.ParseKubernetesRange(target.Kubernetes)
	if err != nil {
		return s.refuse(MalformedManifest, clip(err.Error()), "", "")
	}
	inRange, err := versions.Contains(site.Kubernetes)
	if !inRange {
		detail := "not meant for the Kubernetes version of site " + string(site.ID)
		if err != nil {
			detail = "the Kubernetes version of site " + string(site.ID) + " is not known"
		}
		return s.refuse(WrongTarget, detail, clip(target.Kubernetes), clip(site.Kubernetes))
	}
	return nil
}

func labels(of map[string]string) string {
	if len(of) == 0 {
		return "no labels"
	}
	pairs := make([]string, 0, len(of))
	for key, value := range of {
		pairs = append(pairs, key+"="+value)
	}
	sort.Strings(pairs)
	return clip(strings.Join(pairs, ","))
}
