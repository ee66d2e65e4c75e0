package enrol

import (
	"fmt"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Rule says how a token names sites: "fixed:NAME", "serial", "machine-id" or "node-label:KEY".
type Rule string

// The rules without an argument, and how the others begin.
const (
	BySerial    Rule = "serial"
	ByMachineID Rule = "machine-id"
	fixedRule        = "fixed:"
	labelRule        = "node-label:"
)

// maxRule bounds a rule, in bytes: a label key has at most 317.
const maxRule = 330

// ParseRule checks s to be a rule.
func ParseRule(s string) (Rule, error) {
	r := Rule(s)
	if name, ok := r.fixed(); ok {
		if _, err := bundle.ParseSiteID(name); err != nil {
			return "", fmt.Errorf("site name rule: %w", err)
		}
		return r, nil
	}
	if key, ok := r.NodeLabel(); ok {
		if err := bundle.CheckLabel(key, ""); err != nil || len(s) > maxRule {
			return "", fmt.Errorf("site name rule: %.80q is not the key of a label", key)
		}
		return r, nil
	}
	if r == BySerial || r == ByMachineID {
		return r, nil
	}
	return "", fmt.Errorf("site name rule %.80q: want fixed:NAME, serial, machine-id or node-label:KEY", s)
}

// Fixed is the rule that gives one name.
func Fixed(site bundle.SiteID) Rule { return Rule(fixedRule + string(site)) }

func (r Rule) fixed() (name string, ok bool) { return strings.CutPrefix(string(r), fixedRule) }

// NodeLabel is the label whose value names the site, where the rule is of that kind.
func (r Rule) NodeLabel() (key string, ok bool) { return strings.CutPrefix(string(r), labelRule) }

// Name is what the rule makes of a device's facts. Capital letters become small, spaces and the marks . _ / : become dashes; anything else that no site's
// name may hold is refused, not dropped.
func (r Rule) Name(facts Facts) (bundle.SiteID, error) {
	if name, ok := r.fixed(); ok {
		return bundle.ParseSiteID(name)
	}
	fact := facts.Serial
	if r == ByMachineID {
		fact = facts.MachineID
	}
	if key, ok := r.NodeLabel(); ok {
		fact = facts.NodeLabels[key]
	}
	if strings.TrimSpace(fact) == "" {
		return "", refuse(NoName, fmt.Sprintf("the token names sites by %s, and the device has none", r), "see that the agent can read it, or make a token with another --site-name")
	}
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c == ' ' || c == '.' || c == '_' || c == '/' || c == ':':
			return '-'
		}
		return c
	}, strings.TrimSpace(fact))
	site, err := bundle.ParseSiteID(name)
	if err != nil {
		return "", refuse(NoName, fmt.Sprintf("the token names sites by %s, and the device's, %.80q, makes no site's name", r, fact), "make a token with another --site-name")
	}
	return site, nil
}

// Facts are what a device says about itself. None is proven.
type Facts struct {
	Serial     string            `json:"serial,omitempty"`
	MachineID  string            `json:"machineID,omitempty"`
	NodeLabels map[string]string `json:"nodeLabels,omitempty"`
	Hostname   string            `json:"hostname,omitempty"`
	Agent      string            `json:"agent,omitempty"` // version of holdfast-edge
}

// Limits of facts, in bytes each and in labels.
const (
	maxFact   = 256
	maxLabels = 8
)

func (f Facts) check() error {
	for what, fact := range map[string]string{"serial": f.Serial, "machine id": f.MachineID, "host name": f.Hostname, "agent": f.Agent} {
		if len(fact) > maxFact {
			return fmt.Errorf("facts: %s: %d bytes are more than %d", what, len(fact), maxFact)
		}
	}
	if len(f.NodeLabels) > maxLabels {
		return fmt.Errorf("facts: %d node labels are more than %d", len(f.NodeLabels), maxLabels)
	}
	for key, value := range f.NodeLabels {
		if len(key) > maxRule || len(value) > maxFact {
			return fmt.Errorf("facts: a node label of %d and %d bytes is too long", len(key), len(value))
		}
	}
	return nil
}
