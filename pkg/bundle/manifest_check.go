package bundle

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Check says whether the values of m are allowed and fit together. It is part of encoding and decoding.
func (m *Manifest) Check() error {
	if m.Schema != Schema {
		return fmt.Errorf("schema %.80q: this software reads %q", m.Schema, Schema)
	}
	if _, err := ParseName(string(m.Name)); err != nil {
		return err
	}
	if _, err := ParseVersion(string(m.Version)); err != nil {
		return err
	}
	if m.Counter == 0 {
		return errors.New("counter 0: release counters begin at 1")
	}
	for _, check := range []func() error{m.checkTimes, m.checkTarget, m.checkRequires, m.checkParameters, m.checkVariants, m.Policy.check, m.Content.check} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) checkTimes() error {
	if err := checkTime("created", m.Created); err != nil {
		return err
	}
	if m.Expires == nil {
		return nil
	}
	if err := checkTime("expires", *m.Expires); err != nil {
		return err
	}
	if !m.Expires.After(m.Created) {
		return fmt.Errorf("expires %s: not after created %s", m.Expires.Format(time.RFC3339), m.Created.Format(time.RFC3339))
	}
	return nil
}

func checkTime(field string, t time.Time) error {
	if t.Year() < 2000 || t.Year() > 9999 {
		return fmt.Errorf("%s %s: want a year from 2000 to 9999", field, t.Format(time.RFC3339Nano))
	}
	if _, offset := t.Zone(); offset != 0 || t.Nanosecond() != 0 {
		return fmt.Errorf("%s %s: want UTC and whole seconds", field, t.Format(time.RFC3339Nano))
	}
	return nil
}

func (m *Manifest) checkTarget() error {
	if _, err := ParseSelector(m.Target.Selector); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if _, err := ParseKubernetesRange(m.Target.Kubernetes); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

func (m *Manifest) checkRequires() error {
	if len(m.Requires) > maxRequires {
		return fmt.Errorf("requires: %d bundles, more than the %d allowed", len(m.Requires), maxRequires)
	}
	seen := map[Name]bool{m.Name: true}
	for _, r := range m.Requires {
		if _, err := ParseName(string(r.Name)); err != nil {
			return fmt.Errorf("requires: %w", err)
		}
		if r.Name == m.Name {
			return fmt.Errorf("requires: %s requires itself", r.Name)
		}
		if seen[r.Name] {
			return fmt.Errorf("requires: %s is named twice", r.Name)
		}
		seen[r.Name] = true
		if r.MinVersion == "" {
			continue
		}
		if _, err := ParseVersion(string(r.MinVersion)); err != nil {
			return fmt.Errorf("requires: %s: %w", r.Name, err)
		}
	}
	return nil
}

var parameterName = regexp.MustCompile(`^[a-z][a-zA-Z0-9]{0,62}$`)

func (m *Manifest) checkParameters() error {
	if len(m.Parameters) > maxParameters {
		return fmt.Errorf("parameters: %d of them, more than the %d allowed", len(m.Parameters), maxParameters)
	}
	seen := map[string]bool{}
	for _, p := range m.Parameters {
		if err := p.check(); err != nil {
			return err
		}
		if seen[p.Name] {
			return fmt.Errorf("parameter %s: declared twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

func (p Parameter) check() error {
	if !parameterName.MatchString(p.Name) {
		return fmt.Errorf("parameter %.80q: want a name that begins with a lower-case letter and has only letters and digits, at most 63", p.Name)
	}
	if p.Type != TypeString && p.Type != TypeInteger && p.Type != TypeBoolean {
		return fmt.Errorf("parameter %s: type %.40q: want string, integer or boolean", p.Name, p.Type)
	}
	if len(p.Description) > maxText || len(p.Pattern) > maxText {
		return fmt.Errorf("parameter %s: description or pattern longer than %d bytes", p.Name, maxText)
	}
	if p.Pattern != "" {
		if p.Type != TypeString {
			return fmt.Errorf("parameter %s: a pattern is for strings, not for type %s", p.Name, p.Type)
		}
		if p.Default == nil { // a default is matched below, which reads the pattern too
			if _, err := syntax.Parse(p.Pattern, syntax.Perl); err != nil {
				return fmt.Errorf("parameter %s: pattern: %w", p.Name, err)
			}
		}
	}
	if p.Default == nil {
		if !p.Required {
			return fmt.Errorf("parameter %s: want a default, or required: true", p.Name)
		}
		return nil
	}
	if p.Required {
		return fmt.Errorf("parameter %s: required, so its default could never be used", p.Name)
	}
	if err := p.CheckValue(p.Default); err != nil {
		return fmt.Errorf("%w (its default)", err)
	}
	return nil
}

// matches says whether the pattern covers the whole value. Putting ^ and $ around it would say the same, but compiling that costs milliseconds:
// Go then tries to make a one-pass matcher of the counted repetitions that people write here.
func (p Parameter) matches(value string) (bool, error) {
	pattern, err := regexp.Compile(p.Pattern)
	if err != nil {
		return false, err
	}
	pattern.Longest()
	at := pattern.FindStringIndex(value)
	return at != nil && at[0] == 0 && at[1] == len(value), nil
}

// CheckValue says whether v – a string, int64 or bool – is a value of the parameter. The error names the parameter and never the value,
// which may be a secret.
func (p Parameter) CheckValue(v any) error {
	var typ ParameterType
	switch v := v.(type) {
	case string:
		typ = TypeString
		if len(v) > MaxParameterValue {
			return fmt.Errorf("parameter %s: the value is longer than %d bytes", p.Name, MaxParameterValue)
		}
		if !utf8.ValidString(v) {
			return fmt.Errorf("parameter %s: the value is not valid UTF-8", p.Name)
		}
	case int64:
		typ = TypeInteger
	case bool:
		typ = TypeBoolean
	default:
		return fmt.Errorf("parameter %s: want a value of type %s, not %s", p.Name, p.Type, jsonType(v))
	}
	if typ != p.Type {
		return fmt.Errorf("parameter %s: want a value of type %s, not %s", p.Name, p.Type, typ)
	}
	if p.Pattern == "" {
		return nil
	}
	matches, err := p.matches(v.(string))
	if err != nil {
		return fmt.Errorf("parameter %s: pattern: %w", p.Name, err)
	}
	if !matches {
		return fmt.Errorf("parameter %s: the value does not match the pattern %s", p.Name, p.Pattern)
	}
	return nil
}

// ParseValue reads a value of the parameter as people write it on a command line.
func (p Parameter) ParseValue(text string) (any, error) {
	var v any = text
	switch p.Type {
	case TypeInteger:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: want an integer", p.Name)
		}
		v = n
	case TypeBoolean:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("parameter %s: want true or false", p.Name)
		}
		v = text == "true"
	}
	return v, p.CheckValue(v)
}

// jsonType names the JSON type of a decoded value.
func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case map[string]any:
		return "object"
	case []any:
		return "list"
	}
	return "number"
}

func (m *Manifest) checkVariants() error {
	if len(m.Variants) > maxVariants {
		return fmt.Errorf("variants: %d of them, more than the %d allowed", len(m.Variants), maxVariants)
	}
	seen := map[string]bool{}
	for _, v := range m.Variants {
		if err := v.check(); err != nil {
			return fmt.Errorf("variant %.80q: %w", v.Name, err)
		}
		if seen[v.Name] {
			return fmt.Errorf("variant %q: declared twice", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}

func (v Variant) check() error {
	if !labelPattern.MatchString(v.Name) {
		return errors.New("want a name of lower-case letters, digits and inner dashes, at most 63 characters")
	}
	selector, err := ParseSelector(v.Selector)
	if err != nil {
		return err
	}
	if selector.Empty() {
		return errors.New("without a selector it would be for every site: change the objects themselves")
	}
	if len(v.Patches) == 0 || len(v.Patches) > maxPatches {
		return fmt.Errorf("%d patches, want 1 to %d", len(v.Patches), maxPatches)
	}
	for i, p := range v.Patches {
		if err := p.check(); err != nil {
			return fmt.Errorf("patch %d: %w", i, err)
		}
	}
	return nil
}

func (p Patch) check() error {
	if err := p.Target.check(); err != nil {
		return err
	}
	if (len(p.Merge) > 0) == (len(p.JSON) > 0) {
		return errors.New("want exactly one of merge and json, and not empty")
	}
	for i, op := range p.JSON {
		if err := checkOperation(op); err != nil {
			return fmt.Errorf("json %d: %w", i, err)
		}
	}
	return nil
}

// checkOperation checks the form of one operation of RFC 6902.
func checkOperation(v any) error {
	op, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("want an object, not a %s", jsonType(v))
	}
	allowed := map[string]bool{"op": true, "path": true}
	switch op["op"] {
	case "add", "replace", "test":
		allowed["value"] = true
	case "move", "copy":
		allowed["from"] = true
	case "remove":
	default:
		return fmt.Errorf("op %.40q: want add, remove, replace, move, copy or test", fmt.Sprint(op["op"]))
	}
	for key := range allowed {
		if _, has := op[key]; !has {
			return fmt.Errorf("%s without %q", op["op"], key)
		}
	}
	for key, v := range op {
		if !allowed[key] {
			return fmt.Errorf("%s: unknown key %.40q", op["op"], key)
		}
		if key == "path" || key == "from" {
			text, _ := v.(string)
			if err := checkPointer(text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t PatchTarget) check() error {
	if t.Kind == "" {
		return errors.New("target without a kind")
	}
	for _, s := range []string{t.Group, t.Kind, t.Namespace, t.Name} {
		if len(s) > 253 {
			return fmt.Errorf("target: %.40q is longer than 253 bytes", s)
		}
	}
	return nil
}

// Matches says whether the target chooses the object.
func (t PatchTarget) Matches(id ObjectID) bool {
	return t.Kind == id.Kind && (t.Group == "" || t.Group == id.Group) &&
		(t.Namespace == "" || t.Namespace == id.Namespace) && (t.Name == "" || t.Name == id.Name)
}

// checkPointer checks a JSON pointer (RFC 6901) that is not the whole document.
func checkPointer(p string) error {
	if !strings.HasPrefix(p, "/") || len(p) > maxText {
		return fmt.Errorf("JSON pointer %.80q: want it to begin with '/', at most %d bytes", p, maxText)
	}
	for i := 0; i < len(p); i++ {
		if p[i] == '~' && (i+1 == len(p) || (p[i+1] != '0' && p[i+1] != '1')) {
			return fmt.Errorf("JSON pointer %.80q: '~' is written ~0, and '/' in a key ~1", p)
		}
	}
	return nil
}

var replaceKind = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Z][A-Za-z0-9]{0,62}$`)

func (p Policy) check() error {
	if _, err := ParseDriftMode(string(p.Drift)); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if len(p.DriftRules) > maxIgnoreRules || len(p.IgnoreManagers) > maxManagers {
		return fmt.Errorf("policy: more than %d drift rules or %d managers to ignore", maxIgnoreRules, maxManagers)
	}
	for i, rule := range p.DriftRules {
		if err := rule.Target.check(); err != nil {
			return fmt.Errorf("policy: driftRules %d: %w", i, err)
		}
		if _, err := ParseDriftMode(string(rule.Drift)); err != nil {
			return fmt.Errorf("policy: driftRules %d: %w", i, err)
		}
	}
	for _, manager := range p.IgnoreManagers {
		if manager == "" || len(manager) > maxManagerName || strings.HasPrefix(manager, "holdfast/") {
			return fmt.Errorf("policy: ignoreManagers %.140q: want the name of a field manager that is not Holdfast's own, at most %d bytes", manager, maxManagerName)
		}
	}
	if p.ConfirmWithinSeconds < 0 || p.ConfirmWithinSeconds > maxHealthTimeout || p.ConfirmWithinSeconds > 0 && !p.AffectsConnectivity {
		return fmt.Errorf("policy: confirmWithinSeconds %d: want 0 to %d, and only with affectsConnectivity", p.ConfirmWithinSeconds, maxHealthTimeout)
	}
	if p.HealthTimeoutSeconds < 0 || p.HealthTimeoutSeconds > maxHealthTimeout {
		return fmt.Errorf("policy: healthTimeoutSeconds %d: want 0 to %d", p.HealthTimeoutSeconds, maxHealthTimeout)
	}
	if p.MaxDeletePercent < 0 || p.MaxDeletePercent > 100 {
		return fmt.Errorf("policy: maxDeletePercent %d: want 1 to 100, or 0 for half", p.MaxDeletePercent)
	}
	if f := p.Prefetch; f != nil {
		if !f.Images || f.TimeoutSeconds < 0 || f.TimeoutSeconds > maxHealthTimeout {
			return fmt.Errorf("policy: prefetch: want images: true and timeoutSeconds from 0 to %d", maxHealthTimeout)
		}
		if f.OnFailure != "" && f.OnFailure != PrefetchHold && f.OnFailure != PrefetchProceed {
			return fmt.Errorf("policy: prefetch: onFailure %.40q: want hold or proceed", f.OnFailure)
		}
	}
	if err := p.checkHealth(); err != nil {
		return err
	}
	if len(p.Ignore) > maxIgnoreRules || len(p.Replace) > maxReplace {
		return fmt.Errorf("policy: more than %d ignore rules or %d kinds to replace", maxIgnoreRules, maxReplace)
	}
	for i, rule := range p.Ignore {
		if err := rule.check(); err != nil {
			return fmt.Errorf("policy: ignore %d: %w", i, err)
		}
	}
	for _, kind := range p.Replace {
		if !replaceKind.MatchString(kind) {
			return fmt.Errorf("policy: replace %.80q: want a kind such as batch/Job or Service", kind)
		}
	}
	return nil
}

// checkHealth checks the form of rules and probes. Whether expressions compile is pkg/bundle/gate's to say.
func (p Policy) checkHealth() error {
	if len(p.Health) > maxIgnoreRules || len(p.Probes) > maxProbes {
		return fmt.Errorf("policy: more than %d health rules or %d probes", maxIgnoreRules, maxProbes)
	}
	for i, rule := range p.Health {
		if err := rule.Target.check(); err != nil {
			return fmt.Errorf("policy: health %d: %w", i, err)
		}
		if rule.Ready == "" || len(rule.Ready) > MaxExpression || len(rule.Failed) > MaxExpression {
			return fmt.Errorf("policy: health %d: want a ready expression, and none longer than %d bytes", i, MaxExpression)
		}
	}
	for i, probe := range p.Probes {
		if err := probe.check(); err != nil {
			return fmt.Errorf("policy: probes %d: %w", i, err)
		}
	}
	return nil
}

func (r IgnoreRule) check() error {
	if err := r.Target.check(); err != nil {
		return err
	}
	if len(r.Paths) == 0 || len(r.Paths) > maxIgnoreRules {
		return fmt.Errorf("%d paths, want 1 to %d", len(r.Paths), maxIgnoreRules)
	}
	for _, path := range r.Paths {
		if err := checkPointer(path); err != nil {
			return err
		}
		for _, identity := range []string{"/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace"} {
			if path == identity {
				return fmt.Errorf("path %s: an object's identity cannot be ignored", path)
			}
		}
	}
	return nil
}

func (c ContentInfo) check() error {
	if _, err := ParseDigest(string(c.Digest)); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	if c.Size < 1 || c.Size > MaxContentSize {
		return fmt.Errorf("content: size %d: want 1 to %d bytes", c.Size, MaxContentSize)
	}
	if c.Objects < 1 || c.Objects > MaxObjects {
		return fmt.Errorf("content: %d objects: want 1 to %d", c.Objects, MaxObjects)
	}
	return nil
}
