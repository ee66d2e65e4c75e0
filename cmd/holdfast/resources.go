package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// The kinds that get writes and apply takes. What a document does not say is not there: apply makes the resource what the document is.
const (
	kindGroup      = "Group"
	kindSite       = "Site"
	kindAssignment = "Assignment"
)

var kinds = []string{kindGroup, rollout.KindPlan, kindUser, kindSite, kindAssignment}

// kindWords are what get calls them.
var kindWords = []string{"group", "plan", "user", "site", "assignment"}

// resource is one document.
type resource struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Metadata   rollout.Metadata `json:"metadata"`
	Spec       json.RawMessage  `json:"spec"`
}

func (r resource) String() string { return r.Kind + " " + r.Metadata.Name }

type groupSpec struct {
	Labels string `json:"labels"` // selector
}

// siteSpec is what a person says of a site; the site itself is made by enrolment or site add.
type siteSpec struct {
	Labels   map[string]string `json:"labels,omitempty"`
	Cordoned string            `json:"cordoned,omitempty"` // why; empty: it is not
}

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

func newResource(kind, name string, spec any) (resource, error) {
	raw, err := json.Marshal(spec)
	return resource{rollout.APIVersion, kind, rollout.Metadata{Name: name}, raw}, err
}

// resourceLimits bound what apply reads.
const (
	maxResources    = 2000
	maxResourceFile = 4 << 20 // bytes
)

// readResources reads a file, all files of a folder that end in .yaml, .yml or .json, or "-".
func readResources(path string) (all []resource, err error) {
	paths := []string{path}
	if info, err := os.Stat(path); path != "-" && err == nil && info.IsDir() {
		paths = nil
		for _, ending := range []string{"*.yaml", "*.yml", "*.json"} {
			some, _ := filepath.Glob(filepath.Join(path, ending)) // the pattern is good
			paths = append(paths, some...)
		}
		slices.Sort(paths)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		raw, err := readLimited(path, maxResourceFile)
		if err != nil {
			return nil, err
		}
		some, err := decodeResources(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, r := range some {
			if seen[r.String()] {
				return nil, fmt.Errorf("%s: %s is there twice", path, r)
			}
			seen[r.String()] = true
		}
		all = append(all, some...)
	}
	if len(all) == 0 || len(all) > maxResources {
		return nil, fmt.Errorf("%s: %d documents: want 1 to %d", path, len(all), maxResources)
	}
	// Labels and groups before what is assigned by them.
	slices.SortStableFunc(all, func(a, b resource) int { return slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind) })
	return all, nil
}

// decodeResources reads YAML documents strictly.
func decodeResources(raw []byte) (all []resource, err error) {
	for d := yamlv3.NewDecoder(bytes.NewReader(raw)); len(all) <= maxResources; {
		var tree any
		if err := d.Decode(&tree); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if tree == nil {
			continue
		}
		text, err := json.Marshal(tree)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(all)+1, err)
		}
		r, err := decodeResource(text)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(all)+1, err)
		}
		all = append(all, r)
	}
	return nil, fmt.Errorf("more than %d documents", maxResources)
}

func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func decodeResource(raw []byte) (r resource, err error) {
	if err := strictly(raw, &r); err != nil {
		return r, err
	}
	if r.APIVersion != rollout.APIVersion || !slices.Contains(kinds, r.Kind) {
		return r, fmt.Errorf("%.40q %.40q: want apiVersion %s and kind %s", r.APIVersion, r.Kind, rollout.APIVersion, strings.Join(kinds, ", "))
	}
	var spec any
	switch r.Kind {
	case kindGroup:
		_, err = bundle.ParseName(r.Metadata.Name)
		spec = &groupSpec{}
	case rollout.KindPlan:
		return planDocument(raw)
	case kindUser:
		_, err = bundle.ParseName(r.Metadata.Name)
		spec = &userSpec{}
	case kindSite:
		_, err = bundle.ParseSiteID(r.Metadata.Name)
		spec = &siteSpec{}
	case kindAssignment:
		_, err = bundle.ParseSiteID(r.Metadata.Name)
		spec = &assignmentSpec{}
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", r, err)
	}
	if err := strictly(r.Spec, spec); err != nil {
		return r, fmt.Errorf("%s: spec: %w", r, err)
	}
	if a, ok := spec.(*assignmentSpec); ok {
		slices.SortFunc(a.Bundles, func(a, b assignedSpec) int { return strings.Compare(string(a.Name), string(b.Name)) })
	}
	r.Spec, err = json.Marshal(spec) // in the form that get has
	return r, err
}

// resourceOf is a resource as the hub has it; found is false for one that it has not.
func resourceOf(ctx context.Context, hub *api.Client, kind, name string) (r resource, found bool, err error) {
	switch kind {
	case kindGroup:
		g, err := hub.Group(ctx, bundle.Name(name))
		if err != nil {
			return r, false, unlessNotFound(err)
		}
		r, err = newResource(kind, name, groupSpec{g.Selector})
		return r, true, err
	case rollout.KindPlan:
		p, err := hub.Plan(ctx, bundle.Name(name))
		if err != nil {
			return r, false, unlessNotFound(err)
		}
		r, err = planDocument(p.Plan)
		return r, true, err
	case kindUser:
		users, err := hub.Users(ctx)
		for _, u := range users {
			if u.Name == name {
				r, err = ofUser(u)
				return r, true, err
			}
		}
		return r, false, err
	}
	site, err := hub.Site(ctx, bundle.SiteID(name))
	if err != nil {
		return r, false, unlessNotFound(err)
	}
	r, err = ofSite(kind, site)
	return r, true, err
}

func unlessNotFound(err error) error {
	var refused *api.Error
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil
	}
	return err
}

func ofSite(kind string, site api.Site) (resource, error) {
	if kind == kindSite {
		spec := siteSpec{Labels: site.Labels}
		if site.Cordoned != nil {
			spec.Cordoned = site.Cordoned.Why
		}
		return newResource(kind, string(site.ID), spec)
	}
	spec := assignmentSpec{Bundles: []assignedSpec{}}
	for _, b := range site.Assigned {
		spec.Bundles = append(spec.Bundles, assignedSpec{b.Name, b.Version, b.Values, b.Drift, b.Scope})
	}
	slices.SortFunc(spec.Bundles, func(a, b assignedSpec) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return newResource(kind, string(site.ID), spec)
}

func newGet(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get KIND [NAME]", Short: "Write groups, plans, users, sites and assignments as documents that apply takes",
		Long: `Write resources as YAML documents, exactly as holdfast apply takes them: what is read and applied unchanged changes nothing.
The kinds are group, plan (a RolloutPlan), user (role and scope, never a token), site (labels and cordon) and assignment (all that one site is to run).
Values of bundles are written as they are.`,
		Example: "  holdfast get group > groups.yaml\n  holdfast get plan retail\n  holdfast get assignment shop-berlin", Args: cobra.RangeArgs(1, 2),
		ValidArgs: kindWords,
	}
	f := formatYAML
	cmd.Flags().VarP(&f, "output", "o", "yaml or json")
	complete(cmd, "output", "yaml", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		word := strings.TrimSuffix(strings.ToLower(args[0]), "s")
		at := max(slices.Index(kindWords, word), slices.IndexFunc(kinds, func(kind string) bool { return strings.EqualFold(word, kind) }))
		if at < 0 || f == formatTable {
			return usagef(cmd, "want %s, as yaml or json", strings.Join(kindWords, ", "))
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		all, err := allOf(cmd.Context(), hub, kinds[at], args[1:])
		if err != nil {
			return err
		}
		return d.writeResources(f, all)
	}
	return cmd
}

func allOf(ctx context.Context, hub *api.Client, kind string, names []string) (all []resource, err error) {
	if len(names) > 0 {
		r, found, err := resourceOf(ctx, hub, kind, names[0])
		if err == nil && !found {
			err = &failure{code: exitNotFound, message: fmt.Sprintf("%s %s is not known", kind, names[0]), hint: "holdfast get " + strings.ToLower(kind) + " writes all"}
		}
		return []resource{r}, err
	}
	add := func(r resource, err error) error {
		all = append(all, r)
		return err
	}
	switch kind {
	case kindGroup:
		groups, err := hub.Groups(ctx)
		for _, g := range groups {
			err = errors.Join(err, add(newResource(kind, string(g.Name), groupSpec{g.Selector})))
		}
		return all, err
	case rollout.KindPlan:
		plans, err := hub.Plans(ctx)
		for _, p := range plans {
			err = errors.Join(err, add(planDocument(p.Plan)))
		}
		return all, err
	case kindUser:
		users, err := hub.Users(ctx)
		for _, u := range users {
			err = errors.Join(err, add(ofUser(u)))
		}
		return all, err
	}
	sites, err := hub.Sites(ctx, "")
	for _, site := range sites {
		if site.Status != "gone" {
			err = errors.Join(err, add(ofSite(kind, site)))
		}
	}
	return all, err
}

func (d *desk) writeResources(f format, all []resource) error {
	if f == formatJSON {
		return d.show(f, all, nil)
	}
	for i, r := range all {
		raw, err := encode(f, r)
		if err != nil {
			return err
		}
		if i > 0 {
			raw = append([]byte("---\n"), raw...)
		}
		if _, err := d.out.Write(raw); err != nil {
			return err
		}
	}
	return nil
}

func newApply(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make groups, plans, users, sites and assignments what documents say",
		Long: `Make resources what YAML documents say, as holdfast get writes them. What would change is shown first; without a terminal to ask on, --yes is needed.
A document is the whole of its resource: a label or a bundle that it does not name is taken away. Resources without a document stay as they are.
Values of bundles are not shown, only that they differ.`,
		Example: "  holdfast get assignment shop-berlin > berlin.yaml\n  holdfast apply -f berlin.yaml --dry-run", Args: exactly(),
	}
	file := cmd.Flags().StringP("file", "f", "", "`file` or folder, or - (required)")
	dry := cmd.Flags().Bool("dry-run", false, "show what would change and change nothing; exit with 8 if something would")
	yes := cmd.Flags().BoolP("yes", "y", false, "do it without asking")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *file == "" {
			return usagef(cmd, "--file is needed")
		}
		wanted, err := readResources(*file)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		changes, err := d.changesOf(cmd.Context(), hub, wanted)
		if err != nil {
			return err
		}
		for _, c := range changes {
			fmt.Fprintf(d.out, "%s\n%s", c.wanted, c.diff())
		}
		switch {
		case len(changes) == 0:
			d.sayf("%d %s, all as they are", len(wanted), plural(len(wanted), "document"))
			return nil
		case *dry:
			return &failure{code: exitDifferent}
		}
		d.sayf("%d of %d %s would change", len(changes), len(wanted), plural(len(wanted), "document"))
		if err := d.agree(*yes); err != nil {
			return err
		}
		for i, c := range changes {
			if err := c.carryOut(cmd.Context(), hub); err != nil {
				f := *explain(err)
				f.message = fmt.Sprintf("%s: %s (%d of %d were done)", c.wanted, f.message, i, len(changes))
				return &f
			}
		}
		d.sayf("%d %s", len(changes), plural(len(changes), "change"))
		return nil
	}
	return cmd
}

// resourceChange is what one document changes. is is empty for a new resource.
type resourceChange struct{ is, wanted resource }

// changesOf are the documents that differ from what the hub has.
func (d *desk) changesOf(ctx context.Context, hub *api.Client, wanted []resource) (changes []resourceChange, err error) {
	for _, w := range wanted {
		is, found, err := resourceOf(ctx, hub, w.Kind, w.Metadata.Name)
		switch {
		case err != nil:
			return nil, err
		case !found && w.Kind == kindUser:
			return nil, &failure{code: exitNotFound, message: fmt.Sprintf("%s: the hub does not know the user", w), hint: "holdfast user add makes a user, and the token that goes with it"}
		case !found && w.Kind != kindGroup && w.Kind != rollout.KindPlan:
			return nil, &failure{code: exitNotFound, message: fmt.Sprintf("%s: the hub does not know the site", w), hint: "devices become sites with holdfast token create, or holdfast site add"}
		}
		if !bytes.Equal(is.Spec, w.Spec) {
			changes = append(changes, resourceChange{is, w})
		}
	}
	return changes, nil
}

// diff is the lines that go and come, two lists in order.
func (c resourceChange) diff() string {
	before, after := leaves(c.is.Spec), leaves(c.wanted.Spec)
	paths := maps.Clone(before)
	maps.Copy(paths, after)
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		was, had := before[path]
		is, has := after[path]
		if was == is && had == has {
			continue
		}
		if strings.Contains(path, "/values/") {
			was, is = bundle.Hidden, bundle.Hidden
		}
		if had {
			fmt.Fprintf(&b, "  - %s: %s\n", path, was)
		}
		if has {
			fmt.Fprintf(&b, "  + %s: %s\n", path, is)
		}
	}
	return b.String()
}

// leaves are the values of a JSON document by their paths; bundles go by their names.
func leaves(raw []byte) map[string]string {
	all := map[string]string{}
	var tree any
	if json.Unmarshal(raw, &tree) != nil {
		return all // there is none
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				walk(path+"/"+key, inner)
			}
		case []any:
			for i, inner := range v {
				name := fmt.Sprint(i)
				if m, ok := inner.(map[string]any); ok && m["name"] != nil {
					name = fmt.Sprint(m["name"])
				}
				walk(path+"/"+name, inner)
			}
		default:
			text, _ := json.Marshal(v) // it came from JSON
			all[path] = string(text)
		}
	}
	walk("", tree)
	return all
}

func (c resourceChange) carryOut(ctx context.Context, hub *api.Client) error {
	name := c.wanted.Metadata.Name
	switch c.wanted.Kind {
	case kindGroup:
		var spec groupSpec
		if err := json.Unmarshal(c.wanted.Spec, &spec); err != nil {
			return err
		}
		_, err := hub.SetGroup(ctx, bundle.Name(name), spec.Labels)
		return err
	case rollout.KindPlan:
		return c.storePlan(ctx, hub)
	case kindUser:
		return c.changeUser(ctx, hub)
	case kindSite:
		return c.changeSite(ctx, hub, bundle.SiteID(name))
	}
	return c.changeAssignment(ctx, hub, bundle.SiteID(name))
}

func (c resourceChange) changeSite(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
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

func (c resourceChange) changeAssignment(ctx context.Context, hub *api.Client, id bundle.SiteID) error {
	var was, is assignmentSpec
	if err := errors.Join(json.Unmarshal(c.is.Spec, &was), json.Unmarshal(c.wanted.Spec, &is)); err != nil {
		return err
	}
	sites := []bundle.SiteID{id}
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
