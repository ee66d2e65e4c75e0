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
)

// resourceKind is what get and apply know of one kind.
type resourceKind struct {
	name string
	word string // as get calls it
	// decode reads a document strictly and gives it in the form that get has.
	decode func(raw []byte) (resource, error)
	// one is a resource as the hub has it; found is false for one that it has not.
	one func(ctx context.Context, hub *api.Client, name string) (r resource, found bool, err error)
	all func(ctx context.Context, hub *api.Client) ([]resource, error)
	set func(ctx context.Context, hub *api.Client, c resourceChange) error
	// made says how what the hub does not have comes into being, and of what it is; empty: apply makes it.
	made, of string
}

// kinds are in the order in which apply takes them: labels and groups before what is assigned by them. What a document does not say is not there: apply makes the
// resource what the document is.
var kinds = []resourceKind{groupKind, planKind, notificationKind, userKind, siteKind, assignmentKind}

// kindAt is where a kind is among kinds, or -1.
func kindAt(is func(resourceKind) bool) int { return slices.IndexFunc(kinds, is) }

// place is where the kind of a resource is among kinds, or -1.
func (r resource) place() int { return kindAt(func(k resourceKind) bool { return k.name == r.Kind }) }

func listed(of func(resourceKind) string) (list []string) {
	for _, k := range kinds {
		list = append(list, of(k))
	}
	return list
}

var kindWords = listed(func(k resourceKind) string { return k.word })

// resource is one document.
type resource struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Metadata   rollout.Metadata `json:"metadata"`
	Spec       json.RawMessage  `json:"spec"`
}

func (r resource) String() string { return r.Kind + " " + r.Metadata.Name }

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
	slices.SortStableFunc(all, func(a, b resource) int { return a.place() - b.place() })
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
	at := r.place()
	if r.APIVersion != rollout.APIVersion || at < 0 {
		names := strings.Join(listed(func(k resourceKind) string { return k.name }), ", ")
		return r, fmt.Errorf("%.40q %.40q: want apiVersion %s and kind %s", r.APIVersion, r.Kind, rollout.APIVersion, names)
	}
	return kinds[at].decode(raw)
}

// decodeAs decodes documents whose spec is an S. tidy, where not nil, brings what a person may write in any order into the one that get has.
func decodeAs[S any](parse func(name string) error, tidy func(*S)) func([]byte) (resource, error) {
	return func(raw []byte) (r resource, err error) {
		if err := strictly(raw, &r); err != nil {
			return r, err
		}
		if err := parse(r.Metadata.Name); err != nil {
			return r, fmt.Errorf("%s: %w", r, err)
		}
		var spec S
		if err := strictly(r.Spec, &spec); err != nil {
			return r, fmt.Errorf("%s: spec: %w", r, err)
		}
		if tidy != nil {
			tidy(&spec)
		}
		r.Spec, err = json.Marshal(spec)
		return r, err
	}
}

func bundleName(name string) error {
	_, err := bundle.ParseName(name)
	return err
}

func siteName(name string) error {
	_, err := bundle.ParseSiteID(name)
	return err
}

// resourcesOf makes resources of what the hub lists.
func resourcesOf[T any](list []T, err error, make func(T) (resource, error)) (all []resource, _ error) {
	for _, one := range list {
		r, failed := make(one)
		all, err = append(all, r), errors.Join(err, failed)
	}
	return all, err
}

// resourceFound makes a resource of what the hub gave, if it has it.
func resourceFound[T any](one T, err error, make func(T) (resource, error)) (r resource, found bool, _ error) {
	if err != nil {
		return r, false, unlessNotFound(err)
	}
	r, err = make(one)
	return r, true, err
}

func unlessNotFound(err error) error {
	var refused *api.Error
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil
	}
	return err
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
		at := kindAt(func(k resourceKind) bool { return word == k.word || strings.EqualFold(word, k.name) })
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

func allOf(ctx context.Context, hub *api.Client, kind resourceKind, names []string) ([]resource, error) {
	if len(names) == 0 {
		return kind.all(ctx, hub)
	}
	r, found, err := kind.one(ctx, hub, names[0])
	if err == nil && !found {
		err = &failure{code: exitNotFound, message: fmt.Sprintf("%s %s is not known", kind.name, names[0]), hint: "holdfast get " + kind.word + " writes all"}
	}
	return []resource{r}, err
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
			if err := kinds[c.wanted.place()].set(cmd.Context(), hub, c); err != nil {
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
		kind := kinds[w.place()]
		is, found, err := kind.one(ctx, hub, w.Metadata.Name)
		switch {
		case err != nil:
			return nil, err
		case !found && kind.made != "":
			return nil, &failure{code: exitNotFound, message: fmt.Sprintf("%s: the hub does not know the %s", w, kind.of), hint: kind.made}
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
