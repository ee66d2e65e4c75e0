package bundle

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Selector is a parsed label selector. The zero value matches everything.
type Selector struct {
	requirements []requirement
}

type requirement struct {
	key    string
	op     string // "in", "notin", "exists", "!"
	values []string
}

var (
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	dnsDomain  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	errLongSel = fmt.Errorf("selector: longer than %d bytes", maxText)
)

// ParseSelector reads a Kubernetes label selector: requirements joined by commas, each one of key=value, key==value, key!=value,
// key in (a,b), key notin (a,b), key and !key. The empty selector matches everything.
func ParseSelector(text string) (Selector, error) {
	if len(text) > maxText {
		return Selector{}, errLongSel
	}
	p := selectorParser{rest: text}
	if p.next(false) == "" {
		if p.rest != "" {
			return Selector{}, fmt.Errorf("selector %.80q: unexpected %.20q", text, p.rest)
		}
		return Selector{}, nil
	}
	var s Selector
	for {
		r, err := p.requirement()
		if err != nil {
			return Selector{}, fmt.Errorf("selector %.80q: %w", text, err)
		}
		s.requirements = append(s.requirements, r)
		switch token := p.next(true); {
		case token == "" && p.rest == "":
			return s, nil
		case token != ",":
			return Selector{}, fmt.Errorf("selector %.80q: unexpected %.20q, want a comma or the end", text, token+p.rest)
		}
	}
}

// Matches says whether every requirement holds. != and notin hold where the label is missing, as in Kubernetes.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s.requirements {
		value, has := labels[r.key]
		var holds bool
		switch r.op {
		case "in":
			holds = has && slices.Contains(r.values, value)
		case "notin":
			holds = !has || !slices.Contains(r.values, value)
		case "exists":
			holds = has
		case "!":
			holds = !has
		}
		if !holds {
			return false
		}
	}
	return true
}

// Empty says whether the selector matches everything.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// CheckLabel says whether key and value can be a label of a site.
func CheckLabel(key, value string) error {
	if err := checkLabelKey(key); err != nil {
		return err
	}
	return checkLabelValue(value)
}

func checkLabelKey(key string) error {
	domain, name, qualified := strings.Cut(key, "/")
	if !qualified {
		domain, name = "", key
	}
	if !labelName.MatchString(name) || (qualified && (len(domain) > 253 || !dnsDomain.MatchString(domain))) {
		return fmt.Errorf("label key %.80q: want letters, digits, '-', '_' and '.', at most 63, with an optional domain and '/' before them", key)
	}
	return nil
}

func checkLabelValue(value string) error {
	if value != "" && !labelName.MatchString(value) {
		return fmt.Errorf("label value %.80q: want at most 63 letters, digits, '-', '_' and '.'", value)
	}
	return nil
}

// selectorParser cuts a selector into tokens: words, and the marks ( ) , ! = == !=.
type selectorParser struct{ rest string }

const selectorMarks = "(),!=<>"

// next returns the token at the cursor, stepping over it if take is set; "" is the end.
func (p *selectorParser) next(take bool) string {
	trimmed := strings.TrimLeft(p.rest, " \t\r\n")
	n := strings.IndexAny(trimmed, selectorMarks+" \t\r\n")
	switch {
	case n < 0:
		n = len(trimmed)
	case n == 0 && (strings.HasPrefix(trimmed, "==") || strings.HasPrefix(trimmed, "!=")):
		n = 2
	case n == 0:
		n = 1
	}
	if take {
		p.rest = trimmed[n:]
	}
	if trimmed == "" {
		p.rest = ""
	}
	return trimmed[:n]
}

func isWord(token string) bool { return token != "" && !strings.ContainsAny(token[:1], selectorMarks) }

func (p *selectorParser) requirement() (requirement, error) {
	token := p.next(true)
	op := "exists"
	if token == "!" {
		op, token = "!", p.next(true)
	}
	if !isWord(token) {
		return requirement{}, fmt.Errorf("unexpected %q, want a label key", token)
	}
	r := requirement{key: token, op: op}
	if err := checkLabelKey(r.key); err != nil {
		return requirement{}, err
	}
	if op == "!" {
		return r, nil
	}
	switch operator := p.next(false); operator {
	case "", ",":
		return r, nil
	case "=", "==", "!=":
		p.next(true)
		r.op = map[bool]string{true: "notin", false: "in"}[operator == "!="]
		value, err := p.value()
		r.values = []string{value}
		return r, err
	case "in", "notin":
		p.next(true)
		r.op = operator
		var err error
		r.values, err = p.values()
		return r, err
	default:
		return requirement{}, fmt.Errorf("unexpected %.20q after %q, want one of = == != in notin", operator, r.key)
	}
}

// value reads the value after an equals sign; it may be missing, which is the empty value.
func (p *selectorParser) value() (string, error) {
	token := p.next(false)
	if token == "" || token == "," {
		return "", nil
	}
	if !isWord(token) {
		return "", fmt.Errorf("unexpected %q, want a label value", token)
	}
	p.next(true)
	return token, checkLabelValue(token)
}

func (p *selectorParser) values() ([]string, error) {
	if token := p.next(true); token != "(" {
		return nil, fmt.Errorf("unexpected %.20q, want '('", token)
	}
	var values []string
	value := ""
	for {
		token := p.next(true)
		switch {
		case token == "," || token == ")":
			values = append(values, value)
			if token == ")" {
				return values, nil
			}
			value = ""
		case token == "":
			return nil, errors.New("unexpected end, want ')'")
		case !isWord(token) || value != "":
			return nil, fmt.Errorf("unexpected %.20q, want ',' or ')'", token)
		default:
			if err := checkLabelValue(token); err != nil {
				return nil, err
			}
			value = token
		}
	}
}
