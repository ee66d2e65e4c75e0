package bundle

import (
	"fmt"
	"time"
)

// Schema is the manifest's schema identifier; a manifest with another one is refused.
const Schema = "holdfast.dev/bundle/v1"

// Manifest is the small signed document of a bundle. Its exact bytes are what is signed; its digest identifies the bundle.
type Manifest struct {
	Schema  string  `json:"schema"`
	Name    Name    `json:"name"`
	Version Version `json:"version"`
	Counter Counter `json:"counter"`
	// Created and Expires are RFC 3339 in UTC with whole seconds. Expires blocks only a first apply, never what already runs.
	Created    time.Time     `json:"created"`
	Expires    *time.Time    `json:"expires,omitempty"`
	Target     Target        `json:"target"`
	Requires   []Requirement `json:"requires,omitempty"`
	Parameters []Parameter   `json:"parameters,omitempty"`
	Variants   []Variant     `json:"variants,omitempty"`
	Policy     Policy        `json:"policy"`
	Content    ContentInfo   `json:"content"`
}

// Ref is the manifest's name@version.
func (m *Manifest) Ref() Ref { return Ref{m.Name, m.Version} }

// ContentInfo commits the manifest to its content.
type ContentInfo struct {
	Digest  Digest `json:"digest"`
	Size    int64  `json:"size"`    // bytes, uncompressed
	Objects int    `json:"objects"` // lines of content
}

// Target says which sites a bundle is meant for. Empty fields match every site.
type Target struct {
	// Selector is a Kubernetes label selector over site labels, for example "region=eu,tier in (a,b)".
	Selector string `json:"selector,omitempty"`
	// Kubernetes is a semver range of API server versions, for example ">=1.29.0 <2.0.0".
	Kubernetes string `json:"kubernetes,omitempty"`
}

// Requirement is another bundle that must be current at the site first.
type Requirement struct {
	Name Name `json:"name"`
	// MinVersion is the lowest acceptable version; empty accepts any.
	MinVersion Version `json:"minVersion,omitempty"`
}

// ParameterType is the type of a parameter's value.
type ParameterType string

// The parameter types. Values are JSON strings, integers of 64 bits and booleans.
const (
	TypeString  ParameterType = "string"
	TypeInteger ParameterType = "integer"
	TypeBoolean ParameterType = "boolean"
)

// Parameter is a typed per-site value. It stands in content as the scalar "${{ params.NAME }}" (the whole scalar: the value keeps
// its type; a part of a string: the value is written as text). Values are put into parsed scalars, never into text,
// so no value can add a field.
type Parameter struct {
	Name        string        `json:"name"` // ^[a-z][a-zA-Z0-9]{0,62}$
	Type        ParameterType `json:"type"`
	Default     any           `json:"default,omitempty"` // string, int64 or bool; a parameter has a default or is required
	Required    bool          `json:"required,omitempty"`
	Pattern     string        `json:"pattern,omitempty"` // RE2, anchored at both ends, strings only
	Description string        `json:"description,omitempty"`
}

// Variant is a set of patches for the sites whose labels match. Variants apply in the order of the manifest.
type Variant struct {
	Name     string  `json:"name"`
	Selector string  `json:"selector"`
	Patches  []Patch `json:"patches"`
}

// Patch changes objects of the content, as kustomize's patches do. Exactly one of Merge and JSON is set.
type Patch struct {
	Target PatchTarget `json:"target"`
	// Merge is a strategic merge patch for built-in kinds and a JSON merge patch (RFC 7386) for all others.
	Merge map[string]any `json:"merge,omitempty"`
	// JSON is a JSON patch (RFC 6902).
	JSON []any `json:"json,omitempty"`
}

// PatchTarget chooses objects. Empty fields match anything; Kind is required. A patch that matches nothing is an error.
type PatchTarget struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// DriftMode says what the edge does about drift.
type DriftMode string

// The drift modes of this schema.
const (
	DriftEnforce DriftMode = "enforce" // correct and report
	DriftReport  DriftMode = "report"  // report only
	DriftRespect DriftMode = "respect" // leave to others what they changed, and report it; correct the rest
)

// Policy is how the bundle wants to be run.
type Policy struct {
	Prune bool      `json:"prune"` // delete what left the inventory
	Drift DriftMode `json:"drift"`
	// DriftRules are modes of single objects; the first that matches holds. A mode that an assignment orders is for all objects.
	DriftRules []DriftRule `json:"driftRules,omitempty"`
	// IgnoreManagers are field managers, as kubectl get --show-managed-fields names them: what they hold is neither drift nor corrected.
	IgnoreManagers []string `json:"ignoreManagers,omitempty"`
	// Ignore are fields that are neither drift nor corrected: they are left out of what is applied once the object exists.
	Ignore []IgnoreRule `json:"ignore,omitempty"`
	// Health are expressions that say how objects do, in place of what Kubernetes' conventions say; of an object the first rule that matches.
	Health []HealthRule `json:"health,omitempty"`
	// Probes are requests that have to succeed for the bundle to be healthy.
	Probes []Probe `json:"probes,omitempty"`
	// HealthTimeoutSeconds is how long the objects may take to become healthy after an apply. 0 is 300.
	HealthTimeoutSeconds int `json:"healthTimeoutSeconds,omitempty"`
	// Replace lists kinds ("batch/Job", "v1/Service" is written "Service") that are deleted and made anew where the API server refuses
	// a change as immutable. Nothing is ever replaced otherwise.
	Replace []string `json:"replace,omitempty"`
	// Prefetch, where it is there, has the nodes pull images before the site begins to apply.
	Prefetch *Prefetch `json:"prefetch,omitempty"`
	// MaxDeletePercent is how much of what the bundle owns at a site a new version may delete before the site halts; 0 is 50. It counts from 6 objects.
	MaxDeletePercent int `json:"maxDeletePercent,omitempty"`
	// AffectsConnectivity: the site goes back, once, unless it reaches the hub again within ConfirmWithinSeconds of the apply. 0 is 600.
	AffectsConnectivity  bool `json:"affectsConnectivity,omitempty"`
	ConfirmWithinSeconds int  `json:"confirmWithinSeconds,omitempty"`
	// Supersedes: it may be offered to a site where the outcome of an earlier version is unknown.
	Supersedes bool `json:"supersedes,omitempty"`
}

// DriftRule is a drift mode for some objects.
type DriftRule struct {
	Target PatchTarget `json:"target"`
	Drift  DriftMode   `json:"drift"`
}

// Prefetch says that a site pulls a version's images on its nodes once the version is accepted, also before a window opens, so that the switch does not wait
// for them.
type Prefetch struct {
	Images         bool `json:"images"`
	TimeoutSeconds int  `json:"timeoutSeconds,omitempty"` // 0 is 1800
	// OnFailure: hold tries again and applies nothing before it succeeds; proceed applies without the images. Empty is hold.
	OnFailure PrefetchFailure `json:"onFailure,omitempty"`
}

// PrefetchFailure is what follows where images could not be pulled.
type PrefetchFailure string

// What may follow.
const (
	PrefetchHold    PrefetchFailure = "hold"
	PrefetchProceed PrefetchFailure = "proceed"
)

// DefaultPrefetchTimeout is what Prefetch.TimeoutSeconds 0 means, in seconds.
const DefaultPrefetchTimeout = 1800

// HealthRule says by CEL expressions over an object how it does; pkg/bundle/gate evaluates them.
type HealthRule struct {
	Target PatchTarget `json:"target"`
	Ready  string      `json:"ready"`
	Failed string      `json:"failed,omitempty"` // asked first
}

// DriftOf is the mode of one object.
func (p Policy) DriftOf(id ObjectID) DriftMode {
	for _, rule := range p.DriftRules {
		if rule.Target.Matches(id) {
			return rule.Drift
		}
	}
	return p.Drift
}

// ParseDriftMode checks s to be a mode.
func ParseDriftMode(s string) (DriftMode, error) {
	switch mode := DriftMode(s); mode {
	case DriftEnforce, DriftReport, DriftRespect:
		return mode, nil
	}
	return "", fmt.Errorf("drift %.40q: want enforce, report or respect", s)
}

// DefaultConfirmWithin is what ConfirmWithinSeconds 0 means, in seconds.
const DefaultConfirmWithin = 600

// IgnoreRule names fields of objects.
type IgnoreRule struct {
	Target PatchTarget `json:"target"`
	Paths  []string    `json:"paths"` // JSON pointers (RFC 6901)
}

// ObjectID is the identity of a Kubernetes object, independent of API version.
type ObjectID struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // empty: cluster-scoped
	Name      string `json:"name"`
}

// String is Kind.group/namespace/name with the empty parts left out: Deployment.apps/shop/web, Namespace/shop.
func (o ObjectID) String() string {
	s := o.Kind
	if o.Group != "" {
		s += "." + o.Group
	}
	if o.Namespace != "" {
		s += "/" + o.Namespace
	}
	return s + "/" + o.Name
}

// Object is one line of content: one Kubernetes object in canonical JSON.
type Object struct {
	ID      ObjectID
	Version string // API version without the group: "v1"
	JSON    []byte // canonical, without the newline
}
