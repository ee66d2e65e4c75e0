package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/internal/strict"
	"go.yaml.in/yaml/v3"
)

// ConfigFile is the name of a bundle's configuration, at the top of its directory.
const ConfigFile = "holdfast.yaml"

// The identity of a configuration document.
const (
	ConfigAPIVersion = "holdfast.dev/v1"
	ConfigKind       = "BundleConfig"
)

// Config is what a directory says about its bundle, in holdfast.yaml. The fields that are also a manifest's are described there.
type Config struct {
	APIVersion       string               `json:"apiVersion"`
	Kind             string               `json:"kind"`
	Namespace        string               `json:"namespace,omitempty"`        // for namespaced objects without one
	CreateNamespaces bool                 `json:"createNamespaces,omitempty"` // add the namespaces that objects stand in
	Target           bundle.Target        `json:"target,omitzero"`
	Requires         []bundle.Requirement `json:"requires,omitempty"`
	Parameters       []bundle.Parameter   `json:"parameters,omitempty"`
	Variants         []bundle.Variant     `json:"variants,omitempty"`
	Policy           ConfigPolicy         `json:"policy,omitzero"`
	ExternalKinds    []ExternalKind       `json:"externalKinds,omitempty"`

	root *yaml.Node // for the lines of errors; nil if the configuration did not come from a file
}

// ConfigPolicy is a policy whose unset fields have defaults: prune is true, drift is enforce.
type ConfigPolicy struct {
	Prune                *bool               `json:"prune,omitempty"`
	Drift                bundle.DriftMode    `json:"drift,omitempty"`
	DriftRules           []bundle.DriftRule  `json:"driftRules,omitempty"`
	Ignore               []bundle.IgnoreRule `json:"ignore,omitempty"`
	IgnoreManagers       []string            `json:"ignoreManagers,omitempty"`
	Health               []bundle.HealthRule `json:"health,omitempty"`
	Probes               []bundle.Probe      `json:"probes,omitempty"`
	HealthTimeoutSeconds int                 `json:"healthTimeoutSeconds,omitempty"`
	Replace              []string            `json:"replace,omitempty"`
	Prefetch             *bundle.Prefetch    `json:"prefetch,omitempty"`
	MaxDeletePercent     int                 `json:"maxDeletePercent,omitempty"`
	AffectsConnectivity  bool                `json:"affectsConnectivity,omitempty"`
	ConfirmWithinSeconds int                 `json:"confirmWithinSeconds,omitempty"`
	Supersedes           bool                `json:"supersedes,omitempty"`
}

// ExternalKind is a kind that something else defines at the sites.
type ExternalKind struct {
	Group      string `json:"group"`
	Kind       string `json:"kind"`
	Namespaced bool   `json:"namespaced"`
}

func (p ConfigPolicy) policy() bundle.Policy {
	policy := bundle.Policy{
		Prune: true, Drift: bundle.DriftEnforce, DriftRules: p.DriftRules, Ignore: p.Ignore, IgnoreManagers: p.IgnoreManagers, Health: p.Health, Probes: p.Probes, HealthTimeoutSeconds: p.HealthTimeoutSeconds, Replace: p.Replace,
		Prefetch: p.Prefetch, MaxDeletePercent: p.MaxDeletePercent, AffectsConnectivity: p.AffectsConnectivity, ConfirmWithinSeconds: p.ConfirmWithinSeconds, Supersedes: p.Supersedes,
	}
	if p.Prune != nil {
		policy.Prune = *p.Prune
	}
	if p.Drift != "" {
		policy.Drift = p.Drift
	}
	return policy
}

// ReadConfig reads the configuration of a directory; it is empty where there is none.
func ReadConfig(dir string) (*Config, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	defer root.Close()
	text, err := readFile(root, ConfigFile)
	if errors.Is(err, os.ErrNotExist) {
		return &Config{}, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseConfig(text)
}

// ParseConfig reads a configuration strictly: an unknown key is an error, and so is a second document.
func ParseConfig(text []byte) (*Config, error) {
	documents, err := parse(Source{Name: ConfigFile, YAML: text})
	if err != nil {
		return nil, one(err)
	}
	if len(documents) != 1 {
		return nil, one(&Error{File: ConfigFile, Err: fmt.Errorf("%d documents, want one", len(documents))})
	}
	d := documents[0]
	tree, err := value(d.root)
	if err != nil {
		return nil, one(located(d, d.root, err))
	}
	if err := strict.Keys(tree, reflect.TypeFor[Config]()); err != nil {
		line := d.root.Line
		if unknown := new(strict.KeyError); errors.As(err, &unknown) {
			line = keyLine(d.root, unknown.Pointer)
		}
		return nil, one(d.fail(line, err))
	}
	canonical, err := bundle.Canonical(tree)
	if err != nil {
		return nil, one(d.fail(d.root.Line, err))
	}
	c := &Config{root: d.root}
	decoder := json.NewDecoder(bytes.NewReader(canonical))
	decoder.UseNumber()
	if err := decoder.Decode(c); err != nil {
		return nil, one(typeError(d, err))
	}
	if c.APIVersion != ConfigAPIVersion || c.Kind != ConfigKind {
		return nil, one(d.fail(d.root.Line, fmt.Errorf("want apiVersion %s and kind %s", ConfigAPIVersion, ConfigKind)))
	}
	return c, nil
}

// one makes the error of a single finding look like that of many.
func one(err error) error {
	if e := new(Error); errors.As(err, &e) {
		return &Errors{List: []*Error{e}}
	}
	return err
}

// typeError says in the words of the file what encoding/json says in those of Go.
func typeError(d document, err error) *Error {
	wrong := new(json.UnmarshalTypeError)
	if !errors.As(err, &wrong) {
		return d.fail(d.root.Line, err)
	}
	pointer := "/" + strings.ReplaceAll(wrong.Field, ".", "/")
	return d.fail(find(d.root, pointer).Line, fmt.Errorf("%s: a %s does not belong here", wrong.Field, wrong.Value))
}

// keyLine is the line of a key, not of its value.
func keyLine(root *yaml.Node, pointer string) int {
	i := strings.LastIndexByte(pointer, '/')
	parent, key := find(root, pointer[:i]), pointer[i+1:]
	for j := 0; j+1 < len(parent.Content); j += 2 {
		if parent.Kind == yaml.MappingNode && parent.Content[j].Value == key {
			return parent.Content[j].Line
		}
	}
	return parent.Line
}

// check finds the errors of each part of the configuration by itself, so that each has its line.
func (c *Config) check(f *findings) {
	try := func(pointer string, change func(*bundle.Manifest)) {
		m := &bundle.Manifest{Schema: bundle.Schema, Name: "x", Version: "0.0.0", Counter: 1, Created: time.Unix(1e9, 0).UTC(),
			Policy: ConfigPolicy{}.policy(), Content: bundle.ContentInfo{Digest: bundle.DigestOf(nil), Size: 1, Objects: 1}}
		change(m)
		if _, err := bundle.EncodeManifest(m); err != nil {
			f.refuse(c.fail(pointer, err))
		}
	}
	try("/target", func(m *bundle.Manifest) { m.Target = c.Target })
	try("/policy", func(m *bundle.Manifest) { m.Policy = c.Policy.policy() })
	for i, r := range c.Policy.Health {
		if _, err := gate.Compile(r); err != nil {
			f.refuse(c.fail(fmt.Sprintf("/policy/health/%d", i), err))
		}
	}
	for i, r := range c.Requires {
		try(fmt.Sprintf("/requires/%d", i), func(m *bundle.Manifest) { m.Requires = []bundle.Requirement{r} })
	}
	for i, p := range c.Parameters {
		try(fmt.Sprintf("/parameters/%d", i), func(m *bundle.Manifest) { m.Parameters = []bundle.Parameter{p} })
	}
	for i, v := range c.Variants {
		try(fmt.Sprintf("/variants/%d", i), func(m *bundle.Manifest) { m.Variants = []bundle.Variant{v} })
	}
	for i, k := range c.ExternalKinds {
		if k.Kind == "" {
			f.refuse(c.fail(fmt.Sprintf("/externalKinds/%d", i), errors.New("an external kind without kind")))
		}
	}
}

func (c *Config) fail(pointer string, err error) *Error {
	e := &Error{File: ConfigFile, Err: errors.New(strings.TrimPrefix(err.Error(), "manifest: "))}
	if c.root != nil {
		e.Line = find(c.root, pointer).Line
	}
	return e
}
