package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// assignmentSpec is all that a site is to run.
type assignmentSpec struct {
	Bundles []assignedSpec `json:"bundles"`
}

type assignedSpec struct {
	Name    bundle.Name      `json:"name"`
	Version bundle.Version   `json:"version"`
	Values  fleetsync.Values `json:"values,omitempty"`
	Drift   bundle.DriftMode `json:"drift,omitempty"`
	Scope   *fleetsync.Scope `json:"scope,omitempty"`
}

var assignmentKind = ofSites("Assignment", "assignment", decodeAs(siteName, (*assignmentSpec).sort), ofAssignment, changeAssignment)

func (s *assignmentSpec) sort() {
	slices.SortFunc(s.Bundles, func(a, b assignedSpec) int { return strings.Compare(string(a.Name), string(b.Name)) })
}

func ofAssignment(site api.Site) (resource, error) {
	spec := assignmentSpec{Bundles: []assignedSpec{}}
	for _, b := range site.Assigned {
		spec.Bundles = append(spec.Bundles, assignedSpec{b.Name, b.Version, b.Values, b.Drift, b.Scope})
	}
	spec.sort()
	return newResource("Assignment", string(site.ID), spec)
}

func changeAssignment(ctx context.Context, hub *api.Client, c resourceChange) error {
	var was, is assignmentSpec
	if err := errors.Join(json.Unmarshal(c.is.Spec, &was), json.Unmarshal(c.wanted.Spec, &is)); err != nil {
		return err
	}
	sites := []bundle.SiteID{bundle.SiteID(c.wanted.Metadata.Name)}
	kept := map[bundle.Name]bool{}
	for _, b := range is.Bundles {
		kept[b.Name] = true
		if slices.ContainsFunc(was.Bundles, func(w assignedSpec) bool { return sameJSON(w, b) }) {
			continue
		}
		scope := b.Scope
		if scope == nil {
			scope = &fleetsync.Scope{} // not what it had: the document is the whole
		}
		results, err := hub.Assign(ctx, api.AssignRequest{Sites: sites, Bundle: bundle.Ref{Name: b.Name, Version: b.Version}, Values: b.Values, Drift: b.Drift, Scope: scope})
		if err := firstRefusal(results, err); err != nil {
			return err
		}
	}
	for _, b := range was.Bundles {
		if kept[b.Name] {
			continue
		}
		results, err := hub.Unassign(ctx, api.UnassignRequest{Sites: sites, Name: b.Name})
		if err := firstRefusal(results, err); err != nil {
			return err
		}
	}
	return nil
}

func sameJSON(a, b any) bool {
	left, leftErr := json.Marshal(a)
	right, rightErr := json.Marshal(b)
	return leftErr == nil && rightErr == nil && bytes.Equal(left, right)
}

func firstRefusal(results []api.AssignResult, err error) error {
	for _, r := range results {
		if r.Error != nil {
			return &api.Error{Problem: *r.Error}
		}
	}
	return err
}
