package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"go.yaml.in/yaml/v3"
)

const (
	maxFile  = 16 << 20 // bytes of one file of YAML
	maxInput = 128 << 20
)

// document is one YAML document of a source.
type document struct {
	source string
	number int // from 1, or 0 if the source has only one
	root   *yaml.Node
}

func (d document) fail(line int, err error) *Error {
	return &Error{File: d.source, Line: line, Document: d.number, Err: err}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse cuts a source into its documents, leaving out those that say nothing.
func parse(s Source) (documents []document, err error) {
	if len(s.YAML) > maxFile {
		return nil, &Error{File: s.Name, Err: fmt.Errorf("%d bytes, more than the %d allowed", len(s.YAML), maxFile)}
	}
	// The parser is known to panic on some malformed input.
	defer func() {
		if r := recover(); r != nil {
			documents, err = nil, &Error{File: s.Name, Err: fmt.Errorf("malformed YAML: %v", r)}
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(s.YAML))
	number := 0
	for {
		var root yaml.Node
		err := d.Decode(&root)
		if errors.Is(err, io.EOF) {
			break
		}
		number++
		if err != nil {
			return nil, syntaxError(s, number, err)
		}
		if len(root.Content) == 1 && root.Content[0].ShortTag() == "!!null" {
			continue
		}
		documents = append(documents, document{source: s.Name, number: number, root: root.Content[0]})
	}
	if number == 1 && len(documents) == 1 {
		documents[0].number = 0
	}
	return documents, nil
}

func syntaxError(s Source, number int, err error) *Error {
	text := err.Error()
	e := &Error{File: s.Name, Document: number}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Line = brokenLine(s.YAML, e.Line)
		text = text[len(m[0]):]
	}
	e.Err = errors.New("malformed YAML: " + text)
	if number == 1 {
		e.Document = 0
	}
	return e
}

// brokenLine corrects the line of a syntax error. The parser often names the line where the broken collection begins; the text is
// in order up to the line before the error.
func brokenLine(text []byte, named int) int {
	const reach, large = 20, 1 << 20
	if len(text) > large {
		return named
	}
	end := 0
	var ends []int // of the lines
	for line := range bytes.Lines(text) {
		end += len(line)
		ends = append(ends, end)
	}
	for n := min(named+reach, len(ends)-1); n >= max(named, 1); n-- {
		if wellFormed(text[:ends[n-1]]) {
			return n + 1
		}
	}
	return named
}

func wellFormed(text []byte) bool {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var root yaml.Node
		switch err := d.Decode(&root); {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			return false
		}
	}
}

// lineError is an error at a line of the document that is read.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

func atLine(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Errorf(format, args...)}
}

// value turns a node into what bundle.DecodeValue would return.
func value(n *yaml.Node) (any, error) {
	c := converter{open: map[*yaml.Node]bool{}}
	return c.value(n, 0)
}

type converter struct {
	inAlias  int                 // how many aliases are being expanded
	expanded int                 // bytes and nodes that aliases made, roughly
	open     map[*yaml.Node]bool // anchors that are being expanded
}

func (c *converter) value(n *yaml.Node, depth int) (any, error) {
	if depth > bundle.MaxDepth {
		return nil, atLine(n, "nested deeper than %d levels", bundle.MaxDepth)
	}
	if c.inAlias > 0 {
		if c.expanded += 4 + len(n.Value); c.expanded > bundle.MaxObjectSize {
			return nil, atLine(n, "aliases expand to more than the %d bytes allowed", bundle.MaxObjectSize)
		}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.alias(n, func(target *yaml.Node) (any, error) { return c.value(target, depth) })
	case yaml.ScalarNode:
		return scalar(n)
	case yaml.SequenceNode:
		if tag := n.ShortTag(); tag != "!!seq" {
			return nil, atLine(n, "tag %.40s is not allowed", tag)
		}
		list := make([]any, 0, len(n.Content))
		for _, member := range n.Content {
			v, err := c.value(member, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return c.mapping(n, depth)
	}
	return nil, atLine(n, "not a YAML value")
}

func (c *converter) alias(n *yaml.Node, expand func(*yaml.Node) (any, error)) (any, error) {
	if c.open[n.Alias] {
		return nil, atLine(n, "alias *%.40s stands inside of what it names", n.Value)
	}
	c.open[n.Alias] = true
	c.inAlias++
	v, err := expand(n.Alias)
	c.inAlias--
	delete(c.open, n.Alias)
	return v, err
}

func (c *converter) mapping(n *yaml.Node, depth int) (map[string]any, error) {
	if tag := n.ShortTag(); tag != "!!map" {
		return nil, atLine(n, "tag %.40s is not allowed", tag)
	}
	m := make(map[string]any, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() == "!!merge" {
			merges = append(merges, n.Content[i+1])
			continue
		}
		key, err := c.key(n.Content[i])
		if err != nil {
			return nil, err
		}
		if first, twice := lines[key]; twice {
			return nil, atLine(n.Content[i], "duplicate key %.80q, first on line %d", key, first)
		}
		lines[key] = n.Content[i].Line
		if m[key], err = c.value(n.Content[i+1], depth+1); err != nil {
			return nil, err
		}
	}
	if len(merges) > 1 {
		return nil, atLine(merges[1], "duplicate key \"<<\"")
	}
	for _, source := range merges {
		if err := c.merge(m, source, depth); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// merge adds what a merge key ("<<") names and m does not say itself.
func (c *converter) merge(m map[string]any, n *yaml.Node, depth int) error {
	if depth > bundle.MaxDepth {
		return atLine(n, "nested deeper than %d levels", bundle.MaxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		_, err := c.alias(n, func(target *yaml.Node) (any, error) { return nil, c.merge(m, target, depth+1) })
		return err
	case yaml.SequenceNode:
		for _, member := range n.Content {
			if member.Kind == yaml.SequenceNode {
				return atLine(member, "a merge key takes mappings")
			}
			if err := c.merge(m, member, depth+1); err != nil {
				return err
			}
		}
		return nil
	case yaml.MappingNode:
		source, err := c.mapping(n, depth)
		for k, v := range source {
			if _, own := m[k]; !own {
				m[k] = v
			}
		}
		return err
	}
	return atLine(n, "a merge key takes a mapping")
}

func (c *converter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", atLine(n, "a key that is not a string")
	}
	v, err := scalar(n)
	if err != nil {
		return "", err
	}
	if _, word := v.(bool); word && n.ShortTag() == "!!str" {
		return "", atLine(n, "the key %s would be read as %v: put it in quotes", n.Value, v)
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", atLine(n, "the key %.40q is not a string", n.Value)
}

// oldBooleans are the words that YAML 1.1, and so kubectl, takes for booleans.
var oldBooleans = map[string]bool{"y": true, "yes": true, "on": true, "n": false, "no": false, "off": false}

func scalar(n *yaml.Node) (any, error) {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		if v, old := oldBooleans[strings.ToLower(n.Value)]; old && plain && isOneCase(n.Value) {
			return v, nil
		}
		return n.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool", "!!int", "!!float":
		return number(n)
	default:
		return nil, atLine(n, "tag %.40s is not allowed", tag)
	}
}

// isOneCase says whether a word is written yes, Yes or YES: YAML knows no others.
func isOneCase(s string) bool {
	return s == strings.ToLower(s) || s == strings.ToUpper(s) || (s[:1] == strings.ToUpper(s[:1]) && s[1:] == strings.ToLower(s[1:]))
}

func number(n *yaml.Node) (any, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, atLine(n, "%.40q is not a value of its tag", n.Value)
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, atLine(n, "%.40q has no form in JSON", n.Value)
		}
		return v, nil
	}
	return nil, atLine(n, "%.40q is out of range", n.Value)
}

// find returns the node at a JSON pointer, or the deepest on the way to it.
func find(n *yaml.Node, pointer string) *yaml.Node {
	for _, step := range strings.Split(pointer, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		next := child(n, step)
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	}
	return nil
}
