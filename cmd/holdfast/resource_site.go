package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// siteSpec is what a person says of a site; the site itself is made by enrolment or site add.
type siteSpec struct {
	Labels   map[string]string `json:"labels,omitempty"`
	Cordoned string            `json:"cordoned,omitempty"` // why; empty: it is not
}

var siteKind = ofSites("Site", "site", decodeAs[siteSpec](siteName, nil), ofSite, changeSite)

// ofSites is a kind of which each site has one.
func ofSites(name, word string, decode func([]byte) (resource, error), make func(api.Site) (resource, error), set func(context.Context, *api.Client, resourceChange) error) resourceKind {
	return resourceKind{
		name: name, word: word, decode: decode, set: set,
		one: func(ctx context.Context, hub *api.Client, name string) (resource, bool, error) {
			site, err := hub.Site(ctx, bundle.SiteID(name))
			return resourceFound(site, err, make)
		},
		all: func(ctx context.Context, hub *api.Client) ([]resource, error) {
			sites, err := hub.Sites(ctx, "")
			sites = slices.DeleteFunc(sites, func(s api.Site) bool { return s.Status == "gone" })
			return resourcesOf(sites, err, make)
		},
		of:   "site",
		made: "devices become sites with holdfast token create, or holdfast site add",
	}
}

func ofSite(site api.Site) (resource, error) {
	spec := siteSpec{Labels: site.Labels}
	if site.Cordoned != nil {
		spec.Cordoned = site.Cordoned.Why
	}
	return newResource("Site", string(site.ID), spec)
}

func changeSite(ctx context.Context, hub *api.Client, c resourceChange) error {
	id := bundle.SiteID(c.wanted.Metadata.Name)
	var was, is siteSpec
	if err := errors.Join(json.Unmarshal(c.is.Spec, &was), json.Unmarshal(c.wanted.Spec, &is)); err != nil {
		return err
	}
	change := api.LabelChange{Set: is.Labels}
	for key := range was.Labels {
		if _, stays := is.Labels[key]; !stays {
			change.Remove = append(change.Remove, key)
		}
	}
	if !maps.Equal(was.Labels, is.Labels) {
		if _, err := hub.LabelSite(ctx, id, change); err != nil {
			return err
		}
	}
	var err error
	switch {
	case was.Cordoned == is.Cordoned:
	case is.Cordoned == "":
		_, err = hub.UncordonSite(ctx, id)
	default:
		_, err = hub.CordonSite(ctx, id, is.Cordoned)
	}
	return err
}
